//! Mutants: deliberate mistakes in this code. Each one is a line that a switch makes wrong at run time.
//!
//! They exist only in the build with the feature `mutants`, in which the simulator turns them on one after another and has
//! to detect each one. In every other build [`is`] is the constant `false`, and the compiler removes the mistakes.
//!
//! Some mistakes are not in the list because no test can observe them:
//!
//! - a step whose condition requires the `rev` but not the status: an equal `rev` means an equal item and thus an equal
//!   status;
//! - a step that does not recognise its own earlier write: the repeated decision finds the work done or repeats it later;
//! - a mint that does not recognise its own earlier write: a repeated transaction has the same token and succeeds again;
//! - a claim that is not shortened when the bus fails: the sweep repeats it, only later.

macro_rules! mutants {
    ($(#[doc = $mistake:literal] $name:ident,)*) => {
        /// A deliberate mistake.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $(#[doc = $mistake] $name,)*
        }

        impl Mutant {
            /// All mutants.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The description of the mistake.
            pub const fn mistake(self) -> &'static str {
                match self {
                    $(Self::$name => $mistake,)*
                }
            }
        }
    };
}

mutants! {
    // Missing conditions.
    /// A new referral overwrites an existing one.
    ReferralOverwritten,
    /// A new code and its owner item overwrite existing ones.
    CodeOverwritten,
    /// The item of a code's owner names another code without a check of the code that it named.
    CodeNamedUnchecked,
    /// A code is replaced or revived without a check that the member's other code has ended.
    EndedCodeUnchecked,
    /// An order that another user has claimed is claimed again.
    OrderClaimedTwice,
    /// An earlier state of a dispute replaces a later one.
    EarlierDisputeWins,
    /// A step does not require the revision that was read.
    StepWithoutRevision,
    /// A step has no condition.
    StepWithoutCondition,
    /// A flag replaces the result of a later event.
    FlagWithoutTimeCheck,
    /// A cleared flag replaces the result of a later event.
    ClearanceWithoutTimeCheck,
    /// A flag or a clearance counts although its own time is far in the future.
    FutureFlagAccepted,
    /// A flag or a clearance has its envelope's time, even if that is in the future.
    FutureEnvelopeAccepted,
    /// A delayed copy with a time in the future has the time at which the copy is processed.
    CopyReceivedWhenProcessed,
    /// A step does not increment the revision.
    RevisionUnchanged,
    /// A second order converts a converted referral again.
    SecondOrderConverts,
    /// An order converts a voided referral.
    VoidedConverts,

    // Misread answers of the table.
    /// A referral written by the first attempt of this call is treated as written by another call.
    OwnReferralNotRecognised,
    /// A referral written by another call is treated as written by this one.
    OthersReferralTakenForOurs,
    /// Two calls with the same sign-up in the same millisecond both report a new referral.
    TwinsTakenForOne,
    /// After a retry, a step written by another call is treated as written by this one.
    OthersStepTakenForOurs,
    /// An order that its own user has claimed is treated as another user's.
    OwnClaimNotRecognised,
    /// A step that the table refused is treated as done.
    RefusedStepIsDone,
    /// A transaction that conflicted with another one is treated as refused by its condition.
    ConflictTakenForRefusal,
    /// Keys that a batch read left unprocessed are treated as missing items.
    BatchRestForgotten,
    /// An item is read with eventual consistency.
    EventualRead,
    /// A batch of items is read with eventual consistency.
    EventualBatchRead,

    // Missing retries.
    /// A write that conflicted with a transaction is not retried.
    ConflictNotRetried,
    /// A call that was throttled or whose answer was lost is not retried.
    CallNotRetried,
    /// Keys that a batch read left unprocessed are not read again.
    BatchRestNotRetried,
    /// A step is not decided again after a concurrent write.
    StepNotDecidedAgain,

    // The index of work.
    /// Attributes that a step clears stay in the item.
    RemovedAttributesKept,
    /// A referral stays in the index after its last delivery.
    WorkKeptAtLastDelivery,
    /// A referral leaves the index when its rewards are issued.
    WorkDroppedAtIssue,
    /// A referral leaves the index when the first of its two rewards is delivered.
    WorkDroppedAtFirstDelivery,
    /// A referral leaves the index when a reward is permanently refused.
    WorkDroppedAtRefusal,
    /// A referral that needs an operator is in the sweep's lane.
    AttentionAsDue,
    /// A claim does not change the due time.
    ClaimLeavesDueTime,
    /// The sweep reads only half of the index's partitions.
    SweepForgetsHalf,
    /// The sweep does not publish events again.
    SweepNeverAnnounces,
    /// The sweep does not issue rewards.
    SweepNeverIssues,

    // Codes.
    /// A member gets the code that has ended instead of another one.
    EndedCodeHandedOut,

    // Eligibility for rewards.
    /// Rewards are issued before the hold ends.
    HoldSkipped,
    /// A flagged referrer gets a reward.
    FlaggedReferrerPaid,
    /// A flagged referee gets a reward.
    FlaggedRefereePaid,
    /// A sign-up with the code of a flagged referrer is attributed.
    FlaggedReferrerAccepted,
    /// Two users can refer each other.
    ReciprocalAccepted,
    /// A member who signed up before the code existed is referred.
    MemberTakenForNew,
    /// An order converts a referral although another user has claimed it.
    ClaimIgnored,
    /// An order that was placed long before the sign-up converts.
    OldOrderConverts,
    /// The time at which the product reported the sign-up is taken for the time of the sign-up.
    SignUpTimeForgotten,
    /// The time at which an order was reported is taken for the time of the order.
    OrderTimeIgnored,
    /// An order that was placed shortly before the sign-up does not convert.
    OrderLeadForgotten,
    /// The adjustment of one order voids a referral that another order converted.
    AnyOrderAdjusts,
    /// A partial refund voids the referral.
    PartialRefundVoids,
    /// Of several refunds of an order, only the largest counts.
    RefundsNotSummed,
    /// A refund that the provider could not carry out counts.
    FailedRefundCounts,
    /// An order of which less than the minimum is left still stands.
    MinimumForgotten,
    /// A dispute that was won still undoes the order.
    DisputeWonIgnored,
    /// An order that stands again does not convert.
    RestoredOrderIgnored,
    /// An order that arrives during the hold of another one is not kept.
    CandidateForgotten,
    /// The referral is voided although a candidate stands.
    CandidateIgnored,
    /// A candidate converts although it was undone.
    UndoneCandidateConverts,
    /// An adjustment of a candidate has no effect on it.
    CandidateNotAdjusted,
    /// An order that was undone is forgotten when another one converts.
    UndoneOrderForgotten,
    /// An order that is processed late has the hold of the terms.
    LateOrderNotHeld,
    /// The hold of a candidate begins with that of the earlier order.
    HoldOfEarlierOrder,
    /// Earlier adjustments of an order replace later ones.
    OlderAdjustmentsMerged,
    /// An adjustment of an order that is claimed, and has not converted yet, leaves the referral's revision unchanged.
    ClaimedOrderNotAdjusted,
    /// After a conflict, the adjustments of an order are not read again.
    OrderNotReadAgain,
    /// An adjustment of the converting order before the issue has no effect.
    AdjustmentIgnored,
    /// An order converts although its adjustment arrived first.
    EarlyAdjustmentForgotten,

    // Reversals.
    /// An order that falls after the issue takes nothing back.
    AdjustmentAfterIssueIgnored,
    /// A referral is voided after the issue without instructions that take its rewards back.
    ReversalForgotten,
    /// Only the referrer's reward is taken back.
    RefereeRewardKept,
    /// A reversal is closed although a call that grants its reward has no answer.
    CalledRewardClosed,
    /// A reward is taken back although the subsystem refused it.
    FailedRewardReversed,
    /// A reward is taken back before the call that grants it has an answer.
    ReversalSentBeforeAnswer,
    /// A reversal that was closed is sent.
    ClosedReversalSent,
    /// A subsystem is called for a reward before the call is recorded.
    CallNotRecorded,
    /// A reward that was taken back before its first call is sent.
    ReversedRewardSent,
    /// A reversal is marked delivered before the call.
    ReversalMarkedBeforeCall,
    /// The stream does not announce reversals.
    ReversalNotAnnounced,
    /// The sweep does not announce reversals again.
    SweepForgetsReversals,

    // Operators.
    /// A refund in another currency is ignored.
    ForeignRefundIgnored,
    /// Rewards are issued although an operator has to decide first.
    UnclearOrderIssued,
    /// An order that stands again after a reversal is not shown to operators.
    OrderThatStandsAgainHidden,
    /// An adjustment beyond the limit leaves no trace.
    ExcessForgotten,
    /// An approval does not change the order.
    ApprovalWithoutOrder,
    /// A void by an operator does not stop later orders.
    OperatorVoidRevivable,
    /// A reopened referral converts by an order that no longer stands.
    ReopenedWithoutOrder,
    /// A reopened referral is paid although a fraud rule was broken.
    ReopenedUnchecked,
    /// An operator's order is not claimed.
    OperatorOrderNotClaimed,
    /// An operator's action is not recorded.
    AuditEntryForgotten,
    /// A refused order leaves no note.
    RefusedOrderNotNoted,

    // Early acknowledgement.
    /// An event is acknowledged although its write failed.
    EventAcknowledgedEarly,
    /// The delayed copy of an invalid event is quarantined too.
    InvalidCopyQuarantined,
    /// A failed message is acknowledged with its batch.
    FailedMessageAcknowledged,
    /// A failed stream record is acknowledged.
    FailedRecordAcknowledged,
    /// An event that the bus reports as failed is treated as published.
    LostEntryNotSeen,
    /// A reward is marked delivered before the call.
    MarkedBeforeTheCall,
    /// A reward is marked delivered although the result of the call is unknown.
    MarkedWithoutAnAnswer,
    /// A refusal is treated as a success.
    RefusalTakenForSuccess,
    /// A temporary failure of a subsystem is treated as a permanent refusal.
    FailureTakenForRefusal,

    // Unstable ids.
    /// Each call has a different idempotency key.
    KeyRedrawn,
    /// The id of an event contains the revision of the referral.
    EventNamedByRevision,
    /// The events of a later conversion have the ids of the first one's.
    LaterConversionNotNumbered,
    /// A repeated event has a different time.
    RepetitionRedated,
    /// An event's correlation id is the hash of the referee's id, and not the stored one.
    CorrelationIdNotRead,
}

/// Whether this mutant is on. Always `false` without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
pub const fn is(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switch::{is, turn_on};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        /// One switch per thread, because each simulated history runs on one thread and several run in parallel.
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this mutant is on in this thread.
    pub fn is(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }

    /// Turns on this mutant in this thread and turns off any other. `None` turns off all.
    pub fn turn_on(mutant: Option<Mutant>) {
        ON.set(mutant);
    }
}
