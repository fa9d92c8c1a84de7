//! Measures the functions as Lambda runs them: each `bootstrap` is a separate process, invoked over the Runtime API. A
//! recording of the embedded DynamoDB answers after a fixed time. All costs are measured from outside.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod budgets;
mod callgrind;
mod function;
mod peers;
mod scale;
mod scratch;
mod speed;
mod steps;
mod store;

use std::{
    collections::BTreeMap,
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

/// The reason why nothing can be measured.
pub(crate) use local::runtime_api::Trouble;

/// Measures the functions as Lambda runs them, one process each, from outside.
///
/// Each step of a referral's life is one event that is sent to its function many times. The answers of DynamoDB, bus and queues are
/// recorded from the local service and replayed. Valgrind's callgrind counts instructions.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The folder of the built functions: by `sam build` (.aws-sam/build) or by cargo (target/release).
    #[arg(long, global = true, value_name = "DIR", default_value = ".aws-sam/build")]
    functions: PathBuf,
    /// Only these steps, by name. The default is all steps.
    #[arg(long, global = true, value_name = "STEP,...", value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Subcommand)]
enum What {
    /// Counts instructions at start and per call, size, memory, round trips, capacity and bytes sent.
    Count(Count),
    /// Measures time and CPU of a start and of calls.
    Speed(Speed),
    /// Measures the same steps as users of other stacks would write them, compared with ours.
    Peers(peers::Peers),
    /// Measures the cost of operations as the table and one referrer's list grow, and the processing of backlogs. The exit code is 1
    /// if an operation costs more at one size than at another. Needs gigabytes of temporary disk space. Parts for --only: table,
    /// referrer, sweep, stream.
    Scale(scale::Scale),
}

#[derive(Args)]
struct Count {
    /// Compares the counts with the record of this build. The exit code is 1 if one differs by more than 2 % in three counts.
    #[arg(long, value_name = "BUILD")]
    hold: Option<String>,
    /// Records the counts under this name of a build.
    #[arg(long, value_name = "BUILD", conflicts_with = "hold")]
    record: Option<String>,
    /// The file of records.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/measure/budgets.json"))]
    budgets: PathBuf,
}

#[derive(Args)]
struct Speed {
    /// The number of calls of each step.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    calls: usize,
    /// The times after which the store answers.
    #[arg(long, value_name = "MS,...", value_delimiter = ',', default_values_t = [0, 5])]
    latency_ms: Vec<u64>,
    /// The numbers of processes that are invoked concurrently.
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

/// Runs the command; returns whether all checks passed.
async fn run(arguments: &Arguments) -> Result<bool, Trouble> {
    let is_wanted = |step: &&Step| arguments.only.is_empty() || arguments.only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(is_wanted).collect();
    match &arguments.what {
        What::Count(count) => self::count(count, &arguments.functions, &steps).await,
        What::Speed(speed) => measured(&arguments.functions, &steps, speed).await.map(|()| true),
        What::Peers(peers) => peers::run(peers, &arguments.functions, &arguments.only).await,
        What::Scale(scale) => scale::measure(scale, &arguments.functions, &arguments.only).await,
    }
}

/// Counts the steps. Records the counts, or compares them with the record.
async fn count(arguments: &Count, functions: &Path, steps: &[&Step]) -> Result<bool, Trouble> {
    let found = counted(functions, steps).await?;
    let mut budgets = Budgets::read(&arguments.budgets)?;
    if let Some(build) = &arguments.record {
        budgets.record(build, found).write(&arguments.budgets)?;
        return Ok(true);
    }
    let Some(build) = &arguments.hold else { return Ok(true) };
    let mut off = budgets.differing(build, &found);
    // The order of concurrent requests at a start varies, and with it the count. A change of the code differs every time.
    for _ in 0..2 {
        if !off.is_empty() {
            println!("counted again: {}", off.join(", "));
            let again: Vec<&Step> =
                steps.iter().filter(|step| off.iter().any(|name| name == step.name)).copied().collect();
            off = budgets.differing(build, &counted(functions, &again).await?);
        }
    }
    Ok(off.is_empty())
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

/// Counts all steps. Unlike timing, counting may run concurrently.
async fn counted(functions: &Path, steps: &[&Step]) -> Result<BTreeMap<String, Budget>, Trouble> {
    println!("{}", budgets::HEAD);
    let budgets = steps.iter().map(async |step| {
        let function = Function::of(functions, step)?;
        let budget = Budget::of(&function, &Store::recorded(&function, step).await?).await?;
        Ok::<_, Trouble>((step.name.to_owned(), budget))
    });
    stream::iter(budgets).buffered(2).inspect_ok(|(step, budget)| budget.print(step)).try_collect().await
}
