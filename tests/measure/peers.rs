//! Peers: the same steps as users of other stacks would write them, first checked, then measured in turns with ours.

mod check;
mod contender;
mod costs;
mod machine;
mod plot;
mod postgres;
mod report;
mod rounds;
mod stage;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use crate::{
    Trouble,
    peers::{
        contender::Contender,
        postgres::{Postgres, Server},
        report::Report,
        rounds::{Entry, Measure},
    },
    steps,
};

/// The steps that are compared, in the order of a referral's life.
const STEPS: [&str; 6] = ["mint", "attribute", "convert", "repeat", "issue", "deliver"];

#[derive(Args)]
pub(crate) struct Peers {
    /// The folder in which `.ci/benchmarks` builds the peers.
    #[arg(long, value_name = "DIR", default_value = "target/ci/peers")]
    built: PathBuf,
    /// The number of rounds in which all contenders take turns.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// The number of warm calls per process.
    #[arg(long, value_name = "N", default_value_t = 300)]
    calls: usize,
    /// The time after which the store answers.
    #[arg(long, value_name = "MS", default_value_t = 2)]
    latency_ms: u64,
    /// Only checks that each contender does the steps.
    #[arg(long)]
    check: bool,
    /// A PostgreSQL server for the SQL schema, as a connection string. Without it, this part is left out.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// The report to write; the plot is written, too.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Checks the contenders, then measures them and reports. Returns whether all contenders do the steps.
pub(crate) async fn run(arguments: &Peers, functions: &Path, only: &[String]) -> Result<bool, Trouble> {
    let contenders = contender::all(functions, &arguments.built)?;
    if !all_do_the_steps(&contenders).await? {
        return Ok(false);
    }
    if arguments.check {
        return Ok(true);
    }
    let (entries, postgres) = measured(arguments, &contenders, only).await?;
    let report = Report::of(&entries, postgres, arguments)?;
    println!("{}", report.table());
    if let Some(path) = &arguments.report {
        fs::write(path, report.markdown()?)?;
        fs::write(report::PLOT, report.plot())?;
    }
    Ok(true)
}

async fn all_do_the_steps(contenders: &[Contender]) -> Result<bool, Trouble> {
    let mut all = true;
    for contender in contenders {
        let broken = check::check(contender).await.map_err(|problem| format!("{}: {problem}", contender.name))?;
        println!("{}: {}", contender.name, if broken.is_empty() { "does all steps" } else { "does not do all steps" });
        broken.iter().for_each(|line| println!("  {line}"));
        all &= broken.is_empty();
    }
    Ok(all)
}

async fn measured<'a>(
    arguments: &Peers,
    contenders: &'a [Contender],
    only: &[String],
) -> Result<(Vec<Entry<'a>>, Option<Postgres>), Trouble> {
    let mut entries = Vec::new();
    for step in STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == *step)) {
        for contender in contenders {
            entries.push(Entry::recorded(contender, steps::named(step)?).await?);
        }
    }
    let server = arguments.postgres.as_ref().map(|url| Server::new(&arguments.built, url));
    let latency = Duration::from_millis(arguments.latency_ms);
    let measure = Measure { rounds: arguments.rounds, calls: arguments.calls, latency };
    let mut runs = Vec::new();
    for number in 0..measure.rounds {
        println!("round {} of {}", number + 1, measure.rounds);
        rounds::round(&mut entries, measure, number).await?;
        runs.extend(server.as_ref().map(Server::run).transpose()?);
    }
    Ok((entries, server.map(|server| server.summed_up(&runs)).transpose()?))
}
