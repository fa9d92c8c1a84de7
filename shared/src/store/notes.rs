//! Notes: audit entries and refused orders, and the history of a referral.

use super::{
    Store, StoreError, guard,
    items::{
        note::{from_note_item, to_note_item},
        order::{DatedAdjustment, dated_adjustments, from_order_item},
        referral::from_referral_item,
        reversal::from_reversal_item,
    },
    keys::{Item, ItemKind, Key},
    take,
    write::Write,
};
use crate::{
    domain::{
        id::{OrderId, UserId},
        order::OrderRecord,
    },
    referral::{
        Referral,
        note::{Note, RefusedOrder, Subject},
        reversal::Reversal,
    },
};

/// Everything that is stored about a referral, except adjustments, which are stored with their orders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    pub referral: Referral,
    pub reversals: Vec<Reversal>,
    /// In order of time.
    pub notes: Vec<Note>,
}

impl Store {
    /// Writes that an order was refused, unless that was written before.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn note(&self, subject: &Subject, note: &Note) -> Result<(), StoreError> {
        self.send(guard::copy(to_note_item(subject, note)?), None).await.map(drop)
    }

    /// Reads a referral with its reversals and notes. `None`: the user was never referred.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or an item is invalid.
    pub async fn history(&self, referee: &UserId) -> Result<Option<History>, StoreError> {
        let query = guard::of_referee(&self.client, &Key::referral(referee)).table_name(&self.table);
        let pages = query.into_paginator().items().send();
        let items: Vec<Item> = pages.collect::<Result<_, _>>().await?;
        let (mut referral, mut reversals, mut notes) = (None, Vec::new(), Vec::new());
        for item in items {
            match Key::of(&item).map(|key| key.kind()) {
                Some(ItemKind::Referral) => referral = Some(from_referral_item(item)?),
                Some(ItemKind::Reversal) => reversals.push(from_reversal_item(item)?),
                Some(ItemKind::Note) => notes.push(from_note_item(item)?),
                _ => {}
            }
        }
        Ok(referral.map(|referral| History { referral, reversals, notes }))
    }

    /// These orders, each with the times of its adjustments.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or an item is invalid.
    pub async fn orders(&self, orders: &[OrderId]) -> Result<Vec<(OrderRecord, Vec<DatedAdjustment>)>, StoreError> {
        let mut items = self.get_all(orders.iter().map(Key::order)).await?;
        let mut all = Vec::new();
        for order in orders {
            let item = take(&mut items, &Key::order(order)).unwrap_or_default();
            all.push((from_order_item(order, &item)?, dated_adjustments(&item)?));
        }
        Ok(all)
    }
}

/// The notes of the orders that an issue passes over. They belong to the transaction of the step, after which the referral does not
/// have these orders any more.
pub(super) fn writes_of_step(before: &Referral, after: &Referral) -> Result<Vec<Write>, StoreError> {
    let (None, Some(rewards)) = (before.rewards(), after.rewards()) else { return Ok(Vec::new()) };
    let subject = Subject::Referral(before.referee.clone());
    let notes = RefusedOrder::passed_over(before, rewards.issued_at).map(Note::Order);
    Ok(notes.map(|note| to_note_item(&subject, &note).map(Write::put)).collect::<Result<_, _>>()?)
}
