//! The delay queue. The rule sends a copy of each event there. This function sends the events that did not arrive
//! through the rule, so that they are also processed a second time. So an order from any source that arrives before its
//! sign-up is not lost.

use aws_sdk_sqs::Client;
use referrals::{
    aws::Lazy,
    lambda::sqs::Message,
    runtime::{self, Env, Misconfigured},
};
use serde_json::Value;

use crate::time::EventTime;

/// The delay queue did not accept the event.
#[derive(Debug, thiserror::Error)]
#[error("the delay queue is unavailable: {0}")]
pub(crate) struct NotSent(String);

/// A client of the delay queue.
pub(crate) struct DelayQueue {
    client: Lazy<Client>,
    url: String,
    name: String,
    /// The name of the incoming queue, if the stack has one.
    incoming: Option<String>,
}

impl DelayQueue {
    /// Reads `DELAY_QUEUE_URL` and `INCOMING_QUEUE_ARN`.
    ///
    /// # Errors
    /// Returns an error when `DELAY_QUEUE_URL` is missing.
    pub(crate) fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        let incoming = env.get("INCOMING_QUEUE_ARN").and_then(|arn| arn.rsplit(':').next()).map(str::to_owned);
        let url = env.required("DELAY_QUEUE_URL")?.to_owned();
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self { client, url, name, incoming })
    }

    /// Whether this message comes from the incoming queue. Other messages need no copy: those from the delay queue are
    /// copies themselves, and the events in the dead-letter queue have already been copied.
    pub(crate) fn is_incoming(&self, message: &Message) -> bool {
        self.incoming.as_deref() == Some(message.queue.as_str())
    }

    /// Whether this message comes from the delay queue, or is a dead letter of the rule that did not reach the delay queue.
    /// The rule has sent its event to the function too.
    pub(crate) fn is_copy(&self, message: &Message) -> bool {
        self.name == message.queue || message.target.as_ref() == Some(&self.name)
    }

    /// Sends a processed event, with the time by which it was judged. The copy is received later, and must not override
    /// events that followed its original.
    ///
    /// # Errors
    /// Returns an error when the queue does not accept the event, which must then not be acknowledged.
    pub(crate) async fn send(&self, mut event: Value, time: EventTime) -> Result<(), NotSent> {
        if let Some(envelope) = event.as_object_mut() {
            envelope.insert("time".to_owned(), time.sent_at.to_string().into());
        }
        let sent = self.client.send_message().queue_url(&self.url).message_body(event.to_string()).send().await;
        sent.map(drop).map_err(|problem| NotSent(runtime::explain(&problem)))
    }
}
