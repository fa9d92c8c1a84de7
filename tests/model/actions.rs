//! The actions: what can happen in a state, and what becomes of it. Here the functions of the service are retold, step
//! by step, around the real machine: `Referral::after`, `machine::next`, `due_for_sweep` and the announcements are the
//! code's own.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use referrals::{
    fraud::FraudReason,
    life::{
        advance::due_for_sweep,
        announce::{Announcement, announcements, reannouncement, reannouncements},
    },
    machine::{Command, Decision, Transition, next},
    order::{AdjustmentCause, Order, OrderAdjustment},
    referral::{Referral, Status},
    reward::{RewardStatus, Side},
};

use crate::{
    GRACE, MINUTE, Protocol,
    faults::{Fault, Mistake},
    state::{Deed, Each, News, Point, Process, Record, Task, World},
};

/// One step of anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// An invocation begins, with a strong read of the item.
    Begin(Task),
    /// The process at this place in the list does what it is at.
    Go(usize, Task, Point),
    /// The referrer's account is flagged, or cleared.
    Turn,
    /// All is quiet until the sweep's next time.
    Wait,
    /// Something goes wrong.
    Fault(Fault),
}

impl Protocol {
    /// All that can happen in this state.
    pub(crate) fn possible(&self, world: &World, actions: &mut Vec<Action>) {
        self.outside(world, actions);
        self.inside(world, actions);
        if world.faults > 0 {
            faults(world, actions);
        }
    }

    /// What others do, when they like.
    fn outside(&self, world: &World, actions: &mut Vec<Action>) {
        let coming = News::ALL.into_iter().filter(|news| world.to_come[*news as usize] > 0 && is_news(world, *news));
        actions.extend(coming.map(|news| Action::Begin(Task::TakeIn(news))));
        if world.turns > 0 && !world.is_decided() {
            actions.push(Action::Turn);
        }
        if let Some(rewards) = world.item.rewards().filter(|_| world.resends > 0) {
            let failed = Side::BOTH.into_iter().filter(|side| rewards.of(*side).status() == RewardStatus::Failed);
            actions.extend(failed.map(|side| Action::Begin(Task::Resend(side))));
        }
    }

    /// What the service does, and what it owes as long as one of these is possible.
    pub(crate) fn inside(&self, world: &World, actions: &mut Vec<Action>) {
        let steps = world.running.iter().enumerate();
        actions.extend(steps.map(|(place, process)| Action::Go(place, process.task, process.point)));
        if !world.stream.is_empty() && !world.is_running(Task::Record) {
            actions.push(Action::Begin(Task::Record));
        }
        let queued = Side::BOTH.into_iter().filter(|side| world.queued.of(*side) > 0);
        actions.extend(queued.map(|side| Action::Begin(Task::Deliver(side))));
        match world.due().filter(|_| self.mistake != Some(Mistake::NoSweep)) {
            Some(due) if due <= world.now => {
                if !world.is_running(Task::Sweep) {
                    actions.push(Action::Begin(Task::Sweep));
                }
            }
            Some(_) if world.is_quiet() => actions.push(Action::Wait),
            Some(_) | None => {}
        }
    }

    /// What the action makes of the state.
    pub(crate) fn after(&self, world: &World, action: Action) -> World {
        let mut world = world.clone();
        match action {
            Action::Begin(task) => self.begin(&mut world, task),
            Action::Go(place, ..) => self.go(&mut world, place),
            Action::Turn => {
                world.turns -= 1;
                world.flagged = !world.flagged;
                world.memory.ever_flagged |= world.flagged;
            }
            Action::Wait => world.now = world.due().unwrap_or(world.now),
            Action::Fault(fault) => self.fail(&mut world, fault),
        }
        world
    }

