//! Instructions, counted by valgrind's callgrind. They are the same for the same binary, apart from the order of concurrent work.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    Trouble,
    function::{Call, Function, Running},
    scratch::Scratch,
    store::Store,
};

/// The instructions of a function's start, of its first call, and of a warm call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instructions {
    pub(crate) start: u64,
    pub(crate) first: u64,
    pub(crate) warm: u64,
}

/// The number of calls by which a long run is longer than a short one.
const CALLS: u64 = 20;

const TOO_BUSY: &str = "the machine is too busy: under valgrind the function's timeouts expire";

/// Counts runs of different length; their differences are the result.
pub(crate) async fn count(function: &Function, store: &Store) -> Result<Instructions, Trouble> {
    let start = run(function, store, 0).await?;
    // Work that only the second call does must not count as work of a warm call.
    let (one, two) = (run(function, store, 1).await?, run(function, store, 2).await?);
    let many = run(function, store, 2 + CALLS).await?;
    Ok(Instructions { start, first: one.saturating_sub(start), warm: many.saturating_sub(two) / CALLS })
}

/// Counts the instructions of a warm call, in one run. Counting begins after calls without a retry, and begins again after a call
/// with one: on a busy machine the function's timeouts expire most often in the first call, which is the slowest under valgrind.
pub(crate) async fn warm(function: &Function, store: &Store) -> Result<u64, Trouble> {
    const CALLS: u64 = 8;
    let out = Scratch::new();
    let mut running = emulated(function, store, &out).await?;
    let (mut undisturbed, mut tries) = (0, 0);
    while undisturbed < 2 + CALLS && tries < 100 {
        if undisturbed == 2 {
            control("--zero", running.id()).await?;
        }
        let answer = running.call(&store.event).await;
        let is_as_expected = answer.is_ok_and(|call| call.traffic.round_trips == store.warm.round_trips);
        // The first call of a process may send more requests.
        undisturbed = if is_as_expected { undisturbed + 1 } else { 0 };
        tries += 1;
    }
    if undisturbed < 2 + CALLS {
        return Err(TOO_BUSY.into());
    }
    control("--dump", running.id()).await?;
    let count = part(&out, 1)?;
    running.end().await?;
    Ok(count / CALLS)
}

/// Sends a command to callgrind.
async fn control(what: &'static str, process: u32) -> Result<(), Trouble> {
    let mut command = Command::new("callgrind_control");
    command.arg(what).arg(process.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    if status.success() { Ok(()) } else { Err("callgrind_control failed".into()) }
}

/// Starts the function under valgrind.
async fn emulated(function: &Function, store: &Store, out: &Scratch) -> Result<Running, Trouble> {
    let file = format!("--callgrind-out-file={}", out.path().display());
    let wrapper = ["/usr/bin/env", "valgrind", "--tool=callgrind", &file].map(str::to_owned);
    Running::start(function, &wrapper, &store.settings, store.play(Duration::ZERO).await?).await
}

/// The maximum of three runs: if an answer has already arrived at the first poll, which happens now and then, a run needs fewer
/// instructions.
async fn run(function: &Function, store: &Store, calls: u64) -> Result<u64, Trouble> {
    let mut counts = Vec::new();
    // On a machine so busy that the function's own timeouts expire, the function retries; such a run does not count.
    for _ in 0..7 {
        counts.extend(undisturbed(function, store, calls).await?);
        if counts.len() == 3 {
            return counts.into_iter().max().ok_or_else(|| "nothing was counted".into());
        }
    }
    Err(TOO_BUSY.into())
}

async fn undisturbed(function: &Function, store: &Store, calls: u64) -> Result<Option<u64>, Trouble> {
    let out = Scratch::new();
    let mut running = emulated(function, store, &out).await?;
    running.settle().await?;
    for number in 0..calls {
        let expected = if number == 0 { store.first } else { store.warm };
        let is_as_expected = |call: &Call| call.traffic.round_trips == expected.round_trips;
        if !running.call(&store.event).await.as_ref().is_ok_and(is_as_expected) {
            return Ok(None);
        }
        running.settle().await?;
    }
    running.end().await?;
    Ok(Some(total(out.path())?))
}

/// The count in callgrind's file.
fn total(file: &Path) -> Result<u64, Trouble> {
    let text = fs::read_to_string(file).map_err(|problem| format!("valgrind wrote no count: {problem}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("valgrind's file has no totals")?;
    Ok(line.trim().parse()?)
}

/// The count in the dump with this number.
fn part(out: &Scratch, number: usize) -> Result<u64, Trouble> {
    let part = PathBuf::from(format!("{}.{number}", out.path().display()));
    let total = total(&part);
    drop(fs::remove_file(part));
    total
}
