//! The World: a whole service for one test, asked the way its users ask it, audited when the test ends.

mod audit;
mod bare_http;
pub(crate) mod duck;
pub(crate) mod process;
pub(crate) mod recount;
pub(crate) mod redis;
mod schema;
pub(crate) mod stand_in;
mod wire;

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::SdkConfig;
use local::{Options, Pace, Service};
use referrals::bus::SOURCE;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

pub(crate) use schema::{SCHEMAS, Schema, folder as schema_folder};
use stand_in::StandIn;
pub(crate) use wire::{Call, Fault, Halt, Wire};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);
/// When the delay queue brings an event once more.
const ECHO: Duration = Duration::from_secs(1);

/// A service of the test's own. Every test ends it with [`World::end`], which audits it.
pub(crate) struct World {
    service: Option<Service>,
    /// Whether the table's stream feeds its functions.
    streams: bool,
    wire: Wire,
    http: reqwest::Client,
    events: AtomicU32,
    /// Subsystems of the test's own, beside those of the service.
    stand_ins: Vec<StandIn>,
    /// The envelopes' ids of events in the service's own name that are not its own.
    forged: Mutex<BTreeSet<String>>,
    expected: audit::Expected,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The reason of a problem document; asserts that it is one.
    pub(crate) fn reason(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status.as_u16(), "{self:?}");
        for field in ["type", "title", "detail"] {
            assert!(self.body[field].is_string(), "{field} of {self:?}");
        }
        self.body["reason"].as_str().unwrap()
    }

    /// Asserts the status, and gives the body.
    #[track_caller]
    pub(crate) fn with(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }

    /// Asserts that this is a problem of this status and reason.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, reason: &str) {
        assert_eq!((self.status.as_u16(), self.reason()), (status, reason), "{self:?}");
    }

    /// What a browser would send back for the cookie that came.
    pub(crate) fn cookie(&self) -> Option<String> {
        let set = self.headers.get("set-cookie")?.to_str().unwrap();
        Some(set.split(';').next().unwrap().to_owned())
    }
}

impl World {
    /// A service with default settings.
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// A service with these settings (environment variables of the functions).
    pub(crate) async fn with_env<const N: usize>(settings: [(&str, &str); N]) -> Self {
        Self::with(|options| {
            for (name, value) in settings {
                options.env = std::mem::take(&mut options.env).with(name, value);
            }
        })
        .await
    }

