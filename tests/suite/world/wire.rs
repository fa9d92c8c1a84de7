//! The wire between the functions and AWS: counts every call to DynamoDB and what it consumed, and breaks or stops calls
//! on demand.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
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
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use local::answers::{conflict, lost, refused};
use serde_json::{Value, json};

/// What can go wrong with one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The call does its work, and its answer gets lost.
    AnswerLost,
    /// The call gets lost on its way there.
    RequestLost,
    /// The table pushes back.
    Throttled,
    /// A transaction is under way on the same item.
    Conflict,
    /// An error inside DynamoDB.
    Internal,
    /// The call takes this long, then does its work.
    Slow(Duration),
    /// The call does its work, and its answer takes this long.
    AnswerSlow(Duration),
}

/// Where a call stops and never goes on, as it does when its process ends there.
#[derive(Clone, Debug)]
pub(crate) struct Halt {
    pub(crate) operation: &'static str,
    /// What the call, or its answer where it gets that far, speaks of.
    pub(crate) about: &'static str,
    /// Whether it has done its work by then.
    pub(crate) is_done: bool,
}

/// One call that reached the table.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Call {
    pub(crate) operation: String,
    /// Capacity consumed, in read or write units as the operation goes.
    pub(crate) units: f64,
}

impl Call {
    pub(crate) fn is_write(&self) -> bool {
        !matches!(
            self.operation.trim_start_matches(ANALYTICS),
            "GetItem" | "BatchGetItem" | "Query" | "Scan" | "TransactGetItems"
        )
    }
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    /// By operation, the faults of its next calls.
    faults: HashMap<String, Vec<Fault>>,
    /// Where every call stops that gets there.
    halt: Option<Halt>,
    has_halted: bool,
    /// What was done, as the policies of AWS name it: `dynamodb:PutItem`.
    actions: BTreeSet<String>,
}

/// A handle on the wire; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Arc<Mutex<State>>);

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Breaks the next calls of this operation in these ways, one after another; `analytics:` comes before the names of
    /// those on the analytics table.
    pub(crate) fn break_next(&self, operation: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.entry(operation.to_owned()).or_default().extend(faults);
    }

    /// Stops every call that gets to this point.
    pub(crate) fn halt(&self, halt: Halt) {
        self.state().halt = Some(halt);
    }

    /// Whether a call was stopped.
    pub(crate) fn has_halted(&self) -> bool {
        self.state().has_halted
    }

    /// The table is well again: what was ordered and has not happened will not.
    pub(crate) fn mend(&self) {
        self.state().faults.clear();
    }

    /// Whether every fault that was ordered has happened.
    pub(crate) fn is_mended(&self) -> bool {
        self.state().faults.values().all(Vec::is_empty)
    }

    /// The calls to the operational table since the last time, in order.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        self.state().calls.extract_if(.., |call| !call.operation.starts_with(ANALYTICS)).collect()
    }

    /// Those to the analytics table, named apart.
    pub(crate) fn take_analytics_calls(&self) -> Vec<Call> {
        self.state().calls.extract_if(.., |call| call.operation.starts_with(ANALYTICS)).collect()
    }

    /// What was done so far, as the policies of AWS name it. A transaction is the actions of its items.
    pub(crate) fn actions(&self) -> BTreeSet<String> {
        self.state().actions.clone()
    }

    /// The connector that puts this wire between a client and the network.
    pub(crate) fn connector(&self) -> SharedHttpClient {
        let inner = aws_smithy_http_client::Builder::new().build_http();
        SharedHttpClient::new(Tapped { inner, wire: self.clone() })
    }

    fn next_fault(&self, operation: &str) -> Option<Fault> {
        let mut state = self.state();
        let faults = state.faults.get_mut(operation)?;
        (!faults.is_empty()).then(|| faults.remove(0))
    }

    /// Never returns if this is where calls stop. `texts` is what they speak of, as far as they have got.
    async fn go_on(&self, operation: &str, is_done: bool, texts: &[&[u8]]) {
        let is_there = |halt: &Halt| {
            let speaks = |text: &&[u8]| text.windows(halt.about.len()).any(|part| part == halt.about.as_bytes());
            halt.operation == operation && halt.is_done == is_done && texts.iter().any(speaks)
        };
        let stops = self.state().halt.as_ref().is_some_and(is_there);
        if stops {
            self.state().has_halted = true;
            std::future::pending().await
        }
    }

    fn note(&self, operation: &str, answer: &Value) {
        let consumed = match answer.get("ConsumedCapacity") {
            Some(Value::Array(tables)) => tables.clone(),
            Some(table) => vec![table.clone()],
            None => return,
        };
        let units = consumed.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum();
        self.state().calls.push(Call { operation: operation.to_owned(), units });
    }
}

