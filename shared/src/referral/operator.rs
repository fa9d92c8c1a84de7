//! What operators can change: void a referral, reopen a voided one, and decide what needs their attention.

use super::{
    Conversion, Referral, State, Status, VoidReason,
    machine::{Decision, Transition},
};
use crate::{
    domain::{adjustments::Undone, order::OrderRecord, time::Timestamp},
    mutant::{self, Mutant},
};

impl Referral {
    /// Whether an operator's void changes nothing. A void because of an order is not final, and an operator can make it final.
    pub(super) fn is_void_final(&self) -> bool {
        self.voided().is_some() && (!self.takes_orders() || mutant::is(Mutant::OperatorVoidRevivable))
    }

    /// Whether it was reopened before, and no fraud rule or operator has voided it since.
    pub(super) fn is_reopened(&self) -> bool {
        self.reopened > 0 && (self.takes_orders() || self.status() == Status::Rewarded)
    }

    /// Voids, also because an order was the reason before. After the issue the rewards are taken back.
    pub(super) fn void_by_operator(&self, now: Timestamp) -> Decision {
        match &self.state {
            State::Rewarded { conversion, .. } => self.reverse(conversion.clone(), VoidReason::Operator, now),
            // The reason changes, so it is published again, as a later life.
            State::Voided { is_exact, conversion: Some(conversion), .. } => {
                let conversion = next_life(conversion.clone());
                let adjusted = if *is_exact { conversion.adjusted } else { UNKNOWN };
                let conversion = Some(Conversion { adjusted, ..conversion });
                let state = State::Voided { at: now, reason: VoidReason::Operator, is_exact: false, conversion };
                self.write(state, Transition::Void)
            }
            _ => self.void(VoidReason::Operator, Transition::Void, now),
        }
    }

    /// Reopens a referral that a fraud rule or an operator has voided. Its order is read again, because it may have been adjusted
    /// since. If the order no longer stands, the next candidate converts the referral. Without one the order is the reason of the
    /// void again, so another order can convert the referral.
    pub(super) fn reopen(&self, record: Option<&OrderRecord>, now: Timestamp) -> Decision {
        let State::Voided { reason, conversion, .. } = &self.state else { return self.refuse() };
        if reason.is_of_order() {
            return self.refuse();
        }
        let after = Self { reopened: self.reopened + 1, ..self.clone() };
        let Some(known) = conversion else { return self.write_as(after, State::Pending, Transition::Reopen) };
        let Some(record) = record.filter(|record| record.id == known.order) else { return self.refuse() };
        let conversion = known.clone().including(&record.adjustments);
        let undone = record.adjustments.undone(&known.paid, &self.terms.minimum).first().copied();
        let (conversion, undone) = if known.adjusted == UNKNOWN {
            (known.clone(), undone.or(Some(Undone::Cancelled)))
        } else {
            (conversion, undone)
        };
        match undone.filter(|_| !mutant::is(Mutant::ReopenedWithoutOrder)) {
            None => after.converted(conversion, Transition::Restore, now),
            Some(undone) => {
                let voided = |conversion| State::Voided {
                    at: now,
                    reason: undone.into(),
                    is_exact: known.adjusted != UNKNOWN,
                    conversion: Some(conversion),
                };
                let after = Self { state: voided(conversion.clone()), ..after };
                match after.next_candidate() {
                    Some(next) => after.converted(next, Transition::Restore, now),
                    None => self.write_as(after, voided(next_life(conversion)), Transition::Adjust),
                }
            }
        }
    }

    /// Decides again with this order, whose unclear adjustments an operator has resolved.
    pub(super) fn resolve(&self, record: &OrderRecord, now: Timestamp) -> Decision {
        let Some(known) = self.conversion().filter(|known| known.order == record.id) else { return self.refuse() };
        if let State::Reversed { at, reason, rewards, due_at, .. } = &self.state {
            let adjusted = record.adjustments.version.max(known.adjusted);
            let conversion = Conversion { adjusted, attention: None, ..known.clone() };
            let (at, reason, due_at) = (*at, *reason, *due_at);
            let state = State::Reversed { at, reason, conversion, rewards: rewards.clone(), due_at };
            return self.write(state, Transition::Adjust);
        }
        self.adjust_conversion(known, &record.adjustments, None, now)
    }
}

/// The version of the adjustments of an order that an earlier version undid. It did not keep all of them.
const UNKNOWN: u32 = u32::MAX;

