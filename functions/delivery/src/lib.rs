//! Behind a queue per reward type: hand each reward to its subsystem, and mark it when that said yes.
//!
//! The message only names a reward. What is paid, and whether it still has to be, comes from the table. The mark is
//! written after the answer, so a crash in between means another call under the same key, never a lost reward.

mod backoff;
mod subsystem;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use lambda_runtime::Error;
use referrals::{
    aws::Lazy,
    batch::{self, Disposition, Message},
    machine::Command,
    mutant::{self, Mutant},
    quarantine::Quarantine,
    referral::Referral,
    reward::{RewardId, RewardStatus},
    runtime::{Call, Env, Misconfigured},
    store::{Outcome, Store},
    view::RewardView,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    backoff::Backoff,
    subsystem::{Answer, Retry, Subsystems},
};

/// The function's state.
pub struct App {
    store: Store,
    subsystems: Subsystems,
    quarantine: Quarantine,
    backoff: Backoff,
}

impl App {
    /// Reads `TABLE_NAME`, `CREDIT_ENDPOINT`, `COUPON_ENDPOINT`, `POINTS_ENDPOINT`, `WEBHOOK_SECRET`,
    /// `QUARANTINE_QUEUE_URL`, `CREDIT_QUEUE_URL`, `COUPON_QUEUE_URL`, `POINTS_QUEUE_URL` and `RETRY_SECONDS`.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        sqs: impl Into<Lazy<aws_sdk_sqs::Client>>,
        http: SharedHttpConnector,
    ) -> Result<Self, Misconfigured> {
        let sqs = sqs.into();
        Ok(Self {
            store: Store::new(&dynamodb, env.required("TABLE_NAME")?),
            subsystems: Subsystems::from_env(env, http)?,
            quarantine: Quarantine::from_env(env, sqs.clone())?,
            backoff: Backoff::from_env(env, sqs)?,
        })
    }
}

/// Handles a batch of messages that each name an issued reward.
///
/// # Errors
/// When it is no batch.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    batch::each(payload, call.deadline, |message| from_queue(app, message, call)).await
}

async fn from_queue(app: &App, message: Message, call: Call) -> Disposition {
    let id = match Issued::deserialize(&message.body) {
        Ok(issued) => issued.detail.reward_id,
        Err(problem) => return put_aside(app, &message, problem, call).await,
    };
    let Err(Retry { reason, not_before }) = deliver(app, &id, call).await else { return Disposition::Ack };
    let pause = app.backoff.put_off(&message, not_before, call).await.map(|pause| pause.as_secs());
    let (correlation_id, side, attempt) = (id.referee.hashed(), id.side.as_str(), message.receives);
    tracing::warn!(outcome = "to be tried again", correlation_id, side, attempt, pause, reason, retried = 1);
    Disposition::Retry
}

async fn put_aside(app: &App, message: &Message, problem: serde_json::Error, call: Call) -> Disposition {
    match app.quarantine.add("delivery", &message.body, problem, call.now).await {
        Ok(()) => Disposition::Ack,
        Err(problem) => {
            tracing::error!(outcome = "failed", message = message.id, %problem);
            Disposition::Retry
        }
    }
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

async fn deliver(app: &App, id: &RewardId, call: Call) -> Result<(), Retry> {
    let correlation_id = id.referee.hashed();
    let Some(referral) = app.store.referral(&id.referee).await? else {
        return Err(format!("there is no referral for a reward of {correlation_id}").into());
    };
    let Some(reward) = RewardView::of(&referral, id.side).filter(|reward| reward.status == RewardStatus::Issued) else {
        tracing::info!(outcome = "nothing to deliver", correlation_id);
        return Ok(());
    };
    if mutant::is(Mutant::MarkedBeforeTheCall) {
        mark(app, &referral, &reward, &Command::MarkDelivered(id.side), call).await?;
    }
    match app.subsystems.send(&referral, &reward, call.now).await {
        Answer::Accepted => mark(app, &referral, &reward, &Command::MarkDelivered(id.side), call).await,
        Answer::Refused(answer) => {
            let resent = referral.rewards().map_or(0, |rewards| rewards.of(id.side).resent);
            mark(app, &referral, &reward, &Command::MarkFailed(id.side, &answer, resent), call).await
        }
        Answer::Retry(_) if mutant::is(Mutant::MarkedWithoutAnAnswer) => {
            mark(app, &referral, &reward, &Command::MarkDelivered(id.side), call).await
        }
        Answer::Retry(again) => Err(again),
    }
}

/// Writes down what the subsystem said, and counts it.
async fn mark(
    app: &App,
    referral: &Referral,
    reward: &RewardView<'_>,
    event: &Command<'_>,
    call: Call,
) -> Result<(), Retry> {
    let (correlation_id, side, r#type) = (referral.referee.hashed(), reward.side.as_str(), reward.r#type.as_str());
    match app.store.apply(referral.clone(), |found| found.decide(event, call.now)).await? {
        Outcome::Applied(_) if matches!(event, Command::MarkFailed(..)) => {
            tracing::error!(outcome = "refused for good", correlation_id, side, r#type, failed = 1);
        }
        Outcome::Applied(_) => {
            let delivery_age = call.now.since(reward.issued_at).as_secs_f64();
            tracing::info!(outcome = "delivered", correlation_id, side, r#type, delivered = 1, delivery_age);
        }
        Outcome::AlreadyDone(_) => tracing::info!(outcome = "marked before", correlation_id, side),
        Outcome::Refused(..) => tracing::warn!(outcome = "cannot be marked in this state", correlation_id, side),
    }
    Ok(())
}
