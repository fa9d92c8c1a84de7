//! The store: every read and write of the table.
//!
//! `Ok` means that the table answered, and contains the result. `Err` means that the result is unknown: the caller
//! reports a failure, and the event source delivers the work again. That is safe because every write is conditional and
//! recognises its own earlier attempts.

mod accounts;
mod codes;
mod cursor;
mod guard;
pub mod items;
pub mod keys;
mod notes;
mod orders;
mod referrals;
mod restore;
mod retry;
mod reversals;
mod scan;
mod work;
mod write;

use std::{error::Error, time::Duration};

use aws_sdk_dynamodb::{Client, config::retry::RetryConfig, error::SdkError, types::KeysAndAttributes};

use crate::{
    mutant::{self, Mutant},
    runtime,
};

pub use codes::{ExpiryChanged, Minted};
pub use cursor::{InvalidCursor, ListCursor, WorkCursor, WorkPartition};
use items::InvalidItem;
use keys::{Item, Key};
pub use notes::History;
pub use orders::{Adjusted, Claimed, ResolvedOrder};
pub use referrals::{Attributed, Outcome, Page, SignUpEvidence};
pub use restore::{Repair, Restored, RestoredPage};
pub use reversals::ReversalOutcome;
pub use scan::Scanned;
pub use work::Due;
pub use write::WriteResult;
pub(crate) use write::{Write, transact};

/// Why the result of a read or write is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// DynamoDB did not answer, or throttled the call.
    #[error("DynamoDB is unavailable: {0}")]
    Unavailable(String),
    #[error(transparent)]
    InvalidItem(#[from] InvalidItem),
    /// Each attempt met a conflicting write.
    #[error("too many conflicting writes to {0}")]
    Contended(String),
}

impl<E, R> From<SdkError<E, R>> for StoreError
where
    E: Error + 'static,
    R: std::fmt::Debug + 'static,
{
    fn from(problem: SdkError<E, R>) -> Self {
        Self::Unavailable(runtime::explain(&problem))
    }
}

/// The table of one stack.
#[derive(Clone, Debug)]
pub struct Store {
    client: Client,
    table: String,
}

impl Store {
    /// How many times a step is decided before a conflict becomes an error.
    pub(crate) const MAX_DECISIONS: usize = 5;

    /// DynamoDB's limit of keys in a batch read.
    const BATCH: usize = 100;

    /// The store in the table with this name. It uses the client's region, credentials, endpoint and timeouts, with
    /// retries that fit the table (see `retry`).
    pub fn new(client: &Client, table: &str) -> Self {
        Self { client: with_table_retries(client), table: table.to_owned() }
    }

    /// Sends one write as a single call.
    async fn send(
        &self,
        write: Write,
        attempts: Option<&retry::Attempts>,
    ) -> Result<WriteResult<Option<Item>>, StoreError> {
        write.send(&self.client, &self.table, attempts).await
    }

    /// Reads an item with strong consistency.
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .consistent_read(!mutant::is(Mutant::EventualRead))
            .send()
            .await?;
        Ok(found.item)
    }

    /// Reads items in batches, with strong consistency. The result has no defined order and leaves out items that do not
    /// exist.
    async fn get_all(&self, keys: impl IntoIterator<Item = Key>) -> Result<Vec<Item>, StoreError> {
        let mut wanted: Vec<Key> = Vec::new();
        for key in keys {
            // DynamoDB rejects a batch that contains a key twice.
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        let mut items = Vec::with_capacity(wanted.len());
        for batch in wanted.chunks(Self::BATCH) {
            let keys = batch.iter().map(Key::attributes).collect();
            items.extend(read_batch(&self.client, &self.table, keys).await?);
        }
        Ok(items)
    }
}

/// Removes the item with this key from a batch and returns it.
fn take(items: &mut Vec<Item>, key: &Key) -> Option<Item> {
    let at = items.iter().position(|item| Key::of(item).as_ref() == Some(key))?;
    Some(items.swap_remove(at))
}

/// The same client, with retries that fit a table (see `retry`).
pub(crate) fn with_table_retries(client: &Client) -> Client {
    let retries = RetryConfig::standard().with_max_attempts(if mutant::is(Mutant::CallNotRetried) { 1 } else { 4 });
    let retries = retries.with_initial_backoff(Duration::from_millis(40));
    let config = client.config().to_builder().retry_config(retries).retry_classifier(retry::Conflicts).build();
    Client::from_conf(config)
}

/// Reads up to 100 items with strong consistency. The result has no defined order and leaves out items that do not
/// exist.
pub(crate) async fn read_batch(client: &Client, table: &str, keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
    let (mut items, mut wanted) = (Vec::with_capacity(keys.len()), keys);
    for attempt in 0..4_u32 {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(25 << attempt)).await;
        }
        let is_strong = !mutant::is(Mutant::EventualBatchRead);
        let request = KeysAndAttributes::builder().set_keys(Some(wanted)).consistent_read(is_strong).build();
        let request = request.map_err(|problem| StoreError::Unavailable(problem.to_string()))?;
        let answer = client.batch_get_item().request_items(table, request).send().await?;
        items.extend(answer.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default());
        match answer.unprocessed_keys.and_then(|mut tables| tables.remove(table)) {
            // A throttled table returns a part of the items, which the SDK treats as a success.
            Some(rest) if !rest.keys.is_empty() && !mutant::is(Mutant::BatchRestForgotten) => wanted = rest.keys,
            Some(_) | None => return Ok(items),
        }
        if mutant::is(Mutant::BatchRestNotRetried) {
            break;
        }
    }
    Err(StoreError::Unavailable("throttled: a batch read remained incomplete".to_owned()))
}
