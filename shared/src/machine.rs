//! The machine: every way from one state of a referral to the next, written once.
//!
//! [`next`] is the machine itself. The table's conditions are derived from it ([`Verb::allowed_from`]), and
//! [`Referral::after`] makes the referral that is to be written. Both are pure: what is known and what time it is come in
//! as arguments.

use crate::{
    id::OrderId,
    mutant::{self, Mutant},
    order::{Cause, Order, VoidReason, Withdrawal, Withdrawn},
    referral::{Conversion, Referral, Rewards, State, Status},
    reward::{Reward, RewardStatus, Side},
    time::Timestamp,
};

/// What can be done to a referral.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// A qualifying order arrived.
    Convert,
    /// The hold is over and nobody is flagged: decide both rewards.
    Issue,
    /// Fraud was found before the rewards were issued.
    Void,
    /// An order does not stand any more: the one that had converted it, or one that is yet to come.
    Withdraw,
    /// A subsystem took a reward, or refused it for good.
    Settle,
    /// The sweep takes it upon itself to announce the rewards again.
    Claim,
    /// An operator has a reward sent again, one that was refused for good too.
    Resend,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Convert, Self::Issue, Self::Void, Self::Withdraw, Self::Settle, Self::Claim, Self::Resend];

    /// The states from which this can be done: the table's write demands one of them.
    pub fn allowed_from(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |from| next(*from, self).is_some())
    }
}

/// The machine: where a verb leads from a state, if anywhere.
pub fn next(from: Status, verb: Verb) -> Option<Status> {
    match (from, verb) {
        (Status::Pending, Verb::Convert) => Some(Status::Converted),
        (Status::Pending, Verb::Withdraw) => Some(Status::Pending),
        (Status::Converted, Verb::Convert) if mutant::is(Mutant::SecondOrderConverts) => Some(Status::Converted),
        (Status::Voided, Verb::Convert) if mutant::is(Mutant::VoidedConverts) => Some(Status::Converted),
        (Status::Converted, Verb::Issue) => Some(Status::Rewarded),
        (Status::Pending | Status::Converted, Verb::Void) => Some(Status::Voided),
        (Status::Converted, Verb::Withdraw) => Some(Status::Voided),
        (Status::Rewarded, Verb::Settle | Verb::Claim | Verb::Resend) => Some(Status::Rewarded),
        (Status::Pending, Verb::Issue | Verb::Settle | Verb::Claim | Verb::Resend)
        | (Status::Converted, Verb::Convert | Verb::Settle | Verb::Claim | Verb::Resend)
        | (Status::Rewarded, Verb::Convert | Verb::Issue | Verb::Void | Verb::Withdraw)
        | (Status::Voided, _) => None,
    }
}

/// A verb with what it needs to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// See [`Verb::Convert`].
    Convert(&'a Order),
    /// See [`Verb::Issue`].
    Issue,
    /// See [`Verb::Void`].
    Void(VoidReason),
    /// See [`Verb::Withdraw`].
    Withdraw(&'a Withdrawal),
    /// See [`Verb::Settle`]: the subsystem took this side's reward.
    Deliver(Side),
    /// See [`Verb::Settle`]: the subsystem refused this side's reward for good, with this answer to a call that was made
    /// when an operator had had it sent again so many times.
    Fail(Side, &'a str, u32),
    /// See [`Verb::Claim`]: the rewards are this sweep's until then.
    Claim(Timestamp),
    /// See [`Verb::Resend`]: this side's reward, which the sweep leaves alone until then.
    Resend(Side, Timestamp),
}

impl Event<'_> {
    /// The verb alone.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Convert(_) => Verb::Convert,
            Self::Issue => Verb::Issue,
            Self::Void(_) => Verb::Void,
            Self::Withdraw(_) => Verb::Withdraw,
            Self::Deliver(_) | Self::Fail(..) => Verb::Settle,
            Self::Claim(_) => Verb::Claim,
            Self::Resend(..) => Verb::Resend,
        }
    }
}

/// What an event comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The referral as it is to be written, if it is still as it was read.
    Take(Box<Referral>, Verb),
    /// This very event has done its work before.
    Done,
    /// It changes nothing here.
    Refuse(Refusal),
}

/// Why an event changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The referral is past (or not yet in) the state that this needs.
    Status(Status),
    /// The order does not meet the terms.
    Unqualified,
    /// Another order converted the referral.
    OtherOrder,
    /// Only part of the order was paid back.
    PartialRefund,
    /// Its time has not come.
    NotDue,
}

