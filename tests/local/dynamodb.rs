//! The embedded DynamoDB: the template's tables, served on a separate port.

use std::{net::TcpListener, path::Path, thread, time::Duration};

use dynoxide::actions::create_table::CreateTableRequest;
use dynoxide::{
    Database, DynoxideError,
    actions::{
        get_records::{GetRecordsRequest, Record},
        get_shard_iterator::GetShardIteratorRequest,
        list_streams::ListStreamsRequest,
        scan::ScanRequest,
    },
};
use rusqlite::Connection;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::clock;

/// The embedded DynamoDB cannot be opened, read or served.
#[derive(Debug, thiserror::Error)]
pub enum DynamoError {
    /// The database answered with an error.
    #[error("embedded DynamoDB: {0}")]
    Database(#[from] DynoxideError),
    /// The index on stream records cannot be created.
    #[error("embedded DynamoDB: {0}")]
    Index(#[from] rusqlite::Error),
    /// Its thread or its listener cannot be started.
    #[error("embedded DynamoDB: {0}")]
    Serve(#[from] std::io::Error),
    /// The template's table has no stream.
    #[error("the table has no stream")]
    NoStream,
}

/// Each write looks up the last record of the table's stream. Dynoxide has no index for that; without this one every
/// write would read all earlier records.
const INDEX: &str = "CREATE INDEX IF NOT EXISTS stream_records_by_sequence
    ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";

/// The database, and its table with a stream.
#[derive(Clone)]
pub(crate) struct DynamoDb {
    database: Database,
    stream: String,
    shard: String,
}

impl DynamoDb {
    /// Opens the database at `path`, or one in memory, and creates the missing tables. `table` has the stream.
    pub(crate) fn open(
        path: Option<&Path>,
        table: CreateTableRequest,
        others: impl IntoIterator<Item = CreateTableRequest>,
    ) -> Result<Self, DynamoError> {
        let place = match path {
            Some(path) => path.display().to_string(),
            None => format!("file:{}?mode=memory&cache=shared", clock::id()),
        };
        let database = Database::new(&place)?;
        // This connection closes at the end of the statement: two connections in use would conflict on table locks.
        Connection::open(&place)?.execute_batch(INDEX)?;
        if path.is_some() {
            // Do not wait for the disk. Writes survive the end of the process, but may not survive a power failure.
            database.enable_bulk_loading()?;
        }
        let name = table.table_name.clone();
        for table in std::iter::once(table).chain(others) {
            if database.get_table_metadata(&table.table_name)?.is_none() {
                database.create_table(table)?;
            }
        }
        let streams =
            database.list_streams(ListStreamsRequest { table_name: Some(name.clone()), ..Default::default() })?;
        let stream = streams.streams.into_iter().next().ok_or(DynamoError::NoStream)?.stream_arn;
        Ok(Self { database, stream, shard: dynoxide::streams::shard_id(&name) })
    }

    /// The stream's ARN.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// The stream's one shard.
    pub(crate) fn shard(&self) -> &str {
        &self.shard
    }

    /// Up to `limit` records after the sequence number `after`, or from the beginning.
    pub(crate) fn records(&self, after: Option<&str>, limit: usize) -> Result<Vec<Record>, DynamoError> {
        let kind = if after.is_some() { "AFTER_SEQUENCE_NUMBER" } else { "TRIM_HORIZON" };
        let iterator = self.database.get_shard_iterator(GetShardIteratorRequest {
            stream_arn: self.stream.clone(),
            shard_id: self.shard.clone(),
            shard_iterator_type: kind.to_owned(),
            sequence_number: after.map(str::to_owned),
        })?;
        let shard_iterator = iterator.shard_iterator.unwrap_or_default();
        Ok(self.database.get_records(GetRecordsRequest { shard_iterator, limit: Some(limit) })?.records)
    }

    /// Every item of this table.
    pub(crate) fn items(&self, table: &str) -> Result<Vec<Value>, DynamoError> {
        let request = ScanRequest { table_name: table.to_owned(), ..Default::default() };
        let items = self.database.scan(request)?.items.unwrap_or_default();
        Ok(items.iter().filter_map(|item| serde_json::to_value(item).ok()).collect())
    }

    /// Serves the database on `listener`, on a separate thread and runtime: the database uses one lock, and waiting for
    /// it must not block the functions.
    pub(crate) fn serve(&self, listener: TcpListener) -> Result<Server, DynamoError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let database = self.database.clone();
        thread::Builder::new().name("dynamodb".to_owned()).spawn(move || {
            let stopped = async move { drop(stopped.await) };
            if let Err(problem) = runtime.block_on(dynoxide::server::serve_with_shutdown(listener, database, stopped)) {
                tracing::error!(%problem, "the embedded DynamoDB stopped serving");
            }
            runtime.shutdown_timeout(Duration::from_secs(1));
            let _receiver_is_gone = ended.send(());
        })?;
        Ok(Server { stop, end })
    }
}

/// A running server of the database; it stops when dropped.
pub(crate) struct Server {
    stop: oneshot::Sender<()>,
    end: oneshot::Receiver<()>,
}

impl Server {
    /// Stops serving. Requests in progress may finish within `limit`.
    pub(crate) async fn stop(self, limit: Duration) {
        drop(self.stop);
        drop(tokio::time::timeout(limit, self.end).await);
    }
}

#[cfg(test)]
mod tests {
    use dynoxide::actions::put_item::PutItemRequest;
    use referrals::runtime::Env;
    use serde_json::json;

    use super::*;
    use crate::deployment::{Deployment, TEMPLATE};

    fn table() -> CreateTableRequest {
        Deployment::read(TEMPLATE, &Env::default()).unwrap().table("Table", "referrals").unwrap()
    }

    fn put(dynamodb: &DynamoDb, pk: &str) {
        let item = json!({"pk": {"S": pk}, "sk": {"S": "X"}});
        let request: PutItemRequest = serde_json::from_value(json!({"TableName": "referrals", "Item": item})).unwrap();
        dynamodb.database.put_item(request).unwrap();
    }

    #[test]
    fn databases_are_separate_and_a_stream_continues_after_a_position() {
        let (one, other) = (DynamoDb::open(None, table(), []).unwrap(), DynamoDb::open(None, table(), []).unwrap());
        put(&one, "A");
        put(&one, "B");
        assert!(other.records(None, 10).unwrap().is_empty());
        let records = one.records(None, 10).unwrap();
        assert_eq!(records.len(), 2);
        let after = one.records(Some(&records[0].dynamodb.sequence_number), 10).unwrap();
        assert_eq!(after.len(), 1);
        assert_eq!(after[0].dynamodb.sequence_number, records[1].dynamodb.sequence_number);
    }
}
