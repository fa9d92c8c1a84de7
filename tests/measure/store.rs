//! DynamoDB, bus, queues and subsystems as a step's function sees them: first recorded from the local service, then replayed after
//! a fixed time, so that only the function is measured.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, SharedHttpConnector},
    orchestrator::HttpRequest,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Request, Response, Uri},
};
use local::{Options, Service};
use referrals::aws::tls;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use crate::{
    Trouble,
    function::{Function, Running},
    steps::Step,
};

/// The path at which a line simulates the subsystems.
pub(crate) const SUBSYSTEM: &str = "/subsystem";

/// The settings that are secrets in a deployed stack.
const SECRETS: [&str; 3] = ["COOKIE_KEY", "FINGERPRINT_KEY", "WEBHOOK_SECRET"];

/// The recorded answers to each subject, in order.
type Tape = HashMap<String, Vec<Answer>>;

/// An answer with its HTTP status.
#[derive(Clone)]
struct Answer {
    status: u16,
    text: String,
}

/// A recording with its event and settings.
pub(crate) struct Store {
    tape: Tape,
    pub(crate) event: String,
    pub(crate) settings: HashMap<String, String>,
    /// The traffic of the first call of a process.
    pub(crate) first: Traffic,
    pub(crate) warm: Traffic,
    /// The requests of the first call of a process, in order.
    pub(crate) exchanges: Vec<Exchange>,
}

/// A request and its answer.
#[derive(Clone)]
pub(crate) struct Exchange {
    /// AWS's name of the operation, without the service: `GetItem`. For a request to a subsystem it is `call`.
    pub(crate) operation: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) answer: Value,
}

impl Exchange {
    /// The body of the request; `null` if it is not JSON.
    pub(crate) fn request(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The traffic on the wire during a call.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) round_trips: usize,
    pub(crate) write_units: f64,
    pub(crate) read_units: f64,
    pub(crate) bytes: usize,
    /// The time during which the function waited for at least one answer.
    pub(crate) waited: Duration,
}

/// The source of the answers.
enum Source {
    /// The local service; its answers are recorded.
    Service { dynamodb: String, rest: String, http: SharedHttpConnector },
    /// The recording, after the latency.
    Tape { tape: Tape, latency: Duration },
}

#[derive(Default)]
struct Meter {
    recorded: Tape,
    /// The requests to the service during this call.
    exchanges: Vec<Exchange>,
    /// The number of requests of each subject during this call.
    asked: HashMap<String, usize>,
    traffic: Traffic,
    /// The number of open requests, and the time since when there has been one.
    open: usize,
    since: Option<Instant>,
}

/// The endpoints of one process. DynamoDB has its own address, as in production, so that it has its own connections.
pub(crate) struct Line {
    pub(crate) dynamodb: String,
    pub(crate) rest: String,
    wire: Arc<Wire>,
    servers: [JoinHandle<()>; 2],
}

