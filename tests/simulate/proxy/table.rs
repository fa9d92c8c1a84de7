//! The proxy's connection to the embedded DynamoDB of a history.
//!
//! It carries one call at a time, and the oracle checks a write before the next call. So the oracle sees all writes in
//! their order, and before any code that acts on them.

use std::io;

use local::{Definition, Embedded};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{SetupError, caller::caller, http, http::Message};
use crate::{
    faults::Kind,
    table,
    transport::{Shared, is_write},
};

/// The table's name, as configured for the functions.
const NAME: &str = "referrals";

/// The table of one history and the connection to it.
pub(super) struct TableConnection {
    embedded: Embedded,
    connection: BufReader<TcpStream>,
}

impl TableConnection {
    /// Connects to a new table.
    pub(super) async fn open(definition: &Definition) -> Result<Self, SetupError> {
        let embedded = Embedded::start(definition, NAME)?;
        let connection = TcpStream::connect(embedded.address()).await?;
        connection.set_nodelay(true)?;
        Ok(Self { embedded, connection: BufReader::new(connection) })
    }

    /// Stops the table. Returns the difference between its content and that of its stream, if there is one.
    pub(super) async fn close(self, model: &table::Table) -> Result<Option<String>, SetupError> {
        let items = self.embedded.items(NAME)?;
        let model: Vec<Value> = model.items().values().cloned().map(Value::Object).collect();
        let is_same = items.len() == model.len() && model.iter().all(|item| items.contains(item));
        drop(self.connection);
        self.embedded.stop().await;
        Ok((!is_same).then(|| format!("the table holds {items:?}, and its stream contains {model:?}")))
    }

    /// Calls the table and passes the resulting writes to the oracle.
    pub(super) async fn call(
        &mut self,
        shared: &Shared,
        operation: &str,
        request: &Message,
    ) -> Result<Vec<u8>, SetupError> {
        if operation == "BatchGetItem" && shared.strikes(Kind::BatchCut) {
            return self.read_first_key(request).await;
        }
        if operation == "Query" && shared.strikes(Kind::IndexLags) {
            let query = serde_json::from_slice(&request.body)?;
            return Ok(http::bytes(&table::wire::respond(&shared.with(|state| state.lagging(&query)))));
        }
        let answer = self.exchange(request).await?;
        if is_write(operation) {
            let by = caller(shared, request);
            for record in self.embedded.changes()? {
                shared.with(|state| state.apply_record(record, by.as_ref()));
            }
        }
        Ok(answer.bytes())
    }

    /// Requests only the first key of a batch and returns the others as unprocessed.
    async fn read_first_key(&mut self, request: &Message) -> Result<Vec<u8>, SetupError> {
        let mut first: Value = serde_json::from_slice(&request.body)?;
        let mut rest = first["RequestItems"].clone();
        rest[NAME]["Keys"].as_array_mut().map(|keys| keys.drain(..1.min(keys.len())).count());
        if let Some(keys) = first["RequestItems"][NAME]["Keys"].as_array_mut() {
            keys.truncate(1);
        }
        let answer = self.exchange(&request.with_body(first.to_string().into_bytes())).await?;
        let mut answer: Map<String, Value> = serde_json::from_slice(&answer.body)?;
        if rest[NAME]["Keys"].as_array().is_some_and(|keys| !keys.is_empty()) {
            answer.insert("UnprocessedKeys".to_owned(), rest);
        }
        Ok(http::bytes(&local::answers::respond(200, &json!(answer))))
    }

    async fn exchange(&mut self, request: &Message) -> Result<Message, SetupError> {
        self.connection.write_all(&request.bytes()).await?;
        let answer = Message::read(&mut self.connection).await?;
        Ok(answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?)
    }
}