#[derive(Debug)]
struct Tapped {
    inner: SharedHttpClient,
    wire: Wire,
}

impl HttpClient for Tapped {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(TappedConnector { inner, wire: self.wire.clone() })
    }
}

#[derive(Clone, Debug)]
struct TappedConnector {
    inner: SharedHttpConnector,
    wire: Wire,
}

impl HttpConnector for TappedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.carry(request).await })
    }
}

impl TappedConnector {
    async fn carry(&self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let mut operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        if self.look_into(&target, &mut request) {
            operation.insert_str(0, ANALYTICS);
        }
        match self.wire.next_fault(&operation) {
            Some(Fault::RequestLost) => return Err(lost()),
            Some(Fault::Throttled) => return Ok(refused(400, "ProvisionedThroughputExceededException")),
            Some(Fault::Internal) => return Ok(refused(500, "InternalServerError")),
            Some(Fault::Conflict) => return Ok(conflict(operation.trim_start_matches(ANALYTICS))),
            Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
            Some(Fault::AnswerSlow(pause)) => {
                let answer = self.pass_on(&operation, request).await;
                tokio::time::sleep(pause).await;
                return answer;
            }
            Some(Fault::AnswerLost) => {
                drop(self.pass_on(&operation, request).await?);
                return Err(lost());
            }
            None => {}
        }
        self.pass_on(&operation, request).await
    }

    async fn pass_on(&self, operation: &str, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let sent = request.body().bytes().unwrap_or_default().to_vec();
        self.wire.go_on(operation, false, &[&sent]).await;
        let mut response = self.inner.call(request).await?;
        let body = std::mem::replace(response.body_mut(), SdkBody::empty());
        let bytes = ByteStream::new(body).collect().await.map_err(|problem| ConnectorError::io(problem.into()))?;
        let bytes = bytes.into_bytes();
        if let Ok(answer) = serde_json::from_slice(&bytes) {
            self.wire.note(operation, &answer);
        }
        self.wire.go_on(operation, true, &[&sent, &bytes]).await;
        *response.body_mut() = SdkBody::from(bytes.to_vec());
        Ok(response)
    }

    /// Notes what is done, and has DynamoDB say what it costs; whether it is about the analytics table.
    fn look_into(&self, target: &str, request: &mut HttpRequest) -> bool {
        let Some(Ok(mut body)) = request.body().bytes().map(serde_json::from_slice::<Value>) else { return false };
        self.wire.state().actions.extend(actions(target, &body));
        if !target.starts_with("DynamoDB") {
            return false;
        }
        let is_of_analytics = is_of_analytics(&body);
        body["ReturnConsumedCapacity"] = json!("TOTAL");
        let body = body.to_string();
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = SdkBody::from(body);
        is_of_analytics
    }
}

/// Before the names of operations on the analytics table, so that whoever breaks or counts calls to the operational table
/// means those alone.
const ANALYTICS: &str = "analytics:";

fn is_of_analytics(body: &Value) -> bool {
    let part = body["TransactItems"][0].as_object().and_then(|item| item.values().next());
    let table = part.unwrap_or(body)["TableName"].as_str();
    table == Some("metrics") || body["RequestItems"].get("metrics").is_some()
}

fn actions(target: &str, body: &Value) -> Vec<String> {
    let (service, operation) = target.split_once('.').unwrap();
    let service = match service {
        "AWSEvents" => "events",
        "AmazonSQS" => "sqs",
        _ => "dynamodb",
    };
    let items = body["TransactItems"].as_array().into_iter().flatten();
    let kinds: Vec<&String> = items.flat_map(|item| item.as_object().unwrap().keys()).collect();
    match kinds.as_slice() {
        [] => vec![format!("{service}:{operation}")],
        kinds => kinds.iter().map(|kind| format!("{service}:{kind}Item")).collect(),
    }
}
