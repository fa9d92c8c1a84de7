//! Batches from SQS: messages are handled concurrently, and the failed ones are reported by id.

use std::future::Future;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::future::join_all;
use lambda_runtime::Error;
use serde_json::Value;
use tokio::time::timeout_at;

use crate::{
    domain::time::Timestamp,
    mutant::{self, Mutant},
    runtime::{Deadline, log_outcome::LogOutcome},
};

/// The parts of a message that handlers use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Names the message in the list of failures.
    pub id: String,
    /// The receipt handle of this delivery, with which its visibility can be changed.
    pub receipt: String,
    /// The name of the queue that it came from.
    pub queue: String,
    /// How often it was received, including this time.
    pub receives: u32,
    /// When it was sent to the queue. The time stays the same in every delivery.
    pub sent_at: Option<Timestamp>,
    /// The name of the target that a rule could not reach, if the message is a dead letter of the rule.
    pub target: Option<String>,
    /// The body as JSON. Text that is not JSON becomes a JSON string, which can be quarantined unchanged.
    pub body: Value,
}

impl Message {
    fn read(message: SqsMessage) -> Self {
        let text = message.body.unwrap_or_default();
        let attribute = |name| message.attributes.get(name);
        let receives = attribute("ApproximateReceiveCount").and_then(|count| count.parse().ok());
        let sent_at = attribute("SentTimestamp").and_then(|millis| Timestamp::from_millis(millis.parse().ok()?));
        let target = message.message_attributes.get("TARGET_ARN").and_then(|target| target.string_value.as_deref());
        Self {
            target: target.map(name_of),
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            queue: message.event_source_arn.as_deref().map(name_of).unwrap_or_default(),
            receives: receives.unwrap_or(1),
            sent_at,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }
}

/// The last part of an ARN.
fn name_of(arn: &str) -> String {
    arn.rsplit(':').next().unwrap_or_default().to_owned()
}

/// What the queue does with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Deletes it.
    Ack,
    /// Delivers it again.
    Retry,
}

/// Whether this is a batch from SQS.
pub fn is_batch(payload: &Value) -> bool {
    payload.get("Records").is_some_and(Value::is_array)
}

/// Handles the messages of a batch concurrently, and returns which of them failed, so that the queue delivers only those
/// again. The handler logs the outcome of each message. A message that is not finished at the deadline has failed.
///
/// # Errors
/// Returns an error when the payload is not a batch. Lambda then delivers all of it again.
pub async fn each<F, D>(payload: Value, deadline: Deadline, handle: F) -> Result<Value, Error>
where
    F: Fn(Message) -> D,
    D: Future<Output = Disposition>,
{
    let batch: SqsEvent = serde_json::from_value(payload)?;
    let outcomes = join_all(batch.records.into_iter().map(Message::read).map(|message| {
        let id = message.id.clone();
        let work = timeout_at(deadline.last_call(), handle(message));
        async move {
            match work.await {
                Ok(Disposition::Ack) => None,
                Ok(Disposition::Retry) if mutant::is(Mutant::FailedMessageAcknowledged) => None,
                Ok(Disposition::Retry) => Some(id),
                Err(_elapsed) => {
                    tracing::warn!(outcome = LogOutcome::OutOfTime.as_str(), message = id);
                    Some(id)
                }
            }
        }
    }));
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = outcomes.await.into_iter().flatten().map(failure).collect();
    Ok(serde_json::to_value(response)?)
}

fn failure(id: String) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = id;
    failure
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_read_from_the_event_of_lambda() {
        let event: SqsEvent = serde_json::from_value(json!({"Records": [
            {
                "messageId": "m-1", "receiptHandle": "handle", "body": "{\"a\":1}",
                "attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "1769851800120"},
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:stack-CreditQueue-X1",
                "messageAttributes": {"TARGET_ARN": {
                    "dataType": "String", "stringValue": "arn:aws:sqs:us-east-1:123456789012:stack-Delay-X2",
                }},
            },
            {"messageId": "m-2", "body": "no JSON"},
        ]}))
        .unwrap();
        let mut messages = event.records.into_iter().map(Message::read);
        let (first, second) = (messages.next().unwrap(), messages.next().unwrap());
        assert_eq!(
            (first.queue.as_str(), first.receives, first.receipt.as_str()),
            ("stack-CreditQueue-X1", 3, "handle")
        );
        assert_eq!((first.body, second.body), (json!({"a": 1}), json!("no JSON")));
        assert_eq!((first.target.as_deref(), second.target), (Some("stack-Delay-X2"), None));
        assert_eq!(first.sent_at, Timestamp::from_millis(1_769_851_800_120));
        assert_eq!((second.receives, second.queue.as_str(), second.sent_at), (1, "", None));
    }
}
