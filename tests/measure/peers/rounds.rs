//! Rounds: all contenders take turns, so that other load on the machine affects all of them equally.

use std::time::Duration;

use crate::{
    Trouble,
    function::{Call, Cost, Function, Running},
    peers::{contender::Contender, stage},
    steps::Step,
    store::Store,
};

/// The costs of one process of a contender.
pub(crate) struct Run {
    pub(crate) start: Cost,
    pub(crate) first: Call,
    pub(crate) warm: Vec<Call>,
    /// The maximum memory, in bytes.
    pub(crate) resident: u64,
}

/// A contender at a step.
pub(crate) struct Entry<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) step: &'static Step,
    pub(crate) store: Store,
    function: Function,
    /// One per round.
    pub(crate) runs: Vec<Run>,
}

/// The extent of the measurement.
#[derive(Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) rounds: usize,
    pub(crate) calls: usize,
    pub(crate) latency: Duration,
}

/// The number of attempts to measure a process before a round fails.
const TRIES: usize = 4;

impl<'a> Entry<'a> {
    /// Records one call of the contender at this step.
    pub(crate) async fn recorded(contender: &'a Contender, step: &'static Step) -> Result<Self, Trouble> {
        let store = stage::recorded(contender, step).await;
        let store = store.map_err(|problem| format!("{} at {}: {problem}", contender.name, step.name))?;
        Ok(Self { contender, step, store, function: contender.function(step)?, runs: Vec::new() })
    }

    /// Measures one process. If the machine is so busy that a timeout expires, measures another one.
    async fn run(&self, measure: Measure) -> Result<Run, Trouble> {
        for _ in 1..TRIES {
            match self.undisturbed(measure).await {
                Err(problem) => println!("{} at {} again: {problem}", self.contender.name, self.step.name),
                run => return run,
            }
        }
        self.undisturbed(measure).await
    }

    /// Measures the start, the first call, and warm calls of one process.
    async fn undisturbed(&self, measure: Measure) -> Result<Run, Trouble> {
        let Store { event, settings, .. } = &self.store;
        let line = self.store.play(measure.latency).await?;
        let mut running = Running::start(&self.function, &[], settings, line).await?;
        let first = running.call(event).await?;
        let mut warm = Vec::with_capacity(measure.calls);
        for _ in 0..measure.calls {
            warm.push(running.call(event).await?);
        }
        let (start, resident) = (running.start, running.resident()?);
        running.end().await?;
        Ok(Run { start, first, warm, resident })
    }
}

/// One round over entries that are grouped by step. Each round begins with another contender.
pub(crate) async fn round(entries: &mut [Entry<'_>], measure: Measure, number: usize) -> Result<(), Trouble> {
    for group in entries.chunk_by_mut(|one, other| one.step.name == other.step.name) {
        let count = group.len();
        for turn in 0..count {
            let entry = &mut group[(turn + number) % count];
            let run = entry.run(measure).await?;
            entry.runs.push(run);
        }
    }
    Ok(())
}
