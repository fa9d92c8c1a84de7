//! The wires between the real handlers and the models: the table's, the bus's and the queues', and the subsystems'. Each
//! call takes a moment, in which others get in between, and may meet a fault.

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

/// The history that is under way on this thread's wires.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    state: Arc<Mutex<Option<State>>>,
    calls: Arc<AtomicUsize>,
}

/// A call that is on its way, until this is dropped.
pub(crate) struct OnItsWay(Arc<AtomicUsize>);

impl Drop for OnItsWay {
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

    /// Looks at, or changes, the history's state. No call ever comes without a history.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let Some(state) = state.as_mut() else { unreachable!("a call without a history") };
        look(state)
    }

    /// Whether there is a history.
    pub(crate) fn is_under_way(&self) -> bool {
        self.lock().is_some()
    }

    /// Counts a call that goes on whether or not anybody waits for it.
    pub(crate) fn on_its_way(&self) -> OnItsWay {
        self.calls.fetch_add(1, Ordering::Relaxed);
        OnItsWay(Arc::clone(&self.calls))
    }

    /// Whether no call is on its way any more.
    pub(crate) async fn is_quiet(&self) -> bool {
        clock::breathe().await;
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

    /// Half a moment of a call.
    pub(crate) async fn pause(&self) {
        let pause = self.with(|state| state.rng.u64(1..15));
        sleep(Duration::from_millis(pause)).await;
    }

    /// A client that carries AWS calls over this wire.
    pub(crate) fn aws(&self) -> SharedHttpClient {
        SharedHttpClient::new(Client(self.clone()))
    }

    /// A connector that carries calls to subsystems.
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
        HttpConnectorFuture::new(async move { carry(&shared, &request).await })
    }
}

async fn carry(shared: &Shared, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
    let (service, operation) = target.split_once('.').unwrap_or(("", ""));
    let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
    shared.pause().await;
    let answer = match service {
        "AWSEvents" => bus(shared, &body).await,
        "AmazonSQS" => Ok(queue(shared, operation, &body)),
        _ => ask(shared, operation, &body).await,
    };
    shared.pause().await;
    answer
}

/// Whether an operation of the table writes.
pub(crate) fn is_write(operation: &str) -> bool {
    matches!(operation, "PutItem" | "UpdateItem" | "TransactWriteItems")
}

/// How a call to the table ends before it gets there, if it does.
pub(crate) fn broken(shared: &Shared, operation: &str) -> Option<Result<HttpResponse, ConnectorError>> {
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

/// How long a slow call takes before and after its work: together longer than the SDK gives an attempt. Its work is done
/// all the same, before the next attempt's or after it.
pub(crate) fn slowness(shared: &Shared) -> Option<(Duration, Duration)> {
    let (long, none) = (Duration::from_millis(1_500), Duration::ZERO);
    let is_late = shared.strikes(Kind::SlowCall).then(|| shared.with(|state| state.rng.bool()))?;
    Some(if is_late { (long, none) } else { (none, long) })
}

/// Asks the table apart from the caller, who has given it up by then.
async fn ask_slowly(
    shared: &Shared,
    operation: &str,
    request: &Value,
    by: Option<Invocation>,
    (before, after): (Duration, Duration),
) -> Result<Value, DynamoError> {
    let on_its_way = shared.on_its_way();
    let (shared, operation, request) = (shared.clone(), operation.to_owned(), request.clone());
    let work = tokio::spawn(async move {
        sleep(before).await;
        let answer = shared.with(|state| state.ask_table(&operation, &request, by.as_ref()));
        drop(on_its_way);
        sleep(after).await;
        answer
    });
    work.await.unwrap_or_else(|problem| unreachable!("it ends by itself: {problem}"))
}

async fn ask(shared: &Shared, operation: &str, request: &Value) -> Result<HttpResponse, ConnectorError> {
    if let Some(broken) = broken(shared, operation) {
        return broken;
    }
    let by = INVOCATION.try_with(Clone::clone).ok();
    let answer = match slowness(shared) {
        None => shared.with(|state| state.ask_table(operation, request, by.as_ref())),
        Some(pauses) => ask_slowly(shared, operation, request, by, pauses).await,
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
            state.oracle.told(&event);
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
            let body = request["MessageBody"].as_str().unwrap_or_default().to_owned();
            shared.with(|state| {
                state.tell(clock::millis(), || format!("put aside: {body}"));
                state.parked.push(format!("{url}: {body}"));
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
        HttpConnectorFuture::new(async move { give(&shared, &body, key, &url).await })
    }
}

pub(crate) async fn give(
    shared: &Shared,
    body: &Value,
    key: String,
    url: &str,
) -> Result<HttpResponse, ConnectorError> {
    let reward = body["reward_id"].as_str().unwrap_or_default().to_owned();
    let kind = REWARDS.iter().find(|(kind, _)| url.contains(kind)).map_or("", |(kind, _)| *kind);
    shared.pause().await;
    if shared.strikes(Kind::SubsystemFails) {
        return Ok(respond(503, &Value::Null));
    }
    if shared.strikes(Kind::SubsystemRefuses) {
        shared.with(|state| state.oracle.refused(&reward));
        return Ok(respond(400, &json!("no")));
    }
    shared.with(|state| {
        state.tell(clock::millis(), || format!("{kind} books {key}"));
        let booking = state.bookings.entry(key.clone()).or_default();
        booking.calls += 1;
        booking.booked = true;
        state.oracle.booked(&reward, &key);
    });
    if shared.strikes(Kind::SubsystemAnswerLost) {
        return Err(lost());
    }
    shared.pause().await;
    Ok(respond(200, &Value::Null))
}
