//! The quarantine: a queue that keeps invalid input with its payload, so that it neither blocks other input nor gets lost.

use aws_sdk_sqs::Client;
use serde::Serialize;
use serde_json::Value;

use crate::{
    aws::Lazy,
    domain::time::Timestamp,
    runtime::{self, Env, Misconfigured, log_outcome::LogOutcome},
};

/// The quarantine queue did not accept the message.
#[derive(Debug, thiserror::Error)]
#[error("the quarantine queue is unavailable: {0}")]
pub struct NotQuarantined(String);

/// The stack's quarantine queue.
#[derive(Clone, Debug)]
pub struct Quarantine {
    client: Lazy<Client>,
    url: String,
}

/// The body of a message in the quarantine.
#[derive(Serialize)]
struct Quarantined<'a> {
    function: &'a str,
    reason: String,
    #[serde(rename = "parked_at")]
    quarantined_at: Timestamp,
    payload: &'a Value,
}

impl Quarantine {
    /// Reads `QUARANTINE_QUEUE_URL`.
    ///
    /// # Errors
    /// Returns an error when `QUARANTINE_QUEUE_URL` is missing.
    pub fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        Ok(Self { client, url: env.required("QUARANTINE_QUEUE_URL")?.to_owned() })
    }

    /// Adds a payload that is invalid for this `reason`.
    ///
    /// # Errors
    /// Returns an error when the queue does not accept the payload, which must then not be acknowledged.
    pub async fn add(
        &self,
        function: &str,
        payload: &Value,
        reason: impl ToString,
        now: Timestamp,
    ) -> Result<(), NotQuarantined> {
        let message = Quarantined { function, reason: reason.to_string(), quarantined_at: now, payload };
        // The reason can quote personal data from the payload, so it belongs in the message and not in the log.
        tracing::error!(outcome = LogOutcome::Quarantined.as_str(), function);
        let body = serde_json::to_string(&message).map_err(|problem| NotQuarantined(problem.to_string()))?;
        let sent = self.client.send_message().queue_url(&self.url).message_body(body).send().await;
        sent.map(drop).map_err(|problem| NotQuarantined(runtime::explain(&problem)))
    }
}
