//! The echo: what came past the bus is sent to the delay queue, so that it comes once more. An order that overtook its
//! sign-up is then not lost, whichever way it came.

use aws_sdk_sqs::Client;
use referrals::{
    aws::Lazy,
    batch::Message,
    runtime::{self, Env, Misconfigured},
};
use serde_json::Value;

/// The delay queue did not take the event.
#[derive(Debug, thiserror::Error)]
#[error("the delay queue did not answer: {0}")]
pub(crate) struct NotSent(String);

/// The way to the delay queue.
pub(crate) struct Echo {
    client: Lazy<Client>,
    url: String,
    /// The one queue whose events come past the bus, by name, where there is one.
    incoming: Option<String>,
}

impl Echo {
    /// The queue at `DELAY_QUEUE_URL`, for what comes from `INCOMING_QUEUE_ARN`.
    ///
    /// # Errors
    /// When `DELAY_QUEUE_URL` is missing.
    pub(crate) fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        let incoming = env.get("INCOMING_QUEUE_ARN").and_then(|arn| arn.rsplit(':').next()).map(str::to_owned);
        Ok(Self { client, url: env.required("DELAY_QUEUE_URL")?.to_owned(), incoming })
    }

    /// Whether this message's event needs one: those from the delay queue are echoes, and those from the dead-letter
    /// queue had theirs.
    pub(crate) fn is_wanted(&self, message: &Message) -> bool {
        self.incoming.as_deref() == Some(message.queue.as_str())
    }

    /// Sends an event that was taken in.
    ///
    /// # Errors
    /// When the queue does not take it; then the event must not be acknowledged.
    pub(crate) async fn send(&self, event: &Value) -> Result<(), NotSent> {
        let sent = self.client.send_message().queue_url(&self.url).message_body(event.to_string()).send().await;
        sent.map(drop).map_err(|problem| NotSent(runtime::explain(&problem)))
    }
}
