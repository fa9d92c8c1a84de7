//! Processes again the stream records that Lambda gave up: publishes their events, and counts them in the analytics.
//!
//! The events of a record are a pure function of its two images, and the counters change by the difference from the
//! stored facts. Therefore a replay can be interrupted and repeated: a repeated event has the same id and content.
//! A replay issues no rewards, because the sweep does that from the table.

pub mod file;

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    path::{Path, PathBuf},
};

use command::with_retries;
use file::Content;
use referrals::{
    analytics::{Analytics, CountOutcome, Facts},
    aws::bus::{Bus, PublishError},
    lambda::stream::{self, Change, Record},
    lifecycle::announce::of_change,
    store::StoreError,
};
use serde_json::Value;

/// Where the records go. A replay without a destination only reports what it found.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// The bus for their events.
    pub bus: Option<Bus>,
    /// The analytics table that counts them.
    pub analytics: Option<Analytics>,
}

/// The result of a replay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Batches by the function that could not process them.
    pub batches: BTreeMap<String, u64>,
    /// Files from other event sources, and batches of other functions. They are skipped.
    pub skipped: u64,
    /// Changes of referrals.
    pub changes: u64,
    /// Events by type, published if there is a bus.
    pub events: BTreeMap<&'static str, u64>,
    /// Referrals that the analytics had not counted in this state or a later one.
    pub counted: u64,
    /// One line per file or record that cannot be read.
    pub unreadable: Vec<String>,
}

/// A destination did not accept a record. The replay can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The bus did not accept the events.
    #[error(transparent)]
    Bus(#[from] PublishError),
    /// The analytics table is unavailable.
    #[error(transparent)]
    Analytics(#[from] StoreError),
}

/// Processes the records of these files, of the functions whose name contains `function`. Calls `on_file` after each.
///
/// # Errors
/// Returns an error when a destination does not accept a record, also after retries.
pub async fn replay(
    files: &[PathBuf],
    function: &str,
    to: &Destinations,
    on_file: impl Fn(),
) -> Result<Report, ReplayError> {
    let mut report = Report::default();
    for path in files {
        match file::read(path) {
            Ok(Content::Stream { function: name, records }) if name.contains(function) => {
                *report.batches.entry(name).or_default() += 1;
                for record in &records {
                    report.process(path, record, to).await?;
                }
            }
            Ok(Content::Stream { .. } | Content::OtherSource) => report.skipped += 1,
            Err(problem) => report.unreadable.push(format!("{}: {problem}", path.display())),
        }
        on_file();
    }
    Ok(report)
}

impl Report {
    async fn process(&mut self, path: &Path, record: &Value, to: &Destinations) -> Result<(), ReplayError> {
        match stream::change(record) {
            Record::Changed(change) => self.send(&change, to).await,
            Record::Unchanged => Ok(()),
            Record::Invalid(reason) => {
                let sequence = stream::sequence(record).unwrap_or("without a number");
                self.unreadable.push(format!("{}: record {sequence}: {reason}", path.display()));
                Ok(())
            }
        }
    }

    async fn send(&mut self, change: &Change, to: &Destinations) -> Result<(), ReplayError> {
        let events = of_change(change);
        if let Some(bus) = &to.bus {
            with_retries(|| bus.publish(&events)).await?;
        }
        if let (Some(analytics), Change::Referral { after, .. }) = (&to.analytics, change) {
            let facts = Facts::from(after);
            let outcome = with_retries(|| analytics.record(&facts)).await?;
            self.counted += u64::from(outcome == CountOutcome::Counted);
        }
        self.changes += 1;
        for event in &events {
            *self.events.entry(event.detail_type).or_default() += 1;
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (function, batches) in &self.batches {
            writeln!(formatter, "{function}: {batches} batches")?;
        }
        writeln!(formatter, "{} changes of referrals and reversals, {} files skipped", self.changes, self.skipped)?;
        for (detail_type, events) in &self.events {
            writeln!(formatter, "{detail_type}: {events} events")?;
        }
        self.unreadable.iter().try_for_each(|line| writeln!(formatter, "unreadable: {line}"))
    }
}
