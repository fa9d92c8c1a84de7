//! Processes the table's stream: counts each referral in the analytics table exactly once, even if records arrive several
//! times or in any order.
//!
//! Only the latest state of each referral in a batch is counted. A batch collects records for some time, in which a
//! referral often takes several steps, so this saves writes.

use std::collections::HashMap;

use lambda_runtime::Error;
use referrals::{
    analytics::{Analytics, CountOutcome, Facts},
    domain::id::UserId,
    lambda::stream::{self, Record, Task},
    runtime::{Call, Env, Misconfigured, log_outcome::LogOutcome},
};
use serde_json::Value;

/// The function's state.
pub struct App {
    analytics: Analytics,
}

impl App {
    /// Reads `METRICS_TABLE_NAME`.
    ///
    /// # Errors
    /// Returns an error when the variable is missing.
    pub fn new(env: &Env, dynamodb: &aws_sdk_dynamodb::Client) -> Result<Self, Misconfigured> {
        Ok(Self { analytics: Analytics::from_env(env, dynamodb)? })
    }
}

/// Processes a batch of stream records.
///
/// # Errors
/// Returns an error when the payload is not a batch of stream records.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    let records = stream::records(&payload).ok_or("not a batch of stream records")?;
    stream::each(latest(records), call.deadline, |facts| count(app, facts)).await
}

/// What a batch says last about a referral.
struct Latest {
    facts: Facts,
    correlation_id: String,
}

/// The latest facts of each referral in a batch, in the order of the referrals' first records.
///
/// If a task fails, Lambda retries the batch from the referral's first record, so that no record is lost.
fn latest(records: &[Value]) -> Vec<Task<'_, Latest>> {
    let (mut tasks, mut positions): (Vec<Task<'_, Latest>>, HashMap<UserId, usize>) = (Vec::new(), HashMap::new());
    for record in records {
        match stream::new_state(record) {
            Record::Changed(referral) => {
                let facts = Facts::from(&*referral);
                match positions.get(&facts.referee).and_then(|position| tasks.get_mut(*position)) {
                    Some(task) if task.content.facts.rev < facts.rev => task.content.facts = facts,
                    Some(_) => {}
                    None => {
                        positions.insert(facts.referee.clone(), tasks.len());
                        let correlation_id = referral.correlation_id();
                        let content = Latest { facts, correlation_id: correlation_id.clone() };
                        tasks.push(Task { record, correlation_id: Some(correlation_id), content });
                    }
                }
            }
            Record::Unchanged => {}
            // The rewards function reads the same stream and quarantines the record. After the item is corrected, its
            // next record counts the referral. The reason is not logged, because it can contain a user id.
            Record::Invalid(_reason) => {
                let outcome = LogOutcome::UnreadableItem.as_str();
                tracing::error!(outcome, sequence = stream::sequence(record));
            }
        }
    }
    tasks
}

async fn count(app: &App, latest: Latest) -> Result<(), Error> {
    let Latest { facts, correlation_id } = latest;
    let outcome = match app.analytics.record(&facts).await? {
        CountOutcome::Counted => LogOutcome::Counted,
        CountOutcome::AlreadyCounted => LogOutcome::AlreadyCounted,
    };
    tracing::debug!(outcome = outcome.as_str(), rev = facts.rev, correlation_id);
    Ok(())
}