    fn fail(&self, world: &mut World, fault: Fault) {
        world.faults -= 1;
        match fault {
            Fault::AnswerLost(place) => {
                let mut process = world.running.remove(place);
                process.many = true;
                self.land(world, &process);
                world.running.push(process);
                self.forget(world);
            }
            Fault::Dies(place) => {
                let process = world.running.remove(place);
                self.give_back(world, process.task);
            }
            Fault::DiesAfter(place) => {
                let process = world.running.remove(place);
                self.land(world, &process);
                self.give_back(world, process.task);
                self.forget(world);
            }
            Fault::RecordTwice => tell(world, world.stream[0].tells),
            Fault::EventTwice(news) => world.to_come[news as usize] += 1,
            Fault::MessageTwice(side) => *world.queued.of_mut(side) += 1,
            Fault::GivenUp(side) => *world.queued.of_mut(side) -= 1,
            Fault::RecordLost => drop(world.stream.remove(0)),
            Fault::BusRefuses(place) => {
                let process = world.running.remove(place);
                self.land(world, &process);
                let claimed = process.wanted.clone();
                self.decide(world, process, Deed::ClaimForAMinute, claimed);
                self.forget(world);
            }
            Fault::BookedUnheard(place) => {
                let process = world.running.remove(place);
                self.book(world, process.task);
                self.give_back(world, process.task);
            }
            Fault::Refused(place) => {
                let process = world.running.remove(place);
                let (read, side) = (process.read.clone(), side_of(process.task));
                let rewards = read.as_ref().and_then(|read| read.rewards());
                let resent = rewards.map_or(0, |rewards| rewards.of(side).resent);
                self.decide(world, process, Deed::Fail(side, resent), read);
            }
            Fault::Late => world.now = world.due().unwrap_or(world.now),
            Fault::SweptTwice => self.begin(world, Task::Sweep),
        }
    }

    /// The four beats' first: what started the function is taken, and the item read.
    fn begin(&self, world: &mut World, task: Task) {
        let found = world.item.clone();
        let mut process = Process { task, point: Point::Look, read: None, wanted: None, many: false, met: false };
        match task {
            Task::TakeIn(news) => {
                world.to_come[news as usize] -= 1;
                let is_converted = found.status() == Status::Converted;
                let by_it = found.conversion().is_some_and(|conversion| conversion.order == order(News::Order).id);
                process.met = news == News::Cancellation && is_converted && by_it;
                if self.mistake == Some(Mistake::AcknowledgedBeforeWrite) {
                    remember_taken(world, &process);
                }
                let deed = if news == News::Cancellation { Deed::Withdraw } else { Deed::Convert(news) };
                self.decide(world, process, deed, Some(found));
            }
            Task::Record => {
                let record = world.stream[0].clone();
                tell(world, record.tells);
                self.advance(world, process, record.image);
            }
            Task::Sweep if found.status() == Status::Converted => self.advance(world, process, found),
            Task::Sweep if self.mistake == Some(Mistake::NoClaim) => tell(world, told_again(&found, None)),
            Task::Sweep => self.decide(world, process, Deed::Claim, Some(found)),
            Task::Deliver(side) => {
                *world.queued.of_mut(side) -= 1;
                let is_issued = found.rewards().is_some_and(|all| all.of(side).status() == RewardStatus::Issued);
                if !is_issued {
                    // Nothing to deliver; the message is done with.
                } else if self.mistake == Some(Mistake::MarkedBeforeCall) {
                    self.decide(world, process, Deed::Deliver(side), Some(found));
                } else {
                    (process.point, process.read) = (Point::Call, Some(found));
                    world.running.push(process);
                }
            }
            Task::Resend(side) => {
                world.resends -= 1;
                self.decide(world, process, Deed::Resend(side), Some(found));
            }
        }
    }

    /// A process goes on.
    fn go(&self, world: &mut World, place: usize) {
        let mut process = world.running.remove(place);
        match process.point {
            Point::Look => {
                process.met = world.flagged;
                let is_flagged = world.flagged && self.mistake != Some(Mistake::CachedAccounts);
                let read = process.read.clone();
                self.decide(world, process, if is_flagged { Deed::Void } else { Deed::Issue }, read);
            }
            Point::Write(deed) => self.write(world, process, deed),
            Point::Call => {
                self.book(world, process.task);
                let (read, side) = (process.read.clone(), side_of(process.task));
                if self.mistake == Some(Mistake::MarkedBeforeCall) {
                    acknowledge(world, &process);
                } else {
                    self.decide(world, process, Deed::Deliver(side), read);
                }
            }
        }
    }

    /// `life::advance`: whether the time has come; then the facts are read.
    fn advance(&self, world: &mut World, mut process: Process, found: Arc<Referral>) {
        let is_due = found.work().is_some_and(|work| work.at <= world.now) || self.mistake == Some(Mistake::NoHold);
        if found.status() == Status::Converted && is_due {
            (process.point, process.read, process.wanted, process.many) = (Point::Look, Some(found), None, false);
            world.running.push(process);
            self.forget(world);
        } else {
            acknowledge(world, &process);
        }
    }

