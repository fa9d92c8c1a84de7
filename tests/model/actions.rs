//! The actions: what can happen in a state, and the resulting state. The functions of the service are rewritten here,
//! step by step, around the real state machine: `Referral::decide`, `machine::next`, `due_for_sweep` and the
//! announcements are the service's own code.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use referrals::{
    aws::Announcement,
    domain::{
        adjustments::Adjustments,
        order::{Order, OrderRecord},
    },
    fraud::FraudReason,
    lifecycle::{
        announce::{announcements, reannouncement, reannouncements},
        issue::due_for_sweep,
    },
    referral::{
        Referral, Status,
        machine::{Command, Decision, Transition, next},
        reversal::{self, Readiness},
        reward::{RewardStatus, Side},
    },
};

use crate::{
    GRACE, MINUTE, Protocol,
    faults::{Fault, Mistake},
    state::{BySide, Change, Event, Process, Record, ReversalItem, Step, Task, World},
};

/// One step of the service, the outside world or a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// An invocation starts with a strongly consistent read of the item.
    Start(Task),
    /// The process with this index makes its next step.
    Run(usize, Task, Step),
    /// The referrer's account is flagged or cleared.
    ToggleFlag,
    /// Time passes until the sweep is due, while nothing is in flight.
    Wait,
    /// Something goes wrong.
    Fault(Fault),
}

impl Protocol {
    /// All actions that are possible in this state.
    pub(crate) fn possible(&self, world: &World, actions: &mut Vec<Action>) {
        self.external_actions(world, actions);
        self.service_actions(world, actions);
        if world.faults > 0 {
            faults(world, actions);
        }
    }

