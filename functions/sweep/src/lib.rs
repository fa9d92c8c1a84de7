//! On a schedule: whatever still owes work and did not get it from the stream, found from the index of work alone.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream};
use lambda_runtime::Error;
use referrals::{
    aws::Lazy,
    bus::Bus,
    lifecycle::{
        announce::reannouncements,
        issue::{claim, due_for_sweep, issue_or_void},
    },
    machine::Command,
    mutant::{self, Mutant},
    referral::{Lane, Referral, Status},
    runtime::{Call, Env, Misconfigured},
    store::{Outcome, Store},
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
    /// Reads `TABLE_NAME`, `BUS_NAME` and `GRACE_SECONDS` (600): how long a reward may be on its way before it is
    /// announced again.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        eventbridge: impl Into<Lazy<aws_sdk_eventbridge::Client>>,
    ) -> Result<Self, Misconfigured> {
        Ok(Self {
            store: Store::new(&dynamodb, env.required("TABLE_NAME")?),
            bus: Bus::from_env(env, eventbridge.into())?,
            grace: env.grace()?,
        })
    }
}

/// What a sweep found and did, in referrals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
struct Swept {
    /// Waiting for the sweep.
    due: u64,
    /// Issued or voided.
    advanced: u64,
    /// Announced again.
    announced: u64,
    /// Left for the next sweep because something did not answer.
    failed: u64,
    /// Left for the next sweep for lack of time, as far as this one had come to them.
    left: u64,
    /// How long the longest waiting had waited, in seconds.
    lag_seconds: u64,
}

impl Swept {
    const FAILED: Self = Self { failed: 1, ..Self::NOTHING };
    const LEFT: Self = Self { left: 1, ..Self::NOTHING };
    const NOTHING: Self = Self { due: 0, advanced: 0, announced: 0, failed: 0, left: 0, lag_seconds: 0 };

    fn and(self, other: Self) -> Self {
        Self {
            due: self.due + other.due,
            advanced: self.advanced + other.advanced,
            announced: self.announced + other.announced,
            failed: self.failed + other.failed,
            left: self.left + other.left,
            lag_seconds: self.lag_seconds.max(other.lag_seconds),
        }
    }
}

/// Sweeps once through all that is due. What the schedule sends with it does not matter.
///
/// # Errors
/// When part of it failed; the rest is done, and the next sweep finds what is left. To run out of time is no failure: there
/// was more than one sweep can do.
pub async fn handle(app: &App, _payload: Value, call: Call) -> Result<Value, Error> {
    let shards = if mutant::is(Mutant::SweepForgetsHalf) { WORK_SHARDS / 2 } else { WORK_SHARDS };
    let shards = join_all((0..shards).map(|shard| sweep_shard(app, shard, &call))).await;
    let swept = shards.into_iter().fold(Swept::default(), Swept::and);
    let Swept { due: sweep_backlog, advanced, announced, failed, left, lag_seconds: sweep_lag } = swept;
    let parked = parked(app, &call).await;
    tracing::info!(outcome = "swept", sweep_backlog, sweep_lag, advanced, announced, failed, left, parked);
    if failed > 0 {
        return Err(format!("{failed} referrals or pages are left for the next sweep").into());
    }
    Ok(serde_json::to_value(swept)?)
}

/// How many referrals wait for an operator; `None` when that could not be found out, which is no failure of the sweep.
async fn parked(app: &App, call: &Call) -> Option<u64> {
    let shards = join_all((0..WORK_SHARDS).map(|shard| app.store.waiting(Lane::Attention, shard)));
    let counts = timeout_at(call.deadline.last_call(), shards).await.ok()?;
    let counts: Result<Vec<u64>, _> = counts.into_iter().collect();
    let counts = counts.inspect_err(|problem| tracing::warn!(outcome = "what is parked was not counted", %problem));
    counts.ok().map(|counts| counts.iter().sum())
}

async fn sweep_shard(app: &App, shard: u32, call: &Call) -> Swept {
    const PAGE: u32 = 100;
    let (mut swept, mut next) = (Swept::default(), None);
    while !call.deadline.is_near() {
        let page = timeout_at(call.deadline.last_call(), app.store.due(Lane::Due, shard, call.now, PAGE, next)).await;
        match page {
            Ok(Ok(page)) => {
                swept.failed += page.unreadable as u64;
                swept = swept.and(sweep_page(app, page.referrals, call).await);
                next = page.next;
            }
            Ok(Err(problem)) => {
                tracing::error!(outcome = "a page of work was not read", %problem);
                return swept.and(Swept::FAILED);
            }
            Err(_elapsed) => break,
        }
        if next.is_none() {
            break;
        }
    }
    swept
}

async fn sweep_page(app: &App, referrals: Vec<Referral>, call: &Call) -> Swept {
    const AT_ONCE: usize = 8;
    let work = referrals.into_iter().filter_map(|referral| Some((waited(app, &referral, call)?, referral)));
    let work = work.map(|(waited, referral)| async move {
        let done = match timeout_at(call.deadline.last_call(), look_after(app, referral, call)).await {
            Ok(Ok(swept)) => swept,
            Ok(Err(problem)) => {
                tracing::error!(outcome = "failed", %problem);
                Swept::FAILED
            }
            Err(_elapsed) => Swept::LEFT,
        };
        done.and(Swept { due: 1, lag_seconds: waited.as_secs(), ..Swept::default() })
    });
    stream::iter(work).buffer_unordered(AT_ONCE).fold(Swept::default(), async |sum, one| sum.and(one)).await
}

/// How long a referral has waited for the sweep; `None` when its turn has not come.
fn waited(app: &App, referral: &Referral, call: &Call) -> Option<Duration> {
    let since = due_for_sweep(referral, app.grace).filter(|since| *since <= call.now)?;
    let is_issued = referral.status() == Status::Rewarded;
    if mutant::is(if is_issued { Mutant::SweepNeverAnnounces } else { Mutant::SweepNeverIssues }) {
        return None;
    }
    Some(call.now.since(since))
}

/// Issues what is due, or announces again what has been on its way for too long, after claiming it. Somebody else may
/// get there first.
async fn look_after(app: &App, referral: Referral, call: &Call) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    if referral.status() == Status::Converted {
        if let Outcome::Applied(_) = issue_or_void(&app.store, referral, call.now).await? {
            swept.advanced = 1;
        }
    } else if let Outcome::Applied(claimed) = claim(&app.store, referral, app.grace, call.now).await? {
        announce(app, claimed, call).await?;
        swept.announced = 1;
    }
    Ok(swept)
}

/// Announces what was claimed. What the bus would not take is claimed for a minute only, so that the next sweep finds
/// it and not one hours later.
async fn announce(app: &App, claimed: Referral, call: &Call) -> Result<(), Error> {
    const MINUTE: Duration = Duration::from_secs(60);
    let Err(problem) = app.bus.publish(&reannouncements(&claimed)).await else { return Ok(()) };
    let again = Command::Claim(call.now.plus(MINUTE));
    app.store.apply(claimed, |referral| referral.decide(&again, call.now)).await?;
    Err(problem.into())
}
