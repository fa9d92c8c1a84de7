//! The model's state: the table's one item, its stream and index, messages in flight, running processes, and the
//! history that the properties need. Two states with the same signature are one state.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use referrals::{
    domain::time::Timestamp,
    lifecycle::issue::due_for_sweep,
    referral::{
        Lane, Referral, Status, Work,
        machine::Transition,
        reward::{Delivery, Side},
    },
};

use crate::GRACE;

/// An event that arrives on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// A qualifying order.
    Order,
    /// Another order of the same user.
    OtherOrder,
    /// The cancellation of [`Event::Order`].
    Cancellation,
}

impl Event {
    pub(crate) const ALL: [Self; 3] = [Self::Order, Self::OtherOrder, Self::Cancellation];
}

/// A value for each side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct BySide<T>(pub(crate) [T; 2]);

impl<T: Copy> BySide<T> {
    pub(crate) fn of(&self, side: Side) -> T {
        self.0[side as usize]
    }

    pub(crate) fn of_mut(&mut self, side: Side) -> &mut T {
        &mut self.0[side as usize]
    }
}

impl FromIterator<Side> for BySide<bool> {
    fn from_iter<I: IntoIterator<Item = Side>>(sides: I) -> Self {
        let mut each = Self::default();
        sides.into_iter().for_each(|side| *each.of_mut(side) = true);
        each
    }
}

/// What triggers an invocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// `conversion`: an event from the bus.
    Event(Event),
    /// `rewards`: the first record of the stream.
    Record,
    /// `sweep`: the referral is due in the work index.
    Sweep,
    /// `delivery`: a message about this side's reward.
    Deliver(Side),
    /// `admin`: an operator resends this side's reward.
    Resend(Side),
    /// `delivery`: a message about the reversal of this side's reward.
    TakeBack(Side),
}

/// The purpose of a write: a `machine::Command` with the parts that the model fixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Convert(Event),
    Cancel,
    Issue,
    Void,
    Claim,
    /// A claim for only a minute, after the bus refused an announcement.
    ClaimForAMinute,
    /// Records the first call for this side's reward.
    RecordCall(Side),
    Deliver(Side),
    /// The failure of a call that was made when the reward had been resent this many times.
    Fail(Side, u32),
    Resend(Side),
}

/// The next step of an invocation. Between two steps any other process can act.
///
/// Announcing and acknowledging belong to the step before them, because a delay between them cannot be observed, except
/// when the process dies, which is [`crate::faults::Fault::DiesAfter`], or when the message is slow, which it can also
/// be in its queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Reads the accounts of both users.
    ReadAccounts,
    /// Writes, under the condition of the transition.
    Write(Change),
    /// Calls the subsystem.
    Call,
    /// Marks a reversal as delivered, after its call.
    MarkReversal,
    /// Closes a reversal that has nothing to take back.
    CloseReversal,
}

/// A running invocation.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) task: Task,
    pub(crate) step: Step,
    /// The item on which the decision is based. `None`: the table has changed since, so the write can only be refused.
    pub(crate) read: Option<Arc<Referral>>,
    /// The item to be written, and the kind of the step.
    pub(crate) target: Option<(Transition, Arc<Referral>)>,
    /// Whether the SDK has already made the write once, without an answer.
    pub(crate) was_retried: bool,
    /// Only for the properties: whether the account was flagged when it was read or, for a cancellation, whether the
    /// order had converted the referral.
    pub(crate) observed: bool,
}

impl Process {
    /// An invocation that has done nothing yet.
    pub(crate) fn new(task: Task) -> Self {
        Self { task, step: Step::ReadAccounts, read: None, target: None, was_retried: false, observed: false }
    }
}

/// The item of a reversal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum ReversalItem {
    #[default]
    None,
    /// Without an answer.
    Open,
    Delivered,
    /// Closed without a call.
    Closed,
}

/// A stream record that needs processing; the function skips all others.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The rewards that it announces.
    pub(crate) announces: BySide<bool>,
    /// The new image.
    pub(crate) image: Arc<Referral>,
}

/// The complete state.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) item: Arc<Referral>,
    /// The item's entry in the work index.
    pub(crate) indexed: Option<Work>,
    /// Whether the referrer's account is flagged.
    pub(crate) flagged: bool,
    pub(crate) stream: Vec<Record>,
    /// Messages in the delivery queues, by side.
    pub(crate) queued: BySide<u8>,
    pub(crate) running: Vec<Process>,
    /// The number of keys under which the subsystem booked this side's reward.
    pub(crate) booked: BySide<u8>,
    /// Whether the subsystem refuses this side's reward, until an operator sends it again.
    pub(crate) refuses: BySide<bool>,
    pub(crate) reversals: BySide<ReversalItem>,
    /// Whether the subsystem took this side's reward back.
    pub(crate) taken_back: BySide<bool>,

    /// How many more times each event will arrive.
    pub(crate) pending_events: [u8; 3],
    /// How often the account can still be flagged or cleared.
    pub(crate) flag_changes: u8,
    /// How often the operator can still resend.
    pub(crate) resends: u8,
    /// How many faults can still happen.
    pub(crate) faults: u8,

    pub(crate) history: History,
}

