//! Claims the orders of referrals that a version without claims converted, so that none of these orders converts another referral.
//!
//! A claim has a condition and is written once, so the command can run while the service is in use, and it can be interrupted and
//! repeated.

use command::with_retries;
use futures_util::{StreamExt, TryStreamExt, stream};
use referrals::{
    domain::time::Timestamp,
    referral::{Referral, machine::Command},
    store::{Claimed, Store, StoreError},
};

/// How many orders are claimed concurrently.
const CONCURRENCY: usize = 8;

/// The result of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Conversions whose order is claimed for their user, by this run or before.
    pub claimed: u64,
    /// Referrals that could not be read. Each is logged.
    pub unreadable: u64,
    /// Conversions by an order that another user has claimed. An operator has to look at them.
    pub attention: Vec<String>,
}

impl Report {
    /// Whether every conversion has its order.
    pub fn is_complete(&self) -> bool {
        self.unreadable == 0 && self.attention.is_empty()
    }

    fn add(&mut self, referral: &Referral, claimed: Option<Claimed>) {
        match (claimed, referral.conversion()) {
            (Some(Claimed::By(user)), Some(conversion)) => {
                let (order, referee) = (&conversion.order, &referral.referee);
                self.attention.push(format!("order {order} converted {referee}, but belongs to {user}"));
            }
            (Some(_), _) => self.claimed += 1,
            (None, _) => {}
        }
    }
}

/// Claims the order of every conversion in the table. Calls `on_page` after each page with the number of items that were read.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable.
pub async fn claim_orders(store: &Store, now: Timestamp, on_page: impl Fn(u64)) -> Result<Report, StoreError> {
    let (mut report, mut next) = (Report::default(), None);
    loop {
        let page = store.scan(next).await?;
        report.unreadable += page.unreadable;
        let claims = page.referrals.iter().map(|referral| with_retries(move || claim(store, referral, now)));
        let claims: Vec<_> = stream::iter(claims).buffered(CONCURRENCY).try_collect().await?;
        page.referrals.iter().zip(claims).for_each(|(referral, claimed)| report.add(referral, claimed));
        on_page(page.looked_at);
        match page.next {
            Some(rest) => next = Some(rest),
            None => return Ok(report),
        }
    }
}

/// Claims the order that converted a referral, and applies the adjustments that the referral misses: those that arrived without a
/// user, or while an earlier version was in use. Returns `None` if no order has converted it.
async fn claim(store: &Store, referral: &Referral, now: Timestamp) -> Result<Option<Claimed>, StoreError> {
    let mut converting = None;
    // Candidates first, because the next of them can convert at once.
    for order in referral.orders().collect::<Vec<_>>().into_iter().rev() {
        let claimed = store.claim(&order.order, &referral.referee, &order.paid).await?;
        if let Claimed::Ours(record) = &claimed {
            let adjust = Command::Adjust(record, None);
            store.apply(referral.clone(), |referral| referral.decide(&adjust, now)).await?;
        }
        converting = Some(claimed);
    }
    Ok(converting.filter(|_| referral.conversion().is_some()))
}
