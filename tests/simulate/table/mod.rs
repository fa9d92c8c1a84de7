//! An in-memory DynamoDB table: the template's table, with the operations that the store uses.
//!
//! Most simulated histories use it, because it needs neither sockets nor time. The tests in `differential` compare it
//! with the local service's embedded DynamoDB, on every expression that the store sends. It refuses everything that it
//! does not support, so that no condition succeeds without being evaluated.

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

/// The table: its items and its stream records.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    items: BTreeMap<Key, Item>,
    records: Vec<Arc<Value>>,
    /// Transactions by client token: the request and its time.
    tokens: HashMap<String, (Value, i64)>,
    now: i64,
    lag: usize,
    late: usize,
    batch: usize,
}

/// The most keys of one batch read.
const MAX_BATCH: usize = 100;

impl Table {
    /// An empty table.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            items: BTreeMap::new(),
            records: Vec::new(),
            tokens: HashMap::new(),
            now: 0,
            lag: 0,
            late: 0,
            batch: MAX_BATCH,
        }
    }

    /// Sets the time, in milliseconds since 1970, for stream records and the age of tokens.
    pub(crate) fn set_now(&mut self, millis: i64) {
        self.now = millis;
    }

    /// From now on, indexes do not show the last `writes` changes of items.
    pub(crate) fn lag_indexes(&mut self, writes: usize) {
        self.lag = writes;
    }

    /// The table, in which reads that are not strongly consistent do not show the last `writes` changes of items.
    pub(crate) fn with_late_reads(self, writes: usize) -> Self {
        Self { late: writes, ..self }
    }

    /// From now on, a batch read answers at most this many keys (at least one) and returns the others as unprocessed.
    pub(crate) fn limit_batches(&mut self, keys: usize) {
        self.batch = keys.clamp(1, MAX_BATCH);
    }

    /// Every item, by key.
    pub(crate) fn items(&self) -> &BTreeMap<Key, Item> {
        &self.items
    }

    /// Every stream record, oldest first. A reader remembers how many it has read.
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
            _ => Err(DynamoError::new("UnknownOperationException", format!("{operation} is not supported"))),
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

/// Returns the members of a request, and refuses one that would be ignored.
fn members<'a>(request: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, DynamoError> {
    let Some(members) = request.as_object() else { return Err(DynamoError::serialization()) };
    match members.keys().find(|member| !known.contains(&member.as_str())) {
        Some(member) => Err(DynamoError::validation(format!("{member} is not supported"))),
        None => Ok(members),
    }
}

/// A member that is one of these values, or absent.
fn word<'a>(request: &'a Value, member: &str, words: &[&str]) -> Result<Option<&'a str>, DynamoError> {
    match &request[member] {
        Value::Null => Ok(None),
        Value::String(word) if words.contains(&word.as_str()) => Ok(Some(word)),
        other => Err(DynamoError::validation(format!("Value {other} at {member} is not supported"))),
    }
}
