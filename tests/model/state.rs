//! The state: the table's one item, its stream and index, what is in flight, who is running, and what is remembered for
//! the properties. It ends with what makes two states the same.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use referrals::{
    life::advance::due_for_sweep,
    referral::{Lane, Referral, State, Status, Work},
    reward::Side,
    time::Timestamp,
};

use crate::GRACE;

/// What comes in by the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// A qualifying order.
    Order,
    /// Another one of the same member.
    OtherOrder,
    /// [`News::Order`] was cancelled.
    Cancellation,
}

impl News {
    pub(crate) const ALL: [Self; 3] = [Self::Order, Self::OtherOrder, Self::Cancellation];
}

/// Something for each side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Each<T>(pub(crate) [T; 2]);

impl<T: Copy> Each<T> {
    pub(crate) fn of(&self, side: Side) -> T {
        self.0[side as usize]
    }

    pub(crate) fn of_mut(&mut self, side: Side) -> &mut T {
        &mut self.0[side as usize]
    }
}

impl FromIterator<Side> for Each<bool> {
    fn from_iter<I: IntoIterator<Item = Side>>(sides: I) -> Self {
        let mut each = Self::default();
        sides.into_iter().for_each(|side| *each.of_mut(side) = true);
        each
    }
}

/// An invocation's reason to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// `conversion`: an event from the bus.
    TakeIn(News),
    /// `rewards`: the first record of the stream.
    Record,
    /// `sweep`: it found the referral in the index of work.
    Sweep,
    /// `delivery`: a message that names this side's reward.
    Deliver(Side),
    /// `admin`: an operator has this side's reward sent again.
    Resend(Side),
}

/// What a write does. These are `machine::Command`s, with what the model leaves open filled in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    Convert(News),
    Withdraw,
    Issue,
    Void,
    Claim,
    /// What the bus would not take is claimed for a minute only.
    ClaimForAMinute,
    Deliver(Side),
    /// Of the call that was made when the reward had been sent again so often.
    Fail(Side, u32),
    Resend(Side),
}

/// What an invocation does next. Between any two of these everybody else may act.
///
/// Announcing and acknowledging come with the step before them: until then nobody can tell that they have not happened,
/// unless the process dies, which is [`crate::faults::Fault::DiesAfter`], or the message is slow, which it may be in
/// its queue as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Point {
    /// Reads how the two people stand.
    Look,
    /// Writes, under the condition of `guard::step`.
    Write(Deed),
    /// Calls the subsystem.
    Call,
}

/// An invocation that is running.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) task: Task,
    pub(crate) point: Point,
    /// What it decided from. `None`: the table has moved on since, so that its write can only be refused.
    pub(crate) read: Option<Arc<Referral>>,
    /// What it is about to write.
    pub(crate) wanted: Option<Arc<Referral>>,
    /// Whether the SDK made the write once already, without getting an answer.
    pub(crate) many: bool,
    /// For the properties, not for the process: whether the account was flagged when it looked, or for a cancellation,
    /// whether it met what that order had converted.
    pub(crate) met: bool,
}

/// A record of the stream that somebody has to do something about; the function lets all others pass.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The rewards that it announces.
    pub(crate) tells: Each<bool>,
    /// The new image.
    pub(crate) image: Arc<Referral>,
}

/// Everything at one moment.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) item: Arc<Referral>,
    /// The item's place in the index of work.
    pub(crate) listed: Option<Work>,
    /// Whether the referrer's account is flagged.
    pub(crate) flagged: bool,
    pub(crate) stream: Vec<Record>,
    /// Messages in the queues of the subsystems.
    pub(crate) queued: Each<u8>,
    pub(crate) running: Vec<Process>,
    /// Under how many keys the subsystem booked this side's reward.
    pub(crate) booked: Each<u8>,

    /// How often each event has yet to come in.
    pub(crate) to_come: [u8; 3],
    /// How often the account may yet be flagged or cleared.
    pub(crate) turns: u8,
    /// How often the operator may yet act.
    pub(crate) resends: u8,
    /// How many faults may yet happen.
    pub(crate) faults: u8,

    pub(crate) memory: Memory,
}

/// What happened, for the properties alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Memory {
    /// Writes that converted.
    pub(crate) conversions: u8,
    /// A write led where the machine does not.
    pub(crate) strayed: bool,
    /// Issued though the account was flagged when it was looked at.
    pub(crate) issued_to_flagged: bool,
    /// Issued before the hold was over.
    pub(crate) issued_early: bool,
    /// Sides that were written down as delivered.
    pub(crate) marked: Each<bool>,
    /// An order was acknowledged.
    pub(crate) order_taken: bool,
    /// A cancellation was acknowledged that had met what its order had converted.
    pub(crate) cancellation_taken: bool,
    /// A cancellation's write voided.
    pub(crate) withdrawn: bool,
    /// A cancellation's write was there before its order.
    pub(crate) overtaken: bool,
    /// The account was flagged at some time.
    pub(crate) ever_flagged: bool,
}