    /// `Store::step` and its like: what the event makes of what was found.
    fn decide(&self, world: &mut World, mut process: Process, deed: Deed, found: Option<Arc<Referral>>) {
        (process.point, process.read, process.wanted, process.many) = (Point::Write(deed), None, None, false);
        if let Some(found) = found {
            match step(&found, deed, world) {
                Decision::Apply(after, _) => (process.read, process.wanted) = (Some(found), Some(Arc::from(after))),
                Decision::AlreadyDone | Decision::Refuse(_) => return acknowledge(world, &process),
            }
        }
        world.running.push(process);
    }

    /// `Store::write`: done, or own work found, or decided again from what a refusal brought.
    fn write(&self, world: &mut World, process: Process, deed: Deed) {
        if self.may_land(world, &process) {
            self.land(world, &process);
            self.taken(world, process, deed);
            self.forget(world);
        } else if world.finds_own_work(&process) {
            self.taken(world, process, deed);
        } else {
            let found = world.item.clone();
            match deed {
                Deed::Issue | Deed::Void => self.advance(world, process, found),
                _ => self.decide(world, process, deed, Some(found)),
            }
        }
    }

    /// The condition of `guard::step`.
    pub(crate) fn may_land(&self, world: &World, process: &Process) -> bool {
        let (Point::Write(deed), Some(read)) = (process.point, &process.read) else { return false };
        let Some(wanted) = &process.wanted else { return false };
        let is_allowed = verb(deed, wanted.status()).allowed_from().any(|status| status == world.item.status());
        match self.mistake {
            Some(Mistake::NoCondition) => true,
            Some(Mistake::NoRevision) => is_allowed,
            _ => is_allowed && read.rev == world.item.rev,
        }
    }

    /// The table takes a write: item, index and stream change at once.
    fn land(&self, world: &mut World, process: &Process) {
        let (Point::Write(deed), Some(after)) = (process.point, &process.wanted) else { return };
        let before = std::mem::replace(&mut world.item, after.clone());
        world.listed = after.work();
        if self.mistake == Some(Mistake::UnlistedAtIssue) && deed == Deed::Issue {
            world.listed = None;
        }
        let record = Record { tells: told(&before, after), image: after.clone() };
        if record.tells != Each::default() || after.status() == Status::Converted {
            world.stream.push(record);
        }

        let memory = &mut world.memory;
        memory.strayed |= next(before.status(), verb(deed, after.status())) != Some(after.status());
        match deed {
            Deed::Convert(_) => memory.conversions += u8::from(after.status() == Status::Converted),
            Deed::Issue => {
                memory.issued_to_flagged |= process.met;
                memory.issued_early |= before.work().is_some_and(|work| work.at > world.now);
            }
            Deed::Deliver(side) => *memory.marked.of_mut(side) = true,
            Deed::Withdraw if before.status() == Status::Pending => memory.overtaken = true,
            Deed::Withdraw => memory.withdrawn = true,
            Deed::Void | Deed::Claim | Deed::ClaimForAMinute | Deed::Fail(..) | Deed::Resend(_) => {}
        }
    }

    /// After the write: what is to be announced again is, and what started the process is acknowledged.
    fn taken(&self, world: &mut World, mut process: Process, deed: Deed) {
        match (deed, process.wanted.take()) {
            (Deed::Claim, Some(claimed)) => tell(world, told_again(&claimed, None)),
            (Deed::Resend(side), Some(resent)) => tell(world, told_again(&resent, Some(side))),
            (Deed::Deliver(_), _) if self.mistake == Some(Mistake::MarkedBeforeCall) => {
                (process.point, process.read, process.many) = (Point::Call, None, false);
                return world.running.push(process);
            }
            _ => {}
        }
        acknowledge(world, &process);
    }

    /// What started a process that did not get to its end comes again.
    fn give_back(&self, world: &mut World, task: Task) {
        match task {
            Task::TakeIn(_) if self.mistake == Some(Mistake::AcknowledgedBeforeWrite) => {}
            Task::TakeIn(news) => world.to_come[news as usize] += 1,
            Task::Deliver(side) => *world.queued.of_mut(side) += 1,
            // The record is still the first, the item still in the index; the operator has seen an error.
            Task::Record | Task::Sweep | Task::Resend(_) => {}
        }
    }

