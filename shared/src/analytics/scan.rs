//! The whole metrics table: made, and read from one end to the other. For what counts anew, and for no function.

use std::time::Duration;

use aws_sdk_dynamodb::{error::SdkError, operation::describe_table::DescribeTableError, types::TableStatus};

use super::{items, store::Metrics};
use crate::store::{self, StoreError, keys::Item};

impl Metrics {
    /// How many items can be asked for at once.
    pub const BATCH: usize = 100;

    /// A page of the table, and where the next begins.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn scan(&self, from: Option<Item>) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let page = self.client.scan().table_name(&self.table).consistent_read(true).limit(1000);
        let answer = page.set_exclusive_start_key(from).send().await?;
        Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key))
    }

    /// What this table has under the keys of these items, a hundred at most.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn same_keys(&self, items: &[Item]) -> Result<Vec<Item>, StoreError> {
        store::read_batch(&self.client, &self.table, items.iter().map(items::key_of).collect()).await
    }

    /// Makes the table, unless it is there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn make(&self) -> Result<(), StoreError> {
        if self.is_ready().await?.is_none() {
            let table = items::definition(self.client.create_table().table_name(&self.table));
            table.map_err(|problem| StoreError::Unavailable(problem.to_string()))?.send().await?;
        }
        while self.is_ready().await? != Some(true) {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    /// Whether the table can be used; `None` when there is none.
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
