//! The store of the metrics: facts taken in, each in one transaction with what they change of the counters.

use aws_sdk_dynamodb::{
    Client, error::SdkError, operation::transact_write_items::TransactWriteItemsError, types::TransactWriteItem,
};

use super::{
    contributions::{Counts, contributions},
    expressions,
    facts::Facts,
    items,
};
use crate::{
    id::UserId,
    runtime::{Env, Misconfigured},
    store::{self, Store, StoreError, keys::Item},
};

/// What became of facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// They were newer than what was known, and are counted.
    Counted,
    /// They, or newer ones, were known.
    Known,
}

/// The metrics table of one stack.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) client: Client,
    pub(super) table: String,
}

/// What a write came to: done, or others were faster, and this is there now.
type Refused = Option<Option<Facts>>;

impl Metrics {
    /// The metrics table of this name. The client's retries become those that fit a table.
    pub fn new(client: &Client, table: &str) -> Self {
        Self { client: store::with_table_retries(client), table: table.to_owned() }
    }

    /// The metrics table that `METRICS_TABLE_NAME` names.
    ///
    /// # Errors
    /// When it is not set.
    pub fn from_env(env: &Env, client: &Client) -> Result<Self, Misconfigured> {
        Ok(Self::new(client, env.required("METRICS_TABLE_NAME")?))
    }

    /// Counts these facts, unless they or newer ones of the same referral are counted already.
    ///
    /// # Errors
    /// When the table does not answer, or others keep counting the same referral.
    pub async fn take(&self, facts: &Facts) -> Result<Taken, StoreError> {
        let mut known = self.known(&facts.referee).await?;
        for _ in 0..Store::MAX_DECISIONS {
            if known.as_ref().is_some_and(|known| known.rev >= facts.rev) {
                return Ok(Taken::Known);
            }
            match self.replace(known.as_ref(), facts).await? {
                None => return Ok(Taken::Counted),
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

    /// Puts facts in the place of those that are known, and adds to the counters what that changes.
    async fn replace(&self, known: Option<&Facts>, facts: &Facts) -> Result<Refused, StoreError> {
        let before = known.map(contributions).unwrap_or_default();
        let items = self.items(known, facts, &contributions(facts).minus(&before))?;
        match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => Ok(None),
            Err(problem) => refused(problem).map(Some),
        }
    }

    fn items(&self, known: Option<&Facts>, facts: &Facts, by: &Counts) -> Result<Vec<TransactWriteItem>, StoreError> {
        let put = expressions::replace(&self.table, items::facts_item(facts)?, known);
        let updates =
            by.0.iter().map(|(subject, figures)| expressions::add(&self.table, subject, &facts.referee, figures));
        let put = put.map(|put| TransactWriteItem::builder().put(put).build());
        let updates = updates.map(|update| Some(TransactWriteItem::builder().update(update?).build()));
        let items: Option<Vec<_>> = std::iter::once(put).chain(updates).collect();
        items.ok_or_else(|| StoreError::Unavailable("the library refuses the transaction".to_owned()))
    }
}

/// What was there where the condition did not hold; any other failure stays one.
fn refused<R>(problem: SdkError<TransactWriteItemsError, R>) -> Result<Option<Facts>, StoreError>
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
