//! Rounds: all contenders in turns, round after round, so that whatever the machine is up to hits all alike.

use std::time::Duration;

use crate::{
    Trouble,
    function::{Call, Cost, Function, Running},
    peers::{contender::Contender, stage},
    steps::Step,
    store::Store,
};

/// What one process of a contender took.
pub(crate) struct Run {
    pub(crate) start: Cost,
    pub(crate) first: Call,
    pub(crate) warm: Vec<Call>,
    /// The most memory that it had, in bytes.
    pub(crate) resident: u64,
}

/// A contender at a step.
pub(crate) struct Entry<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) step: &'static Step,
    pub(crate) store: Store,
    function: Function,
    /// One a round.
    pub(crate) runs: Vec<Run>,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) rounds: usize,
    pub(crate) calls: usize,
    pub(crate) latency: Duration,
}

/// How often a process is begun anew before a round is given up.
const TRIES: usize = 4;

impl<'a> Entry<'a> {
    /// Has the contender do the step once for the record.
    pub(crate) async fn recorded(contender: &'a Contender, step: &'static Step) -> Result<Self, Trouble> {
        let store = stage::recorded(contender, step).await;
        let store = store.map_err(|problem| format!("{} at {}: {problem}", contender.name, step.name))?;
        Ok(Self { contender, step, store, function: contender.function(step)?, runs: Vec::new() })
    }

    /// One process. On a machine so busy that somebody's timeouts strike, another one.
    async fn run(&self, measure: Measure) -> Result<Run, Trouble> {
        for _ in 1..TRIES {
            match self.undisturbed(measure).await {
                Err(problem) => println!("{} at {} once more: {problem}", self.contender.name, self.step.name),
                run => return run,
            }
        }
        self.undisturbed(measure).await
    }

    /// Its start, its first call, and warm ones.
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

/// One round over entries that are grouped by step; who begins is another in each.
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