impl Referral {
    /// What `event` makes of this referral at `now`.
    pub fn after(&self, event: &Event<'_>, now: Timestamp) -> Step {
        if self.has_seen(event) {
            return Step::Done;
        }
        if next(self.status(), event.verb()).is_none() {
            return self.refuse();
        }
        match event {
            Event::Convert(order) => self.convert(order, now),
            Event::Issue => self.issue(now),
            Event::Void(reason) => self.void(*reason, Verb::Void, now),
            Event::Withdraw(withdrawal) => self.withdraw(withdrawal, now),
            Event::Deliver(side) => self.settle(*side, |reward| reward.delivered_at = Some(now)),
            Event::Fail(side, answer, _) => self.settle(*side, |reward| {
                reward.failed_at = Some(now);
                reward.failure = Some((*answer).to_owned());
            }),
            Event::Claim(until) => self.claim(*until),
            Event::Resend(side, until) => self.resend(*side, *until),
        }
    }

    /// Whether this very event did its work here before, so that its repetition needs no write.
    fn has_seen(&self, event: &Event<'_>) -> bool {
        let converted_by = |order: &OrderId| self.conversion().is_some_and(|conversion| conversion.order == *order);
        let reward = |side: &Side| self.rewards().map(|rewards| rewards.of(*side).status());
        match event {
            Event::Convert(order) => converted_by(&order.id),
            Event::Withdraw(withdrawal) => match &self.state {
                State::Pending { withdrawn } => withdrawn.contains(&withdrawal.noted()),
                _ => self.status() == Status::Voided && converted_by(&withdrawal.order),
            },
            Event::Void(_) => self.status() == Status::Voided,
            Event::Deliver(side) | Event::Resend(side, _) => reward(side) == Some(RewardStatus::Delivered),
            // A refusal from before it was sent again is old news: the call that counts is yet to come.
            Event::Fail(side, _, resent) => {
                let is_old = self.rewards().is_some_and(|rewards| rewards.of(*side).resent != *resent);
                is_old || matches!(reward(side), Some(RewardStatus::Delivered | RewardStatus::Failed))
            }
            Event::Issue | Event::Claim(_) => false,
        }
    }

    fn convert(&self, order: &Order, now: Timestamp) -> Step {
        if !self.terms.qualifies(order) {
            return Step::Refuse(Refusal::Unqualified);
        }
        let conversion = Conversion { event: order.event.clone(), order: order.id.clone(), paid: order.paid, at: now };
        if let Some(cause) = self.withdrawn_before(order).filter(|_| !mutant::is(Mutant::EarlyWithdrawalForgotten)) {
            // As it would have come out the other way round.
            return self
                .take(State::Voided { at: now, reason: cause.into(), conversion: Some(conversion) }, Verb::Void);
        }
        self.take(State::Converted { conversion, due_at: now.plus(self.terms.hold()) }, Verb::Convert)
    }

    /// Why the order does not stand, if that was known before it came.
    fn withdrawn_before(&self, order: &Order) -> Option<Cause> {
        let State::Pending { withdrawn } = &self.state else { return None };
        let mut of_it = withdrawn.iter().filter(|withdrawn| withdrawn.order == order.id);
        of_it.find(|withdrawn| withdrawn.cause.undoes(&order.paid)).map(|withdrawn| withdrawn.cause)
    }

    fn issue(&self, now: Timestamp) -> Step {
        let State::Converted { conversion, due_at } = &self.state else { return self.refuse() };
        let rewards = Rewards::issued(&self.terms, now);
        self.take(State::Rewarded { conversion: conversion.clone(), rewards, due_at: *due_at }, Verb::Issue)
    }

    fn void(&self, reason: VoidReason, verb: Verb, now: Timestamp) -> Step {
        self.take(State::Voided { at: now, reason, conversion: self.conversion().cloned() }, verb)
    }

    fn withdraw(&self, withdrawal: &Withdrawal, now: Timestamp) -> Step {
        let conversion = match &self.state {
            State::Pending { withdrawn } => return self.note(withdrawn, withdrawal.noted()),
            State::Converted { conversion, .. } => conversion,
            State::Rewarded { .. } | State::Voided { .. } => return self.refuse(),
        };
        if (conversion.order != withdrawal.order && !mutant::is(Mutant::AnyOrderWithdraws))
            || mutant::is(Mutant::WithdrawalIgnored)
        {
            return Step::Refuse(Refusal::OtherOrder);
        }
        if !withdrawal.cause.undoes(&conversion.paid) && !mutant::is(Mutant::PartialRefundWithdraws) {
            return Step::Refuse(Refusal::PartialRefund);
        }
        self.void(withdrawal.cause.into(), Verb::Withdraw, now)
    }

    /// The order may have been overtaken and is yet to come. The latest few are enough: who cancels more orders than
    /// that before the first of them arrives is no customer.
    fn note(&self, noted: &[Withdrawn], withdrawn: Withdrawn) -> Step {
        const MOST: usize = 4;
        let kept = noted.iter().skip((noted.len() + 1).saturating_sub(MOST)).cloned();
        self.take(State::Pending { withdrawn: kept.chain([withdrawn]).collect() }, Verb::Withdraw)
    }

