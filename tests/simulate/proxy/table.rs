//! The line from the proxy to the embedded DynamoDB of a history.
//!
//! It carries one call at a time: what a write did is looked at before anybody else reads or writes, so that the oracle
//! sees all writes in their order, and never later than somebody who acts upon one.

use std::io;

use local::{Definition, Embedded};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Trouble, caller::caller, http, http::Message};
use crate::{
    faults::Kind,
    table,
    wires::{Shared, is_write},
};

/// The name that the functions know the table by.
const NAME: &str = "referrals";

/// The table of one history, and the connection to it.
pub(super) struct Line {
    embedded: Embedded,
    connection: BufReader<TcpStream>,
}

impl Line {
    /// A line to a new table.
    pub(super) async fn open(definition: &Definition) -> Result<Self, Trouble> {
        let embedded = Embedded::start(definition, NAME)?;
        let connection = TcpStream::connect(embedded.address()).await?;
        connection.set_nodelay(true)?;
        Ok(Self { embedded, connection: BufReader::new(connection) })
    }

    /// Ends the table; what was different in the end from what its stream told, if anything was.
    pub(super) async fn close(self, told: &table::Table) -> Result<Option<String>, Trouble> {
        let items = self.embedded.items(NAME)?;
        let told: Vec<Value> = told.items().values().cloned().map(Value::Object).collect();
        let is_same = items.len() == told.len() && told.iter().all(|item| items.contains(item));
        drop(self.connection);
        self.embedded.stop().await;
        Ok((!is_same).then(|| format!("the table holds {items:?}, and its stream told of {told:?}")))
    }

    /// Asks the table, and looks at what was written.
    pub(super) async fn ask(
        &mut self,
        shared: &Shared,
        operation: &str,
        request: &Message,
    ) -> Result<Vec<u8>, Trouble> {
        if operation == "BatchGetItem" && shared.strikes(Kind::BatchCut) {
            return self.ask_in_part(request).await;
        }
        if operation == "Query" && shared.strikes(Kind::IndexLags) {
            let query = serde_json::from_slice(&request.body)?;
            return Ok(http::bytes(&table::wire::respond(&shared.with(|state| state.lagging(&query)))));
        }
        let answer = self.exchange(request).await?;
        if is_write(operation) {
            let by = caller(shared, request);
            for record in self.embedded.changes()? {
                shared.with(|state| state.follow(record, by.as_ref()));
            }
        }
        Ok(answer.bytes())
    }

    /// Asks for the first key of a batch alone, and gives the others back.
    async fn ask_in_part(&mut self, request: &Message) -> Result<Vec<u8>, Trouble> {
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

    async fn exchange(&mut self, request: &Message) -> Result<Message, Trouble> {
        self.connection.write_all(&request.bytes()).await?;
        let answer = Message::read(&mut self.connection).await?;
        Ok(answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?)
    }
}
