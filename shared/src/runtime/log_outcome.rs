//! Log outcomes: every value of the field `outcome` in a log line.
//!
//! Operators filter by these values, so they are a contract: `docs/operations.md` explains each one, and a test compares
//! the two lists.

macro_rules! outcomes {
    ($($name:ident => $text:literal,)*) => {
        /// A value of the log field `outcome`. `docs/operations.md` says what each value means and what to do.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum LogOutcome {
            $($name,)*
        }

        impl LogOutcome {
            /// All outcomes, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The value as it is logged.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

outcomes! {
    // Every function.
    Failed => "failed",
    OutOfTime => "out_of_time",
    UnreadableItem => "unreadable_item",
    Quarantined => "quarantined",
    RequestRefused => "request_refused",
    RequestFailed => "request_failed",
    SecretChanged => "secret_changed",
    SecretNotRefreshed => "secret_not_refreshed",

    // Landing, mint and attribution.
    Landed => "landed",
    LandedWithoutCode => "landed_without_code",
    LandedWithoutLookup => "landed_without_lookup",
    LinkChecked => "link_checked",
    Minted => "minted",
    AlreadyMinted => "already_minted",
    Attributed => "attributed",
    AlreadyAttributed => "already_attributed",
    AttributionRefused => "attribution_refused",
    FieldDropped => "field_dropped",

    // Events in.
    Converted => "converted",
    Voided => "voided",
    VoidedOnArrival => "voided_on_arrival",
    CandidateKept => "candidate_kept",
    NextOrderConverted => "next_order_converted",
    AdjustmentNoted => "adjustment_noted",
    Restored => "restored",
    Reversed => "reversed",
    OrderUndone => "order_undone",
    TooManyAdjustments => "too_many_adjustments",
    RefundInOtherCurrency => "refund_in_other_currency",
    NotReferred => "not_referred",
    Duplicate => "duplicate",
    NotQualifying => "not_qualifying",
    OrderBeforeSignUp => "order_before_sign_up",
    OtherOrderConverted => "other_order_converted",
    OrderOfAnotherUser => "order_of_another_user",
    NoTransition => "no_transition",
    Flagged => "flagged",
    Cleared => "cleared",
    Superseded => "superseded",
    EventIgnored => "event_ignored",
    InvalidCopyIgnored => "invalid_copy_ignored",

    // Issue and sweep.
    Rewarded => "rewarded",
    NotDue => "not_due",
    Swept => "swept",
    AttentionNotCounted => "attention_not_counted",
    WorkPageNotRead => "work_page_not_read",

    // Delivery.
    Delivered => "delivered",
    RetryScheduled => "retry_scheduled",
    RetryDelayNotSet => "retry_delay_not_set",
    RefusedPermanently => "refused_permanently",
    NothingToDeliver => "nothing_to_deliver",
    AlreadyMarked => "already_marked",
    MarkRefused => "mark_refused",
    ReversalDelivered => "reversal_delivered",
    ReversalRefused => "reversal_refused",
    ReversalClosed => "reversal_closed",

    // Analytics.
    Counted => "counted",
    AlreadyCounted => "already_counted",

    // Cache.
    CacheMemoryHit => "cache_memory_hit",
    CacheServerHit => "cache_server_hit",
    CacheMiss => "cache_miss",
    CacheServerInvalid => "cache_server_invalid",
    CacheServerFailed => "cache_server_failed",

    // Operators.
    AdminRequest => "admin_request",
    CodeChanged => "code_changed",
    RewardResent => "reward_resent",
    ReversalResent => "reversal_resent",
    OperatorVoided => "operator_voided",
    OperatorReopened => "operator_reopened",
    OperatorConverted => "operator_converted",
    OperatorApproved => "operator_approved",
    AccountFlaggedByOperator => "account_flagged_by_operator",
    AccountClearedByOperator => "account_cleared_by_operator",
    DeadLettersRedriven => "dead_letters_redriven",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_distinct_and_in_snake_case() {
        let mut seen = std::collections::BTreeSet::new();
        for outcome in LogOutcome::ALL {
            let text = outcome.as_str();
            assert!(text.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{text}");
            assert!(seen.insert(text), "{text} is listed twice");
        }
    }
}