    /// The subsystem takes a reward: one booking per key.
    fn book(&self, world: &mut World, task: Task) {
        let booked = world.booked.of_mut(side_of(task));
        *booked = if self.mistake == Some(Mistake::NewKeyPerCall) { (*booked + 1).min(2) } else { 1 };
    }

    /// Lets go of what processes have read that the table does not hold any more: a write that demands the revision
    /// can only be refused then, and a refusal brings what is there.
    fn forget(&self, world: &mut World) {
        if let Some(Mistake::NoRevision | Mistake::NoCondition) = self.mistake {
            return;
        }
        for mut process in std::mem::take(&mut world.running) {
            let is_fresh = process.read.as_ref().is_some_and(|read| read.rev == world.item.rev);
            if !is_fresh && !world.finds_own_work(&process) {
                (process.read, process.wanted) = (None, None);
                if world.is_decided() && is_of_no_use(&process) {
                    acknowledge(world, &process);
                    continue;
                }
            }
            world.running.push(process);
        }
    }
}

/// Whether all that is left for a process whose referral others have decided is to find that out, and to acknowledge.
fn is_of_no_use(process: &Process) -> bool {
    match process.point {
        Point::Look | Point::Write(Deed::Convert(_) | Deed::Withdraw | Deed::Issue | Deed::Void) => true,
        Point::Call
        | Point::Write(Deed::Claim | Deed::ClaimForAMinute | Deed::Deliver(_) | Deed::Fail(..) | Deed::Resend(_)) => {
            false
        }
    }
}

/// Whether the event changes anything now. One that does not is acknowledged as soon as it is read, as if it had not
/// come.
fn is_news(world: &World, news: News) -> bool {
    let deed = if news == News::Cancellation { Deed::Withdraw } else { Deed::Convert(news) };
    !world.is_decided() && matches!(step(&world.item, deed, world), Decision::Apply(..))
}

/// The bus takes an announcement and its rule puts it into the queue.
fn tell(world: &mut World, sides: Each<bool>) {
    for side in Side::BOTH.into_iter().filter(|side| sides.of(*side)) {
        *world.queued.of_mut(side) += 1;
    }
}

impl World {
    fn is_running(&self, task: Task) -> bool {
        self.running.iter().any(|process| process.task == task)
    }
}

/// What may go wrong here.
fn faults(world: &World, actions: &mut Vec<Action>) {
    let mut add = |fault| actions.push(Action::Fault(fault));
    for (place, process) in world.running.iter().enumerate() {
        add(Fault::Dies(place));
        match (process.point, process.task) {
            (Point::Write(deed), _) => {
                let is_fresh = process.read.as_ref().is_some_and(|read| read.rev == world.item.rev);
                if is_fresh {
                    add(Fault::AnswerLost(place));
                    add(Fault::DiesAfter(place));
                    if deed == Deed::Claim {
                        add(Fault::BusRefuses(place));
                    }
                }
            }
            (Point::Call, task) => {
                add(Fault::BookedUnheard(place));
                if world.booked.of(side_of(task)) == 0 {
                    add(Fault::Refused(place));
                }
            }
            (Point::Look, _) => {}
        }
    }
    for news in News::ALL.into_iter().filter(|news| is_news(world, *news)) {
        add(Fault::EventTwice(news));
    }
    for side in Side::BOTH.into_iter().filter(|side| world.queued.of(*side) > 0) {
        add(Fault::MessageTwice(side));
        add(Fault::GivenUp(side));
    }
    if !world.stream.is_empty() && !world.is_running(Task::Record) {
        add(Fault::RecordLost);
        if world.stream[0].tells != Each::default() {
            add(Fault::RecordTwice);
        }
    }
    match world.due() {
        Some(due) if due <= world.now => {
            if world.is_running(Task::Sweep) {
                add(Fault::SweptTwice);
            }
        }
        Some(_) if !world.is_quiet() => add(Fault::Late),
        Some(_) | None => {}
    }
}

/// The process is done, and what started it with it.
fn acknowledge(world: &mut World, process: &Process) {
    match process.task {
        Task::TakeIn(_) => remember_taken(world, process),
        Task::Record => drop(world.stream.remove(0)),
        Task::Sweep | Task::Deliver(_) | Task::Resend(_) => {}
    }
}

fn remember_taken(world: &mut World, process: &Process) {
    match process.task {
        Task::TakeIn(News::Cancellation) => world.memory.cancellation_taken |= process.met,
        _ => world.memory.order_taken = true,
    }
}

