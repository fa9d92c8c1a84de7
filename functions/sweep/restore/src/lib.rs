//! Copies a restored table back into the table of the stack, so that the service continues from it.
//!
//! Each item is written only under a condition that protects later writes, so the command can run while the service is in
//! use, and it can be interrupted and repeated.

use std::collections::BTreeMap;

use command::with_retries;
use futures_util::{StreamExt, TryStreamExt, stream};
use referrals::{
    domain::time::Timestamp,
    store::{Restored, Store, StoreError},
};

/// How many items are written concurrently.
const CONCURRENCY: usize = 8;

/// The result of a restore.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Items by result.
    pub items: BTreeMap<Restored, u64>,
    /// Items that changed in the table between the decision and the write. Repeat the command.
    pub changed: u64,
    /// The keys of items that an operator has to look at.
    pub attention: Vec<String>,
}

impl Report {
    /// The number of items with this result.
    pub fn count(&self, outcome: Restored) -> u64 {
        self.items.get(&outcome).copied().unwrap_or_default()
    }

    /// Whether nothing is left to do.
    pub fn is_complete(&self) -> bool {
        self.changed == 0 && self.attention.is_empty()
    }
}

/// Copies the items of `from` into `into`, or with `apply` false only reports what it would do. The sweep does the work of
/// copied referrals at `resume` or later. Calls `on_page` after each page with the number of items that were read.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable.
pub async fn restore(
    from: &Store,
    into: &Store,
    resume: Timestamp,
    apply: bool,
    on_page: impl Fn(u64),
) -> Result<Report, StoreError> {
    let (mut report, mut next) = (Report::default(), None);
    loop {
        let page = into.plan_restore(from, next, resume).await?;
        for repair in &page.repairs {
            *report.items.entry(repair.outcome).or_default() += 1;
            if matches!(repair.outcome, Restored::Conflicting | Restored::Unreadable) {
                report.attention.push(format!("{:?}: {}", repair.outcome, repair.address).to_lowercase());
            }
        }
        if apply {
            let writes = page.repairs.iter().map(|repair| with_retries(move || into.restore(repair)));
            let written: Vec<bool> = stream::iter(writes).buffer_unordered(CONCURRENCY).try_collect().await?;
            report.changed += written.iter().filter(|is_written| !**is_written).count() as u64;
        }
        on_page(page.repairs.len() as u64);
        match page.next {
            Some(rest) => next = Some(rest),
            None => return Ok(report),
        }
    }
}
