//! On a schedule: whatever still owes work and did not get it from the stream, found from the index of work alone.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream};
use lambda_runtime::Error;
use referrals::{
    bus::Bus,
    life::{
        advance::{advance, claim},
        announce::reannouncements,
    },
    referral::{Lane, Referral, Status},
    runtime::{Call, Env, Misconfigured},
    store::{Stepped, Store},
    table::WORK_SHARDS,
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout_at;

/// The function's state.
pub struct App {
    store: Store,
    bus: Bus,
    grace: Duration,
}

impl App {
    /// Ten minutes: the queues have long tried again by then.
    const GRACE_SECONDS: u32 = 600;

    /// Reads `TABLE_NAME`, `BUS_NAME` and `GRACE_SECONDS` (600): how long a reward may be on its way before it is
    /// announced again.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        eventbridge: aws_sdk_eventbridge::Client,
    ) -> Result<Self, Misconfigured> {
        let grace: u32 = env.parsed("GRACE_SECONDS", Self::GRACE_SECONDS)?;
        Ok(Self {
            store: Store::new(&dynamodb, env.required("TABLE_NAME")?),
            bus: Bus::from_env(env, eventbridge)?,
            grace: Duration::from_secs(grace.into()),
        })
    }
}

/// What a sweep did, in referrals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
struct Swept {
    /// Issued or voided.
    advanced: u32,
    /// Announced again.
    announced: u32,
    /// Looked at and left alone: too young, or somebody else got there first.
    rested: u32,
    /// Left for the next sweep because something did not answer.
    failed: u32,
}

impl Swept {
    fn and(self, other: Self) -> Self {
        Self {
            advanced: self.advanced + other.advanced,
            announced: self.announced + other.announced,
            rested: self.rested + other.rested,
            failed: self.failed + other.failed,
        }
    }
}

/// Sweeps once through all that is due. What the schedule sends with it does not matter.
///
/// # Errors
/// When part of it failed; the rest is done, and the next sweep finds what is left.
pub async fn handle(app: &App, _payload: Value, call: Call) -> Result<Value, Error> {
    let shards = join_all((0..WORK_SHARDS).map(|shard| sweep_shard(app, shard, &call))).await;
    let swept = shards.into_iter().fold(Swept::default(), Swept::and);
    tracing::info!(outcome = "swept", swept.advanced, swept.announced, swept.rested, swept.failed);
    if swept.failed > 0 {
        return Err(format!("{} referrals or pages are left for the next sweep", swept.failed).into());
    }
    Ok(serde_json::to_value(swept)?)
}

async fn sweep_shard(app: &App, shard: u32, call: &Call) -> Swept {
    let (mut swept, mut next) = (Swept::default(), None);
    while !call.deadline.is_near() {
        match app.store.due(Lane::Due, shard, call.now, next).await {
            Ok((referrals, after)) => {
                swept = swept.and(sweep_page(app, referrals, call).await);
                next = after;
            }
            Err(problem) => {
                tracing::error!(outcome = "a page of work was not read", %problem);
                return swept.and(Swept { failed: 1, ..Swept::default() });
            }
        }
        if next.is_none() {
            break;
        }
    }
    swept
}

async fn sweep_page(app: &App, referrals: Vec<Referral>, call: &Call) -> Swept {
    const AT_ONCE: usize = 8;
    let work = referrals.into_iter().map(|referral| async move {
        match timeout_at(call.deadline.last_call(), look_after(app, referral, call)).await {
            Ok(Ok(swept)) => swept,
            Ok(Err(problem)) => {
                tracing::error!(outcome = "failed", %problem);
                Swept { failed: 1, ..Swept::default() }
            }
            Err(_elapsed) => Swept { failed: 1, ..Swept::default() },
        }
    });
    stream::iter(work).buffer_unordered(AT_ONCE).fold(Swept::default(), async |sum, one| sum.and(one)).await
}

/// Issues what is due, or announces again what has been on its way for too long, after claiming it.
async fn look_after(app: &App, referral: Referral, call: &Call) -> Result<Swept, Error> {
    if referral.status() == Status::Converted {
        return Ok(match advance(&app.store, referral, call.now).await? {
            Stepped::Taken(_) => Swept { advanced: 1, ..Swept::default() },
            Stepped::Done(_) | Stepped::Refused(..) => Swept { rested: 1, ..Swept::default() },
        });
    }
    match claim(&app.store, referral, app.grace, call.now).await? {
        Stepped::Taken(claimed) => {
            app.bus.publish(&reannouncements(&claimed)).await?;
            Ok(Swept { announced: 1, ..Swept::default() })
        }
        Stepped::Done(_) | Stepped::Refused(..) => Ok(Swept { rested: 1, ..Swept::default() }),
    }
}
