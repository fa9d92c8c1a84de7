//! Checks of the times of orders and sign-ups.

use std::time::Duration;

use referrals::{domain::time::Timestamp, referral::Referral};

use super::Oracle;
use crate::plan::ORDER_LEAD;

impl Oracle {
    /// Records when an order was placed.
    pub(crate) fn order_placed(&mut self, order: String, at: Timestamp) {
        self.placed.insert(order, at);
    }

    /// Whether an order was placed so long before the sign-up that it must not convert this referral. Other orders convert it.
    pub(super) fn is_from_before(&self, order: &str, referral: &Referral) -> bool {
        let latest = self.placed.get(order).map(|at| at.plus(Duration::from_millis(ORDER_LEAD)));
        latest.is_some_and(|latest| latest < referral.signed_up_at())
    }

    /// Whether the new referral has the reported time of the sign-up, or else the time of the invocation that created it.
    pub(super) fn is_signed_up_at(&self, referee: &str, reported: Option<Timestamp>, now: Timestamp) -> bool {
        let expected = reported.map_or(now, |at| at.min(now));
        self.referrals.get(referee).is_some_and(|referral| referral.signed_up_at() == expected)
    }
}
