//! `restore`: copies a restored table back into the table of the stack.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use referrals::{
    aws,
    runtime::{Call, Env},
    store::{Restored, Store},
};

/// Copies a restored table back into the table of the stack.
///
/// Without --apply it only reports what it would write. It writes an item only where the table has none, an older state of
/// the same referral, an unreadable referral, or an older flag. It can run while the service is in use, and it can be
/// interrupted and repeated. It exits with code 1 if it lists items that an operator has to look at.
///
/// The environment provides the region and credentials (AWS_REGION, AWS_ACCESS_KEY_ID, ...) and, for a local service, the
/// endpoint (AWS_ENDPOINT_URL_DYNAMODB).
#[derive(Parser)]
struct Arguments {
    /// The restored table. It is only read.
    #[arg(long, value_name = "TABLE")]
    from: String,
    /// The table of the stack.
    #[arg(long, value_name = "TABLE")]
    into: String,
    /// Writes the items.
    #[arg(long)]
    apply: bool,
    /// Seconds for which nothing is issued from copied referrals. Replay the events since the restore in this time.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    resume_after: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    command::exit_code(run(Arguments::parse()).await)
}

/// Returns whether nothing is left to do.
async fn run(arguments: Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let Arguments { from, into, apply, resume_after } = arguments;
    if from == into {
        return Err("--from and --into name the same table".into());
    }
    let client = aws_sdk_dynamodb::Client::new(&aws::config(&Env::process())?);
    let (restored, table) = (Store::new(&client, &from), Store::new(&client, &into));
    let resume = Call::begin(Duration::ZERO)?.now.plus(Duration::from_secs(resume_after.into()));
    let bar = command::progress_bar(restored.size().await?, "items")?;
    let report = restore::restore(&restored, &table, resume, apply, |items| command::advance(&bar, items)).await?;
    bar.finish();
    let mut out = io::stdout().lock();
    report.attention.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    let [copied, repaired, kept] = [Restored::Copied, Restored::Repaired, Restored::Kept].map(|of| report.count(of));
    writeln!(
        out,
        "{into}: {copied} items copied, {repaired} repaired, {kept} kept, {} listed",
        report.attention.len()
    )?;
    match (apply, report.changed) {
        (false, _) => writeln!(out, "nothing was written: give --apply")?,
        (true, 0) => writeln!(out, "the sweep does the work of these referrals from {resume} on")?,
        (true, changed) => writeln!(out, "{changed} items changed during the run: repeat the command")?,
    }
    Ok(report.is_complete())
}