struct Wire {
    source: Source,
    meter: Mutex<Meter>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl Store {
    /// Records the function's step on a new local service.
    pub(crate) async fn recorded(function: &Function, step: &Step) -> Result<Self, Trouble> {
        let service = service().await?;
        let event = step.prepare(&service).await?.to_string();
        let settings = settings(&service, &step.logical_id())?;
        let settings = if step.reads_secrets { as_deployed(settings) } else { settings };
        let store = Self::of(function, &service, settings, event).await;
        service.stop().await;
        store
    }

    /// Records an event on a service that is prepared for it.
    pub(crate) async fn of(
        function: &Function,
        service: &Service,
        settings: HashMap<String, String>,
        event: String,
    ) -> Result<Self, Trouble> {
        let mut running = Running::start(function, &[], &settings, Line::to(service).await?).await?;
        running.call(&event).await?;
        let Meter { recorded: tape, exchanges, .. } = std::mem::take(&mut *running.line.meter());
        running.end().await?;
        let nothing = Traffic::default();
        let mut store = Self { tape, event, settings, first: nothing, warm: nothing, exchanges };
        (store.first, store.warm) = store.played_twice(function).await?;
        Ok(store)
    }

    /// The traffic of the first and the second call of a process, without latency. The units are the recorded ones of the same
    /// operations.
    async fn played_twice(&self, function: &Function) -> Result<(Traffic, Traffic), Trouble> {
        let mut running = Running::start(function, &[], &self.settings, self.play(Duration::ZERO).await?).await?;
        let first = running.call(&self.event).await?.traffic;
        let warm = running.call(&self.event).await?.traffic;
        running.end().await?;
        Ok((first, warm))
    }

    /// A line that replays the recording with this latency.
    pub(crate) async fn play(&self, latency: Duration) -> Result<Line, Trouble> {
        Line::start(Source::Tape { tape: self.tape.clone(), latency }).await
    }
}

/// A local service without its stream and its schedule.
pub(crate) async fn service() -> Result<Service, Trouble> {
    let mut options = Options { port: 0, dynamodb_port: 0, ..Options::default() };
    (options.pace.stream, options.pace.schedule) = (false, false);
    // The orders in `events/` are as old as the files.
    options.env = options.env.with("ORDER_LEAD_SECONDS", "3153600000").with("DELAY_SECONDS", "0");
    Ok(Service::start(options).await?)
}

/// The settings that the template gives the function.
pub(crate) fn settings(service: &Service, logical_id: &str) -> Result<HashMap<String, String>, Trouble> {
    let template = local::template()?;
    let variables = &template["Resources"][logical_id]["Properties"]["Environment"]["Variables"];
    let own = variables.as_object().ok_or("the template has no such function")?.keys();
    let own = own.filter_map(|name| Some((name.clone(), service.env().get(name)?.to_owned())));
    let of_all = template["Globals"]["Function"]["Environment"]["Variables"].as_object().into_iter().flatten();
    let of_all = of_all.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Ok(of_all.chain(own).collect())
}

/// The same settings with the names of the secrets in place of their values, so that the function reads them at its start, as in a
/// deployed stack. The local service names its secrets like the variables.
fn as_deployed(mut settings: HashMap<String, String>) -> HashMap<String, String> {
    for name in SECRETS {
        if settings.remove(name).is_some() {
            settings.insert(format!("{name}_SECRET_ARN"), name.to_owned());
        }
    }
    settings
}

impl Line {
    /// A line to the service itself.
    pub(crate) async fn to(service: &Service) -> Result<Self, Trouble> {
        let (dynamodb, rest) = (service.dynamodb_url().to_owned(), service.url().to_owned());
        Self::start(Source::Service { dynamodb, rest, http: tls::public() }).await
    }

    async fn start(source: Source) -> Result<Self, Trouble> {
        let wire = Arc::new(Wire { source, meter: Mutex::default() });
        let ((dynamodb, first), (rest, second)) = (wire.serve().await?, wire.serve().await?);
        Ok(Self { dynamodb, rest, wire, servers: [first, second] })
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.wire.meter()
    }

    /// Resets the counters at the beginning of a call.
    pub(crate) fn begin(&self) {
        let mut meter = self.meter();
        meter.asked.clear();
        meter.exchanges.clear();
        meter.traffic = Traffic::default();
    }

    /// The traffic since the beginning of the call.
    pub(crate) fn traffic(&self) -> Traffic {
        self.meter().traffic
    }

    /// Removes and returns the requests since the beginning of the call. Clears the recording, too, because long runs are not
    /// recorded.
    pub(crate) fn take_exchanges(&self) -> Vec<Exchange> {
        let mut meter = self.meter();
        meter.recorded.clear();
        std::mem::take(&mut meter.exchanges)
    }
}

impl Wire {
    /// Serves at a free port; returns the address.
    async fn serve(self: &Arc<Self>) -> Result<(String, JoinHandle<()>), Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = Router::new().fallback(answer).with_state(Arc::clone(self));
        Ok((url, tokio::spawn(async move { drop(axum::serve(listener, app).await) })))
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, operation: &str, head: &Head, body: &[u8]) -> Result<Answer, Trouble> {
        let subject = subject(operation, body);
        let turn = self.meter().turn(&subject);
        match &self.source {
            Source::Tape { tape, latency } => {
                if !latency.is_zero() {
                    sleep(*latency).await;
                }
                let answers = tape.get(&subject).ok_or_else(|| format!("there is no recording of {subject}"))?;
                Ok(answers[turn.min(answers.len() - 1)].clone())
            }
            Source::Service { dynamodb, rest, http } => {
                let is_table = head.target().starts_with("DynamoDB");
                let url = format!("{}{}", if is_table { dynamodb } else { rest }, head.uri.path());
                let body = if is_table { counted(body)? } else { body.to_vec() };
                let answer = forward(http, &url, head, body).await?;
                self.meter().recorded.entry(subject).or_default().push(answer.clone());
                Ok(answer)
            }
        }
    }
}

