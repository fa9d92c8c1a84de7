//! Faults, which happen to a correct protocol, and mistakes, which make the protocol incorrect.

use referrals::referral::reward::Side;

use crate::state::Event;

/// What can go wrong at any time, within the budget. A number is a process's index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The write succeeded, but its answer was lost. The SDK repeats the write.
    AnswerLost(usize),
    /// The process ends: a crash, a timeout or a returned error. Its trigger is delivered again.
    Dies(usize),
    /// The process completes its step, but ends before it announces or acknowledges.
    DiesAfter(usize),
    /// `rewards` announces its record's events, but ends before it acknowledges the record.
    RecordTwice,
    /// The bus delivers an event again.
    EventTwice(Event),
    /// A queue delivers a message again.
    MessageTwice(Side),
    /// A queue gives up on a message and moves it to the dead-letter queue.
    GivenUp(Side),
    /// The stream loses its first record.
    RecordLost,
    /// The bus refuses the sweep's announcement.
    BusRefuses(usize),
    /// The subsystem books the reward, but its answer is lost.
    BookedUnheard(usize),
    /// The subsystem refuses the reward permanently.
    Refused(usize),
    /// Something in flight takes so long that the sweep becomes due first.
    Late,
    /// The schedule starts a sweep while another one is running.
    SweptTwice,
}

/// A deliberate mistake in the protocol. The checker must find a violation for each, or the model proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mistake {
    /// Writes require an allowed status, but not the revision that was read.
    NoRevision,
    /// Writes are unconditional.
    NoCondition,
    /// An event is acknowledged as soon as it is read.
    AcknowledgedBeforeWrite,
    /// A reward is marked delivered before the subsystem is called.
    MarkedBeforeCall,
    /// There is no sweep to repeat what the stream and the queues lost.
    NoSweep,
    /// The sweep announces again without a claim.
    NoClaim,
    /// The issue removes the referral from the work index.
    UnlistedAtIssue,
    /// Each call to a subsystem has a new idempotency key.
    NewKeyPerCall,
    /// The issue uses the accounts' initial state.
    CachedAccounts,
    /// The issue does not wait for the end of the hold.
    NoHold,
    /// A referral is voided after the issue without reversals.
    NoReversal,
    /// The subsystem is called without a record of the call.
    CallNotRecorded,
    /// A reversal is sent although its reward has no answer.
    TakenBackBeforeAnswer,
    /// An order that arrives during the hold of another one is not kept.
    NoCandidates,
}
