//! Behind the table's stream: announce what changed, and advance what is due.
//!
//! Records of one referral come in order, so the first that fails stops the batch: it and those behind it come again.

mod record;

use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use lambda_runtime::Error;
use referrals::{
    aws::Lazy,
    bus::Bus,
    lifecycle::{announce::announcements, issue::issue_or_void},
    mutant::{self, Mutant},
    quarantine::Quarantine,
    referral::{Referral, Status},
    runtime::{Call, Env, Misconfigured},
    store::{Outcome, Store},
};
use serde_json::Value;
use tokio::time::timeout_at;

use crate::record::Reading;

/// The function's state.
pub struct App {
    store: Store,
    bus: Bus,
    quarantine: Quarantine,
}

impl App {
    /// Reads `TABLE_NAME`, `BUS_NAME` and `QUARANTINE_QUEUE_URL`.
    ///
    /// # Errors
    /// When one of them is missing; it names the variable.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        eventbridge: impl Into<Lazy<aws_sdk_eventbridge::Client>>,
        sqs: impl Into<Lazy<aws_sdk_sqs::Client>>,
    ) -> Result<Self, Misconfigured> {
        Ok(Self {
            store: Store::new(&dynamodb, env.required("TABLE_NAME")?),
            bus: Bus::from_env(env, eventbridge.into())?,
            quarantine: Quarantine::from_env(env, sqs.into())?,
        })
    }
}

/// Handles a batch of stream records.
///
/// # Errors
/// When it is no batch and cannot be put aside either.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    let mut response = DynamoDbEventResponse::default();
    match payload.get("Records").and_then(Value::as_array) {
        None => app.quarantine.add("rewards", &payload, "not a batch of stream records", call.now).await?,
        Some(records) => {
            for record in records {
                if !is_done(app, record, &call).await {
                    response.batch_item_failures.push(failure(record));
                    break;
                }
            }
        }
    }
    Ok(serde_json::to_value(response)?)
}

/// Whether the record needs not come again.
async fn is_done(app: &App, record: &Value, call: &Call) -> bool {
    if call.deadline.is_near() {
        tracing::warn!(outcome = "out of time");
        return false;
    }
    match timeout_at(call.deadline.last_call(), take_in(app, record, call)).await {
        Ok(Ok(())) => true,
        Ok(Err(problem)) => {
            tracing::warn!(outcome = "failed", %problem);
            mutant::is(Mutant::FailedRecordAcknowledged)
        }
        Err(_elapsed) => {
            tracing::warn!(outcome = "out of time");
            false
        }
    }
}

async fn take_in(app: &App, record: &Value, call: &Call) -> Result<(), Error> {
    match record::read(record) {
        Reading::Changed(change) => {
            let news = announcements(change.before.as_ref(), &change.after);
            // Neither waits for the other: while the bus is down rewards are issued, and while the table is, the news goes out.
            let (told, issued) = tokio::join!(app.bus.publish(&news), issue(app, change.after, call));
            told?;
            issued
        }
        Reading::NothingNew => Ok(()),
        Reading::Broken(reason) => Ok(app.quarantine.add("rewards", record, reason, call.now).await?),
    }
}

/// Issues what has become due; a referral on hold waits for the sweep.
async fn issue(app: &App, referral: Referral, call: &Call) -> Result<(), Error> {
    if referral.status() != Status::Converted {
        return Ok(());
    }
    let correlation_id = referral.referee.hashed();
    match issue_or_void(&app.store, referral, call.now).await? {
        Outcome::Applied(_) => {}
        Outcome::AlreadyDone(_) | Outcome::Refused(..) => tracing::info!(outcome = "not due", correlation_id),
    }
    Ok(())
}

/// The sequence number from which the stream goes on.
fn failure(record: &Value) -> DynamoDbBatchItemFailure {
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = record.pointer("/dynamodb/SequenceNumber").and_then(Value::as_str).map(str::to_owned);
    failure
}
