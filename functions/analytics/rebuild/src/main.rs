//! `rebuild`: counts the analytics again from the operational table, and compares the result with another analytics table.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use rebuild::Report;
use referrals::{analytics::Analytics, aws, runtime::Env, store::Store};

/// Counts the analytics again from the operational table.
///
/// The environment provides the region and credentials (AWS_REGION, AWS_ACCESS_KEY_ID, ...) and, for a local service, the
/// endpoint (AWS_ENDPOINT_URL_DYNAMODB).
#[derive(Parser)]
struct Arguments {
    /// The operational table.
    #[arg(long, value_name = "TABLE")]
    from: String,
    /// The analytics table to write; it is created if it does not exist. Only referrals whose state is older there are
    /// counted again.
    #[arg(long, value_name = "TABLE")]
    into: String,
    /// An analytics table to compare with: prints one line per difference, and exits with code 1 if there is any.
    #[arg(long, value_name = "TABLE")]
    compare_with: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    command::exit_code(run(Arguments::parse()).await)
}

/// Returns whether the compared tables are equal.
async fn run(arguments: Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let Arguments { from, into, compare_with } = arguments;
    let client = aws_sdk_dynamodb::Client::new(&aws::config(&Env::process())?);
    let (store, analytics) = (Store::new(&client, &from), rebuild::open_or_create(&client, &into).await?);
    let bar = command::progress_bar(store.size().await?, "items")?;
    let report = rebuild::rebuild(&store, &analytics, |items| command::advance(&bar, items)).await?;
    bar.finish();
    let Report { counted, already_counted, unreadable } = report;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{into}: {counted} referrals counted, {already_counted} already counted, {unreadable} items unreadable"
    )?;
    let Some(other) = compare_with else { return Ok(true) };
    let differences = rebuild::compare(&analytics, &Analytics::new(&client, &other)).await?;
    differences.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "{} differences to {other}", differences.len())?;
    Ok(differences.is_empty())
}
