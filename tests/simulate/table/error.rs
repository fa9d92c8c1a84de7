//! Errors in DynamoDB's wire format.

use serde_json::{Value, json};

use super::item::Item;

/// A refused call.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DynamoError {
    /// The error type, such as `ConditionalCheckFailedException`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The existing item of a refused write, if the request asked for it.
    pub(crate) item: Option<Item>,
    /// The cancellation reasons of a transaction, one per write.
    pub(crate) reasons: Option<Vec<Value>>,
}

impl DynamoError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), item: None, reasons: None }
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(super) fn serialization() -> Self {
        Self::new("SerializationException", "the request has the wrong shape for the operation")
    }

    pub(super) fn condition(item: Option<Item>) -> Self {
        Self { item, ..Self::new("ConditionalCheckFailedException", "The conditional request failed") }
    }

    /// The same error with a prefix that names the part of the request.
    pub(super) fn within(mut self, part: &str) -> Self {
        self.message.insert_str(0, part);
        self
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        if self.code == "InternalServerError" { 500 } else { 400 }
    }

    /// The response body.
    pub(crate) fn document(&self) -> Value {
        let namespace = match self.code {
            "ValidationException" => "com.amazon.coral.validate",
            "SerializationException" | "UnknownOperationException" => "com.amazon.coral.service",
            _ => "com.amazonaws.dynamodb.v20120810",
        };
        let mut document = json!({ "__type": format!("{namespace}#{}", self.code) });
        match &self.reasons {
            Some(reasons) => {
                document["Message"] = json!(self.message);
                document["CancellationReasons"] = json!(reasons);
            }
            None => document["message"] = json!(self.message),
        }
        if let Some(item) = &self.item {
            document["Item"] = json!(item);
        }
        document
    }
}
