//! The SQS operations that the functions use.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use crate::{aws::AwsError, clock, deployment::Queue, service::Local};

/// The most bytes of a message.
const MAX_BYTES: usize = 1024 * 1024;

/// `SendMessage`.
pub(crate) fn send_message(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let queue = queue(local, request)?;
    let body = request["MessageBody"].as_str().filter(|body| !body.is_empty() && body.len() <= MAX_BYTES);
    let body = body.ok_or_else(|| invalid("MessageBody must be a text of 1 byte to 1 MiB."))?;
    let attributes = match request.get("MessageAttributes") {
        None | Some(Value::Null) => json!({}),
        Some(attributes @ Value::Object(_)) => attributes.clone(),
        Some(_) => return Err(invalid("MessageAttributes is not an object.")),
    };
    let mut new_message = local.new_message(queue, body, attributes);
    if let Some(seconds) = request["DelaySeconds"].as_i64() {
        new_message.delay = seconds.clamp(0, 900) * 1000;
    }
    let id = local.journal.send(&new_message)?;
    Ok(json!({ "MessageId": id, "MD5OfMessageBody": format!("{:x}", md5::compute(body)) }))
}

/// `ChangeMessageVisibility`.
pub(crate) fn change_message_visibility(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let queue = queue(local, request)?;
    let receipt = request["ReceiptHandle"].as_str().unwrap_or_default();
    let seconds = request["VisibilityTimeout"].as_i64().filter(|seconds| (0..=43_200).contains(seconds));
    let seconds = seconds.ok_or_else(|| invalid("VisibilityTimeout must be 0 to 43200 seconds."))?;
    if local.journal.change_visibility(queue, receipt, seconds * 1000)? {
        Ok(json!({}))
    } else {
        Err(AwsError::new("com.amazonaws.sqs#ReceiptHandleIsInvalid", "No message has that receipt handle."))
    }
}

/// `GetQueueUrl`.
pub(crate) fn get_queue_url(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let name = known(local, request["QueueName"].as_str().unwrap_or_default())?;
    Ok(json!({ "QueueUrl": url(&local.url, name) }))
}

/// `GetQueueAttributes`: only the two attributes that the functions request.
pub(crate) fn get_queue_attributes(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let queue = queue(local, request)?;
    let messages = local.journal.count(queue, false)?.to_string();
    let attributes = json!({ "QueueArn": clock::arn("sqs", queue), "ApproximateNumberOfMessages": messages });
    Ok(json!({ "Attributes": attributes }))
}

/// The end time of the running move task of each dead-letter queue.
#[derive(Default)]
pub(crate) struct Moves(Mutex<HashMap<String, i64>>);

/// `StartMessageMoveTask`: moves messages from a dead-letter queue to a queue that it serves, at the requested rate.
pub(crate) fn start_message_move_task(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let arn = request["SourceArn"].as_str().unwrap_or_default();
    let from = known(local, arn.rsplit(':').next().unwrap_or_default())?;
    let serves = |queue: &Queue| queue.redrive.as_ref().is_some_and(|redrive| redrive.to == from);
    let sources = local.deployment.queues.iter().filter(|(_, queue)| serves(queue));
    // SQS moves each message to its source. Here, if two queues share a dead-letter queue, one of them gets all
    // messages.
    let to = sources.min_by_key(|(_, queue)| queue.delay).map(|(name, _)| name.as_str());
    let to = to.ok_or_else(|| invalid("Source queue must be configured as a Dead Letter Queue."))?;
    let pause = match request["MaxNumberOfMessagesPerSecond"].as_i64() {
        None => 0,
        Some(rate @ 1..=500) => 1000 / rate,
        Some(_) => return Err(invalid("MaxNumberOfMessagesPerSecond must be 1 to 500.")),
    };
    let mut moves = local.moves.0.lock().unwrap_or_else(PoisonError::into_inner);
    if moves.get(from).is_some_and(|until| clock::now() < *until) {
        return Err(invalid(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ));
    }
    let moved = i64::try_from(local.journal.move_all(from, to, pause)?).unwrap_or(i64::MAX);
    moves.insert(from.to_owned(), clock::now().saturating_add(pause.saturating_mul(moved)));
    Ok(json!({ "TaskHandle": clock::id() }))
}

/// A queue's URL, at the service with the URL `base`.
pub(crate) fn url(base: &str, queue: &str) -> String {
    format!("{base}/{}/{queue}", clock::ACCOUNT)
}

/// The queue that the request's URL names. The URL's host is not checked.
fn queue<'a>(local: &'a Local, request: &Value) -> Result<&'a str, AwsError> {
    let url = request["QueueUrl"].as_str().unwrap_or_default();
    known(local, url.rsplit('/').next().unwrap_or_default())
}

fn known<'a>(local: &'a Local, name: &str) -> Result<&'a str, AwsError> {
    let queue = local.deployment.queues.get_key_value(name).map(|(name, _)| name.as_str());
    queue.ok_or_else(|| AwsError::new("com.amazonaws.sqs#QueueDoesNotExist", format!("There is no queue {name:?}.")))
}

fn invalid(message: &str) -> AwsError {
    AwsError::new("com.amazonaws.sqs#InvalidParameterValue", message)
}
