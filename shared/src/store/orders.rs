//! Orders: which user's referral an order may convert, and what happened to it.

use std::time::Duration;

use super::{
    Store, StoreError, WriteResult, guard,
    items::order::{from_order_item, refund_failed, to_attribute, to_paid},
    keys::{CLAIMED_BY, Item, Key, TTL},
    write::Write,
};
use crate::{
    domain::{
        adjustments::{Adjustment, Adjustments},
        id::{OrderId, UserId},
        money::Money,
        order::OrderRecord,
        time::Timestamp,
    },
    mutant::{self, Mutant},
};

/// The result of claiming an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The order belongs to its user now, or did so before.
    Ours(OrderRecord),
    /// Another user has claimed it.
    By(UserId),
}

/// The result of adjusting an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Adjusted {
    /// The order as it is now. The adjustment is written, by this call or before, or the dispute has a later state.
    Kept(OrderRecord),
    /// The order has at least [`Adjustments::MOST`] adjustments. This one is not written, but the order says that there are more.
    Full(OrderRecord),
}

/// How long the adjustments of an order that has not arrived are kept.
pub(super) const UNCLAIMED: Duration = Duration::from_secs(90 * 86_400);

impl Store {
    /// Claims an order for a user. A claim is never released. So an order converts one referral, and a repetition after a
    /// crash continues.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn claim(&self, order: &OrderId, user: &UserId, paid: &Money) -> Result<Claimed, StoreError> {
        let write = guard::claim_order(&Key::order(order), user, to_paid(paid)?);
        let record = match self.send(write, None).await? {
            WriteResult::Written(item) => return Ok(Claimed::Ours(found(order, item)?)),
            WriteResult::Conflict(item) => {
                self.keep(order, item.as_ref()).await?;
                found(order, item)?
            }
        };
        match &record.claimed_by {
            Some(found) if found != user || mutant::is(Mutant::OwnClaimNotRecognised) => Ok(Claimed::By(found.clone())),
            Some(_) => Ok(Claimed::Ours(record)),
            // Only a claimed order refuses the write, and a claim is never released.
            None => Err(StoreError::Contended("an order".to_owned())),
        }
    }

    /// Writes an adjustment to its order, whether or not the order has arrived.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn adjust(
        &self,
        order: &OrderId,
        adjustment: &Adjustment,
        now: Timestamp,
    ) -> Result<Adjusted, StoreError> {
        let (name, value) = to_attribute(adjustment, now)?;
        let write = guard::adjust_order(&Key::order(order), &name, value, now.plus(UNCLAIMED));
        let item = match self.send(write, None).await? {
            WriteResult::Written(item) => {
                self.keep(order, item.as_ref()).await?;
                return Ok(Adjusted::Kept(found(order, item)?));
            }
            WriteResult::Conflict(item) => item.unwrap_or_default(),
        };
        self.keep(order, Some(&item)).await?;
        let record = from_order_item(order, &item)?;
        let is_full =
            guard::is_limited(&name) && !item.contains_key(&name) && record.adjustments.version >= Adjustments::MOST;
        if !is_full {
            return Ok(Adjusted::Kept(record));
        }
        if mutant::is(Mutant::ExcessForgotten) {
            return Ok(Adjusted::Kept(record));
        }
        match self.send(guard::mark_excess(&Key::order(order)), None).await? {
            WriteResult::Written(item) | WriteResult::Conflict(item) => Ok(Adjusted::Full(found(order, item)?)),
        }
    }

    /// Reads an order. An order that no event has reported is empty.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn order(&self, order: &OrderId) -> Result<OrderRecord, StoreError> {
        found(order, self.get(&Key::order(order)).await?)
    }

    /// Keeps a claimed order that has a time to be deleted. An earlier build claimed orders without this attribute, so their first
    /// adjustment sets it.
    async fn keep(&self, order: &OrderId, item: Option<&Item>) -> Result<(), StoreError> {
        let expires = |item: &Item| item.contains_key(CLAIMED_BY) && item.get(TTL).is_none_or(|ttl| !ttl.is_null());
        if item.is_some_and(expires) {
            self.send(guard::keep_order(&Key::order(order)), None).await?;
        }
        Ok(())
    }
}

/// The order in an answer of the table.
fn found(order: &OrderId, item: Option<Item>) -> Result<OrderRecord, StoreError> {
    Ok(from_order_item(order, &item.unwrap_or_default())?)
}

/// An order as it was read, and with what an operator has resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvedOrder {
    pub read: OrderRecord,
    pub resolved: OrderRecord,
}

impl ResolvedOrder {
    /// The write that resolves it, if the order has the adjustments that were read.
    pub(super) fn write(&self, now: Timestamp) -> Write {
        let known = &self.read.adjustments.failed_refunds;
        let failed = self.resolved.adjustments.failed_refunds.difference(known).map(refund_failed).collect::<Vec<_>>();
        guard::resolve_order(&Key::order(&self.read.id), &self.read.adjustments, &failed, now)
    }
}
