//! The connections between the real handlers and the models of the table, bus, queues and reward endpoints. Each call
//! takes some time, in which other work can interleave, and can meet a fault.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use local::answers::{conflict, lost, refused, respond};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    clock,
    faults::Kind,
    history::INVOCATION,
    oracle::Invocation,
    state::{REWARDS, State},
    table::{self, DynamoError},
};

/// The history that runs on this thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    state: Arc<Mutex<Option<State>>>,
    calls: Arc<AtomicUsize>,
}

/// A call in flight, counted until this is dropped.
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn begin(&self, state: State) {
        *self.lock() = Some(state);
    }

    pub(crate) fn end(&self) -> Option<State> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the history's state. Calls happen only while a history runs.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let Some(state) = state.as_mut() else { unreachable!("a call without a history") };
        look(state)
    }

    /// Whether a history is running.
    pub(crate) fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    /// Counts a call that continues even if its caller stops waiting.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.calls.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(&self.calls))
    }

    /// Whether no call is in flight.
    pub(crate) async fn is_quiet(&self) -> bool {
        clock::wait_for_network().await;
        self.calls.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn strikes(&self, kind: Kind) -> bool {
        let by = INVOCATION.try_with(|by| by.id).ok();
        self.with(|state| {
            let strikes = state.faults.strikes(kind);
            if let (true, Some(by)) = (strikes, by) {
                state.oracle.struck(by, kind);
            }
            strikes
        })
    }

    /// Waits for half of a call's duration.
    pub(crate) async fn pause(&self) {
        let pause = self.with(|state| state.rng.u64(1..15));
        sleep(Duration::from_millis(pause)).await;
    }

    /// An HTTP client for AWS calls to the models.
    pub(crate) fn aws(&self) -> SharedHttpClient {
        SharedHttpClient::new(Client(self.clone()))
    }

    /// A connector for calls to the reward endpoints.
    pub(crate) fn subsystems(&self) -> SharedHttpConnector {
        SharedHttpConnector::new(Subsystems(self.clone()))
    }
}

#[derive(Clone, Debug)]
struct Client(Shared);

impl HttpClient for Client {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Client {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let shared = self.0.clone();
        HttpConnectorFuture::new(async move { forward(&shared, &request).await })
    }
}

async fn forward(shared: &Shared, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
    let (service, operation) = target.split_once('.').unwrap_or(("", ""));
    let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
    shared.pause().await;
    let answer = match service {
        "AWSEvents" => bus(shared, &body).await,
        "AmazonSQS" => Ok(queue(shared, operation, &body)),
        _ => call_table(shared, operation, &body).await,
    };
    shared.pause().await;
    answer
}

/// Whether a table operation writes.
pub(crate) fn is_write(operation: &str) -> bool {
    matches!(operation, "PutItem" | "UpdateItem" | "TransactWriteItems")
}

/// The failure of a table call that does not reach the table, if a fault strikes.
pub(crate) fn injected_failure(shared: &Shared, operation: &str) -> Option<Result<HttpResponse, ConnectorError>> {
    if shared.strikes(Kind::RequestLost) {
        return Some(Err(lost()));
    }
    if shared.strikes(Kind::Throttled) {
        return Some(Ok(refused(400, "ProvisionedThroughputExceededException")));
    }
    if shared.strikes(Kind::InternalError) {
        return Some(Ok(refused(500, "InternalServerError")));
    }
    (is_write(operation) && shared.strikes(Kind::Conflict)).then(|| Ok(conflict(operation)))
}

/// The delays of a slow call before and after its work. Together they exceed the SDK's attempt timeout. The work is
/// done anyway, before or after that of the next attempt.
pub(crate) fn slow_call_delays(shared: &Shared) -> Option<(Duration, Duration)> {
    let (long, none) = (Duration::from_millis(1_500), Duration::ZERO);
    let is_late = shared.strikes(Kind::SlowCall).then(|| shared.with(|state| state.rng.bool()))?;
    Some(if is_late { (long, none) } else { (none, long) })
}

/// Calls the table in a separate task, because the caller gives up before the end.
async fn call_table_slowly(
    shared: &Shared,
    operation: &str,
    request: &Value,
    by: Option<Invocation>,
    (before, after): (Duration, Duration),
) -> Result<Value, DynamoError> {
    let in_flight = shared.in_flight();
    let (shared, operation, request) = (shared.clone(), operation.to_owned(), request.clone());
    let work = tokio::spawn(async move {
        sleep(before).await;
        let answer = shared.with(|state| state.call_table(&operation, &request, by.as_ref()));
        drop(in_flight);
        sleep(after).await;
        answer
    });
    work.await.unwrap_or_else(|problem| unreachable!("it ends by itself: {problem}"))
}

