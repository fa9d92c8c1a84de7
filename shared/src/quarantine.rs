//! The quarantine: where what cannot be read is put aside, with its payload, so that it neither blocks the rest nor gets
//! lost.

use aws_sdk_sqs::Client;
use serde::Serialize;
use serde_json::Value;

use crate::{
    aws::Lazy,
    runtime::{self, Env, Misconfigured},
    time::Timestamp,
};

/// The quarantine queue did not take the message.
#[derive(Debug, thiserror::Error)]
#[error("the quarantine queue did not answer: {0}")]
pub struct NotParked(String);

/// The stack's quarantine queue.
#[derive(Clone, Debug)]
pub struct Quarantine {
    client: Lazy<Client>,
    url: String,
}

/// A message in quarantine.
#[derive(Serialize)]
struct Parked<'a> {
    function: &'a str,
    reason: String,
    parked_at: Timestamp,
    payload: &'a Value,
}

impl Quarantine {
    /// The queue at `QUARANTINE_QUEUE_URL`.
    ///
    /// # Errors
    /// When `QUARANTINE_QUEUE_URL` is missing.
    pub fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        Ok(Self { client, url: env.required("QUARANTINE_QUEUE_URL")?.to_owned() })
    }

    /// Puts a payload aside that `function` cannot read, and says why.
    ///
    /// # Errors
    /// When the queue does not take it; then the payload must not be acknowledged.
    pub async fn park(
        &self,
        function: &str,
        payload: &Value,
        reason: impl ToString,
        now: Timestamp,
    ) -> Result<(), NotParked> {
        let parked = Parked { function, reason: reason.to_string(), parked_at: now, payload };
        // The reason may quote the payload, and with it people: it goes with the message, not into the log.
        tracing::error!(outcome = "parked", function);
        let body = serde_json::to_string(&parked).map_err(|problem| NotParked(problem.to_string()))?;
        let sent = self.client.send_message().queue_url(&self.url).message_body(body).send().await;
        sent.map(drop).map_err(|problem| NotParked(runtime::explain(&problem)))
    }
}
