//! Faults: what the world does to a correct protocol, and mistakes: protocols that are not correct.

use referrals::reward::Side;

use crate::state::News;

/// What may go wrong at any moment, as often as the budget allows. A number is a process's place in the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The write landed, its answer did not: the SDK makes the same write again.
    AnswerLost(usize),
    /// The process ends here: a crash, a timeout, an error that it returns. What started it comes again.
    Dies(usize),
    /// The process does its step, and ends before it announces or acknowledges anything.
    DiesAfter(usize),
    /// `rewards` announces what its record shows, and ends before it acknowledges the record.
    RecordTwice,
    /// The bus brings an event once more.
    EventTwice(News),
    /// A queue brings a message once more.
    MessageTwice(Side),
    /// A queue gives up on a message: it lies among the dead letters.
    GivenUp(Side),
    /// The stream loses its first record.
    RecordLost,
    /// The bus does not take what the sweep announces.
    BusRefuses(usize),
    /// The subsystem books the reward, but its answer gets lost.
    BookedUnheard(usize),
    /// The subsystem refuses the reward for good.
    Refused(usize),
    /// Something in flight takes so long that the sweep's next time comes before it.
    Late,
    /// The schedule starts a sweep while one is running.
    SweptTwice,
}

/// A deliberate mistake in the protocol. With each the checker must find something, or the model proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mistake {
    /// Writes demand an allowed status, but not the revision that was read.
    NoRevision,
    /// Writes demand nothing.
    NoCondition,
    /// An event is acknowledged as soon as it is read.
    AcknowledgedBeforeWrite,
    /// A reward is marked delivered, then the subsystem is called.
    MarkedBeforeCall,
    /// Nothing looks after what the stream and the queues lost.
    NoSweep,
    /// The sweep announces again without claiming first.
    NoClaim,
    /// The issue takes the referral out of the index of work.
    UnlistedAtIssue,
    /// Each call to a subsystem has an idempotency key of its own.
    NewKeyPerCall,
    /// The issue goes by how the accounts stood at first.
    CachedAccounts,
    /// The issue does not wait for the end of the hold.
    NoHold,
}
