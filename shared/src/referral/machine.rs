//! The state machine of a referral: every transition and its conditions, in one place.
//!
//! [`next`] is the transition table. The store derives its write conditions from it ([`Transition::allowed_from`]).
//! [`Referral::decide`] computes the referral that a command writes. Both are pure functions: the current time and
//! everything read from outside are arguments.

use crate::{
    domain::{
        adjustments::{Adjustments, Undone},
        id::OrderId,
        order::{Order, OrderRecord},
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::{
        AdjustedOrder, Conversion, Referral, Rewards, State, Status, VoidReason,
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
    /// An order of the referral was adjusted, and the state stays.
    Adjust,
    /// The order that converted the referral no longer stands.
    Undo,
    /// The order that was undone stands again: its dispute was won, or its refund failed.
    Restore,
    /// A subsystem accepted a reward or refused it permanently.
    RecordAnswer,
    /// The sweep reserves the right to announce the rewards again.
    Claim,
    /// An operator requests another delivery of a reward, including a permanently refused one.
    Resend,
}

impl Transition {
    /// All transitions.
    pub const ALL: [Self; 9] = [
        Self::Convert,
        Self::Issue,
        Self::Void,
        Self::Adjust,
        Self::Undo,
        Self::Restore,
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
/// A voided referral converts only if an order was the reason ([`VoidReason::is_of_order`]).
pub fn next(from: Status, transition: Transition) -> Option<Status> {
    match (from, transition) {
        (Status::Pending | Status::Voided, Transition::Convert) => Some(Status::Converted),
        (Status::Converted, Transition::Issue) => Some(Status::Rewarded),
        (Status::Pending | Status::Converted, Transition::Void) => Some(Status::Voided),
        (Status::Pending | Status::Converted | Status::Voided, Transition::Adjust) => Some(from),
        (Status::Converted, Transition::Undo) => Some(Status::Voided),
        (Status::Voided, Transition::Restore) => Some(Status::Converted),
        (Status::Rewarded, Transition::RecordAnswer | Transition::Claim | Transition::Resend) => Some(Status::Rewarded),
        (Status::Pending, Transition::Issue | Transition::Undo | Transition::Restore)
        | (Status::Converted, Transition::Convert | Transition::Restore)
        | (Status::Voided, Transition::Issue | Transition::Void | Transition::Undo)
        | (
            Status::Pending | Status::Converted | Status::Voided,
            Transition::RecordAnswer | Transition::Claim | Transition::Resend,
        )
        | (
            Status::Rewarded,
            Transition::Convert
            | Transition::Issue
            | Transition::Void
            | Transition::Adjust
            | Transition::Undo
            | Transition::Restore,
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
    /// See [`Transition::Convert`]. Carries the order's adjustments so far.
    Convert(&'a Order, &'a Adjustments),
    /// See [`Transition::Issue`].
    Issue,
    /// See [`Transition::Void`].
    Void(VoidReason),
    /// See [`Transition::Adjust`], [`Transition::Undo`] and [`Transition::Restore`].
    Adjust(&'a OrderRecord),
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
    /// The transition without its data. Adjustments can cause two more, and an order that was undone before it arrived voids.
    pub fn transition(&self) -> Transition {
        match self {
            Self::Convert(..) => Transition::Convert,
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
    /// The order was undone before it arrived, as the earlier order was.
    OrderUndone,
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
            Command::Convert(order, adjustments) => self.convert(order, adjustments, now),
            Command::Issue => self.issue(now),
            Command::Void(reason) => self.void(*reason, Transition::Void, now),
            Command::Adjust(record) => self.adjust(record, now),
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
            Command::Convert(order, _) => converted_by(&order.id),
            Command::Adjust(record) => self.knows(record),
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

    /// Whether the referral includes these adjustments or later ones.
    fn knows(&self, record: &OrderRecord) -> bool {
        let by_order = self.conversion().filter(|conversion| conversion.order == record.id).map(|by| by.adjusted);
        let other = self.adjusted_order.as_ref().filter(|other| other.order == record.id).map(|other| other.version);
        let known = by_order.or(other).unwrap_or_default();
        known >= record.adjustments.version && !mutant::is(Mutant::OlderAdjustmentsMerged)
    }

    fn convert(&self, order: &Order, adjustments: &Adjustments, now: Timestamp) -> Decision {
        if !self.is_convertible() && !mutant::is(Mutant::SecondOrderConverts) {
            return self.refuse();
        }
        if !self.terms.qualifies(order) {
            return Decision::Refuse(Refusal::Unqualified);
        }
        if order.latest_sign_up < self.signed_up_at() && !mutant::is(Mutant::OldOrderConverts) {
            return Decision::Refuse(Refusal::BeforeSignUp);
        }
        let number = self.conversion().map_or(1, |earlier| earlier.number + 1);
        let noted = self.undone_by_note(order);
        let conversion = Conversion {
            event: order.event.clone(),
            order: order.id.clone(),
            paid: order.paid,
            at: now,
            number,
            adjusted: adjustments.version,
        };
        let undone = noted.or_else(|| adjustments.undone(&order.paid, &self.terms.minimum).first().copied());
        match undone.filter(|_| !mutant::is(Mutant::EarlyAdjustmentForgotten)) {
            None => self.converted(conversion, now),
            // The same result as if the order had arrived before its adjustments.
            Some(undone) if self.status() == Status::Pending => {
                let (reason, is_exact) = (undone.into(), noted.is_none());
                let state = State::Voided { at: now, reason, is_exact, conversion: Some(conversion) };
                self.write(state, Transition::Void)
            }
            Some(_) => Decision::Refuse(Refusal::OrderUndone),
        }
    }

    /// Whether an order can convert the referral: no order has, or the one that had was undone before the issue.
    pub fn is_convertible(&self) -> bool {
        match &self.state {
            State::Pending => true,
            State::Voided { reason, .. } => reason.is_of_order() || mutant::is(Mutant::VoidedConverts),
            State::Converted { .. } | State::Rewarded { .. } => false,
        }
    }

    fn converted(&self, conversion: Conversion, now: Timestamp) -> Decision {
        // A restored conversion has the rest of its hold.
        let due_at = conversion.at.plus(self.terms.hold()).max(now);
        let is_restored = self.conversion().is_some_and(|earlier| earlier.order == conversion.order);
        let transition = if is_restored { Transition::Restore } else { Transition::Convert };
        let adjusted_order = self.adjusted_order.clone().filter(|other| other.order != conversion.order);
        self.write_as(Self { adjusted_order, ..self.clone() }, State::Converted { conversion, due_at }, transition)
    }

    /// Why an order that arrives no longer stands, by a note of an earlier version.
    fn undone_by_note(&self, order: &Order) -> Option<Undone> {
        let mut of_order = self.notes.iter().filter(|noted| noted.order == order.id);
        of_order.find_map(|noted| noted.cause.undoes(&order.paid))
    }

    fn issue(&self, now: Timestamp) -> Decision {
        let State::Converted { conversion, due_at } = &self.state else { return self.refuse() };
        let rewards = Rewards::issued(&self.terms, now);
        self.write(State::Rewarded { conversion: conversion.clone(), rewards, due_at: *due_at }, Transition::Issue)
    }

    fn void(&self, reason: VoidReason, transition: Transition, now: Timestamp) -> Decision {
        let conversion = self.conversion().cloned();
        self.write(State::Voided { at: now, reason, is_exact: false, conversion }, transition)
    }

    fn adjust(&self, record: &OrderRecord, now: Timestamp) -> Decision {
        if mutant::is(Mutant::AdjustmentIgnored) {
            return Decision::Refuse(Refusal::OtherOrder);
        }
        let is_ours = |conversion: &&Conversion| conversion.order == record.id || mutant::is(Mutant::AnyOrderAdjusts);
        match self.conversion().filter(is_ours) {
            Some(conversion) => self.adjust_conversion(conversion, &record.adjustments, now),
            None => self.adjust_other_order(record),
        }
    }

    /// Adjusts the order that converted the referral.
    fn adjust_conversion(&self, known: &Conversion, adjustments: &Adjustments, now: Timestamp) -> Decision {
        let undone = adjustments.undone(&known.paid, &self.terms.minimum);
        let conversion = Conversion { adjusted: adjustments.version, ..known.clone() };
        match (&self.state, undone.first()) {
            (State::Converted { due_at, .. }, None) => {
                self.write(State::Converted { conversion, due_at: *due_at }, Transition::Adjust)
            }
            (State::Converted { .. }, Some(undone)) => {
                let reason = (*undone).into();
                let state = State::Voided { at: now, reason, is_exact: true, conversion: Some(conversion) };
                self.write(state, Transition::Undo)
            }
            (State::Voided { is_exact: true, .. }, None) if !mutant::is(Mutant::RestoredOrderIgnored) => {
                self.converted(Conversion { number: known.number + 1, ..conversion }, now)
            }
            // The published reason stays, even if it no longer applies and another one does.
            (State::Voided { at, reason, is_exact: true, .. }, Some(_)) => {
                let state = State::Voided { at: *at, reason: *reason, is_exact: true, conversion: Some(conversion) };
                self.write(state, Transition::Adjust)
            }
            _ => self.refuse(),
        }
    }

    /// Remembers that an order of this referee was adjusted, if it can still convert the referral. This raises `rev`, so a step that
    /// was decided from earlier adjustments is decided again.
    fn adjust_other_order(&self, record: &OrderRecord) -> Decision {
        let is_claimed = record.claimed_by.as_ref() == Some(&self.referee);
        if !is_claimed || !self.is_convertible() || mutant::is(Mutant::ClaimedOrderNotAdjusted) {
            return Decision::Refuse(Refusal::OtherOrder);
        }
        let adjusted = AdjustedOrder { order: record.id.clone(), version: record.adjustments.version };
        let after = Self { adjusted_order: Some(adjusted), ..self.clone() };
        self.write_as(after, self.state.clone(), Transition::Adjust)
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
        self.write_as(self.clone(), state, transition)
    }

    /// Writes `after` with this state.
    fn write_as(&self, after: Self, state: State, transition: Transition) -> Decision {
        let rev = if mutant::is(Mutant::RevisionUnchanged) { self.rev } else { self.rev + 1 };
        Decision::Apply(Box::new(Self { state, rev, ..after }), transition)
    }

    fn refuse(&self) -> Decision {
        Decision::Refuse(Refusal::Status(self.status()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::order::{AdjustmentCause, NotedAdjustment},
        fraud::FraudReason,
        referral::{
            Lane, Work,
            reward::{InstructionKind, Side},
        },
        sample::{applied, at, converted, grant, money, order, pending, rewarded},
    };

    fn convert(order: &Order) -> Command<'_> {
        Command::Convert(order, Adjustments::NONE)
    }

    /// The order with these adjustments, claimed by bob.
    fn adjusted(order: &str, version: u32, adjust: impl FnOnce(&mut Adjustments)) -> OrderRecord {
        let mut adjustments = Adjustments { version, ..Adjustments::default() };
        adjust(&mut adjustments);
        let claimed_by = Some("bob".parse().unwrap());
        OrderRecord { id: order.parse().unwrap(), claimed_by, paid: Some(money(500)), adjustments }
    }

    fn cancelled(order: &str) -> OrderRecord {
        adjusted(order, 1, |all| all.is_cancelled = true)
    }

    fn disputed(version: u32, is_open: bool) -> OrderRecord {
        adjusted("o-1", version, |all| all.disputes = [(None, is_open)].into())
    }

    fn refunded(amount: u64) -> OrderRecord {
        adjusted("o-1", 1, |all| all.refunds = [("r".parse().unwrap(), money(amount))].into())
    }

    fn voided() -> Referral {
        applied(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20)))
    }

    /// Tries every command in every state. An allowed command raises `rev` by one and leads to the state in the table; any
    /// other command writes nothing.
    #[test]
    fn every_state_against_every_command() {
        let (order, part) = (order("o-1"), refunded(1));
        let (referrers, referees) = (grant(Side::Referrer), grant(Side::Referee));
        let commands = [
            convert(&order),
            Command::Issue,
            Command::Void(FraudReason::ReferrerFlagged.into()),
            Command::Adjust(&part),
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
        assert_eq!(from(Transition::Void), [Status::Pending, Status::Converted]);
        assert_eq!(from(Transition::Adjust), [Status::Pending, Status::Converted, Status::Voided]);
        assert_eq!(from(Transition::Undo), [Status::Converted]);
        assert_eq!(from(Transition::Restore), [Status::Voided]);
        assert_eq!(from(Transition::RecordAnswer), [Status::Rewarded]);
        assert_eq!(from(Transition::Claim), [Status::Rewarded]);
        assert_eq!(from(Transition::Resend), [Status::Rewarded]);
    }

    #[test]
    fn a_repeated_command_is_recognised() {
        for referral in [converted(), rewarded(), voided()] {
            assert_eq!(referral.decide(&convert(&order("o-1")), at(30)), Decision::AlreadyDone);
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
    fn the_converting_order_voids_when_it_no_longer_stands() {
        let after = |record: &OrderRecord| converted().decide(&Command::Adjust(record), at(30));
        assert_eq!(after(&cancelled("o-2")), Decision::Refuse(Refusal::OtherOrder));
        let part = applied(after(&refunded(499)));
        assert_eq!((part.status(), part.conversion().unwrap().adjusted), (Status::Converted, 1));
        for (record, reason) in [
            (refunded(500), VoidReason::OrderRefunded),
            (cancelled("o-1"), VoidReason::OrderCancelled),
            (disputed(1, true), VoidReason::PaymentDisputed),
        ] {
            let voided = applied(after(&record));
            assert!(matches!(voided.state, State::Voided { reason: found, .. } if found == reason));
            assert_eq!(voided.decide(&Command::Adjust(&record), at(40)), Decision::AlreadyDone);
        }
    }

    /// An order and its adjustment have the same result in both orders of arrival.
    #[test]
    fn an_adjustment_that_arrives_before_its_order_voids() {
        for record in [cancelled("o-1"), disputed(1, true), refunded(500), refunded(499), disputed(1, false)] {
            let order = order("o-1");
            let arrived = applied(pending().decide(&Command::Convert(&order, &record.adjustments), at(10)));
            let first = applied(pending().decide(&convert(&order), at(10)));
            let adjusted = applied(first.decide(&Command::Adjust(&record), at(10)));
            assert_eq!(arrived.state, adjusted.state, "{record:?}");
            assert_eq!(arrived.decide(&convert(&order), at(20)), Decision::AlreadyDone);
        }
    }

    #[test]
    fn a_dispute_that_was_won_restores_the_conversion_with_the_rest_of_its_hold() {
        let voided = applied(converted().decide(&Command::Adjust(&disputed(1, true)), at(30)));
        let restored = applied(voided.decide(&Command::Adjust(&disputed(2, false)), at(5000)));
        let (State::Converted { conversion, due_at }, Some(first)) =
            (&restored.state, converted().conversion().cloned())
        else {
            panic!("{restored:?}")
        };
        assert_eq!(*conversion, Conversion { number: 2, adjusted: 2, ..first });
        assert_eq!(*due_at, at(5000), "the hold has ended");
        let early = applied(voided.decide(&Command::Adjust(&disputed(2, false)), at(500)));
        assert_eq!(early.work().unwrap().at, at(1010));
        // The messages arrived in the other order.
        assert_eq!(restored.decide(&Command::Adjust(&disputed(1, true)), at(5000)), Decision::AlreadyDone);
        let again = applied(restored.decide(&Command::Adjust(&disputed(3, true)), at(6000)));
        assert_eq!((again.status(), again.conversion().unwrap().number), (Status::Voided, 2));
    }

    #[test]
    fn a_void_lasts_while_any_cause_applies_and_keeps_its_reason() {
        let reason = |referral: &Referral| match referral.state {
            State::Voided { reason, at, .. } => (reason, at),
            _ => panic!("{referral:?}"),
        };
        let adjust = |referral: &Referral, version, is_open, is_cancelled| {
            let mut record = disputed(version, is_open);
            record.adjustments.is_cancelled = is_cancelled;
            applied(referral.decide(&Command::Adjust(&record), at(40)))
        };
        let voided = applied(converted().decide(&Command::Adjust(&disputed(1, true)), at(30)));
        let both = adjust(&voided, 2, true, true);
        assert_eq!(reason(&both), (VoidReason::PaymentDisputed, at(30)));
        assert_eq!(reason(&adjust(&both, 3, false, true)), (VoidReason::PaymentDisputed, at(30)));
    }

    #[test]
    fn another_order_converts_after_the_first_one_was_cancelled() {
        let voided = applied(converted().decide(&Command::Adjust(&cancelled("o-1")), at(30)));
        let other = order("o-2");
        let undone = cancelled("o-2").adjustments;
        assert_eq!(voided.decide(&Command::Convert(&other, &undone), at(40)), Decision::Refuse(Refusal::OrderUndone));
        let second = applied(voided.decide(&convert(&other), at(40)));
        let conversion = second.conversion().unwrap();
        assert_eq!((conversion.order.as_str(), conversion.number, conversion.at), ("o-2", 2, at(40)));
    }

    /// A conversion that was decided before the adjustment is decided again, because the revision is another one.
    #[test]
    fn an_adjustment_of_a_claimed_order_raises_the_revision() {
        let noted = applied(pending().decide(&Command::Adjust(&cancelled("o-1")), at(5)));
        assert_eq!((noted.status(), noted.rev), (Status::Pending, 2));
        assert_eq!(noted.decide(&Command::Adjust(&cancelled("o-1")), at(6)), Decision::AlreadyDone);
        let unclaimed = OrderRecord { claimed_by: None, ..cancelled("o-1") };
        assert_eq!(pending().decide(&Command::Adjust(&unclaimed), at(5)), Decision::Refuse(Refusal::OtherOrder));
        let converted = applied(noted.decide(&convert(&order("o-1")), at(10)));
        assert_eq!(converted.adjusted_order, None);
    }

    /// What an earlier version stored in a pending referral keeps its meaning: each refund counts for itself.
    #[test]
    fn adjustments_of_an_earlier_version_count() {
        let noted = |causes: &[AdjustmentCause]| {
            let noted = |cause: &AdjustmentCause| NotedAdjustment { order: "o-1".parse().unwrap(), cause: *cause };
            let notes = causes.iter().map(noted).collect();
            applied(Referral { notes, ..pending() }.decide(&convert(&order("o-1")), at(10))).status()
        };
        let refund = |amount| AdjustmentCause::Refunded(money(amount));
        assert_eq!(noted(&[refund(250), refund(251)]), Status::Converted);
        for undoing in [refund(500), AdjustmentCause::Cancelled, AdjustmentCause::Disputed] {
            assert_eq!(noted(&[refund(1), undoing]), Status::Voided);
        }
    }

    /// A note stays when another order converts, so its own order does not convert later.
    #[test]
    fn a_note_outlives_the_conversion_by_another_order() {
        let note = NotedAdjustment { order: "o-1".parse().unwrap(), cause: AdjustmentCause::Cancelled };
        let noted = Referral { notes: vec![note], ..pending() };
        let converted = applied(noted.decide(&convert(&order("o-2")), at(10)));
        let voided = applied(converted.decide(&Command::Adjust(&cancelled("o-2")), at(20)));
        assert_eq!(voided.decide(&convert(&order("o-1")), at(30)), Decision::Refuse(Refusal::OrderUndone));
    }

    /// An earlier version did not keep the adjustments of an order after the first one.
    #[test]
    fn a_void_by_an_earlier_version_is_not_restored() {
        let voided = applied(converted().decide(&Command::Adjust(&disputed(1, true)), at(30)));
        let mut old = voided;
        let State::Voided { is_exact, .. } = &mut old.state else { panic!("{old:?}") };
        *is_exact = false;
        let refused = Decision::Refuse(Refusal::Status(Status::Voided));
        for record in [disputed(2, false), disputed(2, true)] {
            assert_eq!(old.decide(&Command::Adjust(&record), at(40)), refused);
        }
        let noted = NotedAdjustment { order: "o-1".parse().unwrap(), cause: AdjustmentCause::Cancelled };
        let pending = Referral { notes: vec![noted], ..pending() };
        let order = order("o-1");
        let by_note = applied(pending.decide(&Command::Convert(&order, &refunded(1).adjustments), at(10)));
        assert!(matches!(by_note.state, State::Voided { is_exact: false, .. }), "{by_note:?}");
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
        assert_eq!(strict.decide(&convert(&order("o-1")), at(10)), Decision::Refuse(Refusal::Unqualified));
    }

    #[test]
    fn an_order_counts_only_for_a_sign_up_before_it() {
        let until = |millis| Order { latest_sign_up: at(millis), ..order("o-1") };
        let of_sign_up = |millis| Referral { created_at: at(5000), signed_up_at: Some(at(millis)), ..pending() };
        let decide = |referral: Referral, order: Order| referral.decide(&convert(&order), at(6000));
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
