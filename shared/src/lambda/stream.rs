//! Batches from the table's stream: reads records into typed changes, and processes them in order.
//!
//! The records of one referral arrive in order. Therefore the first record that fails stops the batch: its sequence
//! number is returned, and Lambda retries the batch from that record on.

use std::future::Future;

use aws_lambda_events::{
    dynamodb::EventRecord,
    streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse},
};
use lambda_runtime::Error;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout_at;

use crate::{
    referral::{Referral, reversal::Reversal},
    runtime::{Deadline, log_outcome::LogOutcome},
    store::items::{
        InvalidItem,
        referral::{from_referral_image, is_referral_key},
        reversal::{from_reversal_image, is_reversal_key},
    },
};

/// What a stream record says about a referral.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record<T> {
    /// A referral or a reversal was written.
    Changed(Box<T>),
    /// The record is about neither of them, or the write changed nothing in it, or an operator deleted a referral
    /// manually.
    Unchanged,
    /// The record cannot be read. The text contains the reason.
    Invalid(String),
}

/// An item before and after a write. `before` is `None` for a new item.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "`Record` keeps it in a box")]
pub enum Change {
    Referral { before: Option<Referral>, after: Referral },
    Reversal { before: Option<Reversal>, after: Reversal },
}

/// The records of a batch; `None` if the payload is not a batch of stream records.
pub fn records(payload: &Value) -> Option<&Vec<Value>> {
    payload.get("Records").and_then(Value::as_array)
}

/// Reads both images of a record.
pub fn change(record: &Value) -> Record<Change> {
    read(record, |keys, old, new| {
        let old = (!old.is_empty()).then_some(old);
        if is_referral_key(keys) {
            let (before, after) = (old.map(from_referral_image).transpose()?, from_referral_image(new)?);
            return Ok((before.as_ref() != Some(&after)).then_some(Change::Referral { before, after }));
        }
        if is_reversal_key(keys) {
            let (before, after) = (old.map(from_reversal_image).transpose()?, from_reversal_image(new)?);
            return Ok((before.as_ref() != Some(&after)).then_some(Change::Reversal { before, after }));
        }
        Ok(None)
    })
}

/// Reads only the new image of a referral's record, for callers that do not compare it with the old one.
pub fn new_state(record: &Value) -> Record<Referral> {
    read(record, |keys, _old, new| is_referral_key(keys).then(|| from_referral_image(new)).transpose())
}

fn read<T>(
    record: &Value,
    decode: impl FnOnce(&serde_dynamo::Item, serde_dynamo::Item, serde_dynamo::Item) -> Result<Option<T>, InvalidItem>,
) -> Record<T> {
    let images = match EventRecord::deserialize(record) {
        Ok(record) => record.change,
        Err(problem) => return Record::Invalid(problem.to_string()),
    };
    // The record of a manually deleted item has no new image.
    if images.new_image.is_empty() {
        return Record::Unchanged;
    }
    match decode(&images.keys, images.old_image, images.new_image) {
        Ok(Some(content)) => Record::Changed(Box::new(content)),
        Ok(None) => Record::Unchanged,
        Err(problem) => Record::Invalid(problem.to_string()),
    }
}

/// One piece of work in a batch.
#[derive(Clone, Debug)]
pub struct Task<'a, T> {
    /// The record from which Lambda retries the batch if this task fails.
    pub record: &'a Value,
    /// Identifies the referral in log lines, if it is known before the task starts.
    pub correlation_id: Option<String>,
    pub content: T,
}

/// One task per record.
pub fn tasks(records: &[Value]) -> Vec<Task<'_, &Value>> {
    records.iter().map(|record| Task { record, correlation_id: None, content: record }).collect()
}

/// Processes the tasks of a batch in order, until one fails or the time runs out. Returns the batch response: the
/// sequence number of the first failed task's record, or no failure.
///
/// # Errors
/// Returns an error when the response cannot be serialized.
pub async fn each<T, F, P>(tasks: Vec<Task<'_, T>>, deadline: Deadline, process: F) -> Result<Value, Error>
where
    F: Fn(T) -> P,
    P: Future<Output = Result<(), Error>>,
{
    let mut response = DynamoDbEventResponse::default();
    for Task { record, correlation_id, content } in tasks {
        if !is_processed(|| process(content), correlation_id, deadline).await {
            response.batch_item_failures.push(failure(record));
            break;
        }
    }
    Ok(serde_json::to_value(response)?)
}

async fn is_processed<P>(process: impl FnOnce() -> P, correlation_id: Option<String>, deadline: Deadline) -> bool
where
    P: Future<Output = Result<(), Error>>,
{
    if deadline.is_near() {
        tracing::warn!(outcome = LogOutcome::OutOfTime.as_str(), correlation_id);
        return false;
    }
    // Boxed, because the nested future types of a whole function are otherwise too deep for the compiler.
    match timeout_at(deadline.last_call(), Box::pin(process())).await {
        Ok(Ok(())) => true,
        Ok(Err(problem)) => {
            tracing::warn!(outcome = LogOutcome::Failed.as_str(), %problem, correlation_id);
            false
        }
        Err(_elapsed) => {
            tracing::warn!(outcome = LogOutcome::OutOfTime.as_str(), correlation_id);
            false
        }
    }
}

fn failure(record: &Value) -> DynamoDbBatchItemFailure {
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = sequence(record).map(str::to_owned);
    failure
}

/// A record's sequence number.
pub fn sequence(record: &Value) -> Option<&str> {
    record.pointer("/dynamodb/SequenceNumber").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        sample::{converted, pending},
        store::{items::referral::to_referral_item, keys::Key},
    };

    fn image(referral: &Referral) -> serde_dynamo::Item {
        to_referral_item(referral).unwrap().into()
    }

    fn record(old: Option<&Referral>, new: Option<&Referral>) -> Value {
        let keys = serde_dynamo::Item::from(Key::referral(&pending().referee).attributes());
        let mut images =
            json!({"Keys": keys, "SequenceNumber": "7", "SizeBytes": 900, "ApproximateCreationDateTime": 1});
        if let Some(old) = old {
            images["OldImage"] = serde_json::to_value(image(old)).unwrap();
        }
        if let Some(new) = new {
            images["NewImage"] = serde_json::to_value(image(new)).unwrap();
        }
        json!({"eventID": "e-1", "eventName": "MODIFY", "awsRegion": "us-east-1", "dynamodb": images})
    }

    #[test]
    fn a_record_is_read_as_a_change() {
        let (before, after) = (pending(), converted());
        let changed = Change::Referral { before: Some(before.clone()), after: after.clone() };
        assert_eq!(change(&record(Some(&before), Some(&after))), Record::Changed(Box::new(changed)));
        let new = Change::Referral { before: None, after: before.clone() };
        assert_eq!(change(&record(None, Some(&before))), Record::Changed(Box::new(new)));
        assert_eq!(change(&record(Some(&after), Some(&after))), Record::Unchanged);
        assert_eq!(change(&record(Some(&after), None)), Record::Unchanged);
        assert_eq!(new_state(&record(Some(&after), Some(&after))), Record::Changed(Box::new(after)));
        assert!(matches!(change(&json!("broken")), Record::Invalid(_)));
        assert!(matches!(new_state(&json!("broken")), Record::Invalid(_)));
    }
}
