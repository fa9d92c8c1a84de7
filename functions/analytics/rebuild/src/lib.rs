//! The metrics made anew from the operational table, and two metrics tables held against each other.
//!
//! Every referral is taken in as `analytics` takes it in from the stream: newer facts replace older ones, and the
//! counters move by the difference. So a rebuild can be broken off and begun again, and run into the table that is in
//! use: there it makes good what the stream lost, and changes nothing else.

use std::{future::Future, time::Duration};

use aws_sdk_dynamodb::Client;
use futures_util::{StreamExt, TryStreamExt, stream};
use referrals::{
    analytics::{Facts, Metrics, Taken, items},
    store::{Scanned, Store, StoreError, keys::Item},
};

/// How many referrals are taken in at once. More would get into each other's way at the counters.
const AT_ONCE: usize = 8;
/// How often one is tried, after what `Metrics` tries by itself.
const ATTEMPTS: u32 = 8;

/// What a rebuild came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Referrals that were counted, or counted anew because what was known of them was older.
    pub counted: u64,
    /// Referrals that were known as they are.
    pub known: u64,
    /// Items that cannot be read. They are in the log, and count nowhere.
    pub unreadable: u64,
}

/// Takes every referral of a table in, and says after each page how many items were looked at.
///
/// # Errors
/// When a table does not answer.
pub async fn rebuild(from: &Store, into: &Metrics, looked_at: impl Fn(u64)) -> Result<Report, StoreError> {
    let (mut report, mut next) = (Report::default(), None);
    loop {
        let Scanned { referrals, looked_at: items, unreadable, next: rest } = from.scan(next).await?;
        let facts: Vec<Facts> = referrals.iter().map(Facts::from).collect();
        let takes = facts.iter().map(|facts| patiently(move || into.take(facts)));
        let taken: Vec<Taken> = stream::iter(takes).buffer_unordered(AT_ONCE).try_collect().await?;
        let counted = taken.iter().filter(|taken| **taken == Taken::Counted).count() as u64;
        report.counted += counted;
        report.known += taken.len() as u64 - counted;
        report.unreadable += unreadable;
        looked_at(items);
        match rest {
            Some(rest) => next = Some(rest),
            None => return Ok(report),
        }
    }
}

/// Tries again for a while: many referrals add to the same counters.
async fn patiently<T, F>(attempt: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for pause in 0..ATTEMPTS {
        if let Ok(answer) = attempt().await {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(50 << pause)).await;
    }
    attempt().await
}

/// What two metrics tables say differently, each as a line; none when they say the same.
///
/// # Errors
/// When a table does not answer.
pub async fn compare(one: &Metrics, other: &Metrics) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    each_page(one, other, |item, there| {
        let (here, there) = (items::told(item), there.and_then(items::told));
        if here != there {
            lines.push(line(item, here.as_deref(), there.as_deref()));
        }
    })
    .await?;
    each_page(other, one, |item, there| {
        // What is in both was compared above.
        if let (Some(said), None) = (items::told(item), there) {
            lines.push(line(item, None, Some(&said)));
        }
    })
    .await?;
    Ok(lines)
}

fn line(item: &Item, here: Option<&str>, there: Option<&str>) -> String {
    let (here, there) = (here.unwrap_or("nothing"), there.unwrap_or("nothing"));
    format!("{}: {here}; the other: {there}", items::address(item))
}

/// Shows each item of one table together with that of the same key in another.
async fn each_page(
    of: &Metrics,
    other: &Metrics,
    mut show: impl FnMut(&Item, Option<&Item>),
) -> Result<(), StoreError> {
    let mut next = None;
    loop {
        let (items, rest) = of.scan(next).await?;
        for items in items.chunks(Metrics::BATCH) {
            let there = other.same_keys(items).await?;
            items.iter().for_each(|item| show(item, there.iter().find(|found| items::is_same_key(found, item))));
        }
        match rest {
            Some(rest) => next = Some(rest),
            None => return Ok(()),
        }
    }
}

/// The metrics table of this name, made if there is none.
///
/// # Errors
/// When it cannot be made.
pub async fn made(client: &Client, name: &str) -> Result<Metrics, StoreError> {
    let metrics = Metrics::new(client, name);
    metrics.make().await?;
    Ok(metrics)
}
