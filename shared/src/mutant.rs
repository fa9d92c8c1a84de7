//! Mutants: mistakes that somebody could make, each one line of our own code that a switch turns wrong at run time.
//!
//! They are for one build alone, that with the feature `mutants`, in which the simulator turns one after another on and
//! must catch each. In every other build [`is`] is the constant `false`, and the compiler leaves nothing of them.
//!
//! Not among them, for they change nothing that can be told apart:
//!
//! - a step that demands its `rev` and no status: an equal `rev` means an equal item, and with it an equal status;
//! - own steps that are not recognised: deciding again from one's own work finds it done, or comes back to it later;
//! - an own code that is not recognised: a transaction that is sent again names the same token, and succeeds again;
//! - a claim that is not cut short when the bus fails: the sweep comes back to it, only later.

macro_rules! mutants {
    ($(#[doc = $mistake:literal] $name:ident,)*) => {
        /// A mistake in this code.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $(#[doc = $mistake] $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What is wrong when it is on.
            pub const fn mistake(self) -> &'static str {
                match self {
                    $(Self::$name => $mistake,)*
                }
            }
        }
    };
}

mutants! {
    // Conditions loosened.
    /// A new referral is written whatever is there.
    ReferralOverwritten,
    /// A code and the note of its owner are written whatever is there.
    CodeOverwritten,
    /// A step does not demand the revision that was read.
    StepWithoutRevision,
    /// A step demands nothing at all.
    StepWithoutCondition,
    /// A flag holds against later news.
    FlagWithoutTimeCheck,
    /// A clearance holds against later news.
    ClearanceWithoutTimeCheck,
    /// A step leaves the revision as it was.
    RevisionUnchanged,
    /// A second order converts what is converted.
    SecondOrderConverts,
    /// An order converts what was voided.
    VoidedConverts,

    // Answers of the table misread.
    /// A referral that our first attempt wrote is taken for somebody else's.
    OwnReferralNotRecognised,
    /// A referral that somebody else wrote is taken for ours.
    OthersReferralTakenForOurs,
    /// Of two who ask for the same in the same millisecond, both are told that it is new.
    TwinsTakenForOne,
    /// A step that somebody else wrote is taken for ours, because we had asked twice.
    OthersStepTakenForOurs,
    /// A step that the table refused is taken for done.
    RefusedStepIsDone,
    /// A transaction that met another is taken for one that was refused.
    ConflictTakenForRefusal,
    /// What a batch read left out is taken for what is not there.
    BatchRestForgotten,
    /// An item is read without asking for the last write.
    EventualRead,
    /// A batch of items is read without asking for the last writes.
    EventualBatchRead,

    // Retries removed.
    /// What met a transaction is not tried again.
    ConflictNotRetried,
    /// What was throttled, or got lost, is not tried again.
    CallNotRetried,
    /// What a batch read left out is not asked for again.
    BatchRestNotRetried,
    /// What others got in between is not decided again.
    StepNotDecidedAgain,

    // The index of work.
    /// What is gone of an item is not removed from it.
    RemovedAttributesKept,
    /// What owes nothing any more stays in the index.
    WorkKeptAtLastDelivery,
    /// What was issued leaves the index.
    WorkDroppedAtIssue,
    /// What still owes the other side leaves the index.
    WorkDroppedAtFirstDelivery,
    /// What was refused for good leaves the index.
    WorkDroppedAtRefusal,
    /// What waits for an operator stands in the sweep's lane.
    AttentionAsDue,
    /// A claim does not move the due time on.
    ClaimLeavesDueTime,
    /// The sweep leaves out half of the index's partitions.
    SweepForgetsHalf,
    /// The sweep does not announce again.
    SweepNeverAnnounces,
    /// The sweep does not issue.
    SweepNeverIssues,

    // What is owed to whom.
    /// The hold is not waited for.
    HoldSkipped,
    /// A referrer who was flagged is paid.
    FlaggedReferrerPaid,
    /// A referee who was flagged is paid.
    FlaggedRefereePaid,
    /// The code of a flagged account still brings referrals.
    FlaggedReferrerAccepted,
    /// Two people refer each other.
    ReciprocalAccepted,
    /// Taking back one order undoes what another had converted.
    AnyOrderAdjusts,
    /// Paying back a part undoes the whole.
    PartialRefundVoids,
    /// An order that is taken back in time is paid for.
    AdjustmentIgnored,
    /// An order that was taken back before it came converts all the same.
    EarlyAdjustmentForgotten,

    // Acknowledged before it is certain.
    /// News is acknowledged although its write failed.
    EventAcknowledgedEarly,
    /// A message that failed is acknowledged with its batch.
    FailedMessageAcknowledged,
    /// A record that failed is acknowledged.
    FailedRecordAcknowledged,
    /// An announcement that the bus says it lost is taken for told.
    LostEntryNotSeen,
    /// A reward is marked delivered before the call.
    MarkedBeforeTheCall,
    /// A reward is marked delivered when nobody knows.
    MarkedWithoutAnAnswer,
    /// A refusal is taken for a yes.
    RefusalTakenForSuccess,
    /// A subsystem that fails for a moment is taken to refuse for good.
    FailureTakenForRefusal,

    // Names drawn anew.
    /// Each call has an idempotency key of its own.
    KeyRedrawn,
    /// An event is named by the revision that it was told from.
    EventNamedByRevision,
    /// What is told again is told with another time.
    RepetitionRedated,
}

/// Whether this mistake is being made: never.
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
        /// One for each thread, so that several can be tried side by side: a history has its thread to itself.
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this mistake is being made on this thread.
    pub fn is(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }

    /// From now on this mistake is made on this thread, and no other; `None`: none at all.
    pub fn turn_on(mutant: Option<Mutant>) {
        ON.set(mutant);
    }
}