    /// Actions from outside the service, which can happen at any time.
    fn external_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let coming = Event::ALL
            .into_iter()
            .filter(|event| world.pending_events[*event as usize] > 0 && has_effect(world, *event));
        actions.extend(coming.map(|event| Action::Start(Task::Event(event))));
        if world.flag_changes > 0 && !world.is_decided() {
            actions.push(Action::ToggleFlag);
        }
        if let Some(rewards) = world.item.rewards().filter(|_| world.resends > 0) {
            let failed = Side::BOTH.into_iter().filter(|side| rewards.of(*side).status() == RewardStatus::Failed);
            actions.extend(failed.map(|side| Action::Start(Task::Resend(side))));
        }
    }

    /// Actions of the service. It has work left as long as one of these is possible.
    pub(crate) fn service_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let steps = world.running.iter().enumerate();
        actions.extend(steps.map(|(index, process)| Action::Run(index, process.task, process.step)));
        if !world.stream.is_empty() && !world.is_running(Task::Record) {
            actions.push(Action::Start(Task::Record));
        }
        let queued = Side::BOTH.into_iter().filter(|side| world.queued.of(*side) > 0);
        actions.extend(queued.map(|side| Action::Start(Task::Deliver(side))));
        let open = Side::BOTH.into_iter().filter(|side| self.can_take_back(world, *side));
        actions.extend(open.map(|side| Action::Start(Task::TakeBack(side))));
        match world.due().filter(|_| self.mistake != Some(Mistake::NoSweep)) {
            Some(due) if due <= world.now => {
                if !world.is_running(Task::Sweep) {
                    actions.push(Action::Start(Task::Sweep));
                }
            }
            Some(_) if world.is_quiet() => actions.push(Action::Wait),
            Some(_) | None => {}
        }
    }

    /// Whether a message about this side's reversal has an effect. Until then it waits in its queue.
    fn can_take_back(&self, world: &World, side: Side) -> bool {
        let is_open = world.reversals.of(side) == ReversalItem::Open && !world.is_running(Task::TakeBack(side));
        is_open && self.readiness(world, side) != Readiness::Wait
    }

    fn readiness(&self, world: &World, side: Side) -> Readiness {
        match world.item.rewards() {
            Some(_) if self.mistake == Some(Mistake::TakenBackBeforeAnswer) => Readiness::Send,
            Some(rewards) => rewards.readiness(side),
            None => Readiness::Close,
        }
    }

    /// The state after this action.
    pub(crate) fn after(&self, world: &World, action: Action) -> World {
        let mut world = world.clone();
        match action {
            Action::Start(task) => self.start(&mut world, task),
            Action::Run(index, ..) => self.run_step(&mut world, index),
            Action::ToggleFlag => {
                world.flag_changes -= 1;
                world.flagged = !world.flagged;
                world.history.ever_flagged |= world.flagged;
            }
            Action::Wait => world.now = world.due().unwrap_or(world.now),
            Action::Fault(fault) => self.fail(&mut world, fault),
        }
        world
    }

    fn fail(&self, world: &mut World, fault: Fault) {
        world.faults -= 1;
        match fault {
            Fault::AnswerLost(index) => {
                let mut process = world.running.remove(index);
                process.was_retried = true;
                self.commit(world, &process);
                world.running.push(process);
                self.drop_stale_reads(world);
            }
            Fault::Dies(index) => {
                let process = world.running.remove(index);
                self.return_trigger(world, process.task);
            }
            Fault::DiesAfter(index) => {
                let process = world.running.remove(index);
                self.commit(world, &process);
                self.return_trigger(world, process.task);
                self.drop_stale_reads(world);
            }
            Fault::RecordTwice => enqueue(world, world.stream[0].announces),
            Fault::EventTwice(event) => world.pending_events[event as usize] += 1,
            Fault::MessageTwice(side) => *world.queued.of_mut(side) += 1,
            Fault::GivenUp(side) => *world.queued.of_mut(side) -= 1,
            Fault::RecordLost => drop(world.stream.remove(0)),
            Fault::BusRefuses(index) => {
                let process = world.running.remove(index);
                self.commit(world, &process);
                let claimed = process.target.clone().map(|(_, claimed)| claimed);
                self.decide(world, process, Change::ClaimForAMinute, claimed);
                self.drop_stale_reads(world);
            }
            Fault::BookedUnheard(index) => {
                let process = world.running.remove(index);
                self.book(world, process.task);
                self.return_trigger(world, process.task);
            }
            Fault::Refused(index) => {
                let process = world.running.remove(index);
                *world.refuses.of_mut(side_of(process.task)) = true;
                self.refused(world, process);
            }
            Fault::Late => world.now = world.due().unwrap_or(world.now),
            Fault::SweptTwice => self.start(world, Task::Sweep),
        }
    }

    /// The first step of an invocation: takes its trigger and reads the item.
    fn start(&self, world: &mut World, task: Task) {
        let found = world.item.clone();
        let mut process = Process::new(task);
        match task {
            Task::Event(event) => {
                world.pending_events[event as usize] -= 1;
                let is_open = matches!(found.status(), Status::Converted | Status::Rewarded);
                let by_it = found.conversion().is_some_and(|conversion| conversion.order == order(Event::Order).id);
                process.observed = event == Event::Cancellation && is_open && by_it;
                if self.mistake == Some(Mistake::AcknowledgedBeforeWrite) {
                    record_acknowledged(world, &process);
                }
                let change = if event == Event::Cancellation { Change::Cancel } else { Change::Convert(event) };
                self.decide(world, process, change, Some(found));
            }
            Task::Record => {
                let record = world.stream[0].clone();
                enqueue(world, record.announces);
                self.start_issue(world, process, record.image);
            }
            Task::Sweep if found.status() == Status::Converted => self.start_issue(world, process, found),
            Task::Sweep if self.mistake == Some(Mistake::NoClaim) => enqueue(world, reannounced(&found, None)),
            Task::Sweep => self.decide(world, process, Change::Claim, Some(found)),
            Task::Deliver(side) => {
                *world.queued.of_mut(side) -= 1;
                self.deliver(world, process, side, found);
            }
            Task::TakeBack(side) => {
                let is_given = self.readiness(world, side) == Readiness::Send;
                process.step = if is_given { Step::Call } else { Step::CloseReversal };
                world.running.push(process);
            }
            Task::Resend(side) => {
                world.resends -= 1;
                self.decide(world, process, Change::Resend(side), Some(found));
            }
        }
    }

    /// The start of a delivery: records the first call, then calls.
    fn deliver(&self, world: &mut World, mut process: Process, side: Side, found: Arc<Referral>) {
        let id = found.reward_id(side);
        if !found.undelivered().contains(&id) {
            // Nothing to deliver; the message is processed.
        } else if self.mistake == Some(Mistake::MarkedBeforeCall) {
            self.decide(world, process, Change::Deliver(side), Some(found));
        } else if found.delivery(&id).is_some_and(|delivery| delivery.called_at.is_none())
            && self.mistake != Some(Mistake::CallNotRecorded)
        {
            self.decide(world, process, Change::RecordCall(side), Some(found));
        } else {
            (process.step, process.read, process.target, process.was_retried) = (Step::Call, Some(found), None, false);
            world.running.push(process);
        }
    }

    /// The subsystem refused a reward permanently.
    fn refused(&self, world: &mut World, process: Process) {
        let (read, side) = (process.read.clone(), side_of(process.task));
        let rewards = read.as_ref().and_then(|read| read.rewards());
        let resent = rewards.map_or(0, |rewards| rewards.of(side).delivery.resent);
        self.decide(world, process, Change::Fail(side, resent), read);
    }

    /// The next step of a process.
    fn run_step(&self, world: &mut World, index: usize) {
        let mut process = world.running.remove(index);
        match process.step {
            Step::ReadAccounts => {
                process.observed = world.flagged;
                let is_flagged = world.flagged && self.mistake != Some(Mistake::CachedAccounts);
                let read = process.read.clone();
                self.decide(world, process, if is_flagged { Change::Void } else { Change::Issue }, read);
            }
            Step::Write(change) => self.write(world, process, change),
            Step::MarkReversal => *world.reversals.of_mut(side_of(process.task)) = ReversalItem::Delivered,
            Step::CloseReversal => {
                let reversal = world.reversals.of_mut(side_of(process.task));
                *reversal = if *reversal == ReversalItem::Open { ReversalItem::Closed } else { *reversal };
            }
            Step::Call if matches!(process.task, Task::TakeBack(_)) => {
                *world.taken_back.of_mut(side_of(process.task)) = true;
                process.step = Step::MarkReversal;
                world.running.push(process);
            }
            Step::Call if world.refuses.of(side_of(process.task)) => self.refused(world, process),
            Step::Call => {
                self.book(world, process.task);
                let (read, side) = (process.read.clone(), side_of(process.task));
                if self.mistake == Some(Mistake::MarkedBeforeCall) {
                    acknowledge(world, &process);
                } else {
                    self.decide(world, process, Change::Deliver(side), read);
                }
            }
        }
    }

    /// The start of an issue: checks whether the referral is due, then reads the accounts.
    fn start_issue(&self, world: &mut World, mut process: Process, found: Arc<Referral>) {
        let is_due = found.work().is_some_and(|work| work.at <= world.now) || self.mistake == Some(Mistake::NoHold);
        if found.status() == Status::Converted && is_due {
            (process.step, process.read, process.target, process.was_retried) =
                (Step::ReadAccounts, Some(found), None, false);
            world.running.push(process);
            self.drop_stale_reads(world);
        } else {
            acknowledge(world, &process);
        }
    }

    /// `Store::apply` and similar: decides based on the item that was read.
    fn decide(&self, world: &mut World, mut process: Process, change: Change, found: Option<Arc<Referral>>) {
        (process.step, process.read, process.target, process.was_retried) = (Step::Write(change), None, None, false);
        if let Some(found) = found {
            match decide_change(&found, change, world) {
                Decision::Apply(_, Transition::KeepCandidate) if self.mistake == Some(Mistake::NoCandidates) => {
                    return acknowledge(world, &process);
                }
                Decision::Apply(after, transition) => {
                    (process.read, process.target) = (Some(found), Some((transition, Arc::from(after))));
                }
                Decision::AlreadyDone | Decision::Refuse(_) => return acknowledge(world, &process),
            }
        }
        world.running.push(process);
    }

    /// `Store::write`: succeeds, recognises its own result, or decides again from the item that the refusal returned.
    fn write(&self, world: &mut World, process: Process, change: Change) {
        if self.may_commit(world, &process) {
            self.commit(world, &process);
            self.after_write(world, process, change);
            self.drop_stale_reads(world);
        } else if world.recognises_own_write(&process) {
            self.after_write(world, process, change);
        } else {
            let found = world.item.clone();
            match change {
                Change::Issue | Change::Void => self.start_issue(world, process, found),
                _ => self.decide(world, process, change, Some(found)),
            }
        }
    }

    /// The condition of a write.
    pub(crate) fn may_commit(&self, world: &World, process: &Process) -> bool {
        let (Some(read), Some((transition, _))) = (&process.read, &process.target) else { return false };
        let is_allowed = transition.allowed_from().any(|status| status == world.item.status());
        match self.mistake {
            Some(Mistake::NoCondition) => true,
            Some(Mistake::NoRevision) => is_allowed,
            _ => is_allowed && read.rev == world.item.rev,
        }
    }

    /// Applies a write: item, index and stream change together.
    fn commit(&self, world: &mut World, process: &Process) {
        let (Step::Write(change), Some((transition, after))) = (process.step, &process.target) else { return };
        let before = std::mem::replace(&mut world.item, after.clone());
        world.indexed = after.work();
        if self.mistake == Some(Mistake::UnlistedAtIssue) && change == Change::Issue {
            world.indexed = None;
        }
        for side in Side::BOTH.into_iter().filter(|_| self.mistake != Some(Mistake::NoReversal)) {
            if reversal::decided(&before, after).iter().any(|decided| decided.id.side == side) {
                *world.reversals.of_mut(side) = ReversalItem::Open;
            }
        }
        let record = Record { announces: announced(&before, after), image: after.clone() };
        if record.announces != BySide::default() || after.status() == Status::Converted {
            world.stream.push(record);
        }

        let history = &mut world.history;
        history.invalid_transition |= next(before.status(), *transition) != Some(after.status());
        history.conversions += u8::from(matches!(transition, Transition::Convert | Transition::ConvertNext));
        history.next_converted |= *transition == Transition::ConvertNext;
        match change {
            Change::Convert(_) => {}
            Change::Issue => {
                history.issued_to_flagged |= process.observed;
                history.issued_early |= before.work().is_some_and(|work| work.at > world.now);
            }
            Change::Deliver(side) => *history.marked.of_mut(side) = true,
            Change::Cancel if has_first(&before) => history.cancelled = true,
            Change::Cancel => history.cancelled_before_order = true,
            Change::Resend(side) => *world.refuses.of_mut(side) = false,
            Change::Void | Change::Claim | Change::ClaimForAMinute | Change::RecordCall(_) | Change::Fail(..) => {}
        }
    }

    /// After the write: announces again if needed, and acknowledges the trigger.
    fn after_write(&self, world: &mut World, mut process: Process, change: Change) {
        match (change, process.target.take()) {
            (Change::Claim, Some((_, claimed))) => enqueue(world, reannounced(&claimed, None)),
            (Change::RecordCall(side), Some((_, called))) => return self.deliver(world, process, side, called),
            (Change::Resend(side), Some((_, resent))) => enqueue(world, reannounced(&resent, Some(side))),
            (Change::Deliver(_), _) if self.mistake == Some(Mistake::MarkedBeforeCall) => {
                (process.step, process.read, process.was_retried) = (Step::Call, None, false);
                return world.running.push(process);
            }
            _ => {}
        }
        acknowledge(world, &process);
    }

    /// Returns the trigger of a process that did not finish, so that it is delivered again.
    fn return_trigger(&self, world: &mut World, task: Task) {
        match task {
            Task::Event(_) if self.mistake == Some(Mistake::AcknowledgedBeforeWrite) => {}
            Task::Event(event) => world.pending_events[event as usize] += 1,
            Task::Deliver(side) => *world.queued.of_mut(side) += 1,
            // The record is still first in the stream and the item still in the index. The operator has seen an error.
            // The reversal is still open.
            Task::Record | Task::Sweep | Task::Resend(_) | Task::TakeBack(_) => {}
        }
    }

    /// The subsystem books a reward, once per key.
    fn book(&self, world: &mut World, task: Task) {
        let booked = world.booked.of_mut(side_of(task));
        *booked = if self.mistake == Some(Mistake::NewKeyPerCall) { (*booked + 1).min(2) } else { 1 };
    }

    /// Drops outdated reads of processes: a write that requires the revision can only be refused then, and the refusal
    /// returns the current item.
    fn drop_stale_reads(&self, world: &mut World) {
        if let Some(Mistake::NoRevision | Mistake::NoCondition) = self.mistake {
            return;
        }
        for mut process in std::mem::take(&mut world.running) {
            let is_fresh = process.read.as_ref().is_some_and(|read| read.rev == world.item.rev);
            if !is_fresh && !world.recognises_own_write(&process) {
                (process.read, process.target) = (None, None);
                if world.is_decided() && can_only_acknowledge(&process, world) {
                    acknowledge(world, &process);
                    continue;
                }
            }
            world.running.push(process);
        }
    }
}

