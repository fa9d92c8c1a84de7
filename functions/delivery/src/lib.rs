//! Behind a queue per reward type: hand each reward to its subsystem, and mark it when that said yes.
//!
//! The message only names a reward. What is paid, and whether it still has to be, comes from the table. The mark is
//! written after the answer, so a crash in between means another call under the same key, never a lost reward.

mod subsystem;

use lambda_runtime::Error;
use referrals::{
    batch,
    machine::Event,
    quarantine::Quarantine,
    referral::Referral,
    reward::{RewardId, RewardStatus},
    runtime::{Call, Env, Misconfigured},
    store::{Stepped, Store},
    view::RewardView,
};
use serde::Deserialize;
use serde_json::Value;

use crate::subsystem::{Answer, Subsystems};

/// The function's state.
pub struct App {
    store: Store,
    subsystems: Subsystems,
    quarantine: Quarantine,
}

impl App {
    /// Reads `TABLE_NAME`, `CREDIT_ENDPOINT`, `COUPON_ENDPOINT`, `POINTS_ENDPOINT`, `WEBHOOK_SECRET` and
    /// `QUARANTINE_QUEUE_URL`.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn new(env: &Env, dynamodb: aws_sdk_dynamodb::Client, sqs: aws_sdk_sqs::Client) -> Result<Self, Misconfigured> {
        Ok(Self {
            store: Store::new(&dynamodb, env.required("TABLE_NAME")?),
            subsystems: Subsystems::from_env(env)?,
            quarantine: Quarantine::from_env(env, sqs)?,
        })
    }
}

/// Handles a batch of messages that each name an issued reward.
///
/// # Errors
/// When it is no batch.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    batch::each(payload, call.deadline, |body| take_in(app, batch::body(body), call)).await
}

/// What we read of `reward.issued`.
#[derive(Deserialize)]
struct Issued {
    detail: Named,
}

#[derive(Deserialize)]
struct Named {
    reward_id: RewardId,
}

async fn take_in(app: &App, message: Value, call: Call) -> Result<(), Error> {
    match Issued::deserialize(&message) {
        Ok(issued) => deliver(app, issued.detail.reward_id, call).await,
        Err(problem) => Ok(app.quarantine.park("delivery", &message, problem, call.now).await?),
    }
}

async fn deliver(app: &App, id: RewardId, call: Call) -> Result<(), Error> {
    let Some(referral) = app.store.referral(&id.referee).await? else {
        return Err(format!("there is no referral for a reward of {}", id.referee.hashed()).into());
    };
    let Some(reward) = RewardView::of(&referral, id.side).filter(|reward| reward.status == RewardStatus::Issued) else {
        tracing::info!(outcome = "nothing to deliver", referee = id.referee.hashed());
        return Ok(());
    };
    match app.subsystems.give(&referral, &reward, call.now).await {
        Answer::Taken => mark(app, &referral, &Event::Deliver(id.side), call).await,
        Answer::Refused(answer) => mark(app, &referral, &Event::Fail(id.side, &answer), call).await,
        Answer::Again(reason) => Err(reason.into()),
    }
}

async fn mark(app: &App, referral: &Referral, event: &Event<'_>, call: Call) -> Result<(), Error> {
    let who = referral.referee.hashed();
    let outcome = match app.store.step(referral.clone(), |found| found.after(event, call.now)).await? {
        Stepped::Taken(_) if matches!(event, Event::Fail(..)) => "refused for good",
        Stepped::Taken(_) => "delivered",
        Stepped::Done(_) => "marked before",
        Stepped::Refused(..) => "cannot be marked in this state",
    };
    tracing::info!(outcome, referee = who);
    Ok(())
}
