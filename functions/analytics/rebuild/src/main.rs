//! `rebuild`: makes the metrics anew from the operational table, with a progress bar, and holds them against those in
//! use.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rebuild::Report;
use referrals::{analytics::Metrics, aws, runtime::Env, store::Store};

/// Makes the metrics anew from the operational table.
///
/// Region and credentials come from the environment (AWS_REGION, AWS_ACCESS_KEY_ID, ...), and so does the address of a
/// local service (AWS_ENDPOINT_URL_DYNAMODB).
#[derive(Parser)]
struct Arguments {
    /// The operational table.
    #[arg(long, value_name = "TABLE")]
    from: String,
    /// The metrics table to count in; it is made if there is none. Of what it knows already only what is older changes.
    #[arg(long, value_name = "TABLE")]
    into: String,
    /// A metrics table to hold it against: each difference is a line, and the exit code then 1.
    #[arg(long, value_name = "TABLE")]
    compare_with: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Whether there is no difference.
async fn run(arguments: Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let Arguments { from, into, compare_with } = arguments;
    let client = aws_sdk_dynamodb::Client::new(&aws::config(&Env::process())?);
    let (store, metrics) = (Store::new(&client, &from), rebuild::made(&client, &into).await?);
    let bar = ProgressBar::new(store.size().await?).with_style(style()?);
    let report = rebuild::rebuild(&store, &metrics, |items| {
        bar.inc(items);
        // A table's size is counted a few times a day.
        bar.set_length(bar.length().unwrap_or_default().max(bar.position()));
    })
    .await?;
    bar.finish();
    let Report { counted, known, unreadable } = report;
    let mut out = io::stdout().lock();
    writeln!(out, "{into}: {counted} referrals counted, {known} known before, {unreadable} items unreadable")?;
    let Some(other) = compare_with else { return Ok(true) };
    let differences = rebuild::compare(&metrics, &Metrics::new(&client, &other)).await?;
    differences.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "{} differences to {other}", differences.len())?;
    Ok(differences.is_empty())
}

fn style() -> Result<ProgressStyle, Box<dyn std::error::Error>> {
    Ok(ProgressStyle::with_template("{bar:40} {pos}/{len} items {per_sec} {eta} left")?)
}