/// The subject of a request, by which the tape finds its answer: the operation, and for a batch read or a secret also what is read,
/// because several of them may be open at the same time.
fn subject(operation: &str, body: &[u8]) -> String {
    let is_read = ["BatchGetItem", "GetSecretValue"].contains(&operation);
    let asked: Value = if is_read { serde_json::from_slice(body).unwrap_or_default() } else { json!({}) };
    if let (Some(secret), Some(stage)) = (asked["SecretId"].as_str(), asked["VersionStage"].as_str()) {
        return format!("{operation} {secret} {stage}");
    }
    let tables = asked["RequestItems"].as_object().into_iter().flat_map(serde_json::Map::values);
    let keys = tables.flat_map(|table| table["Keys"].as_array().into_iter().flatten());
    keys.fold(operation.to_owned(), |subject, key| format!("{subject} {}", key["pk"]["S"]))
}

/// The same request, which also asks for the consumed capacity.
fn counted(body: &[u8]) -> Result<Vec<u8>, Trouble> {
    let mut request: Value = serde_json::from_slice(body)?;
    request["ReturnConsumedCapacity"] = json!("INDEXES");
    Ok(request.to_string().into_bytes())
}

async fn forward(http: &SharedHttpConnector, url: &str, head: &Head, body: Vec<u8>) -> Result<Answer, Trouble> {
    let mut request = Request::post(url);
    for name in ["x-amz-target", "content-type", "authorization", "x-amz-date"] {
        request = request.header(name, head.text(name));
    }
    let request: HttpRequest = request.body(SdkBody::from(body))?.try_into()?;
    let mut response = http.call(request).await?;
    let body = ByteStream::new(response.take_body()).collect().await?.to_vec();
    Ok(Answer { status: response.status().as_u16(), text: String::from_utf8(body)? })
}

/// The head of a request.
struct Head {
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    fn text(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The target of the request: `DynamoDB_20120810.GetItem`.
    fn target(&self) -> &str {
        self.text("x-amz-target")
    }

    fn size(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
    }
}

impl Meter {
    /// The number of earlier requests with this subject during this call.
    fn turn(&mut self, operation: &str) -> usize {
        let asked = self.asked.entry(operation.to_owned()).or_default();
        *asked += 1;
        *asked - 1
    }

    fn open(&mut self, bytes: usize) {
        self.traffic.bytes += bytes;
        self.traffic.round_trips += 1;
        self.open += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    fn close(&mut self, operation: &str, answer: &Answer) {
        self.open -= 1;
        if self.open == 0 {
            self.traffic.waited += self.since.take().map(|since| since.elapsed()).unwrap_or_default();
        }
        let answer: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        let consumed = &answer["ConsumedCapacity"];
        let tables = consumed.as_array().map_or(std::slice::from_ref(consumed), Vec::as_slice);
        let mut units: f64 = tables.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum();
        if answer["__type"].as_str().is_some_and(|name| name.ends_with("ConditionalCheckFailedException")) {
            // A write whose condition fails consumes capacity, too, but the answer does not report it. Items here are below 1 KB.
            units += 1.0;
        }
        match operation {
            "GetItem" | "BatchGetItem" | "Query" => self.traffic.read_units += units,
            _ => self.traffic.write_units += units,
        }
    }
}

async fn answer(State(wire): State<Arc<Wire>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let head = Head { uri, headers };
    let is_subsystem = head.uri.path().ends_with(SUBSYSTEM);
    let operation = if is_subsystem { "call" } else { head.target().rsplit('.').next().unwrap_or_default() };
    if operation.is_empty() {
        // The endpoints of AWS answer a bare request in this way.
        return Response::new(Body::from("healthy"));
    }
    wire.meter().open(head.size() + body.len());
    let answer = if is_subsystem {
        Ok(Answer { status: 200, text: "{}".to_owned() })
    } else {
        wire.ask(operation, &head, &body).await
    };
    let answer = answer.unwrap_or_else(|problem| {
        let text = json!({"__type": "ValidationException", "message": problem.to_string()}).to_string();
        Answer { status: 400, text }
    });
    wire.meter().close(operation, &answer);
    if matches!(wire.source, Source::Service { .. }) {
        let answer = serde_json::from_str(&answer.text).unwrap_or_default();
        let exchange = Exchange { operation: operation.to_owned(), headers: head.headers, body, answer };
        wire.meter().exchanges.push(exchange);
    }
    let response = Response::builder().status(answer.status).header("content-type", "application/x-amz-json-1.0");
    response.body(Body::from(answer.text)).unwrap_or_default()
}