/// The conversion in the next life of a referral that is voided for another reason now.
fn next_life(conversion: Conversion) -> Conversion {
    Conversion { number: conversion.number + 1, ..conversion }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{adjustments::Adjustments, money::Money},
        fraud::FraudReason,
        referral::{
            Attention, Lane,
            machine::{Command, Refusal},
        },
        sample::{
            adjusted, applied, at, cancelled, convert, converted, disputed, money, order, pending, refunded, rewarded,
        },
    };

    const VOID: Command<'_> = Command::Void(VoidReason::Operator);

    fn voided(referral: &Referral) -> Referral {
        applied(referral.decide(&VOID, at(50)))
    }

    fn reason(referral: &Referral) -> Option<VoidReason> {
        referral.voided().map(|voided| voided.reason)
    }

    /// The order that converted, without adjustments.
    fn untouched() -> OrderRecord {
        adjusted("o-1", 0, |_| {})
    }

    fn foreign(version: u32) -> OrderRecord {
        let refund = Money { currency: "EUR".parse().unwrap(), ..money(500) };
        adjusted("o-1", version, |all| all.refunds = [("r".parse().unwrap(), refund)].into())
    }

    #[test]
    fn an_operator_voids_in_every_state_and_that_is_final() {
        for referral in
            [pending(), converted(), applied(converted().decide(&Command::Adjust(&cancelled("o-1"), None), at(30)))]
        {
            let after = voided(&referral);
            assert_eq!((reason(&after), after.rewards()), (Some(VoidReason::Operator), None));
            assert_eq!(after.decide(&VOID, at(60)), Decision::AlreadyDone);
            assert!(!matches!(after.decide(&convert(&order("o-2")), at(60)), Decision::Apply(..)));
            let won = after.decide(&Command::Adjust(&adjusted("o-1", 9, |_| {}), None), at(60));
            assert!(!matches!(won, Decision::Apply(ref next, _) if next.status() != Status::Voided), "{won:?}");
        }
        let reversed = voided(&rewarded());
        assert!(matches!(reversed.state, State::Reversed { reason: VoidReason::Operator, .. }));
        assert_eq!(crate::referral::reversal::decided(&rewarded(), &reversed).len(), 2);
        assert_eq!(reversed.decide(&VOID, at(60)), Decision::AlreadyDone);
        let fraud = applied(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20)));
        assert_eq!(fraud.decide(&VOID, at(60)), Decision::AlreadyDone);
        // A fraud rule does not void after the issue.
        let late = rewarded().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(60));
        assert!(matches!(late, Decision::Refuse(_)));
    }

    #[test]
    fn a_reopened_referral_continues_where_it_was() {
        let open = applied(voided(&pending()).decide(&Command::Reopen(None), at(60)));
        assert_eq!((&open.state, open.reopened, open.life()), (&State::Pending, 1, 2));
        assert_eq!(open.decide(&Command::Reopen(None), at(70)), Decision::AlreadyDone);
        let next = applied(open.decide(&convert(&order("o-1")), at(80)));
        assert_eq!((next.status(), next.life()), (Status::Converted, 2));

        let record = untouched();
        let open = applied(voided(&converted()).decide(&Command::Reopen(Some(&record)), at(5000)));
        assert_eq!((open.status(), open.life(), open.work().unwrap().at), (Status::Converted, 2, at(5000)));
        assert_eq!(open.decide(&Command::Reopen(Some(&record)), at(6000)), Decision::AlreadyDone);
        let early = applied(voided(&converted()).decide(&Command::Reopen(Some(&record)), at(60)));
        assert_eq!(early.work().unwrap().at, at(1010), "the rest of the hold");
    }

    #[test]
    fn what_was_not_voided_by_a_rule_or_an_operator_is_not_reopened() {
        let of_order = applied(converted().decide(&Command::Adjust(&cancelled("o-1"), None), at(30)));
        let record = untouched();
        for referral in [pending(), converted(), rewarded(), of_order, voided(&rewarded())] {
            let reopened = referral.decide(&Command::Reopen(Some(&record)), at(60));
            assert_eq!(reopened, Decision::Refuse(Refusal::Status(referral.status())), "{referral:?}");
        }
    }

    /// The order was cancelled while the referral was voided.
    #[test]
    fn a_reopened_referral_does_not_convert_by_an_order_that_fell() {
        let adjusted = applied(voided(&converted()).decide(&Command::Adjust(&cancelled("o-1"), None), at(55)));
        let open = applied(adjusted.decide(&Command::Reopen(Some(&cancelled("o-1"))), at(60)));
        assert_eq!(reason(&open), Some(VoidReason::OrderCancelled));
        assert_eq!(applied(open.decide(&convert(&order("o-2")), at(70))).status(), Status::Converted);
        let with_candidate = voided(&applied(converted().decide(&convert(&order("o-2")), at(20))));
        let open = applied(with_candidate.decide(&Command::Reopen(Some(&cancelled("o-1"))), at(60)));
        assert_eq!(open.conversion().map(|by| (by.order.as_str(), by.number)), Some(("o-2", 2)));
    }

    /// An earlier version did not keep the adjustments of an order that it undid.
    #[test]
    fn a_reopened_referral_of_an_earlier_version_does_not_convert_by_its_order() {
        let mut of_order = applied(converted().decide(&Command::Adjust(&cancelled("o-1"), None), at(30)));
        let State::Voided { is_exact, .. } = &mut of_order.state else { panic!("{of_order:?}") };
        *is_exact = false;
        let record = untouched();
        let open = applied(voided(&of_order).decide(&Command::Reopen(Some(&record)), at(60)));
        assert_eq!(reason(&open), Some(VoidReason::OrderCancelled));
        assert_eq!(open.decide(&convert(&order("o-1")), at(70)), Decision::AlreadyDone);
        assert_eq!(applied(open.decide(&convert(&order("o-2")), at(70))).status(), Status::Converted);
    }

    #[test]
    fn a_refund_in_another_currency_stops_the_issue_until_it_is_resolved() {
        let unclear = applied(converted().decide(&Command::Adjust(&foreign(1), None), at(30)));
        assert_eq!(unclear.attention(), Some(Attention::RefundInOtherCurrency));
        assert_eq!(unclear.work().map(|work| work.lane), Some(Lane::Attention));
        assert_eq!(unclear.decide(&Command::Issue, at(9000)), Decision::Refuse(Refusal::NeedsAttention));
        assert_eq!(voided(&unclear).work(), None);
        let resolved = adjusted("o-1", 2, |all| {
            all.refunds = foreign(1).adjustments.refunds;
            all.failed_refunds = ["r".parse().unwrap()].into();
        });
        let clear = applied(unclear.decide(&Command::Resolve(&resolved), at(40)));
        assert_eq!((clear.attention(), clear.work().map(|work| work.lane)), (None, Some(Lane::Due)));
        assert_eq!(clear.decide(&Command::Resolve(&resolved), at(50)), Decision::AlreadyDone);
        assert_eq!(applied(clear.decide(&Command::Issue, at(9000))).status(), Status::Rewarded);
        // The adjustments can arrive before the order.
        let early = applied(pending().decide(&Command::Convert(&order("o-1"), &foreign(1).adjustments), at(10)));
        assert_eq!(early.attention(), Some(Attention::RefundInOtherCurrency));
    }

    #[test]
    fn after_the_issue_an_unclear_refund_needs_attention_too() {
        let unclear = applied(rewarded().decide(&Command::Adjust(&foreign(1), None), at(30)));
        assert_eq!((unclear.status(), unclear.attention()), (Status::Rewarded, Some(Attention::RefundInOtherCurrency)));
        let excess = adjusted("o-1", 101, |all| all.has_excess = true);
        let full = applied(converted().decide(&Command::Adjust(&excess, None), at(30)));
        assert_eq!(full.attention(), Some(Attention::TooManyAdjustments));
    }

    #[test]
    fn an_order_that_stands_again_after_a_reversal_needs_attention() {
        let reversed = applied(rewarded().decide(&Command::Adjust(&disputed(1, true), None), at(30)));
        assert_eq!(reversed.attention(), None);
        let won = applied(reversed.decide(&Command::Adjust(&disputed(2, false), None), at(40)));
        assert_eq!((won.status(), won.attention()), (Status::Voided, Some(Attention::OrderStandsAgain)));
        assert_eq!(won.work().map(|work| work.lane), Some(Lane::Attention));
        let seen = applied(won.decide(&Command::Resolve(&disputed(2, false)), at(50)));
        assert_eq!((seen.attention(), seen.work()), (None, None));
        // An operator took these rewards back, although the order stands.
        let by_operator = voided(&rewarded());
        let part = applied(by_operator.decide(&Command::Adjust(&refunded(1), None), at(60)));
        assert_eq!(part.attention(), None);
    }

    #[test]
    fn an_order_by_an_operator_needs_no_event_type() {
        let by_operator =
            crate::domain::order::Order { event: "operator".to_owned(), is_by_operator: true, ..order("o-9") };
        let after = applied(pending().decide(&Command::Convert(&by_operator, Adjustments::NONE), at(10)));
        assert_eq!(after.conversion().map(|by| by.event.as_str()), Some("operator"));
    }
}
