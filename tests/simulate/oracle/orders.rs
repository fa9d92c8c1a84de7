//! Checks of the times of orders and sign-ups, and of claims: an order converts the referral of one user.

use std::time::Duration;

use referrals::{
    domain::time::Timestamp,
    referral::{Referral, State},
    store::keys,
};
use serde_json::Value;

use super::Oracle;
use crate::plan::ORDER_LEAD;

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

    /// Checks that a referral converts by its own order, which is not older than the sign-up.
    pub(super) fn check_conversion(&mut self, key: &str, order: &str, referral: &Referral) {
        if self.is_from_before(order, referral) {
            self.fail(format!("{key}: converted by {order}, an order from before the sign-up"));
        }
        if self.claims.get(order).is_none_or(|user| user != referral.referee.as_str()) {
            self.fail(format!("{key}: converted by {order}, an order that it has not claimed"));
        }
    }

    /// Checks that a referral that was converted before converts by another order only after the first one was undone, by the
    /// order that came first of those that have always stood.
    pub(super) fn check_next_conversion(&mut self, key: &str, before: &Referral, after: &Referral) {
        let (Some(undone), Some(next)) = (before.conversion(), after.conversion()) else { return };
        let (undone, next) = (undone.clone(), next.clone());
        if self.has_always_stood(undone.order.as_str()) {
            self.fail(format!("{key}: converted by {}, although {} stands", next.order, undone.order));
        }
        if next.number != undone.number + 1 {
            self.fail(format!("{key}: conversion {} follows {}", next.number, undone.number));
        }
        let candidates = before.candidates.iter().map(|candidate| &candidate.conversion);
        let mut earlier = candidates.take_while(|candidate| candidate.order != next.order);
        if let Some(passed) = earlier.find(|candidate| self.has_always_stood(candidate.order.as_str())) {
            self.fail(format!("{key}: converted by {}, and not by {}", next.order, passed.order));
        }
    }

    /// Whether an acknowledged order that stands is lost: it neither converted the referral nor is a candidate. After the issue, and
    /// after a void for another reason, no order counts.
    pub(super) fn is_order_lost(&self, order: &str, referral: &Referral) -> bool {
        let candidates = referral.candidates.iter().map(|candidate| &candidate.conversion);
        let mut known = referral.conversion().into_iter().chain(candidates);
        let is_known = known.any(|conversion| conversion.order.as_str() == order);
        match &referral.state {
            State::Pending => self.counts(order, referral),
            State::Converted { .. } => !is_known && self.counts(order, referral),
            State::Voided { reason, .. } => reason.is_of_order() && !is_known && self.counts(order, referral),
            State::Rewarded { .. } => false,
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
