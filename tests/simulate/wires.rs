//! The wires between the real handlers and the models: the table's, the bus's and the queues', and the subsystems'. Each
//! call takes a moment, in which others get in between, and may meet a fault.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    state::{REWARDS, State},
    table,
};

/// The history that is under way on this thread's wires.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Option<State>>>);

impl Shared {
    pub(crate) fn begin(&self, state: State) {
        *self.lock() = Some(state);
    }

    pub(crate) fn end(&self) -> Option<State> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at, or changes, the history's state. No call ever comes without a history.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let Some(state) = state.as_mut() else { unreachable!("a call without a history") };
        look(state)
    }

    fn strikes(&self, kind: Kind) -> bool {
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
    async fn pause(&self) {
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

async fn ask(shared: &Shared, operation: &str, request: &Value) -> Result<HttpResponse, ConnectorError> {
    let is_write = matches!(operation, "PutItem" | "UpdateItem" | "TransactWriteItems");
    if shared.strikes(Kind::RequestLost) {
        return Err(lost());
    }
    if shared.strikes(Kind::Throttled) {
        return Ok(refused(400, "ProvisionedThroughputExceededException"));
    }
    if shared.strikes(Kind::InternalError) {
        return Ok(refused(500, "InternalServerError"));
    }
    if is_write && shared.strikes(Kind::Conflict) {
        return Ok(conflict(operation));
    }
    if shared.strikes(Kind::SlowCall) {
        // Longer than an attempt may take: its work is done all the same, sometimes after the next attempt's.
        sleep(Duration::from_millis(1_500)).await;
    }
    let by = INVOCATION.try_with(Clone::clone).ok();
    let answer = shared.with(|state| state.ask_table(operation, request, by.as_ref()));
    if is_write && shared.strikes(Kind::AnswerLost) {
        return Err(lost());
    }
    Ok(table::wire::respond(&answer))
}

async fn bus(shared: &Shared, request: &Value) -> Result<HttpResponse, ConnectorError> {
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

fn queue(shared: &Shared, operation: &str, request: &Value) -> HttpResponse {
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
        let kind = REWARDS.iter().find(|(kind, _)| request.uri().contains(kind)).map_or("", |(kind, _)| *kind);
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let reward = body["reward_id"].as_str().unwrap_or_default().to_owned();
        HttpConnectorFuture::new(async move { give(&shared, reward, key, kind).await })
    }
}

async fn give(
    shared: &Shared,
    reward: String,
    key: String,
    kind: &'static str,
) -> Result<HttpResponse, ConnectorError> {
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
