//! `replay`: processes again the stream records that Lambda gave up.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use referrals::{
    analytics::Analytics,
    aws::{self, bus::Bus},
    runtime::Env,
};
use replay::{Destinations, file};

/// Processes again the stream records that Lambda gave up, from a copy of the bucket of failed records.
///
/// Without --publish-to and --count-in it only reports what the files contain. A replay can be interrupted and
/// repeated: repeated events have the same ids and contents. It exits with code 1 if a file or a record cannot be read.
///
/// The environment provides the region and credentials (AWS_REGION, AWS_ACCESS_KEY_ID, ...) and, for a local service, the
/// endpoints (AWS_ENDPOINT_URL_EVENTBRIDGE, AWS_ENDPOINT_URL_DYNAMODB).
#[derive(Parser)]
struct Arguments {
    /// The folder with the files: `aws s3 sync s3://FAILED_RECORDS_BUCKET FOLDER`.
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// Processes only records of the functions whose name contains this text, such as RewardsFunction.
    #[arg(long, value_name = "TEXT", default_value = "")]
    function: String,
    /// The event bus on which the events are published again.
    #[arg(long, value_name = "BUS")]
    publish_to: Option<String>,
    /// The analytics table in which the referrals are counted.
    #[arg(long, value_name = "TABLE")]
    count_in: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    command::exit_code(run(Arguments::parse()).await)
}

/// Returns whether everything could be read.
async fn run(arguments: Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let Arguments { from, function, publish_to, count_in } = arguments;
    let files = file::files(&from).map_err(|problem| format!("{}: {problem}", from.display()))?;
    let is_dry = publish_to.is_none() && count_in.is_none();
    let to = destinations(publish_to, count_in)?;
    let bar = command::progress_bar(files.len() as u64, "files")?;
    let report = replay::replay(&files, &function, &to, || command::advance(&bar, 1)).await?;
    bar.finish();
    let mut out = io::stdout().lock();
    write!(out, "{report}")?;
    if to.analytics.is_some() {
        writeln!(out, "{} changes counted, the others were counted before", report.counted)?;
    }
    if is_dry {
        writeln!(out, "nothing was sent: give --publish-to, --count-in or both")?;
    }
    Ok(report.unreadable.is_empty())
}

fn destinations(bus: Option<String>, table: Option<String>) -> Result<Destinations, Box<dyn std::error::Error>> {
    let env = Env::process();
    let bus = bus.map(|name| {
        let client = aws_sdk_eventbridge::Client::new(&aws::config(&env)?);
        Bus::from_env(&env.clone().with("BUS_NAME", name), client.into())
    });
    let analytics = table.map(|name| {
        let client = aws_sdk_dynamodb::Client::new(&aws::config(&env)?);
        Ok::<_, Box<dyn std::error::Error>>(Analytics::new(&client, &name))
    });
    Ok(Destinations { bus: bus.transpose()?, analytics: analytics.transpose()? })
}
