//! The index of work: referrals and reversals with unfinished work.

use aws_sdk_dynamodb::types::Select;

use super::{
    Store, StoreError,
    cursor::{WorkCursor, WorkPartition},
    guard,
    items::{InvalidItem, referral::from_referral_item, reversal::from_reversal_item},
    keys::{Item, ItemKind, Key},
};
use crate::{
    domain::time::Timestamp,
    referral::{Referral, reversal::Reversal},
    runtime::log_outcome::LogOutcome,
};

/// A page of one partition of the index of work.
#[derive(Clone, Debug)]
pub struct Due {
    pub referrals: Vec<Referral>,
    pub reversals: Vec<Reversal>,
    /// The number of further items that could not be read. Each is logged and stays in the index.
    pub unreadable: usize,
    /// Where the next page begins.
    pub next: Option<WorkCursor>,
}

impl Store {
    /// Reads up to `limit` referrals and reversals of a partition that are due at the time `by` or earlier. Their items are read from
    /// the table, so they are up to date.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn due(
        &self,
        partition: WorkPartition,
        by: Timestamp,
        limit: u32,
        after: Option<WorkCursor>,
    ) -> Result<Due, StoreError> {
        let query = guard::due_by(&self.client, partition, by)
            .table_name(&self.table)
            .set_exclusive_start_key(after.map(WorkCursor::into_key))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = query.send().await?;
        let keys: Vec<Key> = answer.items.iter().flatten().filter_map(Key::of).collect();
        // The index is eventually consistent and contains only keys. Therefore the items decide which referrals are
        // due.
        let items = self.get_all(keys).await?;
        let found = items.len();
        let is_reversal = |item: &Item| Key::of(item).is_some_and(|key| key.kind() == ItemKind::Reversal);
        let (reversals, referrals): (Vec<_>, Vec<_>) = items.into_iter().partition(is_reversal);
        let reversals: Vec<Reversal> =
            reversals.into_iter().filter_map(|item| readable(from_reversal_item(item))).collect();
        let referrals: Vec<Referral> =
            referrals.into_iter().filter_map(|item| readable(from_referral_item(item))).collect();
        let next = answer.last_evaluated_key.map(WorkCursor::from_key);
        Ok(Due { unreadable: found - referrals.len() - reversals.len(), referrals, reversals, next })
    }

    /// Counts the referrals and reversals in a partition, up to a thousand.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn waiting(&self, partition: WorkPartition) -> Result<u64, StoreError> {
        let query = guard::due_by(&self.client, partition, Timestamp::LAST).table_name(&self.table);
        let answer = query.select(Select::Count).limit(1000).send().await?;
        Ok(u64::try_from(answer.count).unwrap_or_default())
    }
}

/// An item that cannot be read must not block the others. It is logged and stays in the index.
fn readable<T>(read: Result<T, InvalidItem>) -> Option<T> {
    read.inspect_err(|problem| tracing::error!(%problem, outcome = LogOutcome::UnreadableItem.as_str())).ok()
}