/// Whether this process can only find out that its referral is already decided, and acknowledge.
fn can_only_acknowledge(process: &Process, world: &World) -> bool {
    match process.step {
        Step::ReadAccounts | Step::Write(Change::Convert(_) | Change::Issue | Change::Void) => true,
        Step::Write(Change::Cancel) => world.is_final(),
        Step::Call
        | Step::MarkReversal
        | Step::CloseReversal
        | Step::Write(
            Change::Claim
            | Change::ClaimForAMinute
            | Change::RecordCall(_)
            | Change::Deliver(_)
            | Change::Fail(..)
            | Change::Resend(_),
        ) => false,
    }
}

/// Whether the event has an effect now. An event without effect is acknowledged as soon as it is read, as if it had not
/// arrived.
fn has_effect(world: &World, event: Event) -> bool {
    let change = if event == Event::Cancellation { Change::Cancel } else { Change::Convert(event) };
    !world.is_final() && matches!(decide_change(&world.item, change, world), Decision::Apply(..))
}

/// The bus accepts an announcement, and its rule puts it into the queue.
fn enqueue(world: &mut World, sides: BySide<bool>) {
    for side in Side::BOTH.into_iter().filter(|side| sides.of(*side)) {
        *world.queued.of_mut(side) += 1;
    }
}

