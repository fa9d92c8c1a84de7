//! Scans of the whole table, page by page. Only commands use them.

use super::{
    Store, StoreError,
    items::referral::{from_referral_item, is_referral_item},
    keys::Item,
};
use crate::{referral::Referral, runtime::log_outcome::LogOutcome};

/// A page of the table.
#[derive(Clone, Debug)]
pub struct Scanned {
    pub referrals: Vec<Referral>,
    /// The number of items on the page, of any kind.
    pub looked_at: u64,
    /// The number of referrals that could not be read. Each is logged.
    pub unreadable: u64,
    /// Where the next page begins.
    pub next: Option<Item>,
}

impl Store {
    /// Reads a page of the table, with strong consistency.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn scan(&self, from: Option<Item>) -> Result<Scanned, StoreError> {
        let page = self.client.scan().table_name(&self.table).consistent_read(true).limit(1000);
        let answer = page.set_exclusive_start_key(from).send().await?;
        let items = answer.items.unwrap_or_default();
        let looked_at = items.len() as u64;
        let (mut referrals, mut unreadable) = (Vec::new(), 0);
        for item in items.into_iter().filter(is_referral_item) {
            match from_referral_item(item) {
                Ok(referral) => referrals.push(referral),
                Err(problem) => {
                    tracing::error!(%problem, outcome = LogOutcome::UnreadableItem.as_str());
                    unreadable += 1;
                }
            }
        }
        Ok(Scanned { referrals, looked_at, unreadable, next: answer.last_evaluated_key })
    }

    /// The approximate number of items in the table.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn size(&self) -> Result<u64, StoreError> {
        let answer = self.client.describe_table().table_name(&self.table).send().await?;
        let count = answer.table.and_then(|table| table.item_count).unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }
}
