//! Orders, which convert a referral. Module [`adjustments`](super::adjustments) has what happens to them later.

use serde::{Deserialize, Serialize};

use crate::domain::{
    adjustments::{Adjustments, Undone},
    id::{OrderId, UserId},
    money::Money,
    time::Timestamp,
};

/// An order, or another qualifying event, as reported by the product.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    pub id: OrderId,
    /// The type of the event that reported it.
    pub event: String,
    pub user: UserId,
    pub paid: Money,
    pub placed_at: Timestamp,
    /// An operator reported it, so it converts whatever event type the terms require.
    pub is_by_operator: bool,
    /// The latest sign-up for which it counts: the time of the order, and a tolerance. The order of an existing customer is
    /// older than the sign-up.
    pub latest_sign_up: Timestamp,
    /// An order that is processed late converts with a hold that ends no earlier, because its adjustments may be on their way.
    pub hold_until: Option<Timestamp>,
}

/// What the table knows about an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderRecord {
    pub id: OrderId,
    /// The user whose referral the order may convert. `None`: the order has not arrived, or belongs to no referee.
    pub claimed_by: Option<UserId>,
    /// What was paid, when the order was claimed.
    pub paid: Option<Money>,
    pub adjustments: Adjustments,
}

/// An adjustment stored by a pending referral of an earlier version, because it had arrived before its order. Without the id of a
/// refund, so several of them are never summed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotedAdjustment {
    pub order: OrderId,
    pub cause: AdjustmentCause,
}

/// The kind of such an adjustment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdjustmentCause {
    Cancelled,
    /// The refunded amount. Only a full refund voids a referral.
    Refunded(Money),
    /// The payment was disputed (chargeback).
    Disputed,
}

impl AdjustmentCause {
    /// Why an order of this amount no longer stands; `None` for a partial refund.
    pub fn undoes(self, paid: &Money) -> Option<Undone> {
        match self {
            Self::Cancelled => Some(Undone::Cancelled),
            Self::Disputed => Some(Undone::Disputed),
            Self::Refunded(refund) => refund.covers(paid).then_some(Undone::Refunded),
        }
    }
}
