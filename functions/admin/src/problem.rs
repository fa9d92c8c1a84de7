//! The problems that only this API returns.

use referrals::{
    fraud::FraudReason,
    lambda::http::problem::{Problem, Reason},
};

/// No reward has this id.
pub(crate) fn reward_not_found() -> Problem {
    Problem::new(Reason::RewardNotFound, "This reward does not exist.")
}

/// No reversal has this id.
pub(crate) fn reversal_not_found() -> Problem {
    Problem::new(Reason::ReversalNotFound, "This reversal does not exist.")
}

/// A reward that was taken back is not sent again.
pub(crate) fn reward_reversed() -> Problem {
    Problem::new(Reason::RewardReversed, "This reward was taken back.")
}

/// The user was never referred.
pub(crate) fn referral_not_found() -> Problem {
    Problem::new(Reason::ReferralNotFound, "This user was never referred.")
}

/// The referral's state does not allow the action.
pub(crate) fn wrong_state() -> Problem {
    Problem::new(Reason::WrongState, "The referral's state does not allow this.")
}

/// A fraud rule would void the referral again.
pub(crate) fn rule_broken(rule: FraudReason) -> Problem {
    Problem::new(Reason::RuleBroken, format!("The rule {} would void the referral again.", rule.as_str()))
}

/// The order belongs to another user.
pub(crate) fn order_claimed() -> Problem {
    Problem::new(Reason::OrderClaimed, "This order belongs to another user.")
}

/// The order was cancelled, refunded or disputed.
pub(crate) fn order_undone() -> Problem {
    Problem::new(Reason::OrderUndone, "This order was cancelled, refunded or disputed.")
}

/// The order does not meet the referral's terms.
pub(crate) fn order_not_qualifying() -> Problem {
    Problem::new(Reason::OrderNotQualifying, "This order is below the minimum, or in another currency.")
}

/// No program with this id is configured or was ever counted.
pub(crate) fn program_not_found() -> Problem {
    Problem::new(Reason::ProgramNotFound, "This program does not exist.")
}

/// No member has this code.
pub(crate) fn code_not_found() -> Problem {
    Problem::new(Reason::CodeNotFound, "This code does not exist.")
}

/// A member has at most one live code.
pub(crate) fn other_code_live() -> Problem {
    Problem::new(Reason::OtherCodeLive, "Another code of this member is live.")
}

/// A delivered reward cannot be sent again.
pub(crate) fn already_delivered() -> Problem {
    Problem::new(Reason::AlreadyDelivered, "This reward is already delivered.")
}

/// A reversal that is delivered, or has nothing to take back, cannot be sent again.
pub(crate) fn reversal_done() -> Problem {
    Problem::new(Reason::AlreadyDelivered, "This reversal is already delivered or closed.")
}

/// No dead-letter queue has this name.
pub(crate) fn queue_not_found() -> Problem {
    Problem::new(Reason::QueueNotFound, "Expected credit, coupon, points or conversion.")
}

/// A queue has at most one running redrive.
pub(crate) fn under_way() -> Problem {
    Problem::new(Reason::UnderWay, "This queue is already being redriven.")
}

/// The dashboard has no such file.
pub(crate) fn file_not_found() -> Problem {
    Problem::new(Reason::FileNotFound, "The dashboard has no such file.")
}
