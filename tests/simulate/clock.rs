//! The clock of a history: a fixed start time plus the runtime's elapsed time. With a paused runtime that time is
//! virtual. With real time, the clock skips the periods in which nothing runs.

use std::{cell::Cell, time::Duration};

use referrals::domain::time::Timestamp;
use tokio::time::{Instant, sleep};

/// A fixed day in 2026.
const EPOCH: i64 = 1_780_000_000_000;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static IS_REAL: Cell<bool> = const { Cell::new(false) };
    static SKIPPED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Declares that this thread's runtime uses real time.
pub(crate) fn use_real_time() {
    IS_REAL.set(true);
}

/// Whether this thread's runtime uses real time.
pub(crate) fn is_real() -> bool {
    IS_REAL.get()
}

/// Starts the clock of a history.
pub(crate) fn begin() {
    BEGAN.set(Some(Instant::now()));
    SKIPPED.set(Duration::ZERO);
}

/// Milliseconds since the history began.
pub(crate) fn millis() -> u64 {
    let elapsed = BEGAN.get().map(|began| began.elapsed() + SKIPPED.get()).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Lets time pass. Real time is skipped when nothing runs.
pub(crate) async fn pass(time: Duration, is_idle: bool) {
    if IS_REAL.get() && is_idle {
        SKIPPED.set(SKIPPED.get() + time);
    } else {
        sleep(time).await;
    }
}

/// Advances real time by a millisecond, so that steps that the plan separates do not share a millisecond.
pub(crate) fn tick() {
    if IS_REAL.get() {
        SKIPPED.set(SKIPPED.get() + Duration::from_millis(1));
    }
}

/// With real time, waits briefly so that data in flight arrives.
pub(crate) async fn wait_for_network() {
    if IS_REAL.get() {
        sleep(Duration::from_millis(2)).await;
    }
}

/// The time that many milliseconds after the history's start.
pub(crate) fn at(millis: u64) -> Timestamp {
    let millis = EPOCH.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX));
    Timestamp::from_millis(millis).unwrap_or(Timestamp::LAST)
}

/// The time `ago` milliseconds before now.
pub(crate) fn before(ago: u64) -> Timestamp {
    let ago = i64::try_from(ago).unwrap_or(i64::MAX);
    Timestamp::from_millis(now().millis().saturating_sub(ago)).unwrap_or(Timestamp::FIRST)
}

/// Now.
pub(crate) fn now() -> Timestamp {
    at(millis())
}
