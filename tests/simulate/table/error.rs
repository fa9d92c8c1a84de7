//! Refusals, as DynamoDB words them on the wire.

use serde_json::{Value, json};

use super::item::Item;

/// A call was refused.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DynamoError {
    /// The kind of refusal: `ConditionalCheckFailedException`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The item that a refused write met, where it asked for it.
    pub(crate) item: Option<Item>,
    /// Why a transaction was refused, write by write.
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
        Self::new("SerializationException", "the request is not of the shape that the operation takes")
    }

    pub(super) fn condition(item: Option<Item>) -> Self {
        Self { item, ..Self::new("ConditionalCheckFailedException", "The conditional request failed") }
    }

    /// The same, said of a part of the request.
    pub(super) fn within(mut self, part: &str) -> Self {
        self.message.insert_str(0, part);
        self
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        if self.code == "InternalServerError" { 500 } else { 400 }
    }

    /// The document that the answer carries.
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
