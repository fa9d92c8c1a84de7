//! Behind the table's stream: counts what comes of referrals in the metrics table, once each, however often and in
//! whatever order records come.
//!
//! Of a batch, only the latest state of each referral is taken in: a batch collects records for a while, and a referral
//! often goes several steps in that time.

mod record;

use std::collections::HashMap;

use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use lambda_runtime::Error;
use referrals::{
    analytics::{Facts, Metrics},
    id::UserId,
    runtime::{Call, Env, Misconfigured},
};
use serde_json::Value;
use tokio::time::timeout_at;

use crate::record::Reading;

/// The function's state.
pub struct App {
    metrics: Metrics,
}

impl App {
    /// Reads `METRICS_TABLE_NAME`.
    ///
    /// # Errors
    /// When it is missing.
    pub fn new(env: &Env, dynamodb: &aws_sdk_dynamodb::Client) -> Result<Self, Misconfigured> {
        Ok(Self { metrics: Metrics::from_env(env, dynamodb)? })
    }
}

/// Handles a batch of stream records.
///
/// # Errors
/// When it is no batch.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    let records = payload.get("Records").and_then(Value::as_array).ok_or("not a batch of stream records")?;
    let mut response = DynamoDbEventResponse::default();
    for News { first, facts } in latest(records) {
        if !is_done(app, &facts, &call).await {
            response.batch_item_failures.push(failure(&records[first]));
            break;
        }
    }
    Ok(serde_json::to_value(response)?)
}

/// The latest facts of a referral in a batch.
struct News {
    /// At which place of the batch its first record is: from there on the batch comes again if it fails, so that nothing
    /// of it is taken for done.
    first: usize,
    facts: Box<Facts>,
}

/// What is new of each referral, in the order in which their first records come.
fn latest(records: &[Value]) -> Vec<News> {
    let (mut news, mut places): (Vec<News>, HashMap<UserId, usize>) = (Vec::new(), HashMap::new());
    for (first, record) in records.iter().enumerate() {
        match record::read(record) {
            Reading::Written(facts) => match places.get(&facts.referee).and_then(|place| news.get_mut(*place)) {
                Some(known) if known.facts.rev < facts.rev => known.facts = facts,
                Some(_) => {}
                None => {
                    places.insert(facts.referee.clone(), news.len());
                    news.push(News { first, facts });
                }
            },
            Reading::NothingNew => {}
            // `rewards` reads the same stream and puts the record in quarantine. Once mended, its referral counts again.
            Reading::Broken => tracing::error!(outcome = "unreadable", sequence = sequence(record)),
        }
    }
    news
}

/// Whether these facts need not come again.
async fn is_done(app: &App, facts: &Facts, call: &Call) -> bool {
    let correlation_id = facts.referee.hashed();
    if call.deadline.is_near() {
        tracing::warn!(outcome = "out of time", correlation_id);
        return false;
    }
    match timeout_at(call.deadline.last_call(), app.metrics.take(facts)).await {
        Ok(Ok(taken)) => {
            tracing::debug!(outcome = ?taken, rev = facts.rev, correlation_id);
            true
        }
        Ok(Err(problem)) => {
            tracing::warn!(outcome = "failed", %problem, correlation_id);
            false
        }
        Err(_elapsed) => {
            tracing::warn!(outcome = "out of time", correlation_id);
            false
        }
    }
}

/// The sequence number from which the stream goes on.
fn failure(record: &Value) -> DynamoDbBatchItemFailure {
    let mut failure = DynamoDbBatchItemFailure::default();
    failure.item_identifier = sequence(record).map(str::to_owned);
    failure
}

fn sequence(record: &Value) -> Option<&str> {
    record.pointer("/dynamodb/SequenceNumber").and_then(Value::as_str)
}
