//! Checks of the times of orders and sign-ups, and of claims: an order converts the referral of one user.

use std::time::Duration;

use referrals::{
    domain::{id::OrderId, time::Timestamp},
    referral::{Conversion, Referral, State},
    store::keys,
};
use serde_json::Value;

use super::{Invocation, Oracle};
use crate::{
    clock,
    history::LIMIT,
    plan::{MAX_SKEW, ORDER_LEAD},
    state::DELAYED_BY,
};

impl Oracle {
    /// Records when an order was placed, as it is reported for this user.
    pub(crate) fn order_placed(&mut self, order: String, user: &str, at: Timestamp) {
        self.placed.insert((order, user.to_owned()), at);
    }

    /// Checks the write of an order: its user never changes.
    pub(super) fn check_claim(&mut self, key: &str, item: &Value) {
        let order = key.strip_prefix("ORDER#").unwrap_or_default();
        let Some(user) = item[keys::CLAIMED_BY]["S"].as_str() else { return };
        let before = self.claims.insert(order.to_owned(), user.to_owned());
        if before.is_some_and(|before| before != user) {
            self.fail(format!("{key}: claimed again, by {user}"));
        }
    }

    /// Whether this order belongs to another user than the referee.
    pub(super) fn is_of_other(&self, order: &str, referral: &Referral) -> bool {
        self.claims.get(order).is_some_and(|user| user != referral.referee.as_str())
    }

    /// Whether the order must convert this referral if it is pending.
    pub(super) fn counts(&self, order: &str, referral: &Referral) -> bool {
        !self.is_from_before(order, referral) && !self.is_of_other(order, referral)
    }

    /// Checks that a referral converts by its own order, which is not older than the sign-up, unless an operator decided so.
    pub(super) fn check_conversion(&mut self, key: &str, order: &str, referral: &Referral) {
        if self.is_from_before(order, referral) && !is_by_operator(referral.conversion()) {
            self.fail(format!("{key}: converted by {order}, an order from before the sign-up"));
        }
        if self.claims.get(order).is_none_or(|user| user != referral.referee.as_str()) {
            self.fail(format!("{key}: converted by {order}, an order that it has not claimed"));
        }
    }

    /// Notes each new order of this referral: that it arrived after the others, and when its hold ends. An order that converts
    /// because of a late event is held for the delay of the queue, too.
    pub(super) fn note_holds(&mut self, before: &Referral, after: &Referral, by: Option<&Invocation>) {
        let referee = after.referee.as_str();
        let is_delayed = by.is_some_and(|by| by.is_delayed);
        for conversion in after.orders() {
            let key = (conversion.order.as_str().to_owned(), referee.to_owned());
            if self.holds.contains_key(&key) {
                continue;
            }
            self.arrivals.push(key.clone());
            let placed = self.placed.get(&key).copied();
            let placed = placed.filter(|_| !is_by_operator(Some(conversion)));
            let is_old = placed.is_some_and(|at| at.plus(Duration::from_millis(DELAYED_BY)) < conversion.at);
            let delay = if is_old || is_delayed { DELAYED_BY } else { 0 };
            let hold = after.terms.hold().max(Duration::from_millis(delay));
            self.holds.insert(key, conversion.at.plus(hold));
        }
        let number = |referral: &Referral| referral.conversion().map_or(0, |conversion| conversion.number);
        if let (Some(by), Some(conversion), true) = (by, after.conversion(), number(after) > number(before).max(1)) {
            let delay = Duration::from_millis(if by.is_delayed { DELAYED_BY } else { 0 });
            let ends = self.holds.entry((conversion.order.as_str().to_owned(), referee.to_owned()));
            ends.and_modify(|ends| *ends = (*ends).max(clock::at(by.began).plus(delay)));
        }
    }

