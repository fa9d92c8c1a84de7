//! The event bus: publishes events on EventBridge.

use aws_sdk_eventbridge::{Client, primitives::DateTime, types::PutEventsRequestEntry};

use crate::{
    aws::{Announcement, Lazy},
    mutant::{self, Mutant},
    runtime::{self, Env, Misconfigured},
};

/// The `source` of every event of this service.
pub const SOURCE: &str = "referrals";

/// The bus did not accept all events, or its answer is unknown.
#[derive(Debug, thiserror::Error)]
#[error("the bus did not accept every event: {0}")]
pub struct PublishError(String);

/// The stack's event bus.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Lazy<Client>,
    name: String,
}

impl Bus {
    /// The maximum number of entries of one `PutEvents` call.
    const BATCH: usize = 10;

    /// Reads the bus name from `BUS_NAME`.
    ///
    /// # Errors
    /// Returns an error when `BUS_NAME` is missing.
    pub fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        Ok(Self { client, name: env.required("BUS_NAME")?.to_owned() })
    }

    /// Publishes these events.
    ///
    /// # Errors
    /// Returns an error when the bus does not answer or reports a failed entry. The caller may then publish all events
    /// again, with the same ids.
    pub async fn publish(&self, events: &[Announcement]) -> Result<(), PublishError> {
        for batch in events.chunks(Self::BATCH) {
            let entries = batch.iter().map(|announcement| self.entry(announcement)).collect();
            let answer = self.client.put_events().set_entries(Some(entries)).send().await;
            let answer = answer.map_err(|problem| PublishError(runtime::explain(&problem)))?;
            // The bus may answer 200 although an entry failed.
            if answer.failed_entry_count > 0 && !mutant::is(Mutant::LostEntryNotSeen) {
                let lost = answer.entries.iter().flatten().find_map(|entry| entry.error_code.clone());
                return Err(PublishError(lost.unwrap_or_else(|| "an entry was refused".to_owned())));
            }
        }
        Ok(())
    }

    fn entry(&self, announcement: &Announcement) -> PutEventsRequestEntry {
        PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(announcement.detail_type)
            // The bus truncates the time to seconds. The detail contains the milliseconds.
            .time(DateTime::from_secs(announcement.occurred_at.seconds()))
            .detail(announcement.detail.to_string())
            .build()
    }
}