/// What has happened. Only the properties use this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct History {
    /// The number of writes that converted.
    pub(crate) conversions: u8,
    /// A candidate converted the referral.
    pub(crate) next_converted: bool,
    /// A write was not a transition of the state machine.
    pub(crate) invalid_transition: bool,
    /// A reward was issued although the account was flagged when it was read.
    pub(crate) issued_to_flagged: bool,
    /// A reward was issued before the hold ended.
    pub(crate) issued_early: bool,
    /// The sides that were marked delivered.
    pub(crate) marked: BySide<bool>,
    /// The first order was acknowledged.
    pub(crate) order_acknowledged: bool,
    /// The other order was acknowledged.
    pub(crate) other_acknowledged: bool,
    /// A cancellation was acknowledged whose order had converted the referral.
    pub(crate) cancellation_acknowledged: bool,
    /// An order was cancelled after the referral knew it.
    pub(crate) cancelled: bool,
    /// An order was cancelled before the referral knew it.
    pub(crate) cancelled_before_order: bool,
    /// The account has been flagged at some time.
    pub(crate) ever_flagged: bool,
}

impl World {
    /// When the sweep next has work here, according to the index.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.indexed.filter(|work| work.lane == Lane::Due).and_then(|_| due_for_sweep(&self.item, GRACE))
    }

    /// Whether no message is in flight and no process runs.
    pub(crate) fn is_quiet(&self) -> bool {
        self.running.is_empty() && self.stream.is_empty() && self.queued == BySide::default()
    }

    /// Whether no order and no flag can change the referral any more.
    pub(crate) fn is_decided(&self) -> bool {
        !self.item.takes_orders()
    }

    /// Whether no event at all can change the referral any more.
    pub(crate) fn is_final(&self) -> bool {
        self.is_decided() && self.item.status() != Status::Rewarded
    }

    /// The state in a few bytes, with the sides in this order. It leaves out everything that cannot make a difference
    /// any more:
    ///
    /// - times, except whether the sweep is due, because the clock jumps from one due time to the next;
    /// - revisions, except whether a read item is still current;
    /// - the order of processes in the list;
    /// - events still to arrive, once the referral is decided.
    fn signature(&self, order: [Side; 2]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(self.referral(&self.item, order));
        let history = &self.history;
        bytes.push(self.indexed.map_or(0, |work| 1 + work.lane as u8));
        for side in order {
            bytes.push(self.queued.of(side) << 4 | self.booked.of(side) << 1 | u8::from(history.marked.of(side)));
            let outside = bits(&[self.refuses.of(side), self.taken_back.of(side)]);
            bytes.push((self.reversals.of(side) as u8) << 2 | outside);
        }
        bytes.extend([self.resends, self.faults, history.conversions.min(2)]);
        bytes.push(bits(&[
            history.invalid_transition,
            history.issued_to_flagged,
            history.issued_early,
            history.order_acknowledged,
        ]));
        bytes.push(bits(&[history.cancellation_acknowledged, history.other_acknowledged]));
        bytes.push(bits(&[
            history.cancelled,
            history.ever_flagged,
            history.cancelled_before_order,
            history.next_converted,
        ]));
        if self.item.status() == Status::Rewarded {
            bytes.push(self.pending_events[Event::Cancellation as usize]);
        }
        if !self.is_decided() {
            bytes.extend(self.pending_events);
            bytes.extend([self.flag_changes, u8::from(self.flagged)]);
        }
        for record in &self.stream {
            let is_fresh = record.image.rev == self.item.rev;
            bytes.push(0xFE);
            bytes.push(bits(&[is_fresh, record.announces.of(order[0]), record.announces.of(order[1])]));
            bytes.extend(self.referral(&record.image, order));
        }
        let mut running: Vec<_> = self.running.iter().map(|process| self.process(process, order)).collect();
        running.sort_unstable();
        bytes.push(0xFF);
        bytes.extend(running.into_iter().flatten());
        bytes
    }

    fn referral(&self, referral: &Referral, order: [Side; 2]) -> [u8; 5] {
        let first = referral.conversion().is_some_and(|conversion| conversion.order.as_str() == "o-1");
        let facts = |side| {
            let reward = referral.rewards().map(|rewards| rewards.of(side));
            let resent = |count: u32| u8::try_from(count.min(7)).unwrap_or(7) << 4;
            reward.map_or(9, |reward| {
                let Delivery { delivered_at, failed_at, called_at, .. } = &reward.delivery;
                bits(&[called_at.is_some(), delivered_at.is_some(), failed_at.is_some()])
                    | resent(reward.delivery.resent)
            })
        };
        let is_due = due_for_sweep(referral, GRACE).is_some_and(|due| due <= self.now);
        let is_noted = referral.adjusted_order.is_some();
        let candidate = referral.candidates.first();
        let is_undone = candidate.is_some_and(|candidate| candidate.is_undone);
        let ends_at = candidate.map(|candidate| candidate.conversion.hold_ends_at(&referral.terms));
        let has_ended = ends_at.is_some_and(|ends_at| ends_at <= self.now);
        let converts = [
            first,
            referral.conversion().is_some(),
            referral.takes_orders(),
            is_noted,
            candidate.is_some(),
            is_undone,
            has_ended,
        ];
        [referral.status() as u8, bits(&converts), is_due.into(), facts(order[0]), facts(order[1])]
    }

    fn process(&self, process: &Process, order: [Side; 2]) -> [u8; 8] {
        let at = |side: Side| u8::from(side == order[1]);
        let (task, of) = match process.task {
            Task::Event(event) => (1, event as u8),
            Task::Record => (2, 0),
            Task::Sweep => (3, 0),
            Task::Deliver(side) => (4, at(side)),
            Task::Resend(side) => (5, at(side)),
            Task::TakeBack(side) => (6, at(side)),
        };
        let (step, change) = match process.step {
            Step::ReadAccounts => (1, 0),
            Step::Call => (2, 0),
            Step::Write(Change::Convert(event)) => (3, event as u8),
            Step::Write(Change::Cancel) => (4, 0),
            Step::Write(Change::Issue) => (5, 0),
            Step::Write(Change::Void) => (6, 0),
            Step::Write(Change::Claim) => (7, 0),
            Step::Write(Change::ClaimForAMinute) => (8, 0),
            Step::Write(Change::Deliver(side)) => (9, at(side)),
            Step::Write(Change::Fail(side, resent)) => (10, at(side) | u8::try_from(resent.min(7)).unwrap_or(7) << 1),
            Step::Write(Change::Resend(side)) => (11, at(side)),
            Step::Write(Change::RecordCall(side)) => (12, at(side)),
            Step::MarkReversal => (13, 0),
            Step::CloseReversal => (14, 0),
        };
        let is_fresh = process.read.as_ref().is_some_and(|read| read.rev == self.item.rev);
        let flags = bits(&[
            process.was_retried,
            process.observed,
            is_fresh,
            self.recognises_own_write(process),
            process.read.is_some(),
        ]);
        let read = process.read.as_ref().map_or([0; 5], |read| self.referral(read, order));
        let [a, b, c, d, e] = read;
        [task << 4 | of, step << 4 | change, flags, a, b, c, d, e]
    }

    /// Whether the process has made its write before and its target is the current item.
    pub(crate) fn recognises_own_write(&self, process: &Process) -> bool {
        process.was_retried && process.target.as_ref().is_some_and(|(_, target)| *target == self.item)
    }
}

