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

/// The last move task of each dead-letter queue.
#[derive(Default)]
pub(crate) struct Moves(Mutex<HashMap<String, Move>>);

/// A move task. Times are in milliseconds.
struct Move {
    handle: String,
    started_at: i64,
    /// The time between two messages.
    pause: i64,
    messages: i64,
    rate: Option<i64>,
}

impl Move {
    /// How many messages have arrived at their queue by this time.
    fn moved(&self, now: i64) -> i64 {
        let elapsed = now.saturating_sub(self.started_at);
        elapsed.checked_div(self.pause).map_or(self.messages, |pauses| self.messages.min(pauses + 1))
    }

    fn is_running(&self, now: i64) -> bool {
        now < self.started_at.saturating_add(self.pause.saturating_mul(self.messages))
    }

    /// The form in which SQS lists the task. Only a running task has a handle, with which it can be cancelled.
    fn entry(&self, queue: &str, now: i64) -> Value {
        let is_running = self.is_running(now);
        let mut entry = json!({
            "Status": if is_running { "RUNNING" } else { "COMPLETED" },
            "SourceArn": clock::arn("sqs", queue),
            "StartedTimestamp": self.started_at,
            "ApproximateNumberOfMessagesMoved": self.moved(now),
            "ApproximateNumberOfMessagesToMove": self.messages,
            "MaxNumberOfMessagesPerSecond": self.rate,
        });
        if is_running {
            entry["TaskHandle"] = json!(self.handle);
        }
        entry
    }
}

/// `StartMessageMoveTask`: moves messages from a dead-letter queue to a queue that it serves, at the requested rate.
pub(crate) fn start_message_move_task(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let from = source(local, request)?;
    // SQS moves each message to its source. Here, if two queues share a dead-letter queue, one of them gets all
    // messages.
    let to = served(local, from).min_by_key(|(_, queue)| queue.delay).map(|(name, _)| name.as_str());
    let to = to.ok_or_else(|| invalid("Source queue must be configured as a Dead Letter Queue."))?;
    let rate = request["MaxNumberOfMessagesPerSecond"].as_i64();
    let pause = match rate {
        None => 0,
        Some(rate @ 1..=500) => 1000 / rate,
        Some(_) => return Err(invalid("MaxNumberOfMessagesPerSecond must be 1 to 500.")),
    };
    let mut moves = local.moves.0.lock().unwrap_or_else(PoisonError::into_inner);
    let started_at = clock::now();
    if moves.get(from).is_some_and(|last| last.is_running(started_at)) {
        return Err(invalid(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ));
    }
    let messages = i64::try_from(local.journal.move_all(from, to, pause)?).unwrap_or(i64::MAX);
    let handle = clock::id();
    moves.insert(from.to_owned(), Move { handle: handle.clone(), started_at, pause, messages, rate });
    Ok(json!({ "TaskHandle": handle }))
}

/// `ListMessageMoveTasks`: only the last task of a dead-letter queue.
pub(crate) fn list_message_move_tasks(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let queue = source(local, request)?;
    if served(local, queue).next().is_none() {
        return Err(invalid("Source queue must be configured as a Dead Letter Queue."));
    }
    let moves = local.moves.0.lock().unwrap_or_else(PoisonError::into_inner);
    let results: Vec<_> = moves.get(queue).map(|last| last.entry(queue, clock::now())).into_iter().collect();
    Ok(json!({ "Results": results }))
}

/// The queue that the request's `SourceArn` names.
fn source<'a>(local: &'a Local, request: &Value) -> Result<&'a str, AwsError> {
    let arn = request["SourceArn"].as_str().unwrap_or_default();
    known(local, arn.rsplit(':').next().unwrap_or_default())
}

/// The queues whose dead letters `queue` receives.
fn served<'a>(local: &'a Local, queue: &'a str) -> impl Iterator<Item = (&'a String, &'a Queue)> {
    let serves = move |source: &Queue| source.redrive.as_ref().is_some_and(|redrive| redrive.to == queue);
    local.deployment.queues.iter().filter(move |(_, source)| serves(source))
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
