//! The clock of a history: virtual, from a fixed moment on, and as far as the runtime's paused time has come.

use std::cell::Cell;

use referrals::time::Timestamp;
use tokio::time::Instant;

/// Some day in 2026.
const EPOCH: i64 = 1_780_000_000_000;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Begins a history's time.
pub(crate) fn begin() {
    BEGAN.set(Some(Instant::now()));
}

/// Milliseconds since the history began.
pub(crate) fn millis() -> u64 {
    let elapsed = BEGAN.get().map(|began| began.elapsed().as_millis()).unwrap_or_default();
    u64::try_from(elapsed).unwrap_or(u64::MAX)
}

/// The moment so many milliseconds after the history's beginning.
pub(crate) fn at(millis: u64) -> Timestamp {
    let millis = EPOCH.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX));
    Timestamp::from_millis(millis).unwrap_or(Timestamp::LAST)
}

/// Now.
pub(crate) fn now() -> Timestamp {
    at(millis())
}
