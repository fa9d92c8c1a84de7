//! Which order converts a referral: the first one that qualifies, then a candidate if that one is undone. Adjustments change which
//! orders stand.

use super::{
    AdjustedOrder, Attention, Candidate, Conversion, Referral, State, Status, VoidReason,
    machine::{Decision, Refusal, Transition},
};
use crate::{
    domain::{
        adjustments::{Adjustments, Undone},
        id::OrderId,
        order::{Order, OrderRecord},
        time::Timestamp,
    },
    mutant::{self, Mutant},
};

impl Referral {
    pub(super) fn convert(&self, order: &Order, adjustments: &Adjustments, now: Timestamp) -> Decision {
        if !self.takes_orders() {
            return self.refuse();
        }
        if !self.terms.qualifies(order) {
            return Decision::Refuse(Refusal::Unqualified);
        }
        if order.latest_sign_up < self.signed_up_at() && !mutant::is(Mutant::OldOrderConverts) {
            return Decision::Refuse(Refusal::BeforeSignUp);
        }
        let conversion = Conversion {
            event: order.event.clone(),
            order: order.id.clone(),
            paid: order.paid,
            at: now,
            hold_until: None,
            number: self.life(),
            adjusted: 0,
            attention: None,
        };
        let conversion = conversion.including(adjustments).held_until(order.hold_until, &self.terms);
        let noted = self.undone_by_note(order);
        let undone = noted.or_else(|| adjustments.undone(&order.paid, &self.terms.minimum).first().copied());
        match (self.status(), undone.filter(|_| !mutant::is(Mutant::EarlyAdjustmentForgotten))) {
            (Status::Converted, None) if mutant::is(Mutant::SecondOrderConverts) => {
                self.converted(conversion, Transition::Convert, now)
            }
            (Status::Pending | Status::Voided, None) => self.converted(conversion, Transition::Convert, now),
            // The same result as if the order had arrived before its adjustments.
            (Status::Pending, Some(undone)) => {
                let (reason, is_exact) = (undone.into(), noted.is_none());
                let state = State::Voided { at: now, reason, is_exact, conversion: Some(conversion) };
                self.write(state, Transition::Void)
            }
            // What a note says cannot be reversed, because it has no id.
            (_, Some(_)) if noted.is_some() => Decision::Refuse(Refusal::OrderUndone),
            (_, undone) => {
                let conversion = Conversion { number: 1, ..conversion };
                self.keep_candidate(Candidate { conversion, is_undone: undone.is_some() })
            }
        }
    }

    /// Whether an order can change the referral: the rewards are not issued, and nothing but an order has voided it.
    pub fn takes_orders(&self) -> bool {
        match &self.state {
            State::Pending | State::Converted { .. } => true,
            State::Voided { reason, .. } => reason.is_of_order() || mutant::is(Mutant::VoidedConverts),
            State::Rewarded { .. } | State::Reversed { .. } => false,
        }
    }

    /// Keeps another order. If there is no room, an order that stands replaces one that was undone.
    fn keep_candidate(&self, candidate: Candidate) -> Decision {
        if mutant::is(Mutant::CandidateForgotten) {
            return Decision::Refuse(Refusal::OtherOrder);
        }
        let mut after = Self { adjusted_order: self.adjusted_except(&candidate.conversion.order), ..self.clone() };
        if after.candidates.len() >= Candidate::MOST {
            match after.candidates.iter().rposition(|kept| kept.is_undone) {
                _ if candidate.is_undone => return Decision::Refuse(Refusal::OrderUndone),
                None => return Decision::Refuse(Refusal::OtherOrder),
                Some(place) => drop(after.candidates.remove(place)),
            }
        }
        after.candidates.push(candidate);
        self.write_as(after, self.state.clone(), Transition::KeepCandidate)
    }