impl World {
    fn is_running(&self, task: Task) -> bool {
        self.running.iter().any(|process| process.task == task)
    }
}

/// The faults that are possible in this state.
fn faults(world: &World, actions: &mut Vec<Action>) {
    let mut add = |fault| actions.push(Action::Fault(fault));
    for (index, process) in world.running.iter().enumerate() {
        add(Fault::Dies(index));
        match (process.step, process.task) {
            (Step::Write(change), _) => {
                let is_fresh = process.read.as_ref().is_some_and(|read| read.rev == world.item.rev);
                if is_fresh {
                    add(Fault::AnswerLost(index));
                    add(Fault::DiesAfter(index));
                    if change == Change::Claim {
                        add(Fault::BusRefuses(index));
                    }
                }
            }
            (Step::Call, Task::TakeBack(_)) | (Step::MarkReversal | Step::CloseReversal, _) => {}
            (Step::Call, task) => {
                if !world.refuses.of(side_of(task)) {
                    add(Fault::BookedUnheard(index));
                }
                if world.booked.of(side_of(task)) == 0 {
                    add(Fault::Refused(index));
                }
            }
            (Step::ReadAccounts, _) => {}
        }
    }
    for event in Event::ALL.into_iter().filter(|event| has_effect(world, *event)) {
        add(Fault::EventTwice(event));
    }
    for side in Side::BOTH.into_iter().filter(|side| world.queued.of(*side) > 0) {
        add(Fault::MessageTwice(side));
        add(Fault::GivenUp(side));
    }
    if !world.stream.is_empty() && !world.is_running(Task::Record) {
        add(Fault::RecordLost);
        if world.stream[0].announces != BySide::default() {
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

/// Ends a process and acknowledges its trigger.
fn acknowledge(world: &mut World, process: &Process) {
    match process.task {
        Task::Event(_) => record_acknowledged(world, process),
        Task::Record => drop(world.stream.remove(0)),
        Task::Sweep | Task::Deliver(_) | Task::Resend(_) | Task::TakeBack(_) => {}
    }
}

fn record_acknowledged(world: &mut World, process: &Process) {
    match process.task {
        Task::Event(Event::Cancellation) => world.history.cancellation_acknowledged |= process.observed,
        Task::Event(Event::OtherOrder) => world.history.other_acknowledged = true,
        _ => world.history.order_acknowledged = true,
    }
}

fn side_of(task: Task) -> Side {
    match task {
        Task::Deliver(side) | Task::Resend(side) | Task::TakeBack(side) => side,
        Task::Event(_) | Task::Record | Task::Sweep => unreachable!("{task:?} has no side"),
    }
}

/// Whether the first order converted the referral, or is a candidate.
fn has_first(referral: &Referral) -> bool {
    referral.orders().any(|known| known.order == order(Event::Order).id)
}

/// Runs the real state machine with the command for a change.
fn decide_change(found: &Referral, change: Change, world: &World) -> Decision {
    let now = world.now;
    match change {
        // The simulator covers the order's item. Here a cancellation that the referral knows stands for it.
        Change::Convert(event) if event == Event::Order && found.adjusted_order.is_some() => {
            found.decide(&Command::Convert(order(event), &cancelled().adjustments), now)
        }
        Change::Convert(event) => found.decide(&Command::Convert(order(event), Adjustments::NONE), now),
        Change::Cancel => found.decide(&Command::Adjust(cancelled(), None), now),
        Change::Issue => found.decide(&Command::Issue, now),
        Change::Void => found.decide(&Command::Void(FraudReason::ReferrerFlagged.into()), now),
        Change::Claim => claim(found, world),
        Change::ClaimForAMinute => found.decide(&Command::Claim(now.plus(MINUTE)), now),
        Change::RecordCall(side) => found.decide(&Command::MarkCalled(&found.reward_id(side)), now),
        Change::Deliver(side) => found.decide(&Command::MarkDelivered(&found.reward_id(side)), now),
        Change::Fail(side, resent) => found.decide(&Command::MarkFailed(&found.reward_id(side), "400", resent), now),
        Change::Resend(side) => found.decide(&Command::Resend(&found.reward_id(side), now.plus(GRACE)), now),
    }
}

/// The sweep's claim, which is decided by its own function.
fn claim(found: &Referral, world: &World) -> Decision {
    match (found.rewards(), due_for_sweep(found, GRACE)) {
        (Some(rewards), Some(due)) if due <= world.now => {
            let pause = world.now.since(rewards.issued_at).max(GRACE);
            found.decide(&Command::Claim(world.now.plus(pause)), world.now)
        }
        _ => Decision::AlreadyDone,
    }
}

/// The first order, cancelled.
fn cancelled() -> &'static OrderRecord {
    static CANCELLED: LazyLock<OrderRecord> = LazyLock::new(|| {
        let Order { id, user, paid, .. } = order(Event::Order).clone();
        let adjustments = Adjustments { version: 1, is_cancelled: true, ..Adjustments::default() };
        OrderRecord { id, claimed_by: Some(user), paid: Some(paid), adjustments }
    });
    &CANCELLED
}

pub(crate) fn order(event: Event) -> &'static Order {
    static ORDERS: LazyLock<[Order; 2]> = LazyLock::new(|| ["o-1", "o-2"].map(crate::order));
    &ORDERS[usize::from(event == Event::OtherOrder)]
}

/// The rewards that a change announces. Uses the service's function and caches its result, because it builds complete
/// events.
fn announced(before: &Referral, after: &Referral) -> BySide<bool> {
    if before.status() == after.status() && before.rewards().is_none() {
        return BySide::default();
    }
    cached((Some(facts(before)), facts(after), None), || announcements(Some(before), after))
}

/// The rewards that a claim or an operator announces again.
fn reannounced(referral: &Referral, side: Option<Side>) -> BySide<bool> {
    cached((None, facts(referral), side), || match side {
        Some(side) => reannouncement(referral, &referral.reward_id(side)).into_iter().collect(),
        None => reannouncements(referral),
    })
}

type Facts = (Status, [Option<(bool, bool, bool)>; 2]);
type CacheKey = (Option<Facts>, Facts, Option<Side>);

/// Everything in a referral that can influence an announcement's type and side.
fn facts(referral: &Referral) -> Facts {
    let of = |side| {
        let delivery = &referral.rewards()?.of(side).delivery;
        let wanted = referral.undelivered().contains(&referral.reward_id(side));
        Some((wanted, delivery.delivered_at.is_some(), delivery.failed_at.is_some()))
    };
    (referral.status(), Side::BOTH.map(of))
}

fn cached(key: CacheKey, compute: impl FnOnce() -> Vec<Announcement>) -> BySide<bool> {
    thread_local! {
        static ANSWERS: RefCell<HashMap<String, BySide<bool>>> = RefCell::default();
    }
    ANSWERS.with_borrow_mut(|answers| {
        *answers.entry(format!("{key:?}")).or_insert_with(|| {
            let announced = compute();
            let issued = announced.iter().filter(|event| event.detail_type == "reward.issued");
            issued
                .filter_map(|event| Side::BOTH.into_iter().find(|side| event.detail["side"] == side.as_str()))
                .collect()
        })
    })
}
