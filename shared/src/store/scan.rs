//! All referrals, one page after another: for what counts them anew, and for no function.

use super::{Store, StoreError};
use crate::{
    referral::Referral,
    table::{self, Item},
};

/// A page of the table.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The referrals.
    pub referrals: Vec<Referral>,
    /// How many items were looked at, whatever they were.
    pub looked_at: u64,
    /// How many referrals could not be read; they are in the log.
    pub unreadable: u64,
    /// Where the next page begins.
    pub next: Option<Item>,
}

impl Store {
    /// A page of the table, as it is after every write that was acknowledged before.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn scan(&self, from: Option<Item>) -> Result<Scanned, StoreError> {
        let page = self.client.scan().table_name(&self.table).consistent_read(true).limit(1000);
        let answer = page.set_exclusive_start_key(from).send().await?;
        let items = answer.items.unwrap_or_default();
        let looked_at = items.len() as u64;
        let (mut referrals, mut unreadable) = (Vec::new(), 0);
        for item in items.into_iter().filter(table::is_referral_item) {
            match table::referral_from(item) {
                Ok(referral) => referrals.push(referral),
                Err(problem) => {
                    tracing::error!(%problem, outcome = "unreadable");
                    unreadable += 1;
                }
            }
        }
        Ok(Scanned { referrals, looked_at, unreadable, next: answer.last_evaluated_key })
    }

    /// About how many items the table has.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn size(&self) -> Result<u64, StoreError> {
        let answer = self.client.describe_table().table_name(&self.table).send().await?;
        let count = answer.table.and_then(|table| table.item_count).unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }
}
