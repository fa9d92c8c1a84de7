//! What the operators' commands (`rebuild`, `replay`, `restore`) have in common. No function depends on it.

use std::{error::Error, future::Future, process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a step is retried, in addition to the retries of its client.
const ATTEMPTS: u32 = 8;

/// Retries with backoff, because many steps of a command can meet on the same item or exceed a limit together.
///
/// # Errors
/// Returns the last error.
pub async fn with_retries<T, P, F>(attempt: impl Fn() -> F) -> Result<T, P>
where
    F: Future<Output = Result<T, P>>,
{
    for pause in 0..ATTEMPTS {
        if let Ok(answer) = attempt().await {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(50 << pause)).await;
    }
    attempt().await
}

/// A progress bar over about this many `unit`s.
///
/// # Errors
/// Returns an error when the template of the bar is invalid.
pub fn progress_bar(length: u64, unit: &str) -> Result<ProgressBar, Box<dyn Error>> {
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {unit} {{per_sec}} {{eta}} left"))?;
    Ok(ProgressBar::new(length).with_style(style))
}

/// Advances the bar, and its length if that was too low: DynamoDB updates a table's item count only every few hours.
pub fn advance(bar: &ProgressBar, by: u64) {
    bar.inc(by);
    bar.set_length(bar.length().unwrap_or_default().max(bar.position()));
}

/// The exit code of a command: 0 when it found nothing to report, 1 when it did, 2 when it failed.
pub fn exit_code(result: Result<bool, Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}
