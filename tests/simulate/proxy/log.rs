//! Adds the functions' log lines to the timeline, because a history with the proxy cannot be replayed exactly.

use std::{cell::RefCell, io};

use tracing::Level;

use crate::{clock, transport::Shared};

thread_local! {
    static HISTORY: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Sends this thread's log lines to its history from now on.
pub(super) fn capture(shared: &Shared) {
    HISTORY.set(Some(shared.clone()));
    let logging = tracing_subscriber::fmt().with_max_level(Level::INFO).without_time().with_ansi(false);
    // Only the first call installs the subscriber, which serves all threads.
    _ = logging.with_writer(|| LogLine).try_init();
}

struct LogLine;

impl io::Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes).trim().to_owned();
        HISTORY.with_borrow(|history| {
            if let Some(shared) = history.as_ref().filter(|shared| !line.is_empty() && shared.is_running()) {
                shared.with(|state| state.log(clock::millis(), || line));
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
