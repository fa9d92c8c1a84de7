//! Correlation ids: they identify a referral in log lines and events, without revealing its referee.

use serde::{Deserialize, Serialize};

/// The first 64 bits of a keyed HMAC-SHA-256 of a referee's id, in hexadecimal. It is computed once, when the referral is
/// created, and stored with the referral. Without the key it cannot be found by trying ids, such as telephone numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CorrelationId(String);

impl CorrelationId {
    /// The id for this digest.
    pub(super) fn of(digest: &[u8]) -> Self {
        Self(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// The text in log lines and events.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