    fn settle(&self, side: Side, fact: impl FnOnce(&mut Reward)) -> Step {
        let mut settled = self.state.clone();
        let State::Rewarded { rewards, .. } = &mut settled else { return self.refuse() };
        fact(rewards.of_mut(side));
        self.take(settled, Verb::Settle)
    }

    fn claim(&self, until: Timestamp) -> Step {
        let mut claimed = self.state.clone();
        let State::Rewarded { due_at, .. } = &mut claimed else { return self.refuse() };
        *due_at = if mutant::is(Mutant::ClaimLeavesDueTime) { *due_at } else { until };
        self.take(claimed, Verb::Claim)
    }

    /// A refusal is forgotten, so that the reward is on its way again and the sweep stands behind it.
    fn resend(&self, side: Side, until: Timestamp) -> Step {
        let mut resent = self.state.clone();
        let State::Rewarded { rewards, due_at, .. } = &mut resent else { return self.refuse() };
        let reward = rewards.of_mut(side);
        (reward.failed_at, reward.failure) = (None, None);
        reward.resent = reward.resent.saturating_add(1);
        *due_at = until;
        self.take(resent, Verb::Resend)
    }

    fn take(&self, state: State, verb: Verb) -> Step {
        let rev = if mutant::is(Mutant::RevisionStands) { self.rev } else { self.rev + 1 };
        Step::Take(Box::new(Self { state, rev, ..self.clone() }), verb)
    }