fn side_of(task: Task) -> Side {
    match task {
        Task::Deliver(side) | Task::Resend(side) => side,
        Task::TakeIn(_) | Task::Record | Task::Sweep => unreachable!("{task:?} is of no side"),
    }
}

/// What the machine calls a deed that leads there.
fn verb(deed: Deed, to: Status) -> Transition {
    match deed {
        // Of an order that was withdrawn before it came.
        Deed::Convert(_) if to == Status::Voided => Transition::Void,
        Deed::Convert(_) => Transition::Convert,
        Deed::Withdraw => Transition::Adjust,
        Deed::Issue => Transition::Issue,
        Deed::Void => Transition::Void,
        Deed::Claim | Deed::ClaimForAMinute => Transition::Claim,
        Deed::Deliver(_) | Deed::Fail(..) => Transition::RecordAnswer,
        Deed::Resend(_) => Transition::Resend,
    }
}

/// The real machine, fed what the deed stands for.
fn step(found: &Referral, deed: Deed, world: &World) -> Decision {
    let now = world.now;
    match deed {
        Deed::Convert(news) => found.decide(&Command::Convert(order(news)), now),
        Deed::Withdraw => {
            let Order { id, user, .. } = order(News::Order).clone();
            found.decide(&Command::Adjust(&OrderAdjustment { order: id, user, cause: AdjustmentCause::Cancelled }), now)
        }
        Deed::Issue => found.decide(&Command::Issue, now),
        Deed::Void => found.decide(&Command::Void(FraudReason::ReferrerFlagged.into()), now),
        Deed::Claim => reclaimed(found, world),
        Deed::ClaimForAMinute => found.decide(&Command::Claim(now.plus(MINUTE)), now),
        Deed::Deliver(side) => found.decide(&Command::MarkDelivered(side), now),
        Deed::Fail(side, resent) => found.decide(&Command::MarkFailed(side, "400", resent), now),
        Deed::Resend(side) => found.decide(&Command::Resend(side, now.plus(GRACE)), now),
    }
}

/// `life::advance::claim`, whose decision is its own.
fn reclaimed(found: &Referral, world: &World) -> Decision {
    match (found.rewards(), due_for_sweep(found, GRACE)) {
        (Some(rewards), Some(due)) if due <= world.now => {
            let pause = world.now.since(rewards.issued_at).max(GRACE);
            found.decide(&Command::Claim(world.now.plus(pause)), world.now)
        }
        _ => Decision::AlreadyDone,
    }
}

pub(crate) fn order(news: News) -> &'static Order {
    static ORDERS: LazyLock<[Order; 2]> = LazyLock::new(|| ["o-1", "o-2"].map(crate::order));
    &ORDERS[usize::from(news == News::OtherOrder)]
}

/// The rewards that a change announces: the code's own function, remembered, for it makes whole events.
fn told(before: &Referral, after: &Referral) -> Each<bool> {
    if before.status() == after.status() && before.rewards().is_none() {
        return Each::default();
    }
    remembered((Some(facts(before)), facts(after), None), || announcements(Some(before), after))
}

/// The rewards that a claim, or an operator, announces again.
fn told_again(referral: &Referral, side: Option<Side>) -> Each<bool> {
    remembered((None, facts(referral), side), || match side {
        Some(side) => reannouncement(referral, side).into_iter().collect(),
        None => reannouncements(referral),
    })
}

type Facts = (Status, [Option<(bool, bool)>; 2]);
type Question = (Option<Facts>, Facts, Option<Side>);

/// All of a referral that an announcement's type and side can depend on.
fn facts(referral: &Referral) -> Facts {
    let of = |side| {
        let reward = referral.rewards()?.of(side);
        Some((reward.delivered_at.is_some(), reward.failed_at.is_some()))
    };
    (referral.status(), Side::BOTH.map(of))
}

fn remembered(question: Question, ask: impl FnOnce() -> Vec<Announcement>) -> Each<bool> {
    thread_local! {
        static ANSWERS: RefCell<HashMap<String, Each<bool>>> = RefCell::default();
    }
    ANSWERS.with_borrow_mut(|answers| {
        *answers.entry(format!("{question:?}")).or_insert_with(|| {
            let news = ask();
            let issued = news.iter().filter(|news| news.detail_type == "reward.issued");
            issued.filter_map(|news| Side::BOTH.into_iter().find(|side| news.detail["side"] == side.as_str())).collect()
        })
    })
}
