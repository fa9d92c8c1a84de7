//! The index of work: what still owes something.

use aws_sdk_dynamodb::types::Select;

use super::{Store, StoreError, guard};
use crate::{
    referral::{Lane, Referral},
    table::{self, Item, Key},
    time::Timestamp,
};

/// A page of what is due.
#[derive(Clone, Debug)]
pub struct Due {
    /// The referrals.
    pub referrals: Vec<Referral>,
    /// How many items more could not be read; they are in the log, and stay in the index.
    pub unreadable: usize,
    /// Where the next page begins.
    pub next: Option<Item>,
}

impl Store {
    /// Up to `limit` of the referrals in one partition of a lane whose time has come `by` then, as they are now.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn due(
        &self,
        lane: Lane,
        shard: u32,
        by: Timestamp,
        limit: u32,
        after: Option<Item>,
    ) -> Result<Due, StoreError> {
        let query = guard::due_by(&self.client, lane, shard, by)
            .table_name(&self.table)
            .set_exclusive_start_key(after)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = query.send().await?;
        let keys: Vec<Key> = answer.items.iter().flatten().filter_map(Key::of).collect();
        // The index lags behind and holds keys alone: what is really owed is decided from the items.
        let items = self.get_all(keys).await?;
        let found = items.len();
        let referrals: Vec<Referral> = items.into_iter().filter_map(readable).collect();
        Ok(Due { unreadable: found - referrals.len(), referrals, next: answer.last_evaluated_key })
    }

    /// How many referrals wait in one partition of a lane, counted up to a thousand.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn waiting(&self, lane: Lane, shard: u32) -> Result<u64, StoreError> {
        let query = guard::due_by(&self.client, lane, shard, Timestamp::LAST).table_name(&self.table);
        let answer = query.select(Select::Count).limit(1000).send().await?;
        Ok(u64::try_from(answer.count).unwrap_or_default())
    }
}

/// One item that cannot be read must not stop the others; it stays in the index and in the log.
fn readable(item: Item) -> Option<Referral> {
    table::referral_from(item).inspect_err(|problem| tracing::error!(%problem, outcome = "unreadable")).ok()
}
