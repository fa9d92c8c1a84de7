//! The state machine of a referral: every transition and its conditions, in one place.
//!
//! [`next`] is the transition table. The store derives its write conditions from it ([`Transition::allowed_from`]).
//! [`Referral::decide`] computes the referral that a command writes. Both are pure functions: the current time and
//! everything read from outside are arguments.

use crate::{
    domain::{
        id::OrderId,
        order::{AdjustmentCause, NotedAdjustment, Order, OrderAdjustment},
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::{
        Conversion, Referral, Rewards, State, Status, VoidReason,
        reward::{Delivery, InstructionId, RewardStatus},
    },
};

/// The kind of a step. A [`Command`] is a transition with its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// A qualifying order arrived.
    Convert,
    /// The hold has ended and no fraud rule is broken: decide both rewards.
    Issue,
    /// Fraud was detected before the rewards were issued, or an order arrived after its own adjustment.
    Void,
    /// An order was cancelled, refunded or disputed. The order may have converted the referral or may not have arrived yet.
    Adjust,
    /// A subsystem accepted a reward or refused it permanently.
    RecordAnswer,
    /// The sweep reserves the right to announce the rewards again.
    Claim,
    /// An operator requests another delivery of a reward, including a permanently refused one.
    Resend,
}

impl Transition {
    /// All transitions.
    pub const ALL: [Self; 7] =
        [Self::Convert, Self::Issue, Self::Void, Self::Adjust, Self::RecordAnswer, Self::Claim, Self::Resend];

    /// The states from which this transition is allowed. The write requires one of them.
    pub fn allowed_from(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |from| allowed(*from, self).is_some())
    }
}