    /// Checks that a converted referral is due at the end of its order's hold, or later if it converted again.
    pub(super) fn check_due_time(&mut self, key: &str, referral: &Referral) {
        let State::Converted { conversion, due_at } = &referral.state else { return };
        let order = (conversion.order.as_str().to_owned(), referral.referee.as_str().to_owned());
        let ends = self.holds.get(&order).copied().unwrap_or(conversion.at);
        // An order that converts again does so at the time of the function's clock.
        let latest = if conversion.number == 1 { ends } else { ends.plus(LIMIT + Duration::from_millis(MAX_SKEW)) };
        if *due_at < ends || *due_at > latest {
            self.fail(format!("{key}: due at {due_at}, and the hold of {} ends at {ends}", conversion.order));
        }
    }

    /// Checks that no order of a referral is forgotten before the issue.
    pub(super) fn check_known_orders(&mut self, key: &str, before: &Referral, after: &Referral) {
        let is_kept = |order: &OrderId| after.orders().any(|kept| kept.order == *order);
        if let Some(lost) = before.orders().find(|known| after.rewards().is_none() && !is_kept(&known.order)) {
            self.fail(format!("{key}: {} is forgotten", lost.order));
        }
    }

    /// Checks that a referral that was converted before converts by another order only after the first one was undone, and that no
    /// order is passed over that arrived earlier and has always stood.
    pub(super) fn check_next_conversion(&mut self, key: &str, before: &Referral, after: &Referral) {
        let (Some(undone), Some(next)) = (before.conversion(), after.conversion()) else { return };
        let (undone, next) = (undone.clone(), next.clone());
        if self.has_always_stood(undone.order.as_str()) {
            self.fail(format!("{key}: converted by {}, although {} stands", next.order, undone.order));
        }
        if next.number != undone.number + 1 {
            self.fail(format!("{key}: conversion {} follows {}", next.number, undone.number));
        }
        let referee = after.referee.as_str();
        let of_referee = self.arrivals.iter().filter(|(_, user)| user == referee).map(|(order, _)| order.as_str());
        let mut earlier = of_referee.take_while(|order| *order != next.order.as_str());
        if let Some(passed) = earlier.find(|order| self.has_always_stood(order)) {
            self.fail(format!("{key}: converted by {}, and not by {passed}", next.order));
        }
    }

    /// Whether an acknowledged order that stands is lost: it neither converted the referral nor is a candidate. After the issue,
    /// and after a void for another reason, no order counts.
    pub(super) fn is_order_lost(&self, order: &str, referral: &Referral) -> bool {
        let is_known = referral.orders().any(|conversion| conversion.order.as_str() == order);
        match &referral.state {
            // While it was voided for good, it took no orders.
            _ if referral.reopened > 0 => false,
            State::Pending => self.counts(order, referral),
            State::Converted { .. } => !is_known && self.counts(order, referral),
            State::Voided { reason, .. } => reason.is_of_order() && !is_known && self.counts(order, referral),
            State::Rewarded { .. } | State::Reversed { .. } => false,
        }
    }

    /// Whether an order was placed so long before the sign-up that it must not convert this referral. Other orders convert it.
    pub(super) fn is_from_before(&self, order: &str, referral: &Referral) -> bool {
        let placed = self.placed.get(&(order.to_owned(), referral.referee.as_str().to_owned()));
        let latest = placed.map(|at| at.plus(Duration::from_millis(ORDER_LEAD)));
        latest.is_some_and(|latest| latest < referral.signed_up_at())
    }

    /// Whether the new referral has the reported time of the sign-up, or else the time of the invocation that created it.
    pub(super) fn is_signed_up_at(&self, referee: &str, reported: Option<Timestamp>, now: Timestamp) -> bool {
        let expected = reported.map_or(now, |at| at.min(now));
        self.referrals.get(referee).is_some_and(|referral| referral.signed_up_at() == expected)
    }
}

/// Whether an operator converted a referral by this order, whatever events say about it.
fn is_by_operator(conversion: Option<&Conversion>) -> bool {
    conversion.is_some_and(|conversion| conversion.event == "operator")
}
