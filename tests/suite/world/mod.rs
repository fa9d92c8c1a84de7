//! The World: a complete service for one test, used through its public interfaces and audited when the test ends.

mod audit;
mod bare_http;
pub(crate) mod duck;
pub(crate) mod function;
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
use referrals::aws::bus::SOURCE;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

pub(crate) use schema::{SCHEMAS, Schema, folder as schema_folder};
use stand_in::StandIn;
pub(crate) use wire::{Call, Fault, Halt, Wire};

/// The time limit of anything that a test waits for.
const LIMIT: Duration = Duration::from_secs(60);
/// When the delay queue delivers an event again.
const REDELIVERY_DELAY: Duration = Duration::from_secs(1);

/// One test's service. Every test ends it with [`World::end`], which audits it.
pub(crate) struct World {
    service: Option<Service>,
    /// Whether the table's stream invokes functions.
    streams: bool,
    wire: Wire,
    http: reqwest::Client,
    events: AtomicU32,
    /// The test's own stand-ins, in addition to those of the service.
    stand_ins: Vec<StandIn>,
    /// Envelope ids of events that the audit ignores although their source is the service.
    ignored: Mutex<BTreeSet<String>>,
    expected: audit::Expected,
}

/// An HTTP response with its complete body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The response's `reason`; asserts that it is a problem document.
    pub(crate) fn reason(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status.as_u16(), "{self:?}");
        for field in ["type", "title", "detail"] {
            assert!(self.body[field].is_string(), "{field} of {self:?}");
        }
        self.body["reason"].as_str().unwrap()
    }

    /// Asserts the status and returns the body.
    #[track_caller]
    pub(crate) fn with(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }

    /// Asserts a problem document with this status and reason.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, reason: &str) {
        assert_eq!((self.status.as_u16(), self.reason()), (status, reason), "{self:?}");
    }

    /// The cookie that a browser would send back.
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

    /// A service with these environment variables for the functions.
    pub(crate) async fn with_env<const N: usize>(settings: [(&str, &str); N]) -> Self {
        Self::with(|options| {
            for (name, value) in settings {
                options.env = std::mem::take(&mut options.env).with(name, value);
            }
        })
        .await
    }

    /// A service with changed options.
    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let wire = Wire::default();
        let mut options = Options { connector: Some(wire.connector()), ..Options::default() };
        // Short delays keep the tests fast.
        options.pace.first_retry = Duration::from_millis(100);
        options.pace.delay = REDELIVERY_DELAY;
        options.pace.schedule = false;
        // `RETRY_SECONDS` counts whole seconds, which is too slow for most tests. With 0 the queue's own delay applies.
        // Orders that convert late are not held, because no sweep runs by itself.
        options.env = std::mem::take(&mut options.env).with("RETRY_SECONDS", "0").with("DELAY_SECONDS", "0");
        change(&mut options);
        let streams = options.pace.stream;
        let service = Service::start(options).await.unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(LIMIT).build();
        Self {
            service: Some(service),
            streams,
            wire,
            http: http.unwrap(),
            events: AtomicU32::new(0),
            stand_ins: Vec::new(),
            ignored: Mutex::default(),
            expected: audit::Expected::default(),
        }
    }

    pub(crate) fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Sends a request with any body.
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

    /// Creates a vanity code for a user.
    pub(crate) async fn mint(&self, user: &str, code: &str) -> Value {
        self.put(&format!("/v1/users/{user}/code"), json!({"code": code})).await.with(201)
    }

    /// Opens a link and returns the `Cookie` header that the browser sends afterwards.
    pub(crate) async fn land(&self, code: &str) -> Option<String> {
        let answer = self.get(&format!("/r/{code}")).await;
        assert_eq!(answer.status, 302, "{answer:?}");
        answer.cookie()
    }

    /// Attributes a referee with a code.
    pub(crate) async fn attribute(&self, referee: &str, code: &str) -> Answer {
        self.post("/v1/referrals", json!({"referee_id": referee, "code": code})).await
    }

    /// Attributes a referee with a cookie.
    pub(crate) async fn attribute_by_cookie(&self, referee: &str, cookie: &str) -> Answer {
        let body = json!({"referee_id": referee}).to_string();
        self.send(Method::POST, "/v1/referrals", &[("cookie", cookie)], body).await
    }

    /// A referee's referral, from the API.
    pub(crate) async fn referral(&self, referee: &str) -> Value {
        self.get(&format!("/v1/referrals/{referee}")).await.with(200)
    }

    /// Calls `PutEvents` with this body.
    pub(crate) async fn put_events(&self, body: Value) -> Answer {
        let headers = [("x-amz-target", "AWSEvents.PutEvents"), ("content-type", "application/x-amz-json-1.1")];
        self.send(Method::POST, "/", &headers, body.to_string()).await
    }

    /// Publishes an event on the bus and returns its envelope's id.
    pub(crate) async fn publish(&self, detail_type: &str, detail: Value) -> String {
        self.publish_at(detail_type, detail, Value::Null).await
    }

    /// Publishes an event with this `Time`.
    pub(crate) async fn publish_at(&self, detail_type: &str, detail: Value, time: Value) -> String {
        self.put_event("shop", detail_type, detail, time).await
    }

    /// Publishes an event with the service as its source. The audit ignores it.
    pub(crate) async fn publish_as_service(&self, detail_type: &str, detail: Value) {
        let id = self.put_event(SOURCE, detail_type, detail, Value::Null).await;
        self.ignored.lock().unwrap().insert(id);
    }

    /// Makes the audit ignore these published events. They do not belong to any referral in the table.
    pub(crate) async fn ignore_events(&self, is_such: impl Fn(&Value) -> bool) {
        let events = self.events().await;
        let ids = events.iter().filter(|event| is_such(event)).map(|event| event["id"].as_str().unwrap().to_owned());
        self.ignored.lock().unwrap().extend(ids);
    }

    async fn put_event(&self, source: &str, detail_type: &str, detail: Value, time: Value) -> String {
        let bus = self.service().env().get("BUS_NAME").unwrap().to_owned();
        let entry = json!({
            "EventBusName": bus, "Source": source, "DetailType": detail_type, "Detail": detail.to_string(),
            "Time": time,
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

    /// Creates a pending referral of `referee` by `referrer`.
    pub(crate) async fn refer(&self, referrer: &str, referee: &str) {
        let code = self.put(&format!("/v1/users/{referrer}/code"), json!({})).await.body["code"].clone();
        self.attribute(referee, code.as_str().unwrap()).await.with(201);
    }

    /// The calls that the service's stand-ins received.
    pub(crate) async fn deliveries(&self) -> Vec<Value> {
        self.list("/_local/deliveries").await
    }

    /// Every published event.
    pub(crate) async fn events(&self) -> Vec<Value> {
        self.list("/_local/events").await
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        match self.get(path).await.with(200) {
            Value::Array(items) => items,
            other => panic!("{path}: {other}"),
        }
    }

    /// Sets a stand-in's next answers.
    pub(crate) async fn script(&self, kind: &str, script: Value) {
        let answer = self.put(&format!("/_local/subsystems/{kind}/script"), script).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// Waits until all work is done, except for messages in a delay queue.
    pub(crate) async fn until_idle(&self) {
        self.until("all work is done", async || self.service().idle().unwrap()).await;
    }

    /// Waits until a referral has this status.
    pub(crate) async fn until_status(&self, referee: &str, status: &str) -> Value {
        let path = format!("/v1/referrals/{referee}");
        let what = format!("{referee} is {status}");
        self.until(&what, async || self.get(&path).await.body["status"] == status).await;
        self.referral(referee).await
    }

    /// Waits until the condition holds, within the time limit.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds().await {
            assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
            sleep(Duration::from_millis(15)).await;
        }
    }

    /// Every item of the table.
    pub(crate) async fn items(&self) -> Vec<referrals::store::keys::Item> {
        self.items_of("TABLE_NAME").await
    }

    /// Every item of the analytics table.
    pub(crate) async fn analytics_items(&self) -> Vec<referrals::store::keys::Item> {
        self.items_of("METRICS_TABLE_NAME").await
    }

    /// Every item of the table that this environment variable names.
    async fn items_of(&self, setting: &str) -> Vec<referrals::store::keys::Item> {
        let table = self.service().env().get(setting).unwrap().to_owned();
        // Pages that are small enough for an unoptimised build to answer in time.
        let scan = self.service().dynamodb().scan().table_name(table).consistent_read(true).limit(250);
        let pages = scan.into_paginator().items().send();
        pages.collect::<Result<Vec<_>, _>>().await.unwrap()
    }

    /// The whole table as sorted text, to check that something writes nothing.
    pub(crate) async fn contents(&self) -> Vec<String> {
        let mut items: Vec<String> = self.items().await.iter().map(|item| plain(item).to_string()).collect();
        items.sort();
        items
    }

    /// The item with this key.
    pub(crate) async fn item(&self, pk: &str, sk: &str) -> Option<referrals::store::keys::Item> {
        let is = |item: &referrals::store::keys::Item, name: &str, value: &str| {
            item.get(name) == Some(&AttributeValue::S(value.to_owned()))
        };
        self.items().await.into_iter().find(|item| is(item, "pk", pk) && is(item, "sk", sk))
    }

    /// A referee's stored referral as plain JSON; `null` if there is none.
    pub(crate) async fn stored(&self, referee: &str) -> Value {
        self.item(&format!("REFEREE#{referee}"), "REFERRAL").await.as_ref().map_or(Value::Null, plain)
    }

    /// The sorted event ids of the published events of one type.
    pub(crate) async fn announced(&self, detail_type: &str) -> Vec<String> {
        let events = self.events().await;
        let ours = events.iter().filter(|event| event["detail-type"] == detail_type);
        let mut ids: Vec<_> = ours.map(|event| event["detail"]["event_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }

    /// Waits until the delay queue has delivered every event again and the resulting work is done.
    pub(crate) async fn until_redelivered(&self) {
        sleep(REDELIVERY_DELAY + Duration::from_millis(200)).await;
        self.until_idle().await;
    }

    /// Declares that this many messages end up in quarantine or dead-letter queues.
    pub(crate) fn expect_unprocessed(&mut self, count: u64) {
        self.expected.unprocessed = count;
    }

    /// Allows dead letters for rewards that were delivered anyway; they are not counted.
    pub(crate) fn allow_obsolete_dead_letters(&mut self) {
        self.expected.obsolete_dead_letters = true;
    }

    /// Includes this stand-in in the audit.
    pub(crate) fn audit_stand_in(&mut self, stand_in: &StandIn) {
        self.stand_ins.push(stand_in.clone());
    }

    /// Allows undelivered rewards at the end of the test.
    pub(crate) fn allow_outstanding_work(&mut self) {
        self.expected.outstanding = true;
    }

    /// Allows that rewards were issued before, with another time: the table is a restored one.
    pub(crate) fn allow_reissued_rewards(&mut self) {
        self.expected.reissued = true;
    }

    /// Waits until all work is done, audits the World and stops the service.
    pub(crate) async fn end(mut self) {
        if !self.expected.outstanding {
            self.until_idle().await;
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
pub(crate) fn plain(item: &referrals::store::keys::Item) -> Value {
    serde_dynamo::from_item(item.clone()).unwrap()
}

/// Reports that a test was skipped and why. Fails if the environment variable `required` is set, as in CI.
pub(crate) fn not_tested(test: &str, why: &str, required: &str) {
    assert!(std::env::var_os(required).is_none(), "{required} is set, and {why}");
    // Bypasses the test harness, which hides the output of passing tests.
    std::io::stderr().write_all(format!("NOT TESTED: {test}: {why}\n").as_bytes()).unwrap();
}

/// A temporary directory, removed when dropped.
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

/// SDK settings for a test's own client of a local endpoint, with this connector.
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
