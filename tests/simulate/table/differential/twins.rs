//! Two tables side by side: every call goes to the in-memory one and to the embedded DynamoDB, and the answers must
//! match.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use dynoxide::{
    Database,
    actions::{
        create_table::CreateTableRequest, get_records::GetRecordsRequest, get_shard_iterator::GetShardIteratorRequest,
        list_streams::ListStreamsRequest, scan::ScanRequest,
    },
};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::super::{Table, connector, item};

pub(super) const TABLE: &str = "referrals";

/// How often each shape of call was answered and refused.
pub(super) type Seen = BTreeMap<String, (usize, usize)>;

/// Both tables and the comparisons so far.
#[derive(Clone)]
pub(super) struct Twins {
    pub(super) table: Arc<Mutex<Table>>,
    pub(super) seen: Arc<Mutex<Seen>>,
    database: Database,
    url: String,
}

impl std::fmt::Debug for Twins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Twins")
    }
}

impl Twins {
    pub(super) fn new(name: &str) -> Self {
        let place = format!("file:simulate-{}-{name}?mode=memory&cache=shared", std::process::id());
        let database = Database::new(&place).unwrap();
        // Without this index, Dynoxide reads its whole stream on each write.
        let index = "CREATE INDEX IF NOT EXISTS stream_records_by_sequence
            ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";
        Connection::open(&place).unwrap().execute_batch(index).unwrap();
        database.create_table(template()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = database.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                dynoxide::server::serve_with_shutdown(listener, served, std::future::pending()).await
            })
        });
        Self { table: Arc::new(Mutex::new(Table::new(TABLE))), seen: Arc::default(), database, url }
    }

    /// A client whose calls go to both tables.
    pub(super) fn client(&self) -> Client {
        let inner = aws_smithy_http_client::Builder::new().build_http();
        client(&self.url, SharedHttpClient::new(Both { inner, twins: self.clone() }))
    }

    /// Compares the items of both tables and the stream records of every key.
    pub(super) fn compare_contents(&self) {
        let scan: ScanRequest = serde_json::from_value(json!({ "TableName": TABLE })).unwrap();
        let answer = serde_json::to_value(self.database.scan(scan).unwrap()).unwrap();
        assert!(answer.get("LastEvaluatedKey").is_none_or(Value::is_null), "more than one page");
        let table = self.table.lock().unwrap();
        let ours = Value::from_iter(table.items().values().cloned());
        assert_eq!(in_order(ours), in_order(answer["Items"].clone()));
        assert_eq!(by_key(table.records().iter().map(|record| Value::clone(record))), by_key(self.dynoxide_records()));
    }

    fn dynoxide_records(&self) -> impl Iterator<Item = Value> {
        let streams = self.database.list_streams(ListStreamsRequest::default()).unwrap();
        let iterator = self.database.get_shard_iterator(GetShardIteratorRequest {
            stream_arn: streams.streams[0].stream_arn.clone(),
            shard_id: dynoxide::streams::shard_id(TABLE),
            shard_iterator_type: "TRIM_HORIZON".to_owned(),
            sequence_number: None,
        });
        let (mut next, mut records) = (iterator.unwrap().shard_iterator, Vec::new());
        while let Some(shard_iterator) = next {
            let page = self.database.get_records(GetRecordsRequest { shard_iterator, limit: Some(1000) }).unwrap();
            if page.records.is_empty() {
                break;
            }
            records.extend(page.records);
            next = page.next_shard_iterator;
        }
        // A write without a change creates no record on AWS, but it does in Dynoxide.
        let records = records.into_iter().map(|record| serde_json::to_value(record).unwrap());
        records.filter(|record| record["dynamodb"].get("OldImage") != record["dynamodb"].get("NewImage"))
    }
}

/// The template's table, as the local service creates it.
fn template() -> CreateTableRequest {
    let table = local::template().unwrap()["Resources"]["Table"]["Properties"].clone();
    let request = json!({
        "TableName": TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": table["KeySchema"],
        "AttributeDefinitions": table["AttributeDefinitions"],
        "GlobalSecondaryIndexes": table["GlobalSecondaryIndexes"],
        "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" },
    });
    serde_json::from_value(request).unwrap()
}

/// A client over this connector.
pub(in super::super) fn client(url: &str, http: SharedHttpClient) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "local"))
        .endpoint_url(url)
        .http_client(http);
    Client::from_conf(config.build())
}

