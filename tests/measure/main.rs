//! Measures the functions as Lambda runs them: each `bootstrap` a process of its own, invoked over the Runtime API, on a
//! store that answers what the embedded DynamoDB once answered, after a set time. What it costs is read from outside.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod budgets;
mod callgrind;
mod function;
mod peers;
mod runtime_api;
mod scale;
mod scratch;
mod speed;
mod steps;
mod store;

use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    budgets::{Budget, Budgets},
    function::Function,
    steps::{STEPS, Step},
    store::Store,
};

/// Why nothing can be measured.
pub(crate) type Trouble = Box<dyn Error + Send + Sync>;

/// Measures the functions as Lambda runs them, one process each, from outside.
///
/// Each step of a referral's life is one event, sent to its function again and again. The answers of DynamoDB, bus and
/// queues are recorded from the local service, and played back. Instructions are counted by valgrind's callgrind.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Where the functions are: as `sam build` leaves them (.aws-sam/build), or as cargo does (target/release).
    #[arg(long, global = true, value_name = "DIR", default_value = ".aws-sam/build")]
    functions: PathBuf,
    /// Only these steps, by name; all, unless said.
    #[arg(long, global = true, value_name = "STEP,...", value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Subcommand)]
enum What {
    /// Counts instructions at start and per call, size, memory, round trips, capacity and bytes sent.
    Count(Count),
    /// Measures time and CPU of a start and of calls.
    Speed(Speed),
    /// Measures the same steps as others would have written them, beside ours.
    Peers(peers::Peers),
    /// Measures what operations cost as the table grows and as one referrer's circle does, and what becomes of backlogs;
    /// exit code 1 when one costs more at one size than at another. It fills gigabytes of a temporary folder. Its
    /// parts, for --only: table, referrer, sweep, stream.
    Scale(scale::Scale),
}

#[derive(Args)]
struct Count {
    /// Holds what is counted to the figures recorded under this name of a build; exit code 1 when one is off by more than
    /// two in a hundred.
    #[arg(long, value_name = "BUILD")]
    hold: Option<String>,
    /// Records what is counted under this name.
    #[arg(long, value_name = "BUILD", conflicts_with = "hold")]
    record: Option<String>,
    /// The file of records.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/measure/budgets.json"))]
    budgets: PathBuf,
}

#[derive(Args)]
struct Speed {
    /// How many calls of each step.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    calls: usize,
    /// How long the store takes for an answer.
    #[arg(long, value_name = "MS,...", value_delimiter = ',', default_values_t = [0, 5])]
    latency_ms: Vec<u64>,
    /// How many processes are invoked side by side.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 4])]
    concurrency: Vec<usize>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is as it should be.
async fn run(arguments: &Arguments) -> Result<bool, Trouble> {
    let is_wanted = |step: &&Step| arguments.only.is_empty() || arguments.only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(is_wanted).collect();
    match &arguments.what {
        What::Count(count) => budgets(count, counted(&arguments.functions, &steps).await?),
        What::Speed(speed) => measured(&arguments.functions, &steps, speed).await.map(|()| true),
        What::Peers(peers) => peers::run(peers, &arguments.functions, &arguments.only).await,
        What::Scale(scale) => scale::measure(scale, &arguments.functions, &arguments.only).await,
    }
}

/// Records what was counted, or holds it to what was recorded.
fn budgets(arguments: &Count, found: BTreeMap<String, Budget>) -> Result<bool, Trouble> {
    let mut budgets = Budgets::read(&arguments.budgets)?;
    if let Some(build) = &arguments.record {
        budgets.record(build, found).write(&arguments.budgets)?;
        return Ok(true);
    }
    Ok(arguments.hold.as_ref().is_none_or(|build| budgets.holds(build, &found)))
}

async fn measured(functions: &Path, steps: &[&Step], arguments: &Speed) -> Result<(), Trouble> {
    println!("{}", speed::HEAD);
    for step in steps {
        let function = Function::of(functions, step)?;
        let store = Store::recorded(&function, step).await?;
        for latency in &arguments.latency_ms {
            for concurrency in &arguments.concurrency {
                speed::measure(&function, step, &store, *latency, *concurrency, arguments.calls).await?;
            }
        }
    }
    Ok(())
}

/// Counting, unlike timing, may go on side by side.
async fn counted(functions: &Path, steps: &[&Step]) -> Result<BTreeMap<String, Budget>, Trouble> {
    println!("{}", budgets::HEAD);
    let budgets = steps.iter().map(async |step| {
        let function = Function::of(functions, step)?;
        let budget = Budget::of(&function, &Store::recorded(&function, step).await?).await?;
        Ok::<_, Trouble>((step.name.to_owned(), budget))
    });
    stream::iter(budgets).buffered(2).inspect_ok(|(step, budget)| budget.print(step)).try_collect().await
}
