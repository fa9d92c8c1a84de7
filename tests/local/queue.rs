//! The queue pollers: they pass messages to functions as Lambda does, and return failed ones to the queue.
//!
//! Two kinds of queue feed a function. An SQS queue delivers batches, and each message of a batch fails or succeeds on
//! its own. An asynchronous invocation uses a queue inside Lambda, which delivers one event without an envelope. In
//! both cases a failed message is retried after a delay; after its last attempt it goes where the template says.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    clock::{self, REGION},
    deployment::{Deployment, Feed, Invocation, OnFailure},
    functions::{Failure, Function},
    journal::{JournalError, Message, NewMessage},
    service::{Local, Pace, Stop},
};

/// The longest delay between two attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);
/// How long a poller waits after a journal error.
const RETRY_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How many asynchronous events a function processes concurrently, each in its own invocation.
const EVENT_CONCURRENCY: usize = 10;

/// The event source mapping of one queue to one function.
pub(crate) struct Poller {
    local: Arc<Local>,
    queue: String,
    function: Function,
    kind: Kind,
    /// How many batches are processed concurrently. Each queue has its own limit, so a slow subsystem delays only its
    /// own queue.
    concurrency: usize,
}

enum Kind {
    Queue { batch: usize },
    Invocation(Invocation),
}

impl Poller {
    /// All pollers of the deployment.
    pub(crate) fn all(local: &Arc<Local>) -> Vec<Self> {
        let feeds = local.deployment.feeds.iter().map(|feed| Self::of_feed(local, feed));
        let invocations = local.deployment.invocations.iter().map(|invocation| Self::of_invocation(local, invocation));
        feeds.chain(invocations).collect()
    }

    fn of_feed(local: &Arc<Local>, feed: &Feed) -> Self {
        Self {
            local: Arc::clone(local),
            queue: feed.queue.clone(),
            function: feed.function,
            kind: Kind::Queue { batch: feed.batch },
            concurrency: feed.concurrency,
        }
    }

    fn of_invocation(local: &Arc<Local>, invocation: &Invocation) -> Self {
        Self {
            local: Arc::clone(local),
            queue: invocation.name.clone(),
            function: invocation.function,
            kind: Kind::Invocation(invocation.clone()),
            concurrency: EVENT_CONCURRENCY,
        }
    }

