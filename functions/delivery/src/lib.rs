//! The function behind the reward queues: sends each instruction to its subsystem and records the answer in the table
//! (the mark).
//!
//! A message contains only the id of an instruction. Amount and state come from the table. The mark is written after
//! the answer. So a crash in between causes another call with the same key, but no reward is lost.

mod backoff;
mod grant;
mod reversal;
mod secret;
mod subsystem;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use lambda_runtime::Error;
use referrals::{
    aws::{Lazy, quarantine::Quarantine},
    domain::correlation::CorrelationId,
    lambda::sqs::{self, Disposition, Message},
    referral::reward::{InstructionId, InstructionKind},
    runtime::{Call, Env, Misconfigured, log_outcome::LogOutcome},
    store::Store,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    backoff::Backoff,
    subsystem::{Retry, Subsystems},
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
    /// `SUBSYSTEM_TIMEOUT_SECONDS`, `QUARANTINE_QUEUE_URL`, `CREDIT_QUEUE_URL`, `COUPON_QUEUE_URL`, `POINTS_QUEUE_URL` and
    /// `RETRY_SECONDS`.
    ///
    /// # Errors
    /// Returns an error that names the variable when one is missing or invalid.
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

/// Handles a batch of messages, each with an instruction event.
///
/// # Errors
/// Returns an error when the payload is not a batch.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    sqs::each(payload, call.deadline, |message| from_queue(app, message, call)).await
}

async fn from_queue(app: &App, message: Message, call: Call) -> Disposition {
    let (id, correlation_id) = match InstructionEvent::deserialize(&message.body) {
        Ok(event) => event.detail.parts(),
        Err(problem) => return quarantine(app, &message, problem, call).await,
    };
    let Err(Retry { reason, not_before }) = deliver(app, &id, call).await else { return Disposition::Ack };
    let pause = app.backoff.delay(&message, not_before, call).await.map(|pause| pause.as_secs());
    let (side, attempt) = (id.side.as_str(), message.receives);
    // The event's copy of the id, because the table may be unavailable.
    let correlation_id = correlation_id.as_ref().map(CorrelationId::as_str);
    let outcome = LogOutcome::RetryScheduled.as_str();
    tracing::warn!(outcome, correlation_id, side, attempt, pause, reason, retried = 1);
    Disposition::Retry
}

async fn quarantine(app: &App, message: &Message, problem: serde_json::Error, call: Call) -> Disposition {
    match app.quarantine.add("delivery", &message.body, problem, call.now).await {
        Ok(()) => Disposition::Ack,
        Err(problem) => {
            tracing::error!(outcome = LogOutcome::Failed.as_str(), message = message.id, %problem);
            Disposition::Retry
        }
    }
}

/// The part of an instruction event (`reward.issued` or `reward.reversed`) that this function reads.
#[derive(Deserialize)]
struct InstructionEvent {
    detail: InstructionDetail,
}

#[derive(Deserialize)]
struct InstructionDetail {
    reward_id: InstructionId,
    /// The id of the reversal, in events about a reversal.
    reversal_id: Option<InstructionId>,
    correlation_id: Option<CorrelationId>,
}

impl InstructionDetail {
    /// The id of the instruction to deliver, and the correlation id of its referral.
    fn parts(self) -> (InstructionId, Option<CorrelationId>) {
        (self.reversal_id.unwrap_or(self.reward_id), self.correlation_id)
    }
}

async fn deliver(app: &App, id: &InstructionId, call: Call) -> Result<(), Retry> {
    match id.kind {
        InstructionKind::Grant => grant::deliver(app, id, call).await,
        InstructionKind::FullReversal | InstructionKind::PartialReversal(_) => reversal::deliver(app, id, call).await,
    }
}

/// Logs that the instruction has its answer, or is not wanted any more.
fn nothing_to_deliver(correlation_id: &str) {
    tracing::info!(outcome = LogOutcome::NothingToDeliver.as_str(), correlation_id);
}