    /// A service whose options were changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let wire = Wire::default();
        let mut options = Options { connector: Some(wire.connector()), ..Options::default() };
        // Impatient, so that what a test waits for comes soon.
        options.pace.first_retry = Duration::from_millis(100);
        options.pace.delay = ECHO;
        options.pace.schedule = false;
        // Whole seconds are too long for most tests; then a queue's pause is the pace's.
        options.env = std::mem::take(&mut options.env).with("RETRY_SECONDS", "0");
        change(&mut options);
        let streams = options.pace.stream;
        let service = Service::start(options).await.unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE).build();
        Self {
            service: Some(service),
            streams,
            wire,
            http: http.unwrap(),
            events: AtomicU32::new(0),
            stand_ins: Vec::new(),
            forged: Mutex::default(),
            expected: audit::Expected::default(),
        }
    }

    pub(crate) fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Sends one request; the body may be any bytes.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let url = format!("{}{path}", self.service().url());
        let mut request = self.http.request(method, url).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body =
            serde_json::from_slice(&bytes).unwrap_or(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, &[], body.to_string()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[], body.to_string()).await
    }

    /// Mints a vanity code for a user.
    pub(crate) async fn mint(&self, user: &str, code: &str) -> Value {
        self.put(&format!("/v1/users/{user}/code"), json!({"code": code})).await.with(201)
    }

    /// Opens a link, and gives the `Cookie` header that the browser sends from then on.
    pub(crate) async fn land(&self, code: &str) -> Option<String> {
        let answer = self.get(&format!("/r/{code}")).await;
        assert_eq!(answer.status, 302, "{answer:?}");
        answer.cookie()
    }

    /// Attributes a referee by a code.
    pub(crate) async fn attribute(&self, referee: &str, code: &str) -> Answer {
        self.post("/v1/referrals", json!({"referee_id": referee, "code": code})).await
    }

    /// Attributes a referee by a cookie.
    pub(crate) async fn attribute_by_cookie(&self, referee: &str, cookie: &str) -> Answer {
        let body = json!({"referee_id": referee}).to_string();
        self.send(Method::POST, "/v1/referrals", &[("cookie", cookie)], body).await
    }

    /// The referral of a referee, as the API shows it.
    pub(crate) async fn referral(&self, referee: &str) -> Value {
        self.get(&format!("/v1/referrals/{referee}")).await.with(200)
    }

    /// Calls the bus's protocol with this body.
    pub(crate) async fn put_events(&self, body: Value) -> Answer {
        let headers = [("x-amz-target", "AWSEvents.PutEvents"), ("content-type", "application/x-amz-json-1.1")];
        self.send(Method::POST, "/", &headers, body.to_string()).await
    }

    /// Publishes one event on the bus, and gives its envelope's id.
    pub(crate) async fn publish(&self, detail_type: &str, detail: Value) -> String {
        self.put_event("shop", detail_type, detail).await
    }

    /// Publishes one event in the service's own name. The audit asks nothing of it.
    pub(crate) async fn forge(&self, detail_type: &str, detail: Value) {
        let id = self.put_event(SOURCE, detail_type, detail).await;
        self.forged.lock().unwrap().insert(id);
    }

    /// Says that these events, published by now, are about nothing in the table. The audit asks nothing of them either.
    pub(crate) async fn disown(&self, is_such: impl Fn(&Value) -> bool) {
        let events = self.events().await;
        let ids = events.iter().filter(|event| is_such(event)).map(|event| event["id"].as_str().unwrap().to_owned());
        self.forged.lock().unwrap().extend(ids);
    }

    async fn put_event(&self, source: &str, detail_type: &str, detail: Value) -> String {
        let bus = self.service().env().get("BUS_NAME").unwrap().to_owned();
        let entry = json!({
            "EventBusName": bus, "Source": source, "DetailType": detail_type, "Detail": detail.to_string(),
        });
        let answer = self.put_events(json!({"Entries": [entry]})).await.with(200);
        assert_eq!(answer["FailedEntryCount"], 0, "{answer}");
        self.events.fetch_add(1, Ordering::Relaxed);
        answer["Entries"][0]["EventId"].as_str().unwrap().to_owned()
    }

    /// Publishes a completed order of 42 dollars.
    pub(crate) async fn order(&self, user: &str, order: &str) {
        let detail = json!({"order_id": order, "user_id": user, "amount": 4200, "currency": "USD"});
        self.publish("order.completed", detail).await;
    }

    /// Brings `referee` to `pending`, referred by `referrer`.
    pub(crate) async fn refer(&self, referrer: &str, referee: &str) {
        let code = self.put(&format!("/v1/users/{referrer}/code"), json!({})).await.body["code"].clone();
        self.attribute(referee, code.as_str().unwrap()).await.with(201);
    }

    /// What the stand-ins of the subsystems received.
    pub(crate) async fn deliveries(&self) -> Vec<Value> {
        self.list("/_local/deliveries").await
    }

    /// Every event that was published.
    pub(crate) async fn events(&self) -> Vec<Value> {
        self.list("/_local/events").await
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        match self.get(path).await.with(200) {
            Value::Array(items) => items,
            other => panic!("{path}: {other}"),
        }
    }

    /// Tells a stand-in how to answer its next calls.
    pub(crate) async fn script(&self, kind: &str, script: Value) {
        let answer = self.put(&format!("/_local/subsystems/{kind}/script"), script).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// Waits until nothing is under way any more, but for what waits in a delay queue.
    pub(crate) async fn settle(&self) {
        self.until("everything has come to rest", async || self.service().idle().unwrap()).await;
    }

    /// Waits until a referral has this status.
    pub(crate) async fn until_status(&self, referee: &str, status: &str) -> Value {
        let path = format!("/v1/referrals/{referee}");
        let what = format!("{referee} is {status}");
        self.until(&what, async || self.get(&path).await.body["status"] == status).await;
        self.referral(referee).await
    }

    /// Waits until `holds`, as long as anything may take.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < end, "waited {PATIENCE:?} in vain until {what}");
            sleep(Duration::from_millis(15)).await;
        }
    }

    /// Every item of the table.
    pub(crate) async fn items(&self) -> Vec<referrals::table::Item> {
        self.items_of("TABLE_NAME").await
    }

    /// Every item of the metrics table.
    pub(crate) async fn metrics(&self) -> Vec<referrals::table::Item> {
        self.items_of("METRICS_TABLE_NAME").await
    }

    /// Every item of the table that this setting names.
    async fn items_of(&self, setting: &str) -> Vec<referrals::table::Item> {
        let table = self.service().env().get(setting).unwrap().to_owned();
        // Pages that an unoptimised build can answer before its caller gives up.
        let scan = self.service().dynamodb().scan().table_name(table).consistent_read(true).limit(250);
        let pages = scan.into_paginator().items().send();
        pages.collect::<Result<Vec<_>, _>>().await.unwrap()
    }

    /// The whole table as text, in an order of its own: the same before and after whatever writes nothing.
    pub(crate) async fn contents(&self) -> Vec<String> {
        let mut items: Vec<String> = self.items().await.iter().map(|item| plain(item).to_string()).collect();
        items.sort();
        items
    }

    /// The item with this key.
    pub(crate) async fn item(&self, pk: &str, sk: &str) -> Option<referrals::table::Item> {
        let is = |item: &referrals::table::Item, name: &str, value: &str| {
            item.get(name) == Some(&AttributeValue::S(value.to_owned()))
        };
        self.items().await.into_iter().find(|item| is(item, "pk", pk) && is(item, "sk", sk))
    }

    /// The item of a referee's referral, plain; `null` when there is none.
    pub(crate) async fn stored(&self, referee: &str) -> Value {
        self.item(&format!("REFEREE#{referee}"), "REFERRAL").await.as_ref().map_or(Value::Null, plain)
    }

    /// The ids of the events of one type that were published, sorted.
    pub(crate) async fn announced(&self, detail_type: &str) -> Vec<String> {
        let events = self.events().await;
        let ours = events.iter().filter(|event| event["detail-type"] == detail_type);
        let mut ids: Vec<_> = ours.map(|event| event["detail"]["event_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }

    /// Waits until the delay queue has brought every event once more, and that has come to rest too.
    pub(crate) async fn echo(&self) {
        sleep(ECHO + Duration::from_millis(200)).await;
        self.settle().await;
    }

    /// Says that this many messages end up aside, in quarantine or dead-letter queues.
    pub(crate) fn expect_parked(&mut self, count: u64) {
        self.expected.parked = count;
    }

    /// Says that dead-letter queues may hold messages whose rewards were delivered all the same; they are not counted.
    pub(crate) fn expect_overtaken(&mut self) {
        self.expected.overtaken = true;
    }

    /// Has the audit look into this stand-in of the test's own, too.
    pub(crate) fn audit_too(&mut self, stand_in: &StandIn) {
        self.stand_ins.push(stand_in.clone());
    }

    /// Says that rewards may be left undelivered when the test ends.
    pub(crate) fn expect_owed(&mut self) {
        self.expected.owed = true;
    }

    /// Waits for rest, audits the World, and ends it.
    pub(crate) async fn end(mut self) {
        if !self.expected.owed {
            self.settle().await;
        }
        self.audit().await;
        if let Some(service) = self.service.take() {
            service.stop().await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        assert!(self.service.is_none() || std::thread::panicking(), "a test must end its World, so that it is audited");
    }
}

/// An item as plain JSON, for comparing and printing.
pub(crate) fn plain(item: &referrals::table::Item) -> Value {
    serde_dynamo::from_item(item.clone()).unwrap()
}

/// Says aloud that a test has tested nothing, and for want of what; a failure where `required` is set, as it is in CI.
pub(crate) fn not_tested(test: &str, why: &str, required: &str) {
    assert!(std::env::var_os(required).is_none(), "{required} is set, and {why}");
    // Past the harness, which keeps what a passing test prints to itself.
    std::io::stderr().write_all(format!("NOT TESTED: {test}: {why}\n").as_bytes()).unwrap();
}

/// A directory of a test's own, gone with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("referrals-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// How a client of a test's own reaches a local endpoint, by this connector.
pub(crate) fn aws(url: &str, http: SharedHttpClient) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .timeout_config(local::stretched(Pace::default().slack))
        .endpoint_url(url)
        .http_client(http)
        .build()
}
