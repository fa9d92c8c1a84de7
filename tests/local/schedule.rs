//! The schedule: invokes functions as EventBridge does every minute, but every few seconds.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    clock,
    deployment::Schedule,
    functions::Failure,
    service::{Local, Stop},
};

/// Invokes every scheduled function periodically until stopped. A failed call is not retried, because the next period
/// is its retry.
pub(crate) async fn run(local: Arc<Local>, mut stop: Stop) {
    loop {
        tokio::select! {
            () = stop.wait() => break,
            () = sleep(local.pace.sweep) => {}
        }
        for schedule in &local.deployment.schedules {
            if let Err(failure) = call(&local, schedule).await {
                tracing::warn!(function = schedule.name, reason = %failure, "failed");
            }
        }
    }
}

/// Invokes one function as the schedule does.
pub(crate) async fn call(local: &Local, schedule: &Schedule) -> Result<Value, Failure> {
    let payload = schedule.input.clone().unwrap_or_else(|| event(&schedule.name));
    local.functions.invoke(schedule.function, payload).await
}

/// The payload of a schedule for which the template sets no input.
fn event(name: &str) -> Value {
    json!({
        "version": "0",
        "id": clock::id(),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": clock::ACCOUNT,
        "time": clock::seconds_text(clock::now()),
        "region": clock::REGION,
        "resources": [clock::arn("events", &format!("rule/{name}"))],
        "detail": {},
    })
}
