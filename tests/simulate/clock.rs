//! The clock of a history: from a fixed moment on, as far as the runtime's time has come. That is virtual where it is
//! paused. Where it is real, the clock leaps over the times in which nothing is under way.

use std::{cell::Cell, time::Duration};

use referrals::time::Timestamp;
use tokio::time::{Instant, sleep};

/// Some day in 2026.
const EPOCH: i64 = 1_780_000_000_000;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static IS_REAL: Cell<bool> = const { Cell::new(false) };
    static LEAPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Says that the time of this thread's runtime is real.
pub(crate) fn be_real() {
    IS_REAL.set(true);
}

/// Whether it is.
pub(crate) fn is_real() -> bool {
    IS_REAL.get()
}

/// Begins a history's time.
pub(crate) fn begin() {
    BEGAN.set(Some(Instant::now()));
    LEAPT.set(Duration::ZERO);
}

/// Milliseconds since the history began.
pub(crate) fn millis() -> u64 {
    let elapsed = BEGAN.get().map(|began| began.elapsed() + LEAPT.get()).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Lets so much time go by: at once, if it is real and nothing is under way.
pub(crate) async fn pass(time: Duration, is_idle: bool) {
    if IS_REAL.get() && is_idle {
        LEAPT.set(LEAPT.get() + time);
    } else {
        sleep(time).await;
    }
}

/// Ends the millisecond, in real time: what a plan has happen one after another must not happen in one.
pub(crate) fn tick() {
    if IS_REAL.get() {
        LEAPT.set(LEAPT.get() + Duration::from_millis(1));
    }
}

/// In real time, a moment in which what was sent and not yet received gets where it goes.
pub(crate) async fn breathe() {
    if IS_REAL.get() {
        sleep(Duration::from_millis(2)).await;
    }
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
