//! Creates and scans the analytics table. Used only by the rebuild command.

use std::time::Duration;

use aws_sdk_dynamodb::{error::SdkError, operation::describe_table::DescribeTableError, types::TableStatus};

use super::{items, store::Analytics};
use crate::store::{self, StoreError, keys::Item};

impl Analytics {
    /// The most items that one call of [`Self::same_keys`] reads.
    pub const BATCH: usize = 100;

    /// Reads a page of the table. Returns its items and the start of the next page.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn scan(&self, from: Option<Item>) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let page = self.client.scan().table_name(&self.table).consistent_read(true).limit(1000);
        let answer = page.set_exclusive_start_key(from).send().await?;
        Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key))
    }

    /// Reads the items that have the same keys as these, at most [`Self::BATCH`].
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn same_keys(&self, items: &[Item]) -> Result<Vec<Item>, StoreError> {
        store::read_batch(&self.client, &self.table, items.iter().map(items::key_of).collect()).await
    }

    /// Creates the table if it does not exist, and waits until it is active.
    ///
    /// # Errors
    /// Returns an error when the table cannot be created.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        if self.is_ready().await?.is_none() {
            let table = items::definition(self.client.create_table().table_name(&self.table));
            table.map_err(|problem| StoreError::Unavailable(problem.to_string()))?.send().await?;
        }
        while self.is_ready().await? != Some(true) {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    /// Whether the table is active; `None` if it does not exist.
    async fn is_ready(&self) -> Result<Option<bool>, StoreError> {
        match self.client.describe_table().table_name(&self.table).send().await {
            Ok(answer) => Ok(Some(answer.table.and_then(|table| table.table_status) == Some(TableStatus::Active))),
            Err(SdkError::ServiceError(problem)) if is_absent(problem.err()) => Ok(None),
            Err(problem) => Err(problem.into()),
        }
    }
}

fn is_absent(problem: &DescribeTableError) -> bool {
    problem.is_resource_not_found_exception()
}
