//! The state machine of a referral: every transition and its conditions, in one place.
//!
//! [`next`] is the transition table. The store derives its write conditions from it ([`Transition::allowed_from`]).
//! [`Referral::decide`] computes the referral that a command writes. Both are pure functions: the current time and
//! everything read from outside are arguments.

use crate::{
    domain::{
        adjustments::Adjustments,
        order::{Order, OrderRecord},
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::{
        Conversion, Referral, Rewards, State, Status, VoidReason,
        reward::{Delivery, InstructionId, RewardStatus, Side},
    },
};

/// The kind of a step. A [`Command`] is a transition with its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// A qualifying order arrived.
    Convert,
    /// The hold has ended and no fraud rule is broken: decide both rewards.
    Issue,
    /// Fraud was detected before the rewards were issued, an order arrived after its own adjustment, or an operator ends the referral.
    Void,
    /// Another qualifying order arrived, and is kept as a candidate.
    KeepCandidate,
    /// An order of the referral was adjusted, and the state stays.
    Adjust,
    /// The order that converted the referral no longer stands, and no candidate does.
    Undo,
    /// The order that converted the referral no longer stands, and a candidate converts it.
    ConvertNext,
    /// An order that was undone stands again, because its dispute was won or its refund failed, or an operator reopened the referral.
    /// The order converts the voided referral.
    Restore,
    /// An operator reopened a voided referral that has no order.
    Reopen,
    /// The order no longer stands after the issue, or an operator decided so: take the rewards back.
    Reverse,
    /// A subsystem is about to be called for a reward.
    RecordCall,
    /// A subsystem accepted a reward or refused it permanently.
    RecordAnswer,
    /// The sweep reserves the right to announce the rewards again.
    Claim,
    /// An operator requests another delivery of a reward, including a permanently refused one.
    Resend,
}

impl Transition {
    /// All transitions.
    pub const ALL: [Self; 14] = [
        Self::Convert,
        Self::Issue,
        Self::Void,
        Self::KeepCandidate,
        Self::Adjust,
        Self::Undo,
        Self::ConvertNext,
        Self::Restore,
        Self::Reopen,
        Self::Reverse,
        Self::RecordCall,
        Self::RecordAnswer,
        Self::Claim,
        Self::Resend,
    ];

    /// The states from which this transition is allowed. The write requires one of them.
    pub fn allowed_from(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |from| allowed(*from, self).is_some())
    }
}

/// The transition table: the state after `transition`, or `None` if it is not allowed in state `from`.
///
/// A voided referral has calls and answers only if rewards were issued. Otherwise it depends on the reason: if that is an order
/// ([`VoidReason::is_of_order`]), it takes orders, and an operator can void it for good. If not, an operator can reopen it.
pub fn next(from: Status, transition: Transition) -> Option<Status> {
    match (from, transition) {
        (Status::Pending | Status::Voided, Transition::Convert) => Some(Status::Converted),
        (Status::Converted, Transition::Issue) => Some(Status::Rewarded),
        (Status::Pending | Status::Converted | Status::Voided, Transition::Void) => Some(Status::Voided),
        (Status::Converted | Status::Voided, Transition::KeepCandidate) => Some(from),
        (_, Transition::Adjust) => Some(from),
        (Status::Converted, Transition::Undo) => Some(Status::Voided),
        (Status::Converted, Transition::ConvertNext) => Some(Status::Converted),
        (Status::Voided, Transition::Restore) => Some(Status::Converted),
        (Status::Voided, Transition::Reopen) => Some(Status::Pending),
        (Status::Rewarded, Transition::Reverse) => Some(Status::Voided),
        (Status::Rewarded | Status::Voided, Transition::RecordCall | Transition::RecordAnswer | Transition::Claim) => {
            Some(from)
        }
        (Status::Rewarded, Transition::Resend) => Some(from),
        (
            Status::Pending,
            Transition::Issue
            | Transition::KeepCandidate
            | Transition::Undo
            | Transition::ConvertNext
            | Transition::Restore
            | Transition::Reopen,
        )
        | (Status::Converted, Transition::Convert | Transition::Restore | Transition::Reopen)
        | (Status::Voided, Transition::Issue | Transition::Undo | Transition::ConvertNext)
        | (
            Status::Pending | Status::Converted,
            Transition::RecordCall | Transition::RecordAnswer | Transition::Claim,
        )
        | (Status::Pending | Status::Converted | Status::Voided, Transition::Resend | Transition::Reverse)
        | (
            Status::Rewarded,
            Transition::Convert
            | Transition::Issue
            | Transition::Void
            | Transition::KeepCandidate
            | Transition::Undo
            | Transition::ConvertNext
            | Transition::Restore
            | Transition::Reopen,
        ) => None,
    }
}

