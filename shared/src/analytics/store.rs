//! Records facts: one transaction stores the facts of a referral and updates the counters that they change.

use aws_sdk_dynamodb::Client;

use super::{contributions::contributions, expressions, facts::Facts, items};
use crate::{
    domain::id::UserId,
    runtime::{Env, Misconfigured},
    store::{self, Store, StoreError, WriteResult},
};

/// The outcome of [`Analytics::record`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CountOutcome {
    /// The facts were newer than the stored ones, and are counted now.
    Counted,
    /// These facts, or newer ones, were counted before.
    AlreadyCounted,
}

/// The client of a stack's analytics table.
#[derive(Clone, Debug)]
pub struct Analytics {
    pub(super) client: Client,
    pub(super) table: String,
}

impl Analytics {
    /// The analytics table of this name. The client gets the retry settings for DynamoDB.
    pub fn new(client: &Client, table: &str) -> Self {
        Self { client: store::with_table_retries(client), table: table.to_owned() }
    }

    /// The analytics table that is named by `METRICS_TABLE_NAME`.
    ///
    /// # Errors
    /// Returns an error when the variable is not set.
    pub fn from_env(env: &Env, client: &Client) -> Result<Self, Misconfigured> {
        Ok(Self::new(client, env.required("METRICS_TABLE_NAME")?))
    }

    /// Counts these facts, unless the same or newer facts of the same referral are counted already.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable, or when concurrent writers changed the same facts too often.
    pub async fn record(&self, facts: &Facts) -> Result<CountOutcome, StoreError> {
        let mut known = self.known(&facts.referee).await?;
        for _ in 0..Store::MAX_DECISIONS {
            if known.as_ref().is_some_and(|known| known.rev >= facts.rev) {
                return Ok(CountOutcome::AlreadyCounted);
            }
            match self.replace(known.as_ref(), facts).await? {
                WriteResult::Written(()) => return Ok(CountOutcome::Counted),
                WriteResult::Conflict(found) => known = found,
            }
        }
        Err(StoreError::Contended("the facts of a referral".to_owned()))
    }

    async fn known(&self, referee: &UserId) -> Result<Option<Facts>, StoreError> {
        let read = self.client.get_item().table_name(&self.table).set_key(Some(items::facts_key(referee)));
        let found = read.consistent_read(true).send().await?;
        Ok(found.item.map(items::facts_from).transpose()?)
    }

    /// Replaces the stored facts, and adds the difference to the counters. A conflict returns the facts that a concurrent
    /// writer stored.
    async fn replace(
        &self,
        known: Option<&Facts>,
        facts: &Facts,
    ) -> Result<WriteResult<(), Option<Facts>>, StoreError> {
        let before = known.map(contributions).unwrap_or_default();
        let by = contributions(facts).minus(&before);
        let put = expressions::replace(items::facts_item(facts)?, known);
        let updates = by.0.iter().map(|(subject, counters)| expressions::add(subject, &facts.referee, counters));
        let writes = std::iter::once(put).chain(updates).collect();
        match store::transact(&self.client, &self.table, writes, None).await? {
            WriteResult::Written(()) => Ok(WriteResult::Written(())),
            WriteResult::Conflict(mut conflicts) => {
                let found = conflicts.first().and_then(|position| conflicts.take_found(position));
                Ok(WriteResult::Conflict(found.map(items::facts_from).transpose()?))
            }
        }
    }
}
