//! The machine: every way from one state of a referral to the next, written once.
//!
//! [`next`] is the machine itself. The table's conditions are derived from it ([`Transition::allowed_from`]), and
//! [`Referral::decide`] makes the referral that is to be written. Both are pure: what is known and what time it is come in
//! as arguments.

use crate::{
    id::OrderId,
    mutant::{self, Mutant},
    order::{AdjustmentCause, NotedAdjustment, Order, OrderAdjustment},
    referral::{Conversion, Referral, Rewards, State, Status, VoidReason},
    reward::{Reward, RewardStatus, Side},
    time::Timestamp,
};

/// What can be done to a referral.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// A qualifying order arrived.
    Convert,
    /// The hold is over and nobody is flagged: decide both rewards.
    Issue,
    /// Fraud was found before the rewards were issued.
    Void,
    /// An order does not stand any more: the one that had converted it, or one that is yet to come.
    Adjust,
    /// A subsystem took a reward, or refused it for good.
    RecordAnswer,
    /// The sweep takes it upon itself to announce the rewards again.
    Claim,
    /// An operator has a reward sent again, one that was refused for good too.
    Resend,
}

impl Transition {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Convert, Self::Issue, Self::Void, Self::Adjust, Self::RecordAnswer, Self::Claim, Self::Resend];

    /// The states from which this can be done: the table's write demands one of them.
    pub fn allowed_from(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |from| next(*from, self).is_some())
    }
}

/// The machine: where a transition leads from a state, if anywhere.
pub fn next(from: Status, transition: Transition) -> Option<Status> {
    match (from, transition) {
        (Status::Pending, Transition::Convert) => Some(Status::Converted),
        (Status::Pending, Transition::Adjust) => Some(Status::Pending),
        (Status::Converted, Transition::Convert) if mutant::is(Mutant::SecondOrderConverts) => Some(Status::Converted),
        (Status::Voided, Transition::Convert) if mutant::is(Mutant::VoidedConverts) => Some(Status::Converted),
        (Status::Converted, Transition::Issue) => Some(Status::Rewarded),
        (Status::Pending | Status::Converted, Transition::Void) => Some(Status::Voided),
        (Status::Converted, Transition::Adjust) => Some(Status::Voided),
        (Status::Rewarded, Transition::RecordAnswer | Transition::Claim | Transition::Resend) => Some(Status::Rewarded),
        (Status::Pending, Transition::Issue | Transition::RecordAnswer | Transition::Claim | Transition::Resend)
        | (
            Status::Converted,
            Transition::Convert | Transition::RecordAnswer | Transition::Claim | Transition::Resend,
        )
        | (Status::Rewarded, Transition::Convert | Transition::Issue | Transition::Void | Transition::Adjust)
        | (Status::Voided, _) => None,
    }
}