    /// Converts by this order. An earlier order that was undone becomes the first candidate, because it may stand again.
    pub(super) fn converted(&self, conversion: Conversion, transition: Transition, now: Timestamp) -> Decision {
        let number = self.conversion().map_or(self.life(), |earlier| earlier.number + 1);
        // A candidate's hold began when it arrived. A restored order has the rest of its hold.
        let began = if mutant::is(Mutant::HoldOfEarlierOrder) { self.conversion() } else { None };
        let due_at = began.unwrap_or(&conversion).hold_ends_at(&self.terms).max(now);
        let is_other = |candidate: &Candidate| candidate.conversion.order != conversion.order;
        let mut candidates: Vec<_> = self.candidates.iter().filter(|each| is_other(each)).cloned().collect();
        if let Some(undone) = self.undone_order().filter(is_other) {
            candidates.insert(0, undone);
            // Only a voided referral can have too many. All of them are undone.
            candidates.truncate(Candidate::MOST);
        }
        let after = Self { adjusted_order: self.adjusted_except(&conversion.order), candidates, ..self.clone() };
        self.write_as(after, State::Converted { conversion: Conversion { number, ..conversion }, due_at }, transition)
    }

    /// The converting order, after it was undone. After a void by an earlier version, which did not keep all adjustments, no later
    /// adjustment restores it.
    fn undone_order(&self) -> Option<Candidate> {
        match &self.state {
            State::Voided { is_exact, conversion: Some(conversion), .. }
                if !mutant::is(Mutant::UndoneOrderForgotten) =>
            {
                let adjusted = if *is_exact { conversion.adjusted } else { u32::MAX };
                let conversion = Conversion { number: 1, adjusted, ..conversion.clone() };
                Some(Candidate { conversion, is_undone: true })
            }
            _ => None,
        }
    }

    /// The next order to convert the referral.
    pub(super) fn next_candidate(&self) -> Option<Conversion> {
        let stands = |candidate: &&Candidate| !candidate.is_undone || mutant::is(Mutant::UndoneCandidateConverts);
        let next = self.candidates.iter().find(stands).filter(|_| !mutant::is(Mutant::CandidateIgnored));
        next.map(|candidate| candidate.conversion.clone())
    }

    /// The noted version of another order's adjustments, unless it is this order.
    fn adjusted_except(&self, order: &OrderId) -> Option<AdjustedOrder> {
        self.adjusted_order.clone().filter(|other| other.order != *order)
    }

    /// Why an order that arrives no longer stands, by a note of an earlier version.
    fn undone_by_note(&self, order: &Order) -> Option<Undone> {
        let mut of_order = self.notes.iter().filter(|noted| noted.order == order.id);
        of_order.find_map(|noted| noted.cause.undoes(&order.paid))
    }

    pub(super) fn adjust(&self, record: &OrderRecord, hold_until: Option<Timestamp>, now: Timestamp) -> Decision {
        if mutant::is(Mutant::AdjustmentIgnored) {
            return Decision::Refuse(Refusal::OtherOrder);
        }
        let is_ours = |conversion: &&Conversion| conversion.order == record.id || mutant::is(Mutant::AnyOrderAdjusts);
        if let Some(conversion) = self.conversion().filter(is_ours) {
            return self.adjust_conversion(conversion, &record.adjustments, hold_until, now);
        }
        match self.candidates.iter().position(|candidate| candidate.conversion.order == record.id) {
            Some(place) if !mutant::is(Mutant::CandidateNotAdjusted) => {
                self.adjust_candidate(place, &record.adjustments, hold_until, now)
            }
            _ => self.adjust_other_order(record),
        }
    }