/// [`next`], extended by the transition that a mutant allows. Without the feature `mutants` it equals [`next`].
fn allowed(from: Status, transition: Transition) -> Option<Status> {
    match (from, transition) {
        (Status::Converted, Transition::Convert) if mutant::is(Mutant::SecondOrderConverts) => Some(from),
        _ => next(from, transition),
    }
}

/// A transition with its data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// See [`Transition::Convert`] and [`Transition::KeepCandidate`]. Carries the order's adjustments so far.
    Convert(&'a Order, &'a Adjustments),
    /// See [`Transition::Issue`].
    Issue,
    /// See [`Transition::Void`]. By an operator after the issue: see [`Transition::Reverse`].
    Void(VoidReason),
    /// See [`Transition::Reopen`] and [`Transition::Restore`]. Carries the order that had converted the referral, if one had.
    Reopen(Option<&'a OrderRecord>),
    /// An operator has resolved what was unclear about the order. See [`Transition::Adjust`].
    Resolve(&'a OrderRecord),
    /// See [`Transition::Adjust`], [`Transition::Undo`], [`Transition::ConvertNext`], [`Transition::Restore`] and
    /// [`Transition::Reverse`]. If it is processed late, the hold of a conversion that it causes does not end before this time.
    Adjust(&'a OrderRecord, Option<Timestamp>),
    /// See [`Transition::RecordCall`].
    MarkCalled(&'a InstructionId),
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
    /// The transition without its data, in this state. An adjustment can also undo, convert by the next order, restore or reverse,
    /// and an order that was undone before it arrived voids.
    pub fn transition(&self, from: Status) -> Transition {
        match self {
            Self::Convert(..) if from == Status::Converted && !mutant::is(Mutant::SecondOrderConverts) => {
                Transition::KeepCandidate
            }
            Self::Convert(..) => Transition::Convert,
            Self::Issue => Transition::Issue,
            Self::Void(VoidReason::Operator) if from == Status::Rewarded => Transition::Reverse,
            Self::Void(_) => Transition::Void,
            Self::Reopen(Some(_)) => Transition::Restore,
            Self::Reopen(None) => Transition::Reopen,
            Self::Adjust(..) | Self::Resolve(_) => Transition::Adjust,
            Self::MarkCalled(_) => Transition::RecordCall,
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
    /// Another order converted the referral, and this one is no candidate.
    OtherOrder,
    /// The order belongs to another user.
    OtherUser,
    /// The order was undone before it arrived, and cannot be kept.
    OrderUndone,
    /// The hold or the grace period has not ended.
    NotDue,
    /// An operator has to decide first.
    NeedsAttention,
}

impl Referral {
    /// Decides what `command` changes at the time `now`.
    pub fn decide(&self, command: &Command<'_>, now: Timestamp) -> Decision {
        if self.has_seen(command) {
            return Decision::AlreadyDone;
        }
        if allowed(self.status(), command.transition(self.status())).is_none() {
            return self.refuse();
        }
        match command {
            Command::Convert(order, adjustments) => self.convert(order, adjustments, now),
            Command::Issue => self.issue(now),
            Command::Void(VoidReason::Operator) => self.void_by_operator(now),
            Command::Void(reason) => self.void(*reason, Transition::Void, now),
            Command::Reopen(record) => self.reopen(*record, now),
            Command::Resolve(record) => self.resolve(record, now),
            Command::Adjust(record, hold_until) => self.adjust(record, *hold_until, now),
            Command::MarkCalled(id) => self.record_call(id, now),
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
        let status = |id| self.delivery(id).map(Delivery::status);
        match command {
            Command::Convert(order, _) => self.has_order(&order.id),
            Command::Adjust(record, _) => self.knows(record),
            Command::Void(VoidReason::Operator) => self.is_void_final(),
            Command::Void(_) => self.status() == Status::Voided,
            Command::Reopen(_) => self.is_reopened(),
            Command::Resolve(_) => self.attention().is_none(),
            // An earlier version does not record calls. Its rewards may have been called before.
            Command::MarkCalled(id) => self.delivery(id).is_some_and(|delivery| delivery.called_at.is_some()),
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

    fn issue(&self, now: Timestamp) -> Decision {
        let State::Converted { conversion, due_at } = &self.state else { return self.refuse() };
        if conversion.attention.is_some() && !mutant::is(Mutant::UnclearOrderIssued) {
            return Decision::Refuse(Refusal::NeedsAttention);
        }
        let rewards = Rewards::issued(&self.terms, now);
        let state = State::Rewarded { conversion: conversion.clone(), rewards, due_at: *due_at };
        // No other order counts any more.
        let after = Self { candidates: Vec::new(), adjusted_order: None, ..self.clone() };
        self.write_as(after, state, Transition::Issue)
    }

    pub(super) fn void(&self, reason: VoidReason, transition: Transition, now: Timestamp) -> Decision {
        let conversion = self.conversion().cloned();
        self.write(State::Voided { at: now, reason, is_exact: false, conversion }, transition)
    }

    /// Records a call, unless the reward is taken back and was never called before. After that, it is not called any more.
    fn record_call(&self, id: &InstructionId, now: Timestamp) -> Decision {
        if !self.undelivered().contains(id) {
            return self.refuse();
        }
        let mut called = self.state.clone();
        let Some(delivery) = self.delivery_in(&mut called, id) else { return self.refuse() };
        delivery.called_at = Some(now);
        self.write(called, Transition::RecordCall)
    }

    fn record_answer(&self, id: &InstructionId, record: impl FnOnce(&mut Delivery)) -> Decision {
        let mut recorded = self.state.clone();
        let Some(delivery) = self.delivery_in(&mut recorded, id) else { return self.refuse() };
        record(delivery);
        self.write(recorded, Transition::RecordAnswer)
    }

    fn claim(&self, until: Timestamp) -> Decision {
        let mut claimed = self.state.clone();
        let (State::Rewarded { due_at, .. } | State::Reversed { due_at, .. }) = &mut claimed else {
            return self.refuse();
        };
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

    /// Takes both rewards back.
    pub(super) fn reverse(&self, conversion: Conversion, reason: VoidReason, now: Timestamp) -> Decision {
        let State::Rewarded { rewards, due_at, .. } = &self.state else { return self.refuse() };
        // Nothing is left to decide.
        let conversion = Conversion { attention: None, ..conversion };
        let mut rewards = rewards.clone();
        for side in
            Side::BOTH.into_iter().filter(|side| *side == Side::Referrer || !mutant::is(Mutant::RefereeRewardKept))
        {
            let reward = rewards.of_mut(side);
            reward.reversed = Some(reward.benefit.amount());
        }
        let state = State::Reversed { at: now, reason, conversion, rewards, due_at: *due_at };
        self.write(state, Transition::Reverse)
    }

    pub(super) fn write(&self, state: State, transition: Transition) -> Decision {
        self.write_as(self.clone(), state, transition)
    }

    /// Writes `after` with this state.
    pub(super) fn write_as(&self, after: Self, state: State, transition: Transition) -> Decision {
        let rev = if mutant::is(Mutant::RevisionUnchanged) { self.rev } else { self.rev + 1 };
        Decision::Apply(Box::new(Self { state, rev, ..after }), transition)
    }

    pub(super) fn refuse(&self) -> Decision {
        Decision::Refuse(Refusal::Status(self.status()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fraud::FraudReason,
        referral::{Lane, Work, reward::InstructionKind},
        sample::{applied, at, convert, converted, grant, order, pending, refunded, rewarded},
    };

    fn voided() -> Referral {
        applied(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20)))
    }

    /// Tries every command in every state. An allowed command raises `rev` by one and leads to the state in the table; any
    /// other command writes nothing.
    #[test]
    fn every_state_against_every_command() {
        let (order, part) = (order("o-2"), refunded(1));
        let (referrers, referees) = (grant(Side::Referrer), grant(Side::Referee));
        let commands = [
            convert(&order),
            Command::Issue,
            Command::Void(FraudReason::ReferrerFlagged.into()),
            Command::Reopen(None),
            Command::Adjust(&part, None),
            Command::MarkDelivered(&referees),
            Command::MarkFailed(&referrers, "400", 0),
            Command::Claim(at(99)),
            Command::Resend(&referrers, at(99)),
        ];
        for referral in [pending(), converted(), rewarded(), voided()] {
            for command in &commands {
                let transition = command.transition(referral.status());
                let expected = next(referral.status(), transition);
                match referral.decide(command, at(30)) {
                    Decision::Apply(applied, written) => {
                        assert_eq!(written, transition);
                        assert_eq!(Some(applied.status()), expected, "{:?} {command:?}", referral.status());
                        assert_eq!(applied.rev, referral.rev + 1);
                    }
                    // This void has another reason than an order.
                    Decision::AlreadyDone | Decision::Refuse(_) => {
                        let is_possible = expected.filter(|_| referral.status() != Status::Voided);
                        assert_eq!(is_possible, None, "{:?} {command:?}", referral.status())
                    }
                }
            }
        }
    }

    #[test]
    fn writes_require_the_states_that_the_table_allows() {
        let from = |transition: Transition| transition.allowed_from().collect::<Vec<_>>();
        assert_eq!(from(Transition::Convert), [Status::Pending, Status::Voided]);
        assert_eq!(from(Transition::Issue), [Status::Converted]);
        assert_eq!(from(Transition::Void), [Status::Pending, Status::Converted, Status::Voided]);
        assert_eq!(from(Transition::Reopen), [Status::Voided]);
        assert_eq!(from(Transition::Adjust), Status::ALL);
        assert_eq!(from(Transition::KeepCandidate), [Status::Converted, Status::Voided]);
        assert_eq!(from(Transition::Undo), [Status::Converted]);
        assert_eq!(from(Transition::ConvertNext), [Status::Converted]);
        assert_eq!(from(Transition::Restore), [Status::Voided]);
        assert_eq!(from(Transition::Reverse), [Status::Rewarded]);
        assert_eq!(from(Transition::RecordCall), [Status::Rewarded, Status::Voided]);
        assert_eq!(from(Transition::RecordAnswer), [Status::Rewarded, Status::Voided]);
        assert_eq!(from(Transition::Claim), [Status::Rewarded, Status::Voided]);
        assert_eq!(from(Transition::Resend), [Status::Rewarded]);
    }

    #[test]
    fn a_repeated_command_is_recognised() {
        for referral in [converted(), rewarded(), voided()] {
            assert_eq!(referral.decide(&convert(&order("o-1")), at(30)), Decision::AlreadyDone);
        }
        for referral in [rewarded(), voided()] {
            assert!(matches!(referral.decide(&convert(&order("o-2")), at(30)), Decision::Refuse(Refusal::Status(_))));
        }
        let delivered = applied(rewarded().decide(&Command::MarkDelivered(&grant(Side::Referee)), at(30)));
        assert_eq!(delivered.decide(&Command::MarkDelivered(&grant(Side::Referee)), at(40)), Decision::AlreadyDone);
        assert_eq!(
            delivered.decide(&Command::MarkFailed(&grant(Side::Referee), "400", 0), at(40)),
            Decision::AlreadyDone
        );
    }

    #[test]
    fn a_refused_reward_can_be_resent_and_a_delivered_one_cannot() {
        let failed = applied(rewarded().decide(&Command::MarkFailed(&grant(Side::Referrer), "400", 0), at(30)));
        let failed = applied(failed.decide(&Command::MarkDelivered(&grant(Side::Referee)), at(40)));
        assert_eq!(failed.work().map(|work| work.lane), Some(Lane::Attention));
        let resent = applied(failed.decide(&Command::Resend(&grant(Side::Referrer), at(99)), at(50)));
        assert_eq!(resent.work(), Some(Work { lane: Lane::Due, at: at(99) }));
        assert_eq!(resent.undelivered(), [grant(Side::Referrer)]);
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