/// The transition table: the state after `transition`, or `None` if it is not allowed in state `from`.
pub fn next(from: Status, transition: Transition) -> Option<Status> {
    match (from, transition) {
        (Status::Pending, Transition::Convert) => Some(Status::Converted),
        (Status::Pending, Transition::Adjust) => Some(Status::Pending),
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

/// [`next`], extended by the transitions that two mutants allow. Without the feature `mutants` it equals [`next`].
fn allowed(from: Status, transition: Transition) -> Option<Status> {
    let mistake = match (from, transition) {
        (Status::Converted, Transition::Convert) => mutant::is(Mutant::SecondOrderConverts),
        (Status::Voided, Transition::Convert) => mutant::is(Mutant::VoidedConverts),
        _ => false,
    };
    if mistake { Some(Status::Converted) } else { next(from, transition) }
}

/// A transition with its data.
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
    /// See [`Transition::RecordAnswer`]: the subsystem accepted this instruction.
    MarkDelivered(&'a InstructionId),
    /// See [`Transition::RecordAnswer`]: the subsystem refused this instruction permanently. Carries the subsystem's answer
    /// and the value of [`Delivery::resent`] at the time of the call.
    MarkFailed(&'a InstructionId, &'a str, u32),
    /// See [`Transition::Claim`]: no other sweep announces the rewards before this time.
    Claim(Timestamp),
    /// See [`Transition::Resend`]: the sweep does not announce this instruction before this time.
    Resend(&'a InstructionId, Timestamp),
}

impl Command<'_> {
    /// The transition without its data.
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

/// The result of deciding a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Write this referral, on the condition that the table still holds the referral that was read.
    Apply(Box<Referral>, Transition),
    /// The same command was applied before.
    AlreadyDone,
    /// The command changes nothing, for this reason.
    Refuse(Refusal),
}

/// The reason why a command changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The referral is in this state, which does not allow the transition.
    Status(Status),
    /// The order does not meet the terms.
    Unqualified,
    /// The order was placed before the sign-up.
    BeforeSignUp,
    /// Another order converted the referral.
    OtherOrder,
    /// The order belongs to another user.
    OtherUser,
    /// The refund covers only part of the order.
    PartialRefund,
    /// The hold or the grace period has not ended.
    NotDue,
}

impl Referral {
    /// Decides what `command` changes at the time `now`.
    pub fn decide(&self, command: &Command<'_>, now: Timestamp) -> Decision {
        if self.has_seen(command) {
            return Decision::AlreadyDone;
        }
        if allowed(self.status(), command.transition()).is_none() {
            return self.refuse();
        }
        match command {
            Command::Convert(order) => self.convert(order, now),
            Command::Issue => self.issue(now),
            Command::Void(reason) => self.void(*reason, Transition::Void, now),
            Command::Adjust(adjustment) => self.adjust(adjustment, now),
            Command::MarkDelivered(id) => self.record_answer(id, |delivery| delivery.delivered_at = Some(now)),
            Command::MarkFailed(id, answer, _) => self.record_answer(id, |delivery| {
                delivery.failed_at = Some(now);
                delivery.failure = Some((*answer).to_owned());
            }),
            Command::Claim(until) => self.claim(*until),
            Command::Resend(id, until) => self.resend(id, *until),
        }
    }

    /// Whether this command was applied before, so that repeating it needs no write.
    fn has_seen(&self, command: &Command<'_>) -> bool {
        let converted_by = |order: &OrderId| self.conversion().is_some_and(|conversion| conversion.order == *order);
        let status = |id| self.delivery(id).map(Delivery::status);
        match command {
            Command::Convert(order) => converted_by(&order.id),
            Command::Adjust(adjustment) => match &self.state {
                State::Pending { adjustments } => adjustments.contains(&adjustment.noted()),
                _ => self.status() == Status::Voided && converted_by(&adjustment.order),
            },
            Command::Void(_) => self.status() == Status::Voided,
            Command::MarkDelivered(id) | Command::Resend(id, _) => status(id) == Some(RewardStatus::Delivered),
            // A refusal of a call that was sent before the last resend is outdated, because the resend causes another
            // call.
            Command::MarkFailed(id, _, resent) => {
                let is_outdated = self.delivery(id).is_some_and(|delivery| delivery.resent != *resent);
                is_outdated || matches!(status(id), Some(RewardStatus::Delivered | RewardStatus::Failed))
            }
            Command::Issue | Command::Claim(_) => false,
        }
    }

    fn convert(&self, order: &Order, now: Timestamp) -> Decision {
        if !self.terms.qualifies(order) {
            return Decision::Refuse(Refusal::Unqualified);
        }
        if order.latest_sign_up < self.signed_up_at() && !mutant::is(Mutant::OldOrderConverts) {
            return Decision::Refuse(Refusal::BeforeSignUp);
        }
        let conversion = Conversion { event: order.event.clone(), order: order.id.clone(), paid: order.paid, at: now };
        if let Some(cause) = self.adjusted_before(order).filter(|_| !mutant::is(Mutant::EarlyAdjustmentForgotten)) {
            // The same result as if the order had arrived before its adjustment.
            let voided = State::Voided { at: now, reason: cause.into(), conversion: Some(conversion) };
            return self.write(voided, Transition::Void);
        }
        self.write(State::Converted { conversion, due_at: now.plus(self.terms.hold()) }, Transition::Convert)
    }

    /// The cause of a noted adjustment that voids this order.
    fn adjusted_before(&self, order: &Order) -> Option<AdjustmentCause> {
        let State::Pending { adjustments } = &self.state else { return None };
        let mut of_order = adjustments.iter().filter(|noted| noted.order == order.id).map(|noted| noted.cause);
        of_order.find(|cause| cause.undoes(&order.paid))
    }

    fn issue(&self, now: Timestamp) -> Decision {
        let State::Converted { conversion, due_at } = &self.state else { return self.refuse() };
        let rewards = Rewards::issued(&self.terms, now);
        self.write(State::Rewarded { conversion: conversion.clone(), rewards, due_at: *due_at }, Transition::Issue)
    }

    fn void(&self, reason: VoidReason, transition: Transition, now: Timestamp) -> Decision {
        self.write(State::Voided { at: now, reason, conversion: self.conversion().cloned() }, transition)
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

    /// Stores an adjustment whose order may still arrive. Only the latest four are kept, because a genuine customer
    /// does not cancel more orders before the first one arrives.
    fn note(&self, noted: &[NotedAdjustment], adjustment: NotedAdjustment) -> Decision {
        const MAX_NOTED: usize = 4;
        let kept = noted.iter().skip((noted.len() + 1).saturating_sub(MAX_NOTED)).cloned();
        self.write(State::Pending { adjustments: kept.chain([adjustment]).collect() }, Transition::Adjust)
    }

    fn record_answer(&self, id: &InstructionId, record: impl FnOnce(&mut Delivery)) -> Decision {
        let mut recorded = self.state.clone();
        let Some(delivery) = self.delivery_in(&mut recorded, id) else { return self.refuse() };
        record(delivery);
        self.write(recorded, Transition::RecordAnswer)
    }

    fn claim(&self, until: Timestamp) -> Decision {
        let mut claimed = self.state.clone();
        let State::Rewarded { due_at, .. } = &mut claimed else { return self.refuse() };
        *due_at = if mutant::is(Mutant::ClaimLeavesDueTime) { *due_at } else { until };
        self.write(claimed, Transition::Claim)
    }

    /// Removes a refusal, so that the instruction is undelivered again and the sweep announces it if necessary.
    fn resend(&self, id: &InstructionId, until: Timestamp) -> Decision {
        let mut resent = self.state.clone();
        let Some(delivery) = self.delivery_in(&mut resent, id) else { return self.refuse() };
        (delivery.failed_at, delivery.failure) = (None, None);
        delivery.resent = delivery.resent.saturating_add(1);
        if let State::Rewarded { due_at, .. } = &mut resent {
            *due_at = until;
        }
        self.write(resent, Transition::Resend)
    }

    fn write(&self, state: State, transition: Transition) -> Decision {
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
        referral::{
            Lane, Work,
            reward::{InstructionKind, Side},
        },
        sample::{applied, at, converted, grant, money, order, pending, rewarded},
    };

    fn adjustment(order: &str, cause: AdjustmentCause) -> OrderAdjustment {
        OrderAdjustment { order: order.parse().unwrap(), user: "bob".parse().unwrap(), cause }
    }

    fn voided() -> Referral {
        applied(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20)))
    }

    /// Tries every command in every state. An allowed command raises `rev` by one and leads to the state in the table; any
    /// other command writes nothing.
    #[test]
    fn every_state_against_every_command() {
        let (order, cancelled) = (order("o-1"), adjustment("o-1", AdjustmentCause::Cancelled));
        let (referrers, referees) = (grant(Side::Referrer), grant(Side::Referee));
        let commands = [
            Command::Convert(&order),
            Command::Issue,
            Command::Void(FraudReason::ReferrerFlagged.into()),
            Command::Adjust(&cancelled),
            Command::MarkDelivered(&referees),
            Command::MarkFailed(&referrers, "400", 0),
            Command::Claim(at(99)),
            Command::Resend(&referrers, at(99)),
        ];
        for referral in [pending(), converted(), rewarded(), voided()] {
            for command in &commands {
                let expected = next(referral.status(), command.transition());
                match referral.decide(command, at(30)) {
                    Decision::Apply(applied, transition) => {
                        assert_eq!(transition, command.transition());
                        assert_eq!(Some(applied.status()), expected, "{:?} {command:?}", referral.status());
                        assert_eq!(applied.rev, referral.rev + 1);
                    }
                    Decision::AlreadyDone | Decision::Refuse(_) => {
                        assert_eq!(expected, None, "{:?} {command:?}", referral.status())
                    }
                }
            }
        }
    }

    #[test]
    fn writes_require_the_states_that_the_table_allows() {
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
    fn a_repeated_command_is_recognised() {
        for referral in [converted(), rewarded(), voided()] {
            assert_eq!(referral.decide(&Command::Convert(&order("o-1")), at(30)), Decision::AlreadyDone);
            assert!(matches!(
                referral.decide(&Command::Convert(&order("o-2")), at(30)),
                Decision::Refuse(Refusal::Status(_))
            ));
        }
        let delivered = applied(rewarded().decide(&Command::MarkDelivered(&grant(Side::Referee)), at(30)));
        assert_eq!(delivered.decide(&Command::MarkDelivered(&grant(Side::Referee)), at(40)), Decision::AlreadyDone);
        assert_eq!(
            delivered.decide(&Command::MarkFailed(&grant(Side::Referee), "400", 0), at(40)),
            Decision::AlreadyDone
        );
    }

    #[test]
    fn only_a_full_adjustment_of_the_converting_order_voids() {
        let after = |adjustment: &OrderAdjustment| converted().decide(&Command::Adjust(adjustment), at(30));
        let refund = |amount| adjustment("o-1", AdjustmentCause::Refunded(money(amount)));
        assert_eq!(after(&adjustment("o-2", AdjustmentCause::Cancelled)), Decision::Refuse(Refusal::OtherOrder));
        assert_eq!(after(&refund(499)), Decision::Refuse(Refusal::PartialRefund));
        for (adjustment, reason) in [
            (refund(500), VoidReason::OrderRefunded),
            (adjustment("o-1", AdjustmentCause::Cancelled), VoidReason::OrderCancelled),
            (adjustment("o-1", AdjustmentCause::Disputed), VoidReason::PaymentDisputed),
        ] {
            let voided = applied(after(&adjustment));
            assert!(matches!(voided.state, State::Voided { reason: found, .. } if found == reason));
            assert_eq!(voided.decide(&Command::Adjust(&adjustment), at(40)), Decision::AlreadyDone);
        }
    }

    /// An order and its adjustment have the same result in both orders of arrival.
    #[test]
    fn an_adjustment_that_arrives_before_its_order_voids() {
        for (cause, status) in [
            (AdjustmentCause::Cancelled, Status::Voided),
            (AdjustmentCause::Disputed, Status::Voided),
            (AdjustmentCause::Refunded(money(500)), Status::Voided),
            (AdjustmentCause::Refunded(money(499)), Status::Converted),
        ] {
            let adjustment = adjustment("o-1", cause);
            let noted = applied(pending().decide(&Command::Adjust(&adjustment), at(5)));
            assert_eq!((noted.status(), noted.rev), (Status::Pending, 2));
            assert_eq!(noted.decide(&Command::Adjust(&adjustment), at(6)), Decision::AlreadyDone);
            let arrived = applied(noted.decide(&Command::Convert(&order("o-1")), at(10)));
            assert_eq!((arrived.status(), arrived.rev), (status, 3), "{cause:?}");
            assert_eq!(arrived.decide(&Command::Convert(&order("o-1")), at(20)), Decision::AlreadyDone);
            let reversed = applied(pending().decide(&Command::Convert(&order("o-1")), at(10)));
            match reversed.decide(&Command::Adjust(&adjustment), at(10)) {
                Decision::Apply(voided, _) => assert_eq!(voided.state, arrived.state, "{cause:?}"),
                step => assert_eq!((step, &reversed.state), (Decision::Refuse(Refusal::PartialRefund), &arrived.state)),
            }
            assert_eq!(applied(noted.decide(&Command::Convert(&order("o-2")), at(10))).status(), Status::Converted);
        }
    }

    #[test]
    fn the_latest_four_adjustments_are_kept() {
        let mut referral = pending();
        for number in 1..=6 {
            let adjustment = adjustment(&format!("o-{number}"), AdjustmentCause::Cancelled);
            referral = applied(referral.decide(&Command::Adjust(&adjustment), at(5)));
        }
        let State::Pending { adjustments } = &referral.state else { panic!("{referral:?}") };
        let kept: Vec<_> = adjustments.iter().map(|noted| noted.order.as_str()).collect();
        assert_eq!(kept, ["o-3", "o-4", "o-5", "o-6"]);
    }

    #[test]
    fn a_refused_reward_can_be_resent_and_a_delivered_one_cannot() {
        let failed = applied(rewarded().decide(&Command::MarkFailed(&grant(Side::Referrer), "400", 0), at(30)));
        let failed = applied(failed.decide(&Command::MarkDelivered(&grant(Side::Referee)), at(40)));
        assert_eq!(failed.work().map(|work| work.lane), Some(Lane::Attention));
        let resent = applied(failed.decide(&Command::Resend(&grant(Side::Referrer), at(99)), at(50)));
        assert_eq!(resent.work(), Some(Work { lane: Lane::Due, at: at(99) }));
        assert_eq!(resent.undelivered().collect::<Vec<_>>(), [grant(Side::Referrer)]);
        assert_eq!(failed.decide(&Command::Resend(&grant(Side::Referee), at(99)), at(50)), Decision::AlreadyDone);
        // A refusal of a call from before the resend is ignored. A refusal of a later call counts.
        assert_eq!(
            resent.decide(&Command::MarkFailed(&grant(Side::Referrer), "400", 0), at(60)),
            Decision::AlreadyDone
        );
        let again = applied(resent.decide(&Command::MarkFailed(&grant(Side::Referrer), "422", 1), at(60)));
        assert_eq!(again.rewards().unwrap().referrer.delivery.failure.as_deref(), Some("422"));
    }

    #[test]
    fn an_order_below_the_terms_changes_nothing() {
        let mut strict = pending();
        strict.terms.minimum = money(501);
        assert_eq!(strict.decide(&Command::Convert(&order("o-1")), at(10)), Decision::Refuse(Refusal::Unqualified));
    }

    #[test]
    fn an_order_counts_only_for_a_sign_up_before_it() {
        let until = |millis| Order { latest_sign_up: at(millis), ..order("o-1") };
        let of_sign_up = |millis| Referral { created_at: at(5000), signed_up_at: Some(at(millis)), ..pending() };
        let decide = |referral: Referral, order: Order| referral.decide(&Command::Convert(&order), at(6000));
        let refused = Decision::Refuse(Refusal::BeforeSignUp);
        assert_eq!(decide(of_sign_up(1000), until(999)), refused);
        assert_eq!(applied(decide(of_sign_up(1000), until(1000))).status(), Status::Converted);
        let without_time = Referral { signed_up_at: None, ..of_sign_up(0) };
        assert_eq!(decide(without_time.clone(), until(4999)), refused);
        let converted = applied(decide(without_time, until(5000)));
        assert_eq!(decide(converted, until(0)), Decision::AlreadyDone);
    }

    #[test]
    fn an_instruction_that_does_not_exist_cannot_be_marked_or_resent() {
        let reversal = InstructionId { kind: InstructionKind::FullReversal, ..grant(Side::Referrer) };
        let other = InstructionId { referee: "carol".parse().unwrap(), ..grant(Side::Referrer) };
        for id in [reversal, other] {
            for command in
                [Command::MarkDelivered(&id), Command::MarkFailed(&id, "400", 0), Command::Resend(&id, at(99))]
            {
                let refused = Decision::Refuse(Refusal::Status(Status::Rewarded));
                assert_eq!(rewarded().decide(&command, at(30)), refused, "{command:?}");
            }
        }
    }
}