fn bits(flags: &[bool]) -> u8 {
    flags.iter().fold(0, |bits, flag| bits << 1 | u8::from(*flag))
}

/// The checker identifies a state by its hash. The sides are symmetric, so a state and its mirror image are one state.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut signature = self.signature(Side::BOTH);
        if self.item.rewards().is_some() {
            signature = signature.min(self.signature([Side::Referee, Side::Referrer]));
        }
        state.write(&signature);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.signature(Side::BOTH) == other.signature(Side::BOTH)
    }
}

/// One line per state, for reading a path.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rev {}", self.item.status().as_str(), self.item.rev)?;
        for side in Side::BOTH {
            let Some(rewards) = self.item.rewards() else { continue };
            let (status, queued, booked) = (rewards.of(side).status(), self.queued.of(side), self.booked.of(side));
            write!(f, "; {} {status:?}, queued {queued}, booked {booked}", side.as_str())?;
            let (reversal, taken_back) = (self.reversals.of(side), self.taken_back.of(side));
            if reversal != ReversalItem::None {
                write!(f, ", reversal {reversal:?}, taken back {taken_back}")?;
            }
        }
        let lane = self.indexed.map_or("none".to_owned(), |work| format!("{:?}", work.lane));
        write!(f, "; work {lane}; stream {}", self.stream.len())
    }
}