    /// Polls until stopped, then finishes the batches in progress.
    pub(crate) async fn run(self, mut stop: Stop) {
        let poller = Arc::new(self);
        let arrivals = poller.local.journal.arrivals(&poller.queue);
        let mut running = JoinSet::new();
        loop {
            let next = poller.start_batches(&mut running).unwrap_or_else(|problem| {
                tracing::error!(queue = poller.queue, %problem, "cannot receive");
                Some(RETRY_AFTER_ERROR)
            });
            tokio::select! {
                () = stop.wait() => break,
                Some(_) = running.join_next() => {}
                () = arrivals.notified() => {}
                () = sleep(next.unwrap_or_default()), if next.is_some() => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Starts batches up to the limit of concurrent batches. If the limit is not reached, returns how long to wait for
    /// the next message that is due later, if there is one.
    fn start_batches(self: &Arc<Self>, running: &mut JoinSet<()>) -> Result<Option<Duration>, JournalError> {
        while running.len() < self.concurrency {
            let batch = self.local.journal.receive(&self.queue, self.batch())?;
            if batch.is_empty() {
                let due = self.local.journal.next_due(&self.queue)?;
                return Ok(due.map(|due| millis(due.saturating_sub(clock::now()).max(1))));
            }
            let poller = Arc::clone(self);
            running.spawn(async move {
                if let Err(problem) = poller.process(&batch).await {
                    tracing::error!(queue = poller.queue, %problem, "cannot complete a batch");
                }
            });
        }
        Ok(None)
    }

    fn batch(&self) -> usize {
        match self.kind {
            Kind::Queue { batch } => batch,
            Kind::Invocation(_) => 1,
        }
    }

    async fn process(&self, batch: &[Message]) -> Result<(), JournalError> {
        let answer = self.local.functions.invoke(self.function, self.payload(batch)).await;
        for message in batch {
            match self.failure_of(message, batch, &answer) {
                None => self.local.journal.delete(message)?,
                Some(reason) => self.handle_failure(message, &reason)?,
            }
        }
        Ok(())
    }

    fn payload(&self, batch: &[Message]) -> Value {
        match (&self.kind, batch) {
            (Kind::Invocation(_), [message]) => parsed(&message.body),
            _ => json!({ "Records": batch.iter().map(record).collect::<Vec<_>>() }),
        }
    }

    /// Why `message` must be retried; `None` if it was processed.
    fn failure_of(&self, message: &Message, batch: &[Message], answer: &Result<Value, Failure>) -> Option<String> {
        match (answer, &self.kind) {
            (Err(failure), _) => Some(failure.to_string()),
            (Ok(_), Kind::Invocation(_)) => None,
            (Ok(answer), Kind::Queue { .. }) => {
                let failed = failed_items(answer);
                // An answer that names an unknown message is invalid. Lambda then fails the whole batch.
                let unknown = failed.iter().any(|id| batch.iter().all(|message| message.id != *id));
                (unknown || failed.contains(&message.id.as_str()))
                    .then(|| "the function returned it as failed".to_owned())
            }
        }
    }

    /// Returns a message to the queue with a delay, or moves it to where the template sends it after its last attempt.
    fn handle_failure(&self, message: &Message, reason: &str) -> Result<(), JournalError> {
        tracing::warn!(queue = self.queue, id = message.id, attempt = message.receives, reason, "failed");
        let local = &self.local;
        match self.exhausted(message, reason) {
            Some(new_message) => local.journal.move_to(message, &new_message),
            None => local.journal.return_to_queue(message, backoff(local.pace.first_retry, message.receives)),
        }
    }

    /// The message to send elsewhere if `message` has no attempts left; `None` if it is retried.
    fn exhausted(&self, message: &Message, reason: &str) -> Option<NewMessage> {
        let (attempts, place) = match &self.kind {
            Kind::Invocation(invocation) => (invocation.attempts, Some(&invocation.on_failure)),
            Kind::Queue { .. } => {
                let redrive = self.local.deployment.queues.get(&self.queue)?.redrive.as_ref()?;
                return (message.receives >= redrive.after).then(|| {
                    self.local.new_message(&redrive.to, &message.body, with_reason(&message.attributes, reason))
                });
            }
        };
        let place = place.filter(|_| message.receives >= attempts)?;
        let attributes = with_reason(&message.attributes, reason);
        Some(match place {
            OnFailure::DeadLetter(queue) | OnFailure::Nowhere(queue) => {
                self.local.new_message(queue, &message.body, attributes)
            }
            OnFailure::Destination(queue) => {
                let record = invocation_record(&self.queue, message, reason);
                self.local.new_message(queue, &record.to_string(), attributes)
            }
        })
    }
}

/// The delay of a message in `queue`. Delays are capped for interactive use. A message in a dead-letter queue that a
/// function consumes waits for the capped delay.
pub(crate) fn delay(deployment: &Deployment, pace: &Pace, queue: &str) -> Duration {
    let own = deployment.queues.get(queue).map(|queue| queue.delay).unwrap_or_default();
    let rests = deployment.is_dead_letter_queue(queue) && deployment.is_consumed(queue);
    if rests { pace.delay } else { own.min(pace.delay) }
}

/// The delay in milliseconds after this attempt: it doubles with each attempt, up to a limit.
pub(crate) fn backoff(first: Duration, attempt: u32) -> i64 {
    let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
    let pause = first.saturating_mul(factor).min(MAX_RETRY_DELAY.max(first));
    i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)
}

/// The ids under `batchItemFailures` in a function's answer.
pub(crate) fn failed_items(answer: &Value) -> Vec<&str> {
    let failures = answer["batchItemFailures"].as_array().into_iter().flatten();
    failures.map(|failure| failure["itemIdentifier"].as_str().unwrap_or_default()).collect()
}

/// A duration in milliseconds.
pub(crate) fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A body as JSON, or as a string if it is not JSON.
pub(crate) fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| body.into())
}

