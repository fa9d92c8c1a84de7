//! Batches from queues: every message apart, and the failed ones given back by name.

use std::future::Future;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures_util::future::join_all;
use lambda_runtime::Error;
use serde_json::Value;
use tokio::time::timeout_at;

use crate::runtime::Deadline;

/// Whether this is a batch from a queue.
pub fn is_batch(payload: &Value) -> bool {
    payload.get("Records").is_some_and(Value::is_array)
}

/// Handles the bodies of a batch side by side, and answers which messages failed, so that the queue brings those again
/// and no others. What is still under way when time runs out has failed.
///
/// # Errors
/// When it is no batch; then the whole of it comes again.
pub async fn each<F, D>(payload: Value, deadline: Deadline, handle: F) -> Result<Value, Error>
where
    F: Fn(String) -> D,
    D: Future<Output = Result<(), Error>>,
{
    let batch: SqsEvent = serde_json::from_value(payload)?;
    let outcomes = join_all(batch.records.into_iter().map(|message| {
        let (id, body) = (message.message_id.unwrap_or_default(), message.body.unwrap_or_default());
        let work = timeout_at(deadline.last_call(), handle(body));
        async move {
            match work.await {
                Ok(Ok(())) => None,
                Ok(Err(problem)) => {
                    tracing::warn!(outcome = "failed", message = id, %problem);
                    Some(id)
                }
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

/// A message's body as JSON; text that is none becomes a JSON string, to be put aside as it is.
pub fn body(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}
