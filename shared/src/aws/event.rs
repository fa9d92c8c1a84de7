//! An event that this service publishes.

use serde_json::Value;

use crate::domain::time::Timestamp;

/// An event of this service, ready to be put on the bus.
#[derive(Clone, PartialEq, Debug)]
pub struct Announcement {
    /// The event type, such as `reward.issued`.
    pub detail_type: &'static str,
    /// When it happened, regardless of when the event is published.
    pub occurred_at: Timestamp,
    /// The referral or the reward, with the event's id and time.
    pub detail: Value,
}
