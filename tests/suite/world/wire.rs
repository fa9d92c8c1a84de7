//! The connection between the functions and AWS. It counts the calls to DynamoDB and their capacity, and can fail or stop
//! calls.

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

/// A failure of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The call is executed and its answer is lost.
    AnswerLost,
    /// The request is lost and not executed.
    RequestLost,
    /// DynamoDB throttles the call.
    Throttled,
    /// Another transaction uses the same item.
    Conflict,
    /// An error inside DynamoDB.
    Internal,
    /// The call is executed after this delay.
    Slow(Duration),
    /// The call is executed and its answer arrives after this delay.
    AnswerSlow(Duration),
}

/// A point at which calls stop forever, as if the process had ended there.
#[derive(Clone, Debug)]
pub(crate) struct Halt {
    pub(crate) operation: &'static str,
    /// A text that the request or, if it was executed, its answer contains.
    pub(crate) about: &'static str,
    /// Whether the call has been executed at this point.
    pub(crate) is_done: bool,
}

/// One call that reached the table.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Call {
    pub(crate) operation: String,
    /// The consumed capacity, in read or write units, depending on the operation.
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
    /// The faults of the next calls, by operation.
    faults: HashMap<String, Vec<Fault>>,
    halt: Option<Halt>,
    has_halted: bool,
    /// The actions of all calls, as IAM policies name them, such as `dynamodb:PutItem`.
    actions: BTreeSet<String>,
}

/// A handle on the connection. Clones share its state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Arc<Mutex<State>>);

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Fails the next calls of this operation with these faults, one after another. Operations on the analytics table have
    /// the prefix `analytics:`.
    pub(crate) fn break_next(&self, operation: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.entry(operation.to_owned()).or_default().extend(faults);
    }

    /// Stops all calls that reach this point.
    pub(crate) fn halt(&self, halt: Halt) {
        self.state().halt = Some(halt);
    }

    /// Whether a call was stopped.
    pub(crate) fn has_halted(&self) -> bool {
        self.state().has_halted
    }

    /// Removes all faults that have not happened yet.
    pub(crate) fn mend(&self) {
        self.state().faults.clear();
    }

    /// Whether all faults have happened.
    pub(crate) fn is_mended(&self) -> bool {
        self.state().faults.values().all(Vec::is_empty)
    }

    /// The calls to the main table since the last call of this method, in order.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        self.state().calls.extract_if(.., |call| !call.operation.starts_with(ANALYTICS)).collect()
    }

    /// The calls to the analytics table, with their prefix.
    pub(crate) fn take_analytics_calls(&self) -> Vec<Call> {
        self.state().calls.extract_if(.., |call| call.operation.starts_with(ANALYTICS)).collect()
    }

    /// The actions of all calls so far, as IAM policies name them. A transaction counts as the actions of its items.
    pub(crate) fn actions(&self) -> BTreeSet<String> {
        self.state().actions.clone()
    }

    /// A connector that sends a client's calls through this connection.
    pub(crate) fn connector(&self) -> SharedHttpClient {
        let inner = aws_smithy_http_client::Builder::new().build_http();
        SharedHttpClient::new(Tapped { inner, wire: self.clone() })
    }

    fn next_fault(&self, operation: &str) -> Option<Fault> {
        let mut state = self.state();
        let faults = state.faults.get_mut(operation)?;
        (!faults.is_empty()).then(|| faults.remove(0))
    }

    /// Waits forever if calls stop at this point. `texts` are the request and, if it was executed, the answer.
    async fn pass_point(&self, operation: &str, is_done: bool, texts: &[&[u8]]) {
        let matches = |halt: &Halt| {
            let contains = |text: &&[u8]| text.windows(halt.about.len()).any(|part| part == halt.about.as_bytes());
            halt.operation == operation && halt.is_done == is_done && texts.iter().any(contains)
        };
        let stops = self.state().halt.as_ref().is_some_and(matches);
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
        if self.inspect(&target, &mut request) {
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
        self.wire.pass_point(operation, false, &[&sent]).await;
        let mut response = self.inner.call(request).await?;
        let body = std::mem::replace(response.body_mut(), SdkBody::empty());
        let bytes = ByteStream::new(body).collect().await.map_err(|problem| ConnectorError::io(problem.into()))?;
        let bytes = bytes.into_bytes();
        if let Ok(answer) = serde_json::from_slice(&bytes) {
            self.wire.note(operation, &answer);
        }
        self.wire.pass_point(operation, true, &[&sent, &bytes]).await;
        *response.body_mut() = SdkBody::from(bytes.to_vec());
        Ok(response)
    }

    /// Records the actions of a request, and asks DynamoDB for the consumed capacity. Returns whether the request is for
    /// the analytics table.
    fn inspect(&self, target: &str, request: &mut HttpRequest) -> bool {
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

/// The prefix of operations on the analytics table, so that faults and counts of the main table exclude them.
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
        "secretsmanager" => "secretsmanager",
        _ => "dynamodb",
    };
    let items = body["TransactItems"].as_array().into_iter().flatten();
    let kinds: Vec<&String> = items.flat_map(|item| item.as_object().unwrap().keys()).collect();
    match kinds.as_slice() {
        [] => vec![format!("{service}:{operation}")],
        kinds => kinds.iter().map(|kind| format!("{service}:{kind}Item")).collect(),
    }
}
