//! Adjustments: what happens to an order after it was placed, and whether the order still stands.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{
        id::{DisputeId, OrderId, RefundId, UserId},
        money::Money,
        time::Timestamp,
    },
    mutant::{self, Mutant},
};

/// A report about an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderAdjustment {
    pub order: OrderId,
    /// The user who placed the order. Payment providers do not know it.
    pub user: Option<UserId>,
    pub adjustment: Adjustment,
    /// If it is processed late and an order converts because of it, the hold does not end before this time.
    pub hold_until: Option<Timestamp>,
}

/// What happened to an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Adjustment {
    Cancelled,
    /// A part or all of the order was refunded.
    Refunded(RefundId, Money),
    /// The provider could not carry out a refund.
    RefundFailed(RefundId),
    /// The payment was disputed (chargeback), or a dispute was won.
    Disputed(Dispute),
}

/// The state of a dispute at some time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dispute {
    /// `None`: the only dispute of the order.
    pub id: Option<DisputeId>,
    pub at: Timestamp,
    pub is_won: bool,
}

/// Why an order no longer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undone {
    Cancelled,
    Disputed,
    Refunded,
}

/// All adjustments of an order so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Adjustments {
    /// The number of adjustments that were written. Of two sets of the same order, the one with the higher version contains the
    /// other.
    pub version: u32,
    pub is_cancelled: bool,
    pub refunds: BTreeMap<RefundId, Money>,
    pub failed_refunds: BTreeSet<RefundId>,
    /// Whether a dispute is open or lost, by its id. The order's only dispute can have none.
    pub disputes: BTreeMap<Option<DisputeId>, bool>,
    /// Whether there was an adjustment beyond [`Adjustments::MOST`], which is not kept, and no operator has resolved it.
    pub has_excess: bool,
}

impl Adjustments {
    /// The adjustments of an order to which nothing has happened.
    pub const NONE: &'static Self = &Self {
        version: 0,
        is_cancelled: false,
        refunds: BTreeMap::new(),
        failed_refunds: BTreeSet::new(),
        disputes: BTreeMap::new(),
        has_excess: false,
    };

    /// The most adjustments that are kept of an order.
    pub const MOST: u32 = 100;

    /// What was refunded, at most what was paid. Refunds in another currency than the order's do not count.
    pub fn refunded(&self, paid: &Money) -> u64 {
        self.sum_of_refunds(paid).min(paid.amount.into())
    }

    /// The sum of all refunds, which can exceed what was paid.
    fn sum_of_refunds(&self, paid: &Money) -> u64 {
        let counts = |(id, refund): &(&RefundId, &Money)| {
            let has_failed = self.failed_refunds.contains(*id) && !mutant::is(Mutant::FailedRefundCounts);
            refund.currency == paid.currency && !has_failed
        };
        let amounts = self.refunds.iter().filter(counts).map(|(_, refund)| u64::from(refund.amount));
        if mutant::is(Mutant::RefundsNotSummed) {
            amounts.max().unwrap_or_default()
        } else {
            amounts.fold(0, u64::saturating_add)
        }
    }

    /// The refunds in another currency than the order's, except failed ones. It is unknown how much of the order they refund.
    pub fn foreign_refunds(&self, paid: &Money) -> impl Iterator<Item = &RefundId> {
        let is_foreign =
            |(id, refund): &(&RefundId, &Money)| refund.currency != paid.currency && !self.failed_refunds.contains(*id);
        self.refunds.iter().filter(is_foreign).map(|(id, _)| id)
    }

    /// The same adjustments, after an operator has resolved what is unclear about an order of this amount: refunds in another currency
    /// count as failed, and adjustments beyond the limit are ignored. `None`: nothing is unclear.
    pub fn resolved(&self, paid: &Money) -> Option<Self> {
        let failed: Vec<RefundId> = self.foreign_refunds(paid).cloned().collect();
        if (failed.is_empty() && !self.has_excess) || mutant::is(Mutant::ApprovalWithoutOrder) {
            return None;
        }
        let mut resolved = Self { version: self.version + 1, has_excess: false, ..self.clone() };
        resolved.failed_refunds.extend(failed);
        Some(resolved)
    }

    /// Why an order of this amount no longer stands: cancelled, disputed, or refunded until less than `minimum` or nothing is left.
    /// Empty: it stands.
    pub fn undone(&self, paid: &Money, minimum: &Money) -> Vec<Undone> {
        // An order without a known amount is refunded by any refund.
        let is_reported = self.sum_of_refunds(paid) > 0;
        let left = u64::from(paid.amount) - self.refunded(paid);
        let is_too_small = minimum.currency == paid.currency
            && left < u64::from(minimum.amount)
            && !mutant::is(Mutant::MinimumForgotten);
        let is_refunded = is_reported && (left == 0 || is_too_small || mutant::is(Mutant::PartialRefundVoids));
        let is_disputed = self.disputes.values().any(|is_open| *is_open);
        [(self.is_cancelled, Undone::Cancelled), (is_disputed, Undone::Disputed), (is_refunded, Undone::Refunded)]
            .into_iter()
            .filter_map(|(applies, undone)| applies.then_some(undone))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::money;

    fn refund(id: &str) -> RefundId {
        id.parse().unwrap()
    }

    fn refunds(amounts: &[(&str, u64)]) -> Adjustments {
        let refunds = amounts.iter().map(|(id, amount)| (refund(id), money(*amount))).collect();
        Adjustments { refunds, ..Adjustments::default() }
    }

    #[test]
    fn refunds_add_up_to_at_most_what_was_paid() {
        let all = refunds(&[("a", 200), ("b", 299)]);
        assert_eq!(all.refunded(&money(500)), 499);
        assert_eq!(all.refunded(&money(300)), 300);
        let failed = Adjustments { failed_refunds: [refund("b")].into(), ..all };
        assert_eq!(failed.refunded(&money(500)), 200);
    }

    #[test]
    fn a_refund_in_another_currency_does_not_count() {
        let foreign = Money { currency: "EUR".parse().unwrap(), ..money(500) };
        let all = Adjustments { refunds: [(refund("a"), foreign)].into(), ..Adjustments::default() };
        assert_eq!((all.refunded(&money(500)), all.undone(&money(500), &money(0))), (0, vec![]));
        assert_eq!(all.foreign_refunds(&money(500)).collect::<Vec<_>>(), [&refund("a")]);
        let failed = Adjustments { failed_refunds: [refund("a")].into(), ..all };
        assert_eq!(failed.foreign_refunds(&money(500)).next(), None);
    }

    #[test]
    fn an_order_stands_while_its_minimum_is_left() {
        let part = refunds(&[("a", 200)]);
        assert_eq!(part.undone(&money(500), &money(300)), []);
        assert_eq!(part.undone(&money(500), &money(301)), [Undone::Refunded]);
        assert_eq!(refunds(&[("a", 500)]).undone(&money(500), &money(0)), [Undone::Refunded]);
        assert_eq!(refunds(&[]).undone(&money(0), &money(0)), []);
        assert_eq!(part.undone(&money(0), &money(0)), [Undone::Refunded]);
    }

    #[test]
    fn every_reason_is_named() {
        let all = Adjustments { is_cancelled: true, disputes: [(None, true)].into(), ..refunds(&[("a", 500)]) };
        let reasons = [Undone::Cancelled, Undone::Disputed, Undone::Refunded];
        assert_eq!(all.undone(&money(500), &money(0)), reasons);
        let won = Adjustments { disputes: [(None, false)].into(), ..Adjustments::default() };
        assert_eq!(won.undone(&money(500), &money(0)), []);
    }
}
