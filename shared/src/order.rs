//! Orders: what converts a referral, and what takes the conversion back.

use serde::{Deserialize, Serialize};

use crate::{
    id::{OrderId, UserId},
    money::Money,
};

/// An order (or whatever else the program says qualifies), as the event told it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The product's number for it.
    pub id: OrderId,
    /// The event type that reported it.
    pub event: String,
    /// Who ordered.
    pub user: UserId,
    /// What it was worth.
    pub paid: Money,
}

/// News that an order does not stand any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderAdjustment {
    /// Which order.
    pub order: OrderId,
    /// Whose.
    pub user: UserId,
    /// Why.
    pub cause: AdjustmentCause,
}

impl OrderAdjustment {
    /// What a referral that has not seen the order keeps of it.
    pub fn noted(&self) -> NotedAdjustment {
        NotedAdjustment { order: self.order.clone(), cause: self.cause }
    }
}

/// The same, kept by a referral that has not seen the order yet: a cancellation may overtake its order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotedAdjustment {
    /// Which order.
    pub order: OrderId,
    /// Why.
    pub cause: AdjustmentCause,
}

/// Why an order does not stand any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdjustmentCause {
    /// It was called off.
    Cancelled,
    /// This much was paid back; only all of it undoes a conversion.
    Refunded(Money),
    /// The payment was disputed (a chargeback).
    Disputed,
}

impl AdjustmentCause {
    /// Whether an order that was worth `paid` is undone by this: a refund of part of it changes nothing.
    pub fn undoes(self, paid: &Money) -> bool {
        match self {
            Self::Cancelled | Self::Disputed => true,
            Self::Refunded(refund) => refund.covers(paid),
        }
    }
}
