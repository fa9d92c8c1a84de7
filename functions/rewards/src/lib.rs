//! Processes the table's stream: publishes what changed, and issues the rewards that are due.

use lambda_runtime::Error;
use referrals::{
    aws::{Lazy, bus::Bus, quarantine::Quarantine},
    lambda::stream::{self, Change, Record},
    lifecycle::{announce::of_change, issue::issue_or_void},
    mutant::{self, Mutant},
    referral::Status,
    runtime::{Call, Env, Misconfigured, log_outcome::LogOutcome},
    store::{Outcome, Store},
};
use serde_json::{Value, json};

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
    /// Returns an error that names the variable when one is missing.
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

/// Processes a batch of stream records. A payload that is not a batch is quarantined.
///
/// # Errors
/// Returns an error when the payload is not a batch and cannot be quarantined either.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    let Some(records) = stream::records(&payload) else {
        app.quarantine.add("rewards", &payload, "not a batch of stream records", call.now).await?;
        return Ok(json!({"batchItemFailures": []}));
    };
    let call = &call;
    stream::each(stream::tasks(records), call.deadline, |record| async move {
        match process(app, record, call).await {
            Err(_) if mutant::is(Mutant::FailedRecordAcknowledged) => Ok(()),
            result => result,
        }
    })
    .await
}

async fn process(app: &App, record: &Value, call: &Call) -> Result<(), Error> {
    match stream::change(record) {
        Record::Changed(change) => {
            let events = of_change(&change);
            // Concurrently: an unavailable bus must not delay rewards, and an unavailable table must not delay events.
            let (published, issued) = tokio::join!(app.bus.publish(&events), issue(app, *change, call));
            published?;
            issued
        }
        Record::Unchanged => Ok(()),
        Record::Invalid(reason) => Ok(app.quarantine.add("rewards", record, reason, call.now).await?),
    }
}

/// Issues the rewards of a converted referral if its hold is already over. Otherwise the sweep issues them later.
async fn issue(app: &App, change: Change, call: &Call) -> Result<(), Error> {
    let referral = match change {
        Change::Referral { after, .. } if after.status() == Status::Converted => after,
        Change::Referral { .. } | Change::Reversal { .. } => return Ok(()),
    };
    let correlation_id = referral.correlation_id();
    match issue_or_void(&app.store, referral, call.now).await? {
        Outcome::Applied(..) => {}
        Outcome::AlreadyDone(_) | Outcome::Refused(..) => {
            tracing::info!(outcome = LogOutcome::NotDue.as_str(), correlation_id)
        }
    }
    Ok(())
}
