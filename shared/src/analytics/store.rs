//! Records facts: one transaction stores the facts of a referral and updates the counters that they change.

use aws_sdk_dynamodb::{
    Client, error::SdkError, operation::transact_write_items::TransactWriteItemsError, types::TransactWriteItem,
};

use super::{
    contributions::{Contributions, contributions},
    expressions,
    facts::Facts,
    items,
};
use crate::{
    domain::id::UserId,
    runtime::{Env, Misconfigured},
    store::{self, Store, StoreError, keys::Item},
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

/// The result of a write: `None` if it was done, else the facts that a concurrent writer stored.
type Conflict = Option<Option<Facts>>;

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
                None => return Ok(CountOutcome::Counted),
                Some(found) => known = found,
            }
        }
        Err(StoreError::Contended(facts.referee.hashed()))
    }

    async fn known(&self, referee: &UserId) -> Result<Option<Facts>, StoreError> {
        let read = self.client.get_item().table_name(&self.table).set_key(Some(items::facts_key(referee)));
        let found = read.consistent_read(true).send().await?;
        Ok(found.item.map(items::facts_from).transpose()?)
    }

    /// Replaces the stored facts, and adds the difference to the counters.
    async fn replace(&self, known: Option<&Facts>, facts: &Facts) -> Result<Conflict, StoreError> {
        let before = known.map(contributions).unwrap_or_default();
        let items = self.items(known, facts, &contributions(facts).minus(&before))?;
        match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => Ok(None),
            Err(problem) => conflict(problem).map(Some),
        }
    }

    fn items(
        &self,
        known: Option<&Facts>,
        facts: &Facts,
        by: &Contributions,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let put = expressions::replace(&self.table, items::facts_item(facts)?, known);
        let updates =
            by.0.iter().map(|(subject, counters)| expressions::add(&self.table, subject, &facts.referee, counters));
        let put = put.map(|put| TransactWriteItem::builder().put(put).build());
        let updates = updates.map(|update| Some(TransactWriteItem::builder().update(update?).build()));
        let items: Option<Vec<_>> = std::iter::once(put).chain(updates).collect();
        items.ok_or_else(|| StoreError::Unavailable("the transaction cannot be built".to_owned()))
    }
}

/// The item that was found where the condition failed. Any other failure remains an error.
fn conflict<R>(problem: SdkError<TransactWriteItemsError, R>) -> Result<Option<Facts>, StoreError>
where
    R: std::fmt::Debug + 'static,
{
    let found: Option<Option<Item>> = match problem.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
            let mut reasons = canceled.cancellation_reasons().iter();
            reasons.find(|reason| reason.code() == Some("ConditionalCheckFailed")).map(|reason| reason.item.clone())
        }
        Some(_) | None => None,
    };
    match found {
        Some(item) => Ok(item.map(items::facts_from).transpose()?),
        None => Err(problem.into()),
    }
}
