//! Counts the analytics again from the operational table, and compares two analytics tables.
//!
//! Every referral is recorded in the same way as the `analytics` function records it from the stream: newer facts
//! replace older ones, and the counters change by the difference. Therefore a rebuild can be interrupted and started
//! again, and it can write into the table that is in use: it then adds only what the stream lost.

use aws_sdk_dynamodb::Client;
use command::with_retries;
use futures_util::{StreamExt, TryStreamExt, stream};
use referrals::{
    analytics::{Analytics, CountOutcome, Facts, items},
    store::{Scanned, Store, StoreError, keys::Item},
};

/// How many referrals are recorded concurrently. More would conflict with each other on the same counters.
const CONCURRENCY: usize = 8;

/// The result of a rebuild.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Referrals that were not counted, or whose counted state was older.
    pub counted: u64,
    /// Referrals that were counted in their current state before.
    pub already_counted: u64,
    /// Items that cannot be read. They are logged and not counted.
    pub unreadable: u64,
}

/// Records every referral of a table. Calls `on_page` after each page with the number of items that were read.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable.
pub async fn rebuild(from: &Store, into: &Analytics, on_page: impl Fn(u64)) -> Result<Report, StoreError> {
    let (mut report, mut next) = (Report::default(), None);
    loop {
        let Scanned { referrals, looked_at: items, unreadable, next: rest } = from.scan(next).await?;
        let facts: Vec<Facts> = referrals.iter().map(Facts::from).collect();
        let records = facts.iter().map(|facts| with_retries(move || into.record(facts)));
        let outcomes: Vec<CountOutcome> = stream::iter(records).buffer_unordered(CONCURRENCY).try_collect().await?;
        let counted = outcomes.iter().filter(|outcome| **outcome == CountOutcome::Counted).count() as u64;
        report.counted += counted;
        report.already_counted += outcomes.len() as u64 - counted;
        report.unreadable += unreadable;
        on_page(items);
        match rest {
            Some(rest) => next = Some(rest),
            None => return Ok(report),
        }
    }
}

/// Compares two analytics tables. Returns one line per difference.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable.
pub async fn compare(one: &Analytics, other: &Analytics) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    each_page(one, other, |item, there| {
        let (here, there) = (items::canonical_text(item), there.and_then(items::canonical_text));
        if here != there {
            lines.push(line(item, here.as_deref(), there.as_deref()));
        }
    })
    .await?;
    each_page(other, one, |item, there| {
        // Items that are in both tables are compared above.
        if let (Some(text), None) = (items::canonical_text(item), there) {
            lines.push(line(item, None, Some(&text)));
        }
    })
    .await?;
    Ok(lines)
}

fn line(item: &Item, here: Option<&str>, there: Option<&str>) -> String {
    let (here, there) = (here.unwrap_or("nothing"), there.unwrap_or("nothing"));
    format!("{}: {here}; in the other table: {there}", items::address(item))
}

/// Calls `show` with each item of one table and the item with the same key in the other.
async fn each_page(
    of: &Analytics,
    other: &Analytics,
    mut show: impl FnMut(&Item, Option<&Item>),
) -> Result<(), StoreError> {
    let mut next = None;
    loop {
        let (items, rest) = of.scan(next).await?;
        for items in items.chunks(Analytics::BATCH) {
            let there = other.same_keys(items).await?;
            items.iter().for_each(|item| show(item, there.iter().find(|found| items::is_same_key(found, item))));
        }
        match rest {
            Some(rest) => next = Some(rest),
            None => return Ok(()),
        }
    }
}

/// The analytics table of this name. It is created if it does not exist.
///
/// # Errors
/// Returns an error when the table cannot be created.
pub async fn open_or_create(client: &Client, name: &str) -> Result<Analytics, StoreError> {
    let analytics = Analytics::new(client, name);
    analytics.create_table().await?;
    Ok(analytics)
}
