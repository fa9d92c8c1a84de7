//! The SQL schema on PostgreSQL: what a worker on it costs, and what duplicates, races and a crash do to it. Both are
//! scripts of the peers (`tests/peers/node/postgres`), which print what they found.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{Trouble, peers::figures::Spread};

/// How many of each step a worker does each time.
const CALLS: usize = 200;

/// All that was found.
pub(crate) struct Postgres {
    pub(crate) version: String,
    pub(crate) start_cpu: Spread,
    pub(crate) resident: Spread,
    pub(crate) steps: Vec<SqlStep>,
    pub(crate) races: Races,
}

/// What a step costs, in milliseconds.
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

/// By a condition in the write, or by a look before it.
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

/// A server, and the scripts that are run against it.
pub(crate) struct Server {
    scripts: PathBuf,
    url: String,
}

impl Server {
    pub(crate) fn new(built: &Path, url: &str) -> Self {
        Self { scripts: built.join("node/postgres"), url: url.to_owned() }
    }

    /// A worker does each step.
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

    /// What the runs, one a round, come to; and the races, which are run once.
    pub(crate) fn summed_up(&self, runs: &[Run]) -> Result<Postgres, Trouble> {
        let first = runs.first().ok_or("no worker was run")?;
        let steps = first.steps.iter().enumerate().map(|(place, step)| {
            let each = |figure: fn(&RunStep) -> f64| Spread::of(runs.iter().map(|run| figure(&run.steps[place])));
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