/// A transition with what it needs to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// See [`Transition::Convert`].
    Convert(&'a Order),
    /// See [`Transition::Issue`].
    Issue,
    /// See [`Transition::Void`].
    Void(VoidReason),
    /// See [`Transition::Adjust`].
    Adjust(&'a OrderAdjustment),
    /// See [`Transition::RecordAnswer`]: the subsystem took this side's reward.
    MarkDelivered(Side),
    /// See [`Transition::RecordAnswer`]: the subsystem refused this side's reward for good, with this answer to a call that was made
    /// when an operator had had it sent again so many times.
    MarkFailed(Side, &'a str, u32),
    /// See [`Transition::Claim`]: the rewards are this sweep's until then.
    Claim(Timestamp),
    /// See [`Transition::Resend`]: this side's reward, which the sweep leaves alone until then.
    Resend(Side, Timestamp),
}

impl Command<'_> {
    /// The transition alone.
    pub fn transition(&self) -> Transition {
        match self {
            Self::Convert(_) => Transition::Convert,
            Self::Issue => Transition::Issue,
            Self::Void(_) => Transition::Void,
            Self::Adjust(_) => Transition::Adjust,
            Self::MarkDelivered(_) | Self::MarkFailed(..) => Transition::RecordAnswer,
            Self::Claim(_) => Transition::Claim,
            Self::Resend(..) => Transition::Resend,
        }
    }
}

/// What an event comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The referral as it is to be written, if it is still as it was read.
    Apply(Box<Referral>, Transition),
    /// This very event has done its work before.
    AlreadyDone,
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
    pub fn decide(&self, command: &Command<'_>, now: Timestamp) -> Decision {
        if self.has_seen(command) {
            return Decision::AlreadyDone;
        }
        if next(self.status(), command.transition()).is_none() {
            return self.refuse();
        }
        match command {
            Command::Convert(order) => self.convert(order, now),
            Command::Issue => self.issue(now),
            Command::Void(reason) => self.void(*reason, Transition::Void, now),
            Command::Adjust(adjustment) => self.adjust(adjustment, now),
            Command::MarkDelivered(side) => self.settle(*side, |reward| reward.delivered_at = Some(now)),
            Command::MarkFailed(side, answer, _) => self.settle(*side, |reward| {
                reward.failed_at = Some(now);
                reward.failure = Some((*answer).to_owned());
            }),
            Command::Claim(until) => self.claim(*until),
            Command::Resend(side, until) => self.resend(*side, *until),
        }
    }

    /// Whether this very event did its work here before, so that its repetition needs no write.
    fn has_seen(&self, command: &Command<'_>) -> bool {
        let converted_by = |order: &OrderId| self.conversion().is_some_and(|conversion| conversion.order == *order);
        let reward = |side: &Side| self.rewards().map(|rewards| rewards.of(*side).status());
        match command {
            Command::Convert(order) => converted_by(&order.id),
            Command::Adjust(adjustment) => match &self.state {
                State::Pending { adjustments } => adjustments.contains(&adjustment.noted()),
                _ => self.status() == Status::Voided && converted_by(&adjustment.order),
            },
            Command::Void(_) => self.status() == Status::Voided,
            Command::MarkDelivered(side) | Command::Resend(side, _) => reward(side) == Some(RewardStatus::Delivered),
            // A refusal from before it was sent again is old news: the call that counts is yet to come.
            Command::MarkFailed(side, _, resent) => {
                let is_old = self.rewards().is_some_and(|rewards| rewards.of(*side).resent != *resent);
                is_old || matches!(reward(side), Some(RewardStatus::Delivered | RewardStatus::Failed))
            }
            Command::Issue | Command::Claim(_) => false,
        }
    }

    fn convert(&self, order: &Order, now: Timestamp) -> Decision {
        if !self.terms.qualifies(order) {
            return Decision::Refuse(Refusal::Unqualified);
        }
        let conversion = Conversion { event: order.event.clone(), order: order.id.clone(), paid: order.paid, at: now };
        if let Some(cause) = self.adjusted_before(order).filter(|_| !mutant::is(Mutant::EarlyAdjustmentForgotten)) {
            // As it would have come out the other way round.
            return self
                .take(State::Voided { at: now, reason: cause.into(), conversion: Some(conversion) }, Transition::Void);
        }
        self.take(State::Converted { conversion, due_at: now.plus(self.terms.hold()) }, Transition::Convert)
    }

    /// Why the order does not stand, if that was known before it came.
    fn adjusted_before(&self, order: &Order) -> Option<AdjustmentCause> {
        let State::Pending { adjustments } = &self.state else { return None };
        let mut of_it = adjustments.iter().filter(|adjustments| adjustments.order == order.id);
        of_it.find(|adjustments| adjustments.cause.undoes(&order.paid)).map(|adjustments| adjustments.cause)
    }

    fn issue(&self, now: Timestamp) -> Decision {
        let State::Converted { conversion, due_at } = &self.state else { return self.refuse() };
        let rewards = Rewards::issued(&self.terms, now);
        self.take(State::Rewarded { conversion: conversion.clone(), rewards, due_at: *due_at }, Transition::Issue)
    }

    fn void(&self, reason: VoidReason, transition: Transition, now: Timestamp) -> Decision {
        self.take(State::Voided { at: now, reason, conversion: self.conversion().cloned() }, transition)
    }

    fn adjust(&self, adjustment: &OrderAdjustment, now: Timestamp) -> Decision {
        let conversion = match &self.state {
            State::Pending { adjustments } => return self.note(adjustments, adjustment.noted()),
            State::Converted { conversion, .. } => conversion,
            State::Rewarded { .. } | State::Voided { .. } => return self.refuse(),
        };
        if (conversion.order != adjustment.order && !mutant::is(Mutant::AnyOrderAdjusts))
            || mutant::is(Mutant::AdjustmentIgnored)
        {
            return Decision::Refuse(Refusal::OtherOrder);
        }
        if !adjustment.cause.undoes(&conversion.paid) && !mutant::is(Mutant::PartialRefundVoids) {
            return Decision::Refuse(Refusal::PartialRefund);
        }
        self.void(adjustment.cause.into(), Transition::Adjust, now)
    }

    /// The order may have been overtaken and is yet to come. The latest few are enough: who cancels more orders than
    /// that before the first of them arrives is no customer.
    fn note(&self, noted: &[NotedAdjustment], adjustments: NotedAdjustment) -> Decision {
        const MOST: usize = 4;
        let kept = noted.iter().skip((noted.len() + 1).saturating_sub(MOST)).cloned();
        self.take(State::Pending { adjustments: kept.chain([adjustments]).collect() }, Transition::Adjust)
    }

    fn settle(&self, side: Side, fact: impl FnOnce(&mut Reward)) -> Decision {
        let mut settled = self.state.clone();
        let State::Rewarded { rewards, .. } = &mut settled else { return self.refuse() };
        fact(rewards.of_mut(side));
        self.take(settled, Transition::RecordAnswer)
    }

    fn claim(&self, until: Timestamp) -> Decision {
        let mut claimed = self.state.clone();
        let State::Rewarded { due_at, .. } = &mut claimed else { return self.refuse() };
        *due_at = if mutant::is(Mutant::ClaimLeavesDueTime) { *due_at } else { until };
        self.take(claimed, Transition::Claim)
    }

    /// A refusal is forgotten, so that the reward is on its way again and the sweep stands behind it.
    fn resend(&self, side: Side, until: Timestamp) -> Decision {
        let mut resent = self.state.clone();
        let State::Rewarded { rewards, due_at, .. } = &mut resent else { return self.refuse() };
        let reward = rewards.of_mut(side);
        (reward.failed_at, reward.failure) = (None, None);
        reward.resent = reward.resent.saturating_add(1);
        *due_at = until;
        self.take(resent, Transition::Resend)
    }

    fn take(&self, state: State, transition: Transition) -> Decision {
        let rev = if mutant::is(Mutant::RevisionUnchanged) { self.rev } else { self.rev + 1 };
        Decision::Apply(Box::new(Self { state, rev, ..self.clone() }), transition)
    }

    fn refuse(&self) -> Decision {
        Decision::Refuse(Refusal::Status(self.status()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fraud::FraudReason,
        referral::{Lane, Work},
        sample::{at, converted, money, order, pending, rewarded, taken},
    };

    fn adjustment(order: &str, cause: AdjustmentCause) -> OrderAdjustment {
        OrderAdjustment { order: order.parse().unwrap(), user: "bob".parse().unwrap(), cause }
    }

    fn voided() -> Referral {
        taken(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20)))
    }

    /// Every phase against every transition: what the machine allows is taken, raises `rev` by one and lands where the
    /// machine says; what it does not allow never becomes a write.
    #[test]
    fn every_phase_against_every_event() {
        let (order, cancelled) = (order("o-1"), adjustment("o-1", AdjustmentCause::Cancelled));
        let events = [
            Command::Convert(&order),
            Command::Issue,
            Command::Void(FraudReason::ReferrerFlagged.into()),
            Command::Adjust(&cancelled),
            Command::MarkDelivered(Side::Referee),
            Command::MarkFailed(Side::Referrer, "400", 0),
            Command::Claim(at(99)),
            Command::Resend(Side::Referrer, at(99)),
        ];
        for phase in [pending(), converted(), rewarded(), voided()] {
            for event in &events {
                let expected = next(phase.status(), event.transition());
                match phase.decide(event, at(30)) {
                    Decision::Apply(taken, transition) => {
                        assert_eq!(transition, event.transition());
                        assert_eq!(Some(taken.status()), expected, "{:?} {event:?}", phase.status());
                        assert_eq!(taken.rev, phase.rev + 1);
                    }
                    Decision::AlreadyDone | Decision::Refuse(_) => {
                        assert_eq!(expected, None, "{:?} {event:?}", phase.status())
                    }
                }
            }
        }
    }

    #[test]
    fn the_table_demands_what_the_machine_allows() {
        let from = |transition: Transition| transition.allowed_from().collect::<Vec<_>>();
        assert_eq!(from(Transition::Convert), [Status::Pending]);
        assert_eq!(from(Transition::Issue), [Status::Converted]);
        assert_eq!(from(Transition::Void), [Status::Pending, Status::Converted]);
        assert_eq!(from(Transition::Adjust), [Status::Pending, Status::Converted]);
        assert_eq!(from(Transition::RecordAnswer), [Status::Rewarded]);
        assert_eq!(from(Transition::Claim), [Status::Rewarded]);
        assert_eq!(from(Transition::Resend), [Status::Rewarded]);
    }

    #[test]
    fn a_repeated_event_finds_its_own_work() {
        for phase in [converted(), rewarded(), voided()] {
            assert_eq!(phase.decide(&Command::Convert(&order("o-1")), at(30)), Decision::AlreadyDone);
            assert!(matches!(
                phase.decide(&Command::Convert(&order("o-2")), at(30)),
                Decision::Refuse(Refusal::Status(_))
            ));
        }
        let delivered = taken(rewarded().decide(&Command::MarkDelivered(Side::Referee), at(30)));
        assert_eq!(delivered.decide(&Command::MarkDelivered(Side::Referee), at(40)), Decision::AlreadyDone);
        assert_eq!(delivered.decide(&Command::MarkFailed(Side::Referee, "400", 0), at(40)), Decision::AlreadyDone);
    }

    #[test]
    fn only_the_order_that_converted_takes_it_back_and_only_as_a_whole() {
        let after = |adjustment: &OrderAdjustment| converted().decide(&Command::Adjust(adjustment), at(30));
        let refund = |amount| adjustment("o-1", AdjustmentCause::Refunded(money(amount)));
        assert_eq!(after(&adjustment("o-2", AdjustmentCause::Cancelled)), Decision::Refuse(Refusal::OtherOrder));
        assert_eq!(after(&refund(499)), Decision::Refuse(Refusal::PartialRefund));
        for (adjustment, reason) in [
            (refund(500), VoidReason::OrderRefunded),
            (adjustment("o-1", AdjustmentCause::Cancelled), VoidReason::OrderCancelled),
            (adjustment("o-1", AdjustmentCause::Disputed), VoidReason::PaymentDisputed),
        ] {
            let voided = taken(after(&adjustment));
            assert!(matches!(voided.state, State::Voided { reason: found, .. } if found == reason));
            assert_eq!(voided.decide(&Command::Adjust(&adjustment), at(40)), Decision::AlreadyDone);
        }
    }

    /// Whichever of the two comes first, it comes to the same.
    #[test]
    fn an_order_that_was_adjusted_before_it_came_voids() {
        for (cause, status) in [
            (AdjustmentCause::Cancelled, Status::Voided),
            (AdjustmentCause::Disputed, Status::Voided),
            (AdjustmentCause::Refunded(money(500)), Status::Voided),
            (AdjustmentCause::Refunded(money(499)), Status::Converted),
        ] {
            let adjustment = adjustment("o-1", cause);
            let noted = taken(pending().decide(&Command::Adjust(&adjustment), at(5)));
            assert_eq!((noted.status(), noted.rev), (Status::Pending, 2));
            assert_eq!(noted.decide(&Command::Adjust(&adjustment), at(6)), Decision::AlreadyDone);
            let came = taken(noted.decide(&Command::Convert(&order("o-1")), at(10)));
            assert_eq!((came.status(), came.rev), (status, 3), "{cause:?}");
            assert_eq!(came.decide(&Command::Convert(&order("o-1")), at(20)), Decision::AlreadyDone);
            let other_way = taken(pending().decide(&Command::Convert(&order("o-1")), at(10)));
            match other_way.decide(&Command::Adjust(&adjustment), at(10)) {
                Decision::Apply(voided, _) => assert_eq!(voided.state, came.state, "{cause:?}"),
                step => assert_eq!((step, &other_way.state), (Decision::Refuse(Refusal::PartialRefund), &came.state)),
            }
            assert_eq!(taken(noted.decide(&Command::Convert(&order("o-2")), at(10))).status(), Status::Converted);
        }
    }

    #[test]
    fn the_latest_withdrawn_orders_are_kept() {
        let mut referral = pending();
        for number in 1..=6 {
            let adjustment = adjustment(&format!("o-{number}"), AdjustmentCause::Cancelled);
            referral = taken(referral.decide(&Command::Adjust(&adjustment), at(5)));
        }
        let State::Pending { adjustments } = &referral.state else { panic!("{referral:?}") };
        let kept: Vec<_> = adjustments.iter().map(|adjustments| adjustments.order.as_str()).collect();
        assert_eq!(kept, ["o-3", "o-4", "o-5", "o-6"]);
    }

    #[test]
    fn a_refused_reward_can_be_sent_again_and_a_delivered_one_cannot() {
        let failed = taken(rewarded().decide(&Command::MarkFailed(Side::Referrer, "400", 0), at(30)));
        let failed = taken(failed.decide(&Command::MarkDelivered(Side::Referee), at(40)));
        assert_eq!(failed.work().map(|work| work.lane), Some(Lane::Attention));
        let resent = taken(failed.decide(&Command::Resend(Side::Referrer, at(99)), at(50)));
        assert_eq!(resent.work(), Some(Work { lane: Lane::Due, at: at(99) }));
        assert_eq!(resent.rewards().unwrap().on_their_way().collect::<Vec<_>>(), [Side::Referrer]);
        assert_eq!(failed.decide(&Command::Resend(Side::Referee, at(99)), at(50)), Decision::AlreadyDone);
        // The refusal of a call from before does not undo it; that of a later one counts.
        assert_eq!(resent.decide(&Command::MarkFailed(Side::Referrer, "400", 0), at(60)), Decision::AlreadyDone);
        let again = taken(resent.decide(&Command::MarkFailed(Side::Referrer, "422", 1), at(60)));
        assert_eq!(again.rewards().unwrap().referrer.failure.as_deref(), Some("422"));
    }

    #[test]
    fn an_order_below_the_terms_changes_nothing() {
        let mut strict = pending();
        strict.terms.minimum = money(501);
        assert_eq!(strict.decide(&Command::Convert(&order("o-1")), at(10)), Decision::Refuse(Refusal::Unqualified));
    }
}