    fn refuse(&self) -> Step {
        Step::Refuse(Refusal::Status(self.status()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        referral::{Lane, Work},
        sample::{at, converted, money, order, pending, rewarded, taken},
    };

    fn withdrawal(order: &str, cause: Cause) -> Withdrawal {
        Withdrawal { order: order.parse().unwrap(), user: "bob".parse().unwrap(), cause }
    }

    fn voided() -> Referral {
        taken(converted().after(&Event::Void(VoidReason::RefereeFlagged), at(20)))
    }

    /// Every phase against every verb: what the machine allows is taken, raises `rev` by one and lands where the
    /// machine says; what it does not allow never becomes a write.
    #[test]
    fn every_phase_against_every_event() {
        let (order, cancelled) = (order("o-1"), withdrawal("o-1", Cause::Cancelled));
        let events = [
            Event::Convert(&order),
            Event::Issue,
            Event::Void(VoidReason::ReferrerFlagged),
            Event::Withdraw(&cancelled),
            Event::Deliver(Side::Referee),
            Event::Fail(Side::Referrer, "400", 0),
            Event::Claim(at(99)),
            Event::Resend(Side::Referrer, at(99)),
        ];
        for phase in [pending(), converted(), rewarded(), voided()] {
            for event in &events {
                let expected = next(phase.status(), event.verb());
                match phase.after(event, at(30)) {
                    Step::Take(taken, verb) => {
                        assert_eq!(verb, event.verb());
                        assert_eq!(Some(taken.status()), expected, "{:?} {event:?}", phase.status());
                        assert_eq!(taken.rev, phase.rev + 1);
                    }
                    Step::Done | Step::Refuse(_) => assert_eq!(expected, None, "{:?} {event:?}", phase.status()),
                }
            }
        }
    }

    #[test]
    fn the_table_demands_what_the_machine_allows() {
        let from = |verb: Verb| verb.allowed_from().collect::<Vec<_>>();
        assert_eq!(from(Verb::Convert), [Status::Pending]);
        assert_eq!(from(Verb::Issue), [Status::Converted]);
        assert_eq!(from(Verb::Void), [Status::Pending, Status::Converted]);
        assert_eq!(from(Verb::Withdraw), [Status::Pending, Status::Converted]);
        assert_eq!(from(Verb::Settle), [Status::Rewarded]);
        assert_eq!(from(Verb::Claim), [Status::Rewarded]);
        assert_eq!(from(Verb::Resend), [Status::Rewarded]);
    }

    #[test]
    fn a_repeated_event_finds_its_own_work() {
        for phase in [converted(), rewarded(), voided()] {
            assert_eq!(phase.after(&Event::Convert(&order("o-1")), at(30)), Step::Done);
            assert!(matches!(phase.after(&Event::Convert(&order("o-2")), at(30)), Step::Refuse(Refusal::Status(_))));
        }
        let delivered = taken(rewarded().after(&Event::Deliver(Side::Referee), at(30)));
        assert_eq!(delivered.after(&Event::Deliver(Side::Referee), at(40)), Step::Done);
        assert_eq!(delivered.after(&Event::Fail(Side::Referee, "400", 0), at(40)), Step::Done);
    }

    #[test]
    fn only_the_order_that_converted_takes_it_back_and_only_as_a_whole() {
        let after = |withdrawal: &Withdrawal| converted().after(&Event::Withdraw(withdrawal), at(30));
        let refund = |amount| withdrawal("o-1", Cause::Refunded(money(amount)));
        assert_eq!(after(&withdrawal("o-2", Cause::Cancelled)), Step::Refuse(Refusal::OtherOrder));
        assert_eq!(after(&refund(499)), Step::Refuse(Refusal::PartialRefund));
        for (withdrawal, reason) in [
            (refund(500), VoidReason::OrderRefunded),
            (withdrawal("o-1", Cause::Cancelled), VoidReason::OrderCancelled),
            (withdrawal("o-1", Cause::Disputed), VoidReason::PaymentDisputed),
        ] {
            let voided = taken(after(&withdrawal));
            assert!(matches!(voided.state, State::Voided { reason: found, .. } if found == reason));
            assert_eq!(voided.after(&Event::Withdraw(&withdrawal), at(40)), Step::Done);
        }
    }

    /// Whichever of the two comes first, it comes to the same.
    #[test]
    fn an_order_that_was_withdrawn_before_it_came_voids() {
        for (cause, status) in [
            (Cause::Cancelled, Status::Voided),
            (Cause::Disputed, Status::Voided),
            (Cause::Refunded(money(500)), Status::Voided),
            (Cause::Refunded(money(499)), Status::Converted),
        ] {
            let withdrawal = withdrawal("o-1", cause);
            let noted = taken(pending().after(&Event::Withdraw(&withdrawal), at(5)));
            assert_eq!((noted.status(), noted.rev), (Status::Pending, 2));
            assert_eq!(noted.after(&Event::Withdraw(&withdrawal), at(6)), Step::Done);
            let came = taken(noted.after(&Event::Convert(&order("o-1")), at(10)));
            assert_eq!((came.status(), came.rev), (status, 3), "{cause:?}");
            assert_eq!(came.after(&Event::Convert(&order("o-1")), at(20)), Step::Done);
            let other_way = taken(pending().after(&Event::Convert(&order("o-1")), at(10)));
            match other_way.after(&Event::Withdraw(&withdrawal), at(10)) {
                Step::Take(voided, _) => assert_eq!(voided.state, came.state, "{cause:?}"),
                step => assert_eq!((step, &other_way.state), (Step::Refuse(Refusal::PartialRefund), &came.state)),
            }
            assert_eq!(taken(noted.after(&Event::Convert(&order("o-2")), at(10))).status(), Status::Converted);
        }
    }

    #[test]
    fn the_latest_withdrawn_orders_are_kept() {
        let mut referral = pending();
        for number in 1..=6 {
            let withdrawal = withdrawal(&format!("o-{number}"), Cause::Cancelled);
            referral = taken(referral.after(&Event::Withdraw(&withdrawal), at(5)));
        }
        let State::Pending { withdrawn } = &referral.state else { panic!("{referral:?}") };
        let kept: Vec<_> = withdrawn.iter().map(|withdrawn| withdrawn.order.as_str()).collect();
        assert_eq!(kept, ["o-3", "o-4", "o-5", "o-6"]);
    }

    #[test]
    fn a_refused_reward_can_be_sent_again_and_a_delivered_one_cannot() {
        let failed = taken(rewarded().after(&Event::Fail(Side::Referrer, "400", 0), at(30)));
        let failed = taken(failed.after(&Event::Deliver(Side::Referee), at(40)));
        assert_eq!(failed.work().map(|work| work.lane), Some(Lane::Parked));
        let resent = taken(failed.after(&Event::Resend(Side::Referrer, at(99)), at(50)));
        assert_eq!(resent.work(), Some(Work { lane: Lane::Due, at: at(99) }));
        assert_eq!(resent.rewards().unwrap().on_their_way().collect::<Vec<_>>(), [Side::Referrer]);
        assert_eq!(failed.after(&Event::Resend(Side::Referee, at(99)), at(50)), Step::Done);
        // The refusal of a call from before does not undo it; that of a later one counts.
        assert_eq!(resent.after(&Event::Fail(Side::Referrer, "400", 0), at(60)), Step::Done);
        let again = taken(resent.after(&Event::Fail(Side::Referrer, "422", 1), at(60)));
        assert_eq!(again.rewards().unwrap().referrer.failure.as_deref(), Some("422"));
    }

    #[test]
    fn an_order_below_the_terms_changes_nothing() {
        let mut strict = pending();
        strict.terms.minimum = money(501);
        assert_eq!(strict.after(&Event::Convert(&order("o-1")), at(10)), Step::Refuse(Refusal::Unqualified));
    }
}
