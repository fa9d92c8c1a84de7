//! Orders, which convert a referral, and their adjustments, which can void it.

use serde::{Deserialize, Serialize};

use crate::domain::{
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
    /// The latest sign-up for which it counts: the time of the order, and a tolerance. The order of an existing customer is
    /// older than the sign-up.
    pub latest_sign_up: Timestamp,
}

/// An order was cancelled, refunded or disputed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderAdjustment {
    pub order: OrderId,
    pub user: UserId,
    pub cause: AdjustmentCause,
}

impl OrderAdjustment {
    /// The form that a pending referral stores.
    pub fn noted(&self) -> NotedAdjustment {
        NotedAdjustment { order: self.order.clone(), cause: self.cause }
    }
}

/// An adjustment stored by a pending referral, because it may arrive before its order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotedAdjustment {
    pub order: OrderId,
    pub cause: AdjustmentCause,
}

/// The kind of an adjustment.
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
    /// Whether this voids a referral that an order of this amount converted. A partial refund does not.
    pub fn undoes(self, paid: &Money) -> bool {
        match self {
            Self::Cancelled | Self::Disputed => true,
            Self::Refunded(refund) => refund.covers(paid),
        }
    }
}
