//! The SQL schema on PostgreSQL: the cost of a worker, and the effect of duplicates, races and a crash. Both are scripts of the
//! peers (`tests/peers/node/postgres`) that print their results.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{Trouble, peers::costs::Spread};

/// The number of times that a worker does each step in one run.
const CALLS: usize = 200;

/// All results.
pub(crate) struct Postgres {
    pub(crate) version: String,
    pub(crate) start_cpu: Spread,
    pub(crate) resident: Spread,
    pub(crate) steps: Vec<SqlStep>,
    pub(crate) races: Races,
}

/// The cost of a step, in milliseconds.
pub(crate) struct SqlStep {
    pub(crate) name: String,
    pub(crate) statements: f64,
    pub(crate) worker_cpu: Spread,
    pub(crate) server_cpu: Spread,
}

/// One run of the worker.
#[derive(Deserialize)]
pub(crate) struct Run {
    version: String,
    start: Start,
    steps: Vec<RunStep>,
    resident: f64,
}

#[derive(Deserialize)]
struct Start {
    cpu: f64,
}

#[derive(Deserialize)]
struct RunStep {
    name: String,
    statements: f64,
    cpu: f64,
    server_cpu: f64,
}

#[derive(Deserialize)]
pub(crate) struct Races {
    pub(crate) duplicates: Ways<Duplicates>,
    pub(crate) two_workers: TwoWorkers,
    pub(crate) killed: Killed,
}

/// The result with a condition in the write, and with a read before the write.
#[derive(Deserialize)]
pub(crate) struct Ways<T> {
    pub(crate) condition: T,
    pub(crate) look_first: T,
}

#[derive(Deserialize)]
pub(crate) struct Duplicates {
    pub(crate) orders: u64,
    pub(crate) conversions: u64,
    pub(crate) wanted: u64,
}

#[derive(Deserialize)]
pub(crate) struct TwoWorkers {
    pub(crate) condition: Rewards,
    pub(crate) look_first_unique: Rewards,
    pub(crate) look_first: Rewards,
}

#[derive(Deserialize)]
pub(crate) struct Rewards {
    pub(crate) rewards: u64,
    pub(crate) wanted: u64,
    pub(crate) paid_twice: i64,
}

#[derive(Deserialize)]
pub(crate) struct Killed {
    pub(crate) kills: u64,
    pub(crate) rewards: u64,
    pub(crate) published: u64,
    pub(crate) never_delivered: i64,
}

/// A server and the scripts that run against it.
pub(crate) struct Server {
    scripts: PathBuf,
    url: String,
}

impl Server {
    pub(crate) fn new(built: &Path, url: &str) -> Self {
        Self { scripts: built.join("node/postgres"), url: url.to_owned() }
    }

    /// Runs a worker that does each step.
    pub(crate) fn run(&self) -> Result<Run, Trouble> {
        self.script("measure.js", &[CALLS.to_string()])
    }

    fn races(&self) -> Result<Races, Trouble> {
        self.script("races.js", &[])
    }

    fn script<T: DeserializeOwned>(&self, name: &str, arguments: &[String]) -> Result<T, Trouble> {
        let output = Command::new("node").arg(self.scripts.join(name)).arg(&self.url).args(arguments).output()?;
        if !output.status.success() {
            return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Summarises the runs, one per round, and runs the races once.
    pub(crate) fn summed_up(&self, runs: &[Run]) -> Result<Postgres, Trouble> {
        let first = runs.first().ok_or("no worker ran")?;
        let steps = first.steps.iter().enumerate().map(|(place, step)| {
            let each = |value: fn(&RunStep) -> f64| Spread::of(runs.iter().map(|run| value(&run.steps[place])));
            SqlStep {
                name: step.name.clone(),
                statements: step.statements,
                worker_cpu: each(|step| step.cpu),
                server_cpu: each(|step| step.server_cpu),
            }
        });
        Ok(Postgres {
            version: first.version.clone(),
            start_cpu: Spread::of(runs.iter().map(|run| run.start.cpu)),
            resident: Spread::of(runs.iter().map(|run| run.resident)),
            steps: steps.collect(),
            races: self.races()?,
        })
    }
}
