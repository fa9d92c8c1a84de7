//! The bus: announcing on EventBridge.

use aws_sdk_eventbridge::{Client, primitives::DateTime, types::PutEventsRequestEntry};

use crate::{
    aws::Lazy,
    lifecycle::announce::Announcement,
    mutant::{self, Mutant},
    runtime::{self, Env, Misconfigured},
};

/// The source of every event of ours.
pub const SOURCE: &str = "referrals";

/// The bus did not take all events, or we do not know whether it did.
#[derive(Debug, thiserror::Error)]
#[error("the bus did not take every event: {0}")]
pub struct PublishError(String);

/// The stack's event bus.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Lazy<Client>,
    name: String,
}

impl Bus {
    /// The most that `PutEvents` takes in one call.
    const BATCH: usize = 10;

    /// The bus named by `BUS_NAME`.
    ///
    /// # Errors
    /// When `BUS_NAME` is missing.
    pub fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        Ok(Self { client, name: env.required("BUS_NAME")?.to_owned() })
    }

    /// Puts these announcements on the bus.
    ///
    /// # Errors
    /// When the bus does not answer, or answers that it lost one: then all may be published again, under the same ids.
    pub async fn publish(&self, news: &[Announcement]) -> Result<(), PublishError> {
        for batch in news.chunks(Self::BATCH) {
            let entries = batch.iter().map(|announcement| self.entry(announcement)).collect();
            let answer = self.client.put_events().set_entries(Some(entries)).send().await;
            let answer = answer.map_err(|problem| PublishError(runtime::explain(&problem)))?;
            // The bus can answer 200 and still have lost an entry.
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
            // The bus keeps no more than the second; the detail has the rest.
            .time(DateTime::from_secs(announcement.occurred_at.seconds()))
            .detail(announcement.detail.to_string())
            .build()
    }
}
