//! The time limit of an invocation.

use std::time::Duration;

use tokio::time::Instant;

/// The time at which Lambda stops the invocation.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Unfinished work is reported as failed this long before the deadline.
    const RESERVE: Duration = Duration::from_secs(1);

    /// The deadline `remaining` from now.
    #[allow(clippy::disallowed_methods, reason = "the runtime reads the clock")]
    pub fn after(remaining: Duration) -> Self {
        Self(Instant::now() + remaining)
    }

    /// Whether the invocation must not start new work.
    #[allow(clippy::disallowed_methods, reason = "the runtime reads the clock")]
    pub fn is_near(self) -> bool {
        Instant::now() + Self::RESERVE >= self.0
    }

    /// When running work must be stopped, so that its failure can still be reported.
    pub fn last_call(self) -> Instant {
        self.0 - Self::RESERVE
    }
}
