//! What the functions log, in the timeline of the history: it cannot be had by carrying the history out again.

use std::{cell::RefCell, io};

use tracing::Level;

use crate::{clock, wires::Shared};

thread_local! {
    static KEPT: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// From here on what is logged on this thread is told to its history.
pub(super) fn keep(shared: &Shared) {
    KEPT.set(Some(shared.clone()));
    let logging = tracing_subscriber::fmt().with_max_level(Level::INFO).without_time().with_ansi(false);
    // The first place does it for all.
    _ = logging.with_writer(|| Line).try_init();
}

struct Line;

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes).trim().to_owned();
        KEPT.with_borrow(|kept| {
            if let Some(shared) = kept.as_ref().filter(|shared| !line.is_empty() && shared.is_under_way()) {
                shared.with(|state| state.tell(clock::millis(), || line));
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
