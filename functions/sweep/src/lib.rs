//! Runs every minute. It reads the index of work and processes referrals that are due and that the stream has not
//! processed.

mod reversals;

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream};
use lambda_runtime::Error;
use referrals::{
    aws::{Lazy, bus::Bus},
    lifecycle::{
        announce::reannouncements,
        issue::{claim, due_for_sweep, grace_period, issue_or_void},
    },
    mutant::{self, Mutant},
    referral::{Lane, Referral, Status, machine::Command},
    runtime::{Call, Env, Misconfigured, log_outcome::LogOutcome},
    store::{Outcome, Store, WorkPartition},
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout_at;

const MINUTE: Duration = Duration::from_secs(60);

/// The function's state.
pub struct App {
    store: Store,
    bus: Bus,
    grace: Duration,
}

impl App {
    /// Reads `TABLE_NAME`, `BUS_NAME` and `GRACE_SECONDS` (600): how long a reward can be undelivered before it is
    /// announced again.
    ///
    /// # Errors
    /// Returns an error that names the variable when one is missing or invalid.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        eventbridge: impl Into<Lazy<aws_sdk_eventbridge::Client>>,
    ) -> Result<Self, Misconfigured> {
        Ok(Self {
            store: Store::new(&dynamodb, env.required("TABLE_NAME")?),
            bus: Bus::from_env(env, eventbridge.into())?,
            grace: grace_period(env)?,
        })
    }
}

/// What a sweep found and did, as numbers of referrals and reversals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
struct Swept {
    due: u64,
    /// Issued or voided.
    advanced: u64,
    /// Announced again.
    announced: u64,
    /// Left for the next sweep because of an error.
    failed: u64,
    /// Found by this sweep and left for the next one because time ran out.
    left: u64,
    /// The longest time that a due referral had waited.
    lag_seconds: u64,
    /// Issued or voided, although the stream should have done it.
    missed: u64,
    /// The age of the oldest undelivered reward.
    undelivered_seconds: u64,
}

impl Swept {
    const FAILED: Self = Self { failed: 1, ..Self::NOTHING };
    const LEFT: Self = Self { left: 1, ..Self::NOTHING };
    const NOTHING: Self = Self {
        due: 0,
        advanced: 0,
        announced: 0,
        failed: 0,
        left: 0,
        lag_seconds: 0,
        missed: 0,
        undelivered_seconds: 0,
    };

    fn and(self, other: Self) -> Self {
        Self {
            due: self.due + other.due,
            advanced: self.advanced + other.advanced,
            announced: self.announced + other.announced,
            failed: self.failed + other.failed,
            left: self.left + other.left,
            lag_seconds: self.lag_seconds.max(other.lag_seconds),
            missed: self.missed + other.missed,
            undelivered_seconds: self.undelivered_seconds.max(other.undelivered_seconds),
        }
    }
}

/// Processes all referrals that are due. The payload of the schedule is ignored.
///
/// # Errors
/// Returns an error when some referrals failed. The others are processed, and the next sweep finds the failed ones.
/// Running out of time is not an error: there was more work than one sweep can do.
pub async fn handle(app: &App, _payload: Value, call: Call) -> Result<Value, Error> {
    let mut partitions = WorkPartition::all(Lane::Due);
    if mutant::is(Mutant::SweepForgetsHalf) {
        partitions.truncate(partitions.len() / 2);
    }
    let swept = join_all(partitions.into_iter().map(|partition| sweep_partition(app, partition, &call))).await;
    let swept = swept.into_iter().fold(Swept::default(), Swept::and);
    let parked = needing_attention(app, &call).await;
    log(&swept, parked);
    let failed = swept.failed;
    if failed > 0 {
        return Err(format!("{failed} referrals or pages are left for the next sweep").into());
    }
    Ok(serde_json::to_value(swept)?)
}

/// Logs what the sweep found and did, with its metrics.
fn log(swept: &Swept, parked: Option<u64>) {
    let Swept { due: sweep_backlog, lag_seconds: sweep_lag, advanced: sweep_advanced, .. } = *swept;
    let Swept { missed: stream_missed, undelivered_seconds: oldest_undelivered, announced, left, .. } = *swept;
    // A field `failed` would be the metric of refused rewards.
    let errors = swept.failed;
    let outcome = LogOutcome::Swept.as_str();
    tracing::info!(
        outcome,
        sweep_backlog,
        sweep_lag,
        sweep_advanced,
        stream_missed,
        oldest_undelivered,
        parked,
        announced,
        errors,
        left
    );
}