/// A message in the form of Lambda's SQS event.
fn record(message: &Message) -> Value {
    json!({
        "messageId": message.id,
        "receiptHandle": message.receipt,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": message.receives.to_string(),
            "SentTimestamp": message.sent_at.to_string(),
            "SenderId": clock::ACCOUNT,
            "ApproximateFirstReceiveTimestamp": message.first_received_at.to_string(),
        },
        "messageAttributes": message_attributes(&message.attributes),
        "md5OfBody": format!("{:x}", md5::compute(&message.body)),
        "eventSource": "aws:sqs",
        "eventSourceARN": clock::arn("sqs", &message.queue),
        "awsRegion": REGION,
    })
}

/// Message attributes in Lambda's spelling, from `SendMessage`'s spelling.
fn message_attributes(sent: &Value) -> Value {
    let attributes = sent.as_object().into_iter().flatten().map(|(name, attribute)| {
        let mut spelt = json!({ "dataType": attribute["DataType"], "stringListValues": [], "binaryListValues": [] });
        for (from, to) in [("StringValue", "stringValue"), ("BinaryValue", "binaryValue")] {
            if let Some(value) = attribute.get(from) {
                spelt[to] = value.clone();
            }
        }
        (name.clone(), spelt)
    });
    Value::Object(attributes.collect::<Map<_, _>>())
}

/// The attributes plus the failure reason, which SQS's own redrive does not add.
fn with_reason(attributes: &Value, reason: &str) -> Value {
    let mut attributes = attributes.clone();
    if attributes.is_object() {
        attributes["ErrorMessage"] = json!({ "DataType": "String", "StringValue": reason });
    }
    attributes
}

/// The record that a failure destination receives after the last failed attempt.
fn invocation_record(function: &str, message: &Message, reason: &str) -> Value {
    json!({
        "version": "1.0",
        "timestamp": clock::text(clock::now()),
        "requestContext": {
            "requestId": message.id,
            "functionArn": clock::arn("lambda", &format!("function:{function}")),
            "condition": "RetriesExhausted",
            "approximateInvokeCount": message.receives,
        },
        "requestPayload": parsed(&message.body),
        "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
        "responsePayload": { "errorMessage": reason },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_delays_double_up_to_a_limit() {
        let pauses: Vec<_> = (1..=7).map(|attempt| backoff(Duration::from_secs(1), attempt)).collect();
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff(Duration::from_secs(1), u32::MAX), 30_000);
    }

    #[test]
    fn failed_items_are_read_from_the_answer() {
        let answer = json!({"batchItemFailures": [{"itemIdentifier": "a"}, {}]});
        assert_eq!(failed_items(&answer), ["a", ""]);
        assert!(failed_items(&Value::Null).is_empty());
        assert!(failed_items(&json!({"batchItemFailures": []})).is_empty());
    }

    #[test]
    fn a_record_has_the_form_of_lambdas_sqs_event() {
        let message = Message {
            id: "id".to_owned(),
            queue: "CreditQueue".to_owned(),
            body: "hello".to_owned(),
            attributes: json!({"reason": {"DataType": "String", "StringValue": "why"}}),
            sent_at: 1,
            first_received_at: 2,
            receives: 3,
            receipt: "handle".to_owned(),
        };
        let record = record(&message);
        assert_eq!(record["attributes"]["ApproximateReceiveCount"], "3");
        assert_eq!(record["messageAttributes"]["reason"]["stringValue"], "why");
        assert_eq!(record["md5OfBody"], "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(record["eventSourceARN"], "arn:aws:sqs:us-east-1:000000000000:CreditQueue");
    }
}