impl World {
    /// When the sweep will next have something to do here, as far as the index shows it.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.listed.filter(|work| work.lane == Lane::Due).and_then(|_| due_for_sweep(&self.item, GRACE))
    }

    /// Nothing is in flight and nobody runs.
    pub(crate) fn is_quiet(&self) -> bool {
        self.running.is_empty() && self.stream.is_empty() && self.queued == Each::default()
    }

    /// Nothing of an event, or of how an account stands, can change the referral any more.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self.item.status(), Status::Rewarded | Status::Voided)
    }

    /// The state in a few bytes, with the sides in this order. Left out is what cannot make a difference any more:
    ///
    /// - times, but for whether the sweep's time has come, because the clock jumps from one such time to the next;
    /// - revisions, but for whether what was read is still what the table holds;
    /// - in which order processes stand in the list;
    /// - what is yet to come from outside, once the referral is decided.
    fn signature(&self, order: [Side; 2]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(self.referral(&self.item, order));
        let memory = &self.memory;
        bytes.push(self.listed.map_or(0, |work| 1 + work.lane as u8));
        for side in order {
            bytes.push(self.queued.of(side) << 4 | self.booked.of(side) << 1 | u8::from(memory.marked.of(side)));
        }
        bytes.extend([self.resends, self.faults, memory.conversions.min(2)]);
        bytes.push(bits(&[memory.strayed, memory.issued_to_flagged, memory.issued_early, memory.order_taken]));
        bytes.push(bits(&[memory.cancellation_taken]));
        if self.item.status() != Status::Rewarded {
            bytes.push(bits(&[memory.withdrawn, memory.ever_flagged, memory.overtaken]));
        }
        if !self.is_decided() {
            bytes.extend(self.to_come);
            bytes.extend([self.turns, u8::from(self.flagged)]);
        }
        for record in &self.stream {
            let is_fresh = record.image.rev == self.item.rev;
            bytes.push(0xFE);
            bytes.push(bits(&[is_fresh, record.tells.of(order[0]), record.tells.of(order[1])]));
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
                bits(&[reward.delivered_at.is_some(), reward.failed_at.is_some()]) | resent(reward.resent)
            })
        };
        let is_due = due_for_sweep(referral, GRACE).is_some_and(|due| due <= self.now);
        let is_noted = matches!(&referral.state, State::Pending { adjustments } if !adjustments.is_empty());
        [referral.status() as u8, bits(&[first, is_noted]), is_due.into(), facts(order[0]), facts(order[1])]
    }

    fn process(&self, process: &Process, order: [Side; 2]) -> [u8; 8] {
        let at = |side: Side| u8::from(side == order[1]);
        let (task, of) = match process.task {
            Task::TakeIn(news) => (1, news as u8),
            Task::Record => (2, 0),
            Task::Sweep => (3, 0),
            Task::Deliver(side) => (4, at(side)),
            Task::Resend(side) => (5, at(side)),
        };
        let (point, deed) = match process.point {
            Point::Look => (1, 0),
            Point::Call => (2, 0),
            Point::Write(Deed::Convert(news)) => (3, news as u8),
            Point::Write(Deed::Withdraw) => (4, 0),
            Point::Write(Deed::Issue) => (5, 0),
            Point::Write(Deed::Void) => (6, 0),
            Point::Write(Deed::Claim) => (7, 0),
            Point::Write(Deed::ClaimForAMinute) => (8, 0),
            Point::Write(Deed::Deliver(side)) => (9, at(side)),
            Point::Write(Deed::Fail(side, resent)) => (10, at(side) | u8::try_from(resent.min(7)).unwrap_or(7) << 1),
            Point::Write(Deed::Resend(side)) => (11, at(side)),
        };
        let is_fresh = process.read.as_ref().is_some_and(|read| read.rev == self.item.rev);
        let flags = bits(&[process.many, process.met, is_fresh, self.finds_own_work(process), process.read.is_some()]);
        let read = process.read.as_ref().map_or([0; 5], |read| self.referral(read, order));
        let [a, b, c, d, e] = read;
        [task << 4 | of, point << 4 | deed, flags, a, b, c, d, e]
    }

    /// The process made its write before, and what it wanted is what is there.
    pub(crate) fn finds_own_work(&self, process: &Process) -> bool {
        process.many && process.wanted.as_ref() == Some(&self.item)
    }
}

fn bits(flags: &[bool]) -> u8 {
    flags.iter().fold(0, |bits, flag| bits << 1 | u8::from(*flag))
}

/// The checker knows a state by its hash. Nothing here tells the sides apart, so a state and its mirror image are one.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut signature = self.signature(Side::BOTH);
        if self.item.status() == Status::Rewarded {
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

/// A line for whoever follows a path.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rev {}", self.item.status().as_str(), self.item.rev)?;
        for side in Side::BOTH {
            let Some(rewards) = self.item.rewards() else { continue };
            let (status, queued, booked) = (rewards.of(side).status(), self.queued.of(side), self.booked.of(side));
            write!(f, "; {} {status:?}, queued {queued}, booked {booked}", side.as_str())?;
        }
        let lane = self.listed.map_or("nothing".to_owned(), |work| format!("{:?}", work.lane));
        write!(f, "; owes {lane}; stream {}", self.stream.len())
    }
}