/// The number of referrals that need attention, for the metric `parked`. `None` when they could not be counted, which
/// does not fail the sweep.
async fn needing_attention(app: &App, call: &Call) -> Option<u64> {
    let partitions = WorkPartition::all(Lane::Attention).into_iter();
    let counts = join_all(partitions.map(|partition| app.store.waiting(partition)));
    let counts = timeout_at(call.deadline.last_call(), counts).await.ok()?;
    let counts: Result<Vec<u64>, _> = counts.into_iter().collect();
    let outcome = LogOutcome::AttentionNotCounted.as_str();
    let counts = counts.inspect_err(|problem| tracing::warn!(outcome, %problem));
    counts.ok().map(|counts| counts.iter().sum())
}

async fn sweep_partition(app: &App, partition: WorkPartition, call: &Call) -> Swept {
    const PAGE: u32 = 100;
    let (mut swept, mut next) = (Swept::default(), None);
    while !call.deadline.is_near() {
        let page = timeout_at(call.deadline.last_call(), app.store.due(partition, call.now, PAGE, next)).await;
        match page {
            Ok(Ok(page)) => {
                swept.failed += page.unreadable as u64;
                swept = swept.and(sweep_page(app, page.referrals, call).await);
                swept = swept.and(reversals::sweep(app, page.reversals, call).await);
                next = page.next;
            }
            Ok(Err(problem)) => {
                tracing::error!(outcome = LogOutcome::WorkPageNotRead.as_str(), %problem);
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

/// The number of referrals or reversals of a page that are processed at the same time.
const AT_ONCE: usize = 8;

/// What was done, or the failure, or that time ran out.
async fn within_time(call: &Call, work: impl Future<Output = Result<Swept, Error>>) -> Swept {
    match timeout_at(call.deadline.last_call(), work).await {
        Ok(Ok(swept)) => swept,
        Ok(Err(problem)) => {
            tracing::error!(outcome = LogOutcome::Failed.as_str(), %problem);
            Swept::FAILED
        }
        Err(_elapsed) => Swept::LEFT,
    }
}

async fn sweep_page(app: &App, referrals: Vec<Referral>, call: &Call) -> Swept {
    let work = referrals.into_iter().filter_map(|referral| Some((waited(app, &referral, call)?, referral)));
    let work = work.map(|(waited, referral)| async move {
        let undelivered_seconds = referral.rewards().map_or(0, |rewards| call.now.since(rewards.issued_at).as_secs());
        let done = within_time(call, process(app, referral, call)).await;
        done.and(Swept { due: 1, lag_seconds: waited.as_secs(), undelivered_seconds, ..Swept::default() })
    });
    stream::iter(work).buffer_unordered(AT_ONCE).fold(Swept::default(), async |sum, one| sum.and(one)).await
}

/// How long a referral has waited for the sweep; `None` when it is not due yet.
fn waited(app: &App, referral: &Referral, call: &Call) -> Option<Duration> {
    let since = due_for_sweep(referral, app.grace).filter(|since| *since <= call.now)?;
    let is_issued = referral.status() == Status::Rewarded;
    if mutant::is(if is_issued { Mutant::SweepNeverAnnounces } else { Mutant::SweepNeverIssues }) {
        return None;
    }
    Some(call.now.since(since))
}

/// Whether the stream should have issued or voided this converted referral: its hold was over at the conversion, which
/// was a minute ago. The stream usually needs less than a second. A hold that ends later is the sweep's own work.
fn is_missed(referral: &Referral, call: &Call) -> bool {
    let (Some(conversion), Some(work)) = (referral.conversion(), referral.work()) else { return false };
    work.at <= conversion.at && call.now.since(conversion.at) >= MINUTE
}

/// Issues rewards that are due, or claims rewards without an answer and announces them again. Another invocation can
/// do either first.
async fn process(app: &App, referral: Referral, call: &Call) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    if referral.status() == Status::Converted {
        let is_missed = is_missed(&referral, call);
        if let Outcome::Applied(..) = issue_or_void(&app.store, referral, call.now).await? {
            swept.advanced = 1;
            swept.missed = is_missed.into();
        }
    } else if let Outcome::Applied(claimed, _) = claim(&app.store, referral, app.grace, call.now).await? {
        announce(app, claimed, call).await?;
        swept.announced = 1;
    }
    Ok(swept)
}

/// Announces the rewards of a claimed referral again. If the bus does not accept them, the claim is shortened to one
/// minute, so that a sweep tries again after a minute and not hours later.
async fn announce(app: &App, claimed: Referral, call: &Call) -> Result<(), Error> {
    let Err(problem) = app.bus.publish(&reannouncements(&claimed)).await else { return Ok(()) };
    let again = Command::Claim(call.now.plus(MINUTE));
    app.store.apply(claimed, |referral| referral.decide(&again, call.now)).await?;
    Err(problem.into())
}