async fn call_table(shared: &Shared, operation: &str, request: &Value) -> Result<HttpResponse, ConnectorError> {
    if let Some(failure) = injected_failure(shared, operation) {
        return failure;
    }
    let by = INVOCATION.try_with(Clone::clone).ok();
    let answer = match slow_call_delays(shared) {
        None => shared.with(|state| state.call_table(operation, request, by.as_ref())),
        Some(pauses) => call_table_slowly(shared, operation, request, by, pauses).await,
    };
    if is_write(operation) && shared.strikes(Kind::AnswerLost) {
        return Err(lost());
    }
    Ok(table::wire::respond(&answer))
}

pub(crate) async fn bus(shared: &Shared, request: &Value) -> Result<HttpResponse, ConnectorError> {
    if shared.strikes(Kind::RequestLost) {
        return Err(lost());
    }
    let mut entries = Vec::new();
    for entry in request["Entries"].as_array().into_iter().flatten() {
        if shared.strikes(Kind::BusLosesEntry) {
            entries.push(json!({"ErrorCode": "InternalFailure", "ErrorMessage": "by the simulator"}));
            continue;
        }
        let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap_or_default()).unwrap_or_default();
        let event = json!({
            "version": "0", "id": "e", "source": entry["Source"], "detail-type": entry["DetailType"], "detail": detail,
            "time": clock::now().to_string(), "account": "0", "region": "r", "resources": [],
        });
        shared.with(|state| {
            state.oracle.check_published(&event);
            state.route(&event, clock::millis());
        });
        entries.push(json!({"EventId": "e"}));
    }
    if shared.strikes(Kind::AnswerLost) {
        return Err(lost());
    }
    let failed = entries.iter().filter(|entry| entry.get("ErrorCode").is_some()).count();
    Ok(respond(200, &json!({"FailedEntryCount": failed, "Entries": entries})))
}

pub(crate) fn queue(shared: &Shared, operation: &str, request: &Value) -> HttpResponse {
    let url = request["QueueUrl"].as_str().unwrap_or_default();
    match operation {
        "ChangeMessageVisibility" => {
            let seconds = request["VisibilityTimeout"].as_u64().unwrap_or_default();
            let receipt = request["ReceiptHandle"].as_str().and_then(|text| text.parse::<u64>().ok());
            shared.with(|state| {
                let messages = state.queues.values_mut().flatten();
                for message in messages.filter(|message| Some(message.id) == receipt) {
                    message.visible_at = clock::millis() + seconds * 1000;
                }
            });
        }
        _ => {
            let body = request["MessageBody"].as_str().unwrap_or_default();
            let is_copy = INVOCATION.try_with(|by| by.is_copy).unwrap_or(false);
            shared.with(|state| {
                state.log(clock::millis(), || format!("quarantined: {body}"));
                state.oracle.quarantined(url, body, is_copy);
            });
        }
    }
    respond(200, &json!({"MessageId": "m", "MD5OfMessageBody": "d"}))
}

#[derive(Clone, Debug)]
struct Subsystems(Shared);

impl HttpConnector for Subsystems {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let shared = self.0.clone();
        let key = request.headers().get("idempotency-key").unwrap_or_default().to_owned();
        let url = request.uri().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        HttpConnectorFuture::new(async move { call_subsystem(&shared, &body, key, &url).await })
    }
}

pub(crate) async fn call_subsystem(
    shared: &Shared,
    body: &Value,
    key: String,
    url: &str,
) -> Result<HttpResponse, ConnectorError> {
    let is_reversal = url.contains("/reversals");
    let id = body[if is_reversal { "reversal_id" } else { "reward_id" }].as_str().unwrap_or_default().to_owned();
    let amount = body["amount"].as_i64().unwrap_or_default();
    let amount = if is_reversal { -amount } else { amount };
    let kind = REWARDS.iter().find(|(kind, _)| url.contains(kind)).map_or("", |(kind, _)| *kind);
    shared.pause().await;
    if shared.strikes(Kind::SubsystemFails) {
        return Ok(respond(503, &Value::Null));
    }
    // A refusal is permanent until an operator sends the instruction again. What is booked under the key is not refused.
    let (is_booked, is_refused) =
        shared.with(|state| (state.bookings.contains_key(&key), state.refusing.contains(&key)));
    if is_refused || (!is_booked && shared.strikes(Kind::SubsystemRefuses)) {
        shared.with(|state| state.refusing.insert(key));
        shared.with(|state| state.oracle.refused(&id));
        return Ok(respond(400, &json!("no")));
    }
    shared.with(|state| {
        state.log(clock::millis(), || format!("{kind} books {key}"));
        let booking = state.bookings.entry(key.clone()).or_default();
        booking.calls += 1;
        booking.amount = amount;
        state.oracle.booked(&id, amount, &key);
    });
    if shared.strikes(Kind::SubsystemAnswerLost) {
        return Err(lost());
    }
    shared.pause().await;
    Ok(respond(200, &Value::Null))
}
