//! The store: every question to the table and every write, as methods that answer with what was found.
//!
//! `Ok` is what the table said. `Err` is "we do not know": the caller gives the work back and it is tried again, which
//! is safe because every write is conditional and recognises itself.

mod accounts;
mod codes;
mod guard;
mod referrals;
mod retry;
mod scan;
mod work;
mod write;

use std::{error::Error, time::Duration};

use aws_sdk_dynamodb::{Client, config::retry::RetryConfig, error::SdkError, types::KeysAndAttributes};

use crate::{
    mutant::{self, Mutant},
    runtime,
    table::{Item, Key, Unreadable},
};

pub use codes::Minted;
pub use referrals::{Attributed, Outcome, Page, SignUpEvidence};
pub use scan::Scanned;
pub use work::Due;
pub(crate) use write::Write;
pub use write::WriteResult;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The table did not answer, or pushed back.
    #[error("the table did not answer: {0}")]
    Unavailable(String),
    /// What it answered is not what the key says it is.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Others changed the item each time between our reading and our writing.
    #[error("others kept changing {0}")]
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
    /// How often a decision is made again after somebody else's write got in between.
    pub(crate) const DECISIONS: usize = 5;

    /// The most keys that one batch read takes.
    const BATCH: usize = 100;

    /// The store in the table of this name. The client's region, credentials, endpoint and timeouts stay; its retries
    /// become those that fit the table (see `retry`).
    pub fn new(client: &Client, table: &str) -> Self {
        Self { client: steady(client), table: table.to_owned() }
    }

    /// Sends one write as a single call.
    async fn send(
        &self,
        write: Write,
        attempts: Option<&retry::Attempts>,
    ) -> Result<WriteResult<Option<Item>>, StoreError> {
        write.send(&self.client, &self.table, attempts).await
    }

    /// Reads an item, as it is after every write that was acknowledged before.
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

    /// Reads these items at once, as they are after every write that was acknowledged before. In no order; what is not
    /// there is left out.
    async fn get_all(&self, keys: impl IntoIterator<Item = Key>) -> Result<Vec<Item>, StoreError> {
        let mut wanted: Vec<Key> = Vec::new();
        for key in keys {
            // A key named twice would have the whole read refused.
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

/// Takes the item with this key out of a batch.
fn take(items: &mut Vec<Item>, key: &Key) -> Option<Item> {
    let at = items.iter().position(|item| Key::of(item).as_ref() == Some(key))?;
    Some(items.swap_remove(at))
}

/// The same client with those retries that fit a table (see `retry`).
pub(crate) fn steady(client: &Client) -> Client {
    let retries = RetryConfig::standard().with_max_attempts(if mutant::is(Mutant::CallNotRetried) { 1 } else { 4 });
    let retries = retries.with_initial_backoff(Duration::from_millis(40));
    let config = client.config().to_builder().retry_config(retries).retry_classifier(retry::Conflicts).build();
    Client::from_conf(config)
}

/// Reads up to a hundred items at once, as they are after every write that was acknowledged before. In no order; what
/// is not there is left out.
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
            // The table answers a part when it is throttled; the SDK takes that for success.
            Some(rest) if !rest.keys.is_empty() && !mutant::is(Mutant::BatchRestForgotten) => wanted = rest.keys,
            Some(_) | None => return Ok(items),
        }
        if mutant::is(Mutant::BatchRestNotRetried) {
            break;
        }
    }
    Err(StoreError::Unavailable("throttled: a batch read stayed incomplete".to_owned()))
}
