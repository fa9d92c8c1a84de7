//! A DynamoDB table in memory: the template's table, answering the operations that the store uses.
//!
//! It serves the bulk of the simulated histories, because it needs neither sockets nor time. The tests in `differential`
//! hold it equal to the embedded DynamoDB of the local service, on every expression that the store sends. What it does
//! not know it refuses, so that no guard passes because nobody looked at it.

#[cfg(test)]
mod connector;
mod error;
mod expression;
mod item;
mod number;
mod past;
mod query;
mod read;
mod stream;
mod transact;
pub(crate) mod wire;
mod write;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Map, Value};

pub(crate) use self::{
    error::DynamoError,
    item::{Item, Key},
};

/// The table: its items, and what became of them.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    items: BTreeMap<Key, Item>,
    records: Vec<Arc<Value>>,
    /// What became of every transaction that named a token: what it asked for, and when.
    tokens: HashMap<String, (Value, i64)>,
    now: i64,
    lag: usize,
    late: usize,
    batch: usize,
}

/// The most keys that one batch read takes.
const BATCH: usize = 100;

impl Table {
    /// An empty table of this name.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            items: BTreeMap::new(),
            records: Vec::new(),
            tokens: HashMap::new(),
            now: 0,
            lag: 0,
            late: 0,
            batch: BATCH,
        }
    }

    /// Says what time it is, in milliseconds since 1970: for the stream's records and for the age of tokens.
    pub(crate) fn set_now(&mut self, millis: i64) {
        self.now = millis;
    }

    /// From now on the indexes do not show the last `writes` changes of items.
    pub(crate) fn lag_indexes(&mut self, writes: usize) {
        self.lag = writes;
    }

    /// The table whose reads, where they do not ask for more, do not show the last `writes` changes of items.
    pub(crate) fn with_late_reads(self, writes: usize) -> Self {
        Self { late: writes, ..self }
    }

    /// From now on a batch read answers at most so many of its keys (one at least), and gives the others back.
    pub(crate) fn limit_batches(&mut self, keys: usize) {
        self.batch = keys.clamp(1, BATCH);
    }

    /// Every item, by key.
    pub(crate) fn items(&self) -> &BTreeMap<Key, Item> {
        &self.items
    }

    /// Every record of the stream, oldest first. A reader remembers how many it has read.
    pub(crate) fn records(&self) -> &[Arc<Value>] {
        &self.records
    }

    /// Answers one call.
    pub(crate) fn answer(&mut self, operation: &str, request: &Value) -> Result<Value, DynamoError> {
        match operation {
            "GetItem" => self.get_item(request),
            "BatchGetItem" => self.batch_get_item(request),
            "Query" => self.query(request),
            "PutItem" => self.write_item("Put", request),
            "UpdateItem" => self.write_item("Update", request),
            "DeleteItem" => self.write_item("Delete", request),
            "TransactWriteItems" => self.transact_write_items(request),
            _ => Err(DynamoError::new("UnknownOperationException", format!("{operation} is not known here"))),
        }
    }

    fn is_named(&self, request: &Value) -> Result<(), DynamoError> {
        match request["TableName"].as_str() {
            Some(name) if name == self.name => Ok(()),
            Some(_) => Err(DynamoError::new("ResourceNotFoundException", "Requested resource not found")),
            None => Err(DynamoError::validation("TableName is missing")),
        }
    }
}

/// Refuses a member that would be ignored, and gives the others.
fn members<'a>(request: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, DynamoError> {
    let Some(members) = request.as_object() else { return Err(DynamoError::serialization()) };
    match members.keys().find(|member| !known.contains(&member.as_str())) {
        Some(member) => Err(DynamoError::validation(format!("{member} is not known here"))),
        None => Ok(members),
    }
}

/// A member that is one of these words, or absent.
fn word<'a>(request: &'a Value, member: &str, words: &[&str]) -> Result<Option<&'a str>, DynamoError> {
    match &request[member] {
        Value::Null => Ok(None),
        Value::String(word) if words.contains(&word.as_str()) => Ok(Some(word)),
        other => Err(DynamoError::validation(format!("Value {other} at {member} is not known here"))),
    }
}
