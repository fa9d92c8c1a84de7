//! `claim-orders`: claims the orders of referrals that a version without claims converted.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use referrals::{
    aws,
    runtime::{Call, Env},
    store::Store,
};

/// Claims the orders of referrals that a version without claims converted.
///
/// Run it once after an update from such a version. It can run while the service is in use, and it can be interrupted and
/// repeated. It exits with code 1 if it lists referrals that an operator has to look at.
///
/// The environment provides the region and credentials (AWS_REGION, AWS_ACCESS_KEY_ID, ...) and, for a local service, the
/// endpoint (AWS_ENDPOINT_URL_DYNAMODB).
#[derive(Parser)]
struct Arguments {
    /// The table of the stack.
    #[arg(long, value_name = "TABLE")]
    table: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    command::exit_code(run(&Arguments::parse().table).await)
}

/// Returns whether nothing is left to do.
async fn run(table: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let store = Store::new(&aws_sdk_dynamodb::Client::new(&aws::config(&Env::process())?), table);
    let bar = command::progress_bar(store.size().await?, "items")?;
    let report =
        claim_orders::claim_orders(&store, Call::begin(Duration::ZERO)?.now, |items| command::advance(&bar, items))
            .await?;
    bar.finish();
    let mut out = io::stdout().lock();
    report.attention.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    let (claimed, listed, unreadable) = (report.claimed, report.attention.len(), report.unreadable);
    writeln!(out, "{table}: {claimed} conversions have their order, {listed} listed, {unreadable} unreadable")?;
    Ok(report.is_complete())
}