#[derive(Clone, Debug)]
struct Both {
    inner: SharedHttpClient,
    twins: Twins,
}

impl HttpClient for Both {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(BothConnector { inner, twins: self.twins.clone() })
    }
}

#[derive(Clone, Debug)]
struct BothConnector {
    inner: SharedHttpConnector,
    twins: Twins,
}

impl HttpConnector for BothConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let operation = connector::operation(&request);
            let asked: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            let copy = request.try_clone().unwrap();
            let theirs = read(this.inner.call(request).await?).await;
            let answer = connector::answer(&this.twins.table, copy).await;
            let status = answer.status();
            let (ours, document) = read_twice(answer).await;
            assert_eq!(comparable(ours.0, &ours.1), comparable(theirs.0, &theirs.1), "{operation} {asked}");
            let mut seen = this.twins.seen.lock().unwrap();
            let count = seen.entry(shape(&operation, &asked)).or_default();
            if status.is_success() {
                count.0 += 1
            } else {
                count.1 += 1
            }
            Ok(document)
        })
    }
}

async fn read(mut response: HttpResponse) -> (u16, Value) {
    let body = std::mem::replace(response.body_mut(), SdkBody::empty());
    let bytes = ByteStream::new(body).collect().await.unwrap().into_bytes();
    (response.status().as_u16(), serde_json::from_slice(&bytes).unwrap())
}

async fn read_twice(response: HttpResponse) -> ((u16, Value), HttpResponse) {
    let mut copy = HttpResponse::new(response.status(), SdkBody::from(response.body().bytes().unwrap()));
    copy.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    (read(response).await, copy)
}

/// The part of an answer that must match: everything except an order that is not guaranteed. For errors, the type and
/// the returned items, but not the message.
fn comparable(status: u16, document: &Value) -> Value {
    if status == 200 {
        let mut answer = document.clone();
        if let Some(tables) = answer.get_mut("Responses").and_then(Value::as_object_mut) {
            tables.values_mut().for_each(|items| *items = in_order(items.take()));
        }
        return checked(&answer);
    }
    let code = document["__type"].as_str().unwrap().rsplit('#').next().unwrap().to_owned();
    let reasons = document["CancellationReasons"].as_array().into_iter().flatten();
    let reasons: Vec<_> = reasons.map(|reason| json!([reason["Code"], checked(&reason["Item"])])).collect();
    json!({ "status": status, "code": code, "item": checked(&document["Item"]), "reasons": reasons })
}

/// The value with every set sorted, at any depth.
fn checked(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(checked).collect(),
        Value::Object(map) => match map.iter().next() {
            Some((kind, Value::Array(_))) if map.len() == 1 && ["SS", "NS"].contains(&kind.as_str()) => {
                item::checked(value).unwrap()
            }
            _ => map.iter().map(|(name, value)| (name.clone(), checked(value))).collect(),
        },
        other => other.clone(),
    }
}

fn in_order(items: Value) -> Value {
    let Value::Array(mut items) = checked(&items) else { panic!("no items: {items}") };
    items.sort_by_key(|item| (item["pk"].to_string(), item["sk"].to_string()));
    items.into()
}

/// The records' types and images, in order, by key.
fn by_key(records: impl Iterator<Item = Value>) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        let change = &record["dynamodb"];
        let shown = json!([record["eventName"], change.get("OldImage"), change.get("NewImage")]);
        found.entry(change["Keys"].to_string()).or_default().push(checked(&shown));
    }
    found
}

/// The operation and its expressions, without names and values.
fn shape(operation: &str, request: &Value) -> String {
    let mut shape = operation.to_owned();
    let parts = request["TransactItems"].as_array().cloned().unwrap_or_else(|| vec![json!({ "": request })]);
    for part in &parts {
        for (kind, request) in part.as_object().unwrap() {
            let named = ["KeyConditionExpression", "ConditionExpression", "UpdateExpression"];
            let named = named.map(|member| request[member].as_str().unwrap_or_default());
            let more = ["IndexName", "Select"].map(|member| request[member].as_str().unwrap_or_default());
            shape += &format!(" {kind}[{}]", [named.as_slice(), &more].concat().join("|").trim_matches('|'));
        }
    }
    shape
}
