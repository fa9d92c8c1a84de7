//! Batches from queues: every message apart, and the failed ones given back by name.

use std::future::Future;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::future::join_all;
use lambda_runtime::Error;
use serde_json::Value;
use tokio::time::timeout_at;

use crate::{
    mutant::{self, Mutant},
    runtime::Deadline,
};

/// A message, as far as a handler may care.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its id, by which it is given back.
    pub id: String,
    /// Names this one receipt; what its queue wants to hear when something is to be done with it.
    pub receipt: String,
    /// The queue that it came from, by name.
    pub queue: String,
    /// How often it was received, this time included.
    pub receives: u32,
    /// What it says, as JSON; text that is none becomes a JSON string, to be put aside as it is.
    pub body: Value,
}

impl Message {
    fn read(message: SqsMessage) -> Self {
        let text = message.body.unwrap_or_default();
        let receives = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
        Self {
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            queue: message.event_source_arn.as_deref().and_then(|arn| arn.rsplit(':').next()).unwrap_or("").to_owned(),
            receives: receives.unwrap_or(1),
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is dealt with; the queue forgets it.
    Done,
    /// The queue brings it again.
    Again,
}

/// Whether this is a batch from a queue.
pub fn is_batch(payload: &Value) -> bool {
    payload.get("Records").is_some_and(Value::is_array)
}

/// Handles the messages of a batch side by side, and answers which of them failed, so that the queue brings those again
/// and no others. Who handles a message says in the log what came of it; what is still under way when time runs out has
/// failed.
///
/// # Errors
/// When it is no batch; then the whole of it comes again.
pub async fn each<F, D>(payload: Value, deadline: Deadline, handle: F) -> Result<Value, Error>
where
    F: Fn(Message) -> D,
    D: Future<Output = Fate>,
{
    let batch: SqsEvent = serde_json::from_value(payload)?;
    let outcomes = join_all(batch.records.into_iter().map(Message::read).map(|message| {
        let id = message.id.clone();
        let work = timeout_at(deadline.last_call(), handle(message));
        async move {
            match work.await {
                Ok(Fate::Done) => None,
                Ok(Fate::Again) if mutant::is(Mutant::FailedMessageAcknowledged) => None,
                Ok(Fate::Again) => Some(id),
                Err(_elapsed) => {
                    tracing::warn!(outcome = "out of time", message = id);
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
    fn a_message_is_read_as_lambda_spells_it() {
        let event: SqsEvent = serde_json::from_value(json!({"Records": [
            {
                "messageId": "m-1", "receiptHandle": "handle", "body": "{\"a\":1}",
                "attributes": {"ApproximateReceiveCount": "3"},
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:stack-CreditQueue-X1",
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
        assert_eq!((second.receives, second.queue.as_str()), (1, ""));
    }
}
