//! Checks of adjustments: an independent computation of which orders stand, from what the product published.

use std::collections::{BTreeMap, BTreeSet};

use referrals::referral::{Referral, State as Phase, Status, VoidReason, Voided};
use serde_json::Value;

use super::{ORDER_AMOUNT, Oracle};
use crate::rig::MINIMUM;

/// An adjustment that the product published.
#[derive(Clone, Debug)]
pub(super) struct Published {
    event: Value,
    is_acknowledged: bool,
}

impl Oracle {
    /// Records an adjustment that the product publishes.
    pub(crate) fn adjustment_published(&mut self, event: &Value) {
        self.adjustments.push(Published { event: event.clone(), is_acknowledged: false });
    }

    /// Checks the referral that this order converted, after an acknowledgement. While other adjustments of the order are on their
    /// way, the function may have received them.
    pub(super) fn adjustment_acknowledged(&mut self, event: &Value) {
        for known in self.adjustments.iter_mut().filter(|known| known.event["id"] == event["id"]) {
            known.is_acknowledged = true;
        }
        let order = event["detail"]["order_id"].as_str().unwrap_or_default();
        if self.adjustments_of(order).any(|known| !known.is_acknowledged) {
            return;
        }
        let converted: Vec<_> = self.referrals.values().filter(|referral| is_by(referral, order)).cloned().collect();
        for referral in converted {
            let is_undone = self.is_undone(order);
            let expected = if is_undone { Status::Voided } else { Status::Converted };
            let is_open = match referral.state {
                Phase::Converted { .. } => true,
                Phase::Voided { reason, .. } => reason.is_of_order(),
                Phase::Rewarded { .. } => is_undone,
                // Nothing is granted again.
                Phase::Pending | Phase::Reversed { .. } => false,
            };
            if is_open && referral.status() != expected {
                let (referee, status) = (&referral.referee, referral.status());
                self.fail(format!("{referee}: acknowledged too early, it is {status:?}: {}", event["detail"]));
            }
        }
    }

    /// Checks an issue: all acknowledged adjustments of the order count. One on its way may make the order stand.
    pub(super) fn check_adjustments_before_issue(&mut self, key: &str, referral: &Referral) {
        let Some(conversion) = referral.conversion() else { return };
        let order = conversion.order.as_str();
        let is_settled = self.adjustments_of(order).all(|known| known.is_acknowledged || !restores(&known.event));
        let known = self.adjustments_of(order).filter(|known| known.is_acknowledged).map(|known| &known.event);
        if is_settled && is_undone(known) {
            self.fail(format!("{key}: paid although {order} was undone before"));
        }
    }

    /// Checks that a referral that was voided because of its order has an order that does not stand.
    pub(super) fn check_void(&mut self, referral: &Referral) {
        let (Some(Voided { reason, .. }), Some(conversion)) = (referral.voided(), referral.conversion()) else {
            return;
        };
        let order = conversion.order.as_str();
        let stands = match &referral.state {
            // It may stand again, but nothing is granted again.
            Phase::Reversed { .. } => self.has_always_stood(order),
            _ => !self.is_undone(order),
        };
        if reason.is_of_order() && stands {
            self.fail(format!("{}: voided as {reason:?}, but {order} stands", referral.referee));
        }
        let cause = match reason {
            VoidReason::OrderCancelled => "order.cancelled",
            VoidReason::OrderRefunded => "order.refunded",
            VoidReason::PaymentDisputed => "payment.disputed",
            VoidReason::Fraud(_) | VoidReason::Operator => return,
        };
        if !self.adjustments_of(order).any(|known| known.event["detail-type"] == cause) {
            self.fail(format!("{}: voided as {reason:?}, which did not happen to {order}", referral.referee));
        }
    }

    /// Checks that the order of a rewarded referral stands.
    pub(super) fn check_reward_stands(&mut self, referral: &Referral) {
        let (Phase::Rewarded { .. }, Some(conversion)) = (&referral.state, referral.conversion()) else { return };
        if self.is_undone(conversion.order.as_str()) {
            self.fail(format!("{}: {} was undone, and nothing was taken back", referral.referee, conversion.order));
        }
    }

    /// Whether this order stood at every time, in whatever order its adjustments arrived.
    pub(super) fn has_always_stood(&self, order: &str) -> bool {
        let undoing = self.adjustments_of(order).map(|known| &known.event).filter(|event| !restores(event));
        !is_undone(undoing)
    }

    /// Whether this order no longer stands, by everything that was published.
    pub(super) fn is_undone(&self, order: &str) -> bool {
        is_undone(self.adjustments_of(order).map(|known| &known.event))
    }

    /// The adjustments of an order that are kept. An order that is full keeps no refunds.
    fn adjustments_of(&self, order: &str) -> impl Iterator<Item = &Published> {
        let is_full = self.is_full(order);
        let is_kept = move |event: &Value| !is_full || !is_of_refund(event);
        self.adjustments.iter().filter(move |known| is_kept(&known.event) && known.event["detail"]["order_id"] == order)
    }

    /// The adjustments of an order that the product published.
    pub(super) fn published_of(&self, order: &str) -> impl Iterator<Item = &Value> {
        self.adjustments.iter().map(|known| &known.event).filter(move |event| event["detail"]["order_id"] == order)
    }

    /// Whether this adjustment was acknowledged.
    pub(super) fn is_acknowledged(&self, event: &Value) -> bool {
        self.adjustments.iter().any(|known| known.is_acknowledged && known.event["id"] == event["id"])
    }
}

fn is_by(referral: &Referral, order: &str) -> bool {
    referral.conversion().is_some_and(|conversion| conversion.order.as_str() == order)
}

/// Whether this event is about a refund.
pub(super) fn is_of_refund(event: &Value) -> bool {
    ["order.refunded", "order.refund_failed"].iter().any(|kind| event["detail-type"] == *kind)
}

/// Whether this event can make an order stand again.
fn restores(event: &Value) -> bool {
    ["payment.dispute_won", "order.refund_failed"].iter().any(|kind| event["detail-type"] == *kind)
}

/// Whether an order of [`ORDER_AMOUNT`] no longer stands after these events, in any order.
fn is_undone<'a>(events: impl Iterator<Item = &'a Value>) -> bool {
    let (mut refunds, mut failed) = (BTreeMap::new(), BTreeSet::new());
    let (mut is_cancelled, mut last_dispute) = (false, None);
    for event in events {
        let detail = &event["detail"];
        let refund = detail["refund_id"].as_str().unwrap_or_default();
        match event["detail-type"].as_str().unwrap_or_default() {
            "order.cancelled" => is_cancelled = true,
            // It is unknown how much of the order this refunds.
            "order.refunded" if detail["currency"] != "USD" => {}
            "order.refunded" => drop(refunds.insert(refund, detail["amount"].as_u64().unwrap_or_default())),
            "order.refund_failed" => drop(failed.insert(refund)),
            // At the same time, the dispute is the later state.
            kind => {
                last_dispute = last_dispute.max(detail["occurred_at"].as_str().zip(Some(kind == "payment.disputed")))
            }
        }
    }
    let refunded: u64 = refunds.iter().filter(|(id, _)| !failed.contains(*id)).map(|(_, amount)| amount).sum();
    let is_refunded = refunded > 0 && ORDER_AMOUNT.saturating_sub(refunded) < MINIMUM;
    is_cancelled || is_refunded || last_dispute.is_some_and(|(_, is_open)| is_open)
}