    /// Adjusts the order that converted the referral.
    pub(super) fn adjust_conversion(
        &self,
        known: &Conversion,
        adjustments: &Adjustments,
        hold_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Decision {
        let undone = adjustments.undone(&known.paid, &self.terms.minimum);
        let conversion = known.clone().including(adjustments);
        match (&self.state, undone.first()) {
            (State::Converted { due_at, .. }, None) => {
                self.write(State::Converted { conversion, due_at: *due_at }, Transition::Adjust)
            }
            (State::Converted { .. }, Some(undone)) => self.undo(conversion, (*undone).into(), hold_until, now),
            (State::Rewarded { .. }, _) if mutant::is(Mutant::AdjustmentAfterIssueIgnored) => self.refuse(),
            (State::Rewarded { .. }, Some(undone)) => self.reverse(conversion, (*undone).into(), now),
            (State::Rewarded { rewards, due_at, .. }, None) => {
                let state = State::Rewarded { conversion, rewards: rewards.clone(), due_at: *due_at };
                self.write(state, Transition::Adjust)
            }
            (State::Reversed { .. }, undone) => self.adjust_reversed(conversion, undone.is_none()),
            (State::Voided { is_exact: true, .. }, None) if !mutant::is(Mutant::RestoredOrderIgnored) => {
                self.converted(conversion.held_until(hold_until, &self.terms), Transition::Restore, now)
            }
            (State::Voided { .. }, _) => self.adjust_voided(conversion),
            (State::Pending, _) => self.refuse(),
        }
    }

    /// After a reversal nothing is granted again, even if the order stands again. An operator may have to act.
    fn adjust_reversed(&self, conversion: Conversion, stands: bool) -> Decision {
        let State::Reversed { at, reason, rewards, due_at, .. } = &self.state else { return self.refuse() };
        let stands_again = reason.is_of_order() && stands && !mutant::is(Mutant::OrderThatStandsAgainHidden);
        let attention = stands_again.then_some(Attention::OrderStandsAgain);
        let conversion = Conversion { attention, ..conversion };
        let state = State::Reversed { at: *at, reason: *reason, conversion, rewards: rewards.clone(), due_at: *due_at };
        self.write(state, Transition::Adjust)
    }

    /// The published reason of a void stays, even if it no longer applies and another one does. After a void by a rule or an operator,
    /// a reopened referral has to include the adjustments. An earlier version did not keep all adjustments of an order that it undid.
    fn adjust_voided(&self, conversion: Conversion) -> Decision {
        match &self.state {
            State::Voided { at, reason, is_exact, .. } if *is_exact || !reason.is_of_order() => {
                let (at, reason, is_exact) = (*at, *reason, *is_exact);
                let state = State::Voided { at, reason, is_exact, conversion: Some(conversion) };
                self.write(state, Transition::Adjust)
            }
            _ => self.refuse(),
        }
    }

    /// The converting order no longer stands. The next candidate converts, or the referral is voided.
    fn undo(
        &self,
        conversion: Conversion,
        reason: VoidReason,
        hold_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Decision {
        let state = State::Voided { at: now, reason, is_exact: true, conversion: Some(conversion) };
        match self.next_candidate() {
            Some(next) => {
                let next = next.held_until(hold_until, &self.terms);
                Self { state, ..self.clone() }.converted(next, Transition::ConvertNext, now)
            }
            None => self.write(state, Transition::Undo),
        }
    }

    /// Adjusts a candidate. If it stands again, it converts a referral that another order voided.
    fn adjust_candidate(
        &self,
        place: usize,
        adjustments: &Adjustments,
        hold_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Decision {
        let mut after = self.clone();
        let Some(candidate) = after.candidates.get_mut(place) else { return self.refuse() };
        candidate.is_undone = !adjustments.undone(&candidate.conversion.paid, &self.terms.minimum).is_empty();
        candidate.conversion = candidate.conversion.clone().including(adjustments);
        match after.next_candidate() {
            Some(next) if self.status() == Status::Voided && self.takes_orders() => {
                after.converted(next.held_until(hold_until, &self.terms), Transition::Restore, now)
            }
            _ => self.write_as(after, self.state.clone(), Transition::Adjust),
        }
    }

    /// Remembers that an order of this referee was adjusted, if it can still convert the referral or become a candidate. This
    /// raises `rev`, so a step that was decided from earlier adjustments is decided again.
    fn adjust_other_order(&self, record: &OrderRecord) -> Decision {
        let is_claimed = record.claimed_by.as_ref() == Some(&self.referee);
        if !is_claimed || !self.takes_orders() || mutant::is(Mutant::ClaimedOrderNotAdjusted) {
            return Decision::Refuse(Refusal::OtherOrder);
        }
        let adjusted = AdjustedOrder { order: record.id.clone(), version: record.adjustments.version };
        let after = Self { adjusted_order: Some(adjusted), ..self.clone() };
        self.write_as(after, self.state.clone(), Transition::Adjust)
    }

    /// Whether the referral includes these adjustments or later ones.
    pub(super) fn knows(&self, record: &OrderRecord) -> bool {
        let other = self.adjusted_order.as_ref().filter(|other| other.order == record.id).map(|other| other.version);
        let known = self.version_of(&record.id).or(other).unwrap_or_default();
        known >= record.adjustments.version && !mutant::is(Mutant::OlderAdjustmentsMerged)
    }

    /// Whether this order has converted the referral, or is kept. A kept order that stands still converts a referral that an
    /// earlier version, which does not know candidates, voided.
    pub(super) fn has_order(&self, order: &OrderId) -> bool {
        let is_voided = self.status() == Status::Voided && self.takes_orders();
        let stands = |kept: &Candidate| kept.conversion.order == *order && !kept.is_undone;
        self.version_of(order).is_some() && !(is_voided && self.candidates.iter().any(stands))
    }

    /// The version of the adjustments of the converting order, or of a candidate. `None`: the order is neither.
    fn version_of(&self, order: &OrderId) -> Option<u32> {
        self.orders().find(|known| known.order == *order).map(|known| known.adjusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::order::{AdjustmentCause, NotedAdjustment},
        referral::machine::Command,
        sample::{adjusted, applied, at, cancelled, convert, converted, disputed, money, order, pending, refunded},
    };

    #[test]
    fn the_converting_order_voids_when_it_no_longer_stands() {
        let after = |record: &OrderRecord| converted().decide(&Command::Adjust(record, None), at(30));
        let unclaimed = OrderRecord { claimed_by: None, ..cancelled("o-2") };
        assert_eq!(after(&unclaimed), Decision::Refuse(Refusal::OtherOrder));
        let part = applied(after(&refunded(499)));
        assert_eq!((part.status(), part.conversion().unwrap().adjusted), (Status::Converted, 1));
        for (record, reason) in [
            (refunded(500), VoidReason::OrderRefunded),
            (cancelled("o-1"), VoidReason::OrderCancelled),
            (disputed(1, true), VoidReason::PaymentDisputed),
        ] {
            let voided = applied(after(&record));
            assert!(matches!(voided.state, State::Voided { reason: found, .. } if found == reason));
            assert_eq!(voided.decide(&Command::Adjust(&record, None), at(40)), Decision::AlreadyDone);
        }
    }

    /// An order and its adjustment have the same result in both orders of arrival.
    #[test]
    fn an_adjustment_that_arrives_before_its_order_voids() {
        for record in [cancelled("o-1"), disputed(1, true), refunded(500), refunded(499), disputed(1, false)] {
            let order = order("o-1");
            let arrived = applied(pending().decide(&Command::Convert(&order, &record.adjustments), at(10)));
            let first = applied(pending().decide(&convert(&order), at(10)));
            let adjusted = applied(first.decide(&Command::Adjust(&record, None), at(10)));
            assert_eq!(arrived.state, adjusted.state, "{record:?}");
            assert_eq!(arrived.decide(&convert(&order), at(20)), Decision::AlreadyDone);
        }
    }

    #[test]
    fn a_dispute_that_was_won_restores_the_conversion_with_the_rest_of_its_hold() {
        let voided = applied(converted().decide(&Command::Adjust(&disputed(1, true), None), at(30)));
        let restored = applied(voided.decide(&Command::Adjust(&disputed(2, false), None), at(5000)));
        let (State::Converted { conversion, due_at }, Some(first)) =
            (&restored.state, converted().conversion().cloned())
        else {
            panic!("{restored:?}")
        };
        assert_eq!(*conversion, Conversion { number: 2, adjusted: 2, ..first });
        assert_eq!(*due_at, at(5000), "the hold has ended");
        let early = applied(voided.decide(&Command::Adjust(&disputed(2, false), None), at(500)));
        assert_eq!(early.work().unwrap().at, at(1010));
        // The messages arrived in the other order.
        assert_eq!(restored.decide(&Command::Adjust(&disputed(1, true), None), at(5000)), Decision::AlreadyDone);
        let again = applied(restored.decide(&Command::Adjust(&disputed(3, true), None), at(6000)));
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
            applied(referral.decide(&Command::Adjust(&record, None), at(40)))
        };
        let voided = applied(converted().decide(&Command::Adjust(&disputed(1, true), None), at(30)));
        let both = adjust(&voided, 2, true, true);
        assert_eq!(reason(&both), (VoidReason::PaymentDisputed, at(30)));
        assert_eq!(reason(&adjust(&both, 3, false, true)), (VoidReason::PaymentDisputed, at(30)));
    }

    #[test]
    fn another_order_converts_after_the_first_one_was_cancelled() {
        let voided = applied(converted().decide(&Command::Adjust(&cancelled("o-1"), None), at(30)));
        let other = order("o-2");
        let second = applied(voided.decide(&convert(&other), at(40)));
        let conversion = second.conversion().unwrap();
        assert_eq!((conversion.order.as_str(), conversion.number, conversion.at), ("o-2", 2, at(40)));
    }

    /// A conversion that was decided before the adjustment is decided again, because the revision is another one.
    #[test]
    fn an_adjustment_of_a_claimed_order_raises_the_revision() {
        let noted = applied(pending().decide(&Command::Adjust(&cancelled("o-1"), None), at(5)));
        assert_eq!((noted.status(), noted.rev), (Status::Pending, 2));
        assert_eq!(noted.decide(&Command::Adjust(&cancelled("o-1"), None), at(6)), Decision::AlreadyDone);
        let unclaimed = OrderRecord { claimed_by: None, ..cancelled("o-1") };
        assert_eq!(pending().decide(&Command::Adjust(&unclaimed, None), at(5)), Decision::Refuse(Refusal::OtherOrder));
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
        let voided = applied(converted.decide(&Command::Adjust(&cancelled("o-2"), None), at(20)));
        assert_eq!(voided.decide(&convert(&order("o-1")), at(30)), Decision::Refuse(Refusal::OrderUndone));
    }

    /// An earlier version did not keep the adjustments of an order after the first one.
    #[test]
    fn a_void_by_an_earlier_version_is_not_restored() {
        let voided = applied(converted().decide(&Command::Adjust(&disputed(1, true), None), at(30)));
        let mut old = voided;
        let State::Voided { is_exact, .. } = &mut old.state else { panic!("{old:?}") };
        *is_exact = false;
        let refused = Decision::Refuse(Refusal::Status(Status::Voided));
        for record in [disputed(2, false), disputed(2, true)] {
            assert_eq!(old.decide(&Command::Adjust(&record, None), at(40)), refused);
        }
        let noted = NotedAdjustment { order: "o-1".parse().unwrap(), cause: AdjustmentCause::Cancelled };
        let pending = Referral { notes: vec![noted], ..pending() };
        let order = order("o-1");
        let by_note = applied(pending.decide(&Command::Convert(&order, &refunded(1).adjustments), at(10)));
        assert!(matches!(by_note.state, State::Voided { is_exact: false, .. }), "{by_note:?}");
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

    /// The referral after these orders arrived, one at each tenth millisecond.
    fn with_orders(orders: &[&str]) -> Referral {
        let arrive = |referral: Referral, (place, id): (i64, &&str)| {
            applied(referral.decide(&convert(&order(id)), at(10 * place)))
        };
        (1..).zip(orders).fold(pending(), arrive)
    }

    fn by(referral: &Referral) -> (&str, u32) {
        let conversion = referral.conversion().unwrap();
        (conversion.order.as_str(), conversion.number)
    }

    fn candidates(referral: &Referral) -> Vec<(&str, bool)> {
        let each = referral.candidates.iter();
        each.map(|candidate| (candidate.conversion.order.as_str(), candidate.is_undone)).collect()
    }

    fn adjust(referral: &Referral, record: &OrderRecord, millis: i64) -> Referral {
        applied(referral.decide(&Command::Adjust(record, None), at(millis)))
    }

    #[test]
    fn the_next_order_converts_with_its_own_hold() {
        let kept = with_orders(&["o-1", "o-2", "o-3"]);
        assert_eq!((by(&kept), candidates(&kept)), (("o-1", 1), vec![("o-2", false), ("o-3", false)]));
        assert_eq!(kept.decide(&convert(&order("o-3")), at(99)), Decision::AlreadyDone);
        let next = adjust(&kept, &cancelled("o-1"), 500);
        assert_eq!((by(&next), candidates(&next)), (("o-2", 2), vec![("o-1", true), ("o-3", false)]));
        assert_eq!((next.work().unwrap().at, next.conversion().unwrap().at), (at(1020), at(20)));
        // The hold of the third order has ended.
        let last = adjust(&next, &cancelled("o-2"), 5000);
        assert_eq!((by(&last), last.work().unwrap().at), (("o-3", 3), at(5000)));
        let voided = adjust(&last, &cancelled("o-3"), 6000);
        assert!(matches!(voided.state, State::Voided { reason: VoidReason::OrderCancelled, .. }));
    }

    #[test]
    fn an_order_that_is_processed_late_has_a_longer_hold() {
        let late = |id, millis| Order { hold_until: Some(at(millis)), ..order(id) };
        let due_at = |referral: &Referral| referral.work().unwrap().at;
        let shorter = applied(pending().decide(&convert(&late("o-1", 1009)), at(10)));
        assert_eq!((due_at(&shorter), shorter.conversion().unwrap().hold_until), (at(1010), None));
        let longer = applied(pending().decide(&convert(&late("o-1", 1011)), at(10)));
        assert_eq!(due_at(&longer), at(1011));
        // Also as a candidate, and when it is restored.
        let kept = applied(converted().decide(&convert(&late("o-2", 5000)), at(20)));
        assert_eq!(due_at(&adjust(&kept, &cancelled("o-1"), 30)), at(5000));
        let voided = adjust(&longer, &disputed(1, true), 20);
        assert_eq!(due_at(&adjust(&voided, &disputed(2, false), 30)), at(1011));
    }

    #[test]
    fn a_candidate_that_was_undone_does_not_convert_until_it_stands_again() {
        let open = |version, is_open| adjusted("o-2", version, |all| all.disputes = [(None, is_open)].into());
        let kept = adjust(&with_orders(&["o-1", "o-2"]), &open(1, true), 30);
        assert_eq!((by(&kept), candidates(&kept)), (("o-1", 1), vec![("o-2", true)]));
        let voided = adjust(&kept, &cancelled("o-1"), 40);
        assert_eq!(voided.status(), Status::Voided);
        let restored = adjust(&voided, &open(2, false), 50);
        assert_eq!((by(&restored), candidates(&restored)), (("o-2", 2), vec![("o-1", true)]));
        assert_eq!(restored.decide(&Command::Adjust(&open(1, true), None), at(60)), Decision::AlreadyDone);
        // While the first order stands, it only becomes a candidate again.
        assert_eq!(candidates(&adjust(&kept, &open(2, false), 50)), [("o-2", false)]);
    }

    #[test]
    fn a_restored_order_is_the_next_one() {
        let next = adjust(&with_orders(&["o-1", "o-2", "o-3"]), &disputed(1, true), 40);
        let restored = adjust(&next, &disputed(2, false), 50);
        assert_eq!((by(&restored), candidates(&restored)), (("o-2", 2), vec![("o-1", false), ("o-3", false)]));
        assert_eq!(by(&adjust(&restored, &cancelled("o-2"), 60)), ("o-1", 3));
    }

    #[test]
    fn an_order_that_is_undone_on_arrival_is_kept() {
        let (other, undone) = (order("o-2"), cancelled("o-2").adjustments);
        let voided = adjust(&converted(), &cancelled("o-1"), 30);
        for referral in [converted(), voided] {
            let kept = applied(referral.decide(&Command::Convert(&other, &undone), at(40)));
            assert_eq!((kept.status(), candidates(&kept)), (referral.status(), vec![("o-2", true)]));
            assert_eq!(kept.decide(&Command::Convert(&other, &undone), at(50)), Decision::AlreadyDone);
        }
    }

    #[test]
    fn eight_candidates_are_kept() {
        let ids: Vec<_> = (1..=9).map(|number| format!("o-{number}")).collect();
        let full = with_orders(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(full.candidates.len(), Candidate::MOST);
        assert_eq!(full.decide(&convert(&order("o-10")), at(99)), Decision::Refuse(Refusal::OtherOrder));
        // An order that stands takes the place of one that was undone.
        let undone = adjust(&full, &cancelled("o-3"), 99);
        let replaced = applied(undone.decide(&convert(&order("o-10")), at(99)));
        assert_eq!((replaced.candidates.len(), candidates(&replaced).last()), (8, Some(&("o-10", false))));
        assert!(candidates(&replaced).iter().all(|(order, _)| *order != "o-3"));
        let undone = cancelled("o-10").adjustments;
        let refused = full.decide(&Command::Convert(&order("o-10"), &undone), at(99));
        assert_eq!(refused, Decision::Refuse(Refusal::OrderUndone));
        // All of them are undone, and another one converts.
        let voided = ids.iter().fold(full, |referral, id| adjust(&referral, &cancelled(id), 100));
        assert_eq!((voided.status(), voided.candidates.len()), (Status::Voided, Candidate::MOST));
        let next = applied(voided.decide(&convert(&order("o-10")), at(200)));
        assert_eq!((by(&next), next.candidates.len()), (("o-10", 10), Candidate::MOST));
        assert_eq!(candidates(&next)[0], ("o-9", true));
    }

    /// An earlier version, which does not know candidates, can run between two steps.
    #[test]
    fn a_candidate_converts_that_an_earlier_version_left() {
        let kept = with_orders(&["o-1", "o-2"]);
        let mut voided = adjust(&with_orders(&["o-1"]), &cancelled("o-1"), 40);
        voided.candidates = kept.candidates;
        let next = applied(voided.decide(&convert(&order("o-2")), at(50)));
        assert_eq!((by(&next), candidates(&next)), (("o-2", 2), vec![("o-1", true)]));
        assert_eq!(next.decide(&convert(&order("o-2")), at(60)), Decision::AlreadyDone);
    }

    /// An earlier version did not keep all adjustments of the order that it voided.
    #[test]
    fn an_order_that_an_earlier_version_undid_stays_undone() {
        let mut voided = adjust(&converted(), &disputed(1, true), 30);
        let State::Voided { is_exact, .. } = &mut voided.state else { panic!("{voided:?}") };
        *is_exact = false;
        let next = applied(voided.decide(&convert(&order("o-2")), at(40)));
        assert_eq!((by(&next), candidates(&next)), (("o-2", 2), vec![("o-1", true)]));
        assert_eq!(next.decide(&convert(&order("o-1")), at(50)), Decision::AlreadyDone);
        assert_eq!(next.decide(&Command::Adjust(&disputed(9, false), None), at(50)), Decision::AlreadyDone);
    }

    #[test]
    fn an_adjustment_that_is_processed_late_prolongs_the_hold() {
        let due_at = |decision: Decision| applied(decision).work().unwrap().at;
        let late = Some(at(9000));
        let kept = with_orders(&["o-1", "o-2"]);
        assert_eq!(due_at(kept.decide(&Command::Adjust(&cancelled("o-1"), late), at(30))), at(9000));
        assert_eq!(due_at(kept.decide(&Command::Adjust(&refunded(1), late), at(30))), at(1010));
        let voided = adjust(&converted(), &disputed(1, true), 30);
        assert_eq!(due_at(voided.decide(&Command::Adjust(&disputed(2, false), late), at(40))), at(9000));
    }
}
