//! The cache of codes: how many reads it saves, that it never contradicts the table in a decision, and that no failure of
//! its server fails a request. Each failure is counted.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use rcgen::SanType;
use referrals::runtime::{Call, secret::Values};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::{
    admin,
    metrics::{self, Log},
    subsystem::certified,
    world::{
        self, Fault, Folder, Wire, World,
        process::Running,
        redis::{Redis, free_port},
    },
};

/// A timeout that no machine exceeds, for tests that are not about time.
const AMPLE: &str = "20000";

/// A World, and separate functions that use a cache server.
struct Bench {
    world: World,
    wire: Wire,
    log: Log,
    _logs: tracing::subscriber::DefaultGuard,
}

impl Bench {
    async fn start() -> Self {
        let log = Log::default();
        let logs = log.start("WARN");
        Self { world: World::start().await, wire: Wire::default(), log, _logs: logs }
    }

    fn env(&self, url: &str, budget: &str) -> referrals::runtime::Env {
        self.world.service().env().clone().with("CACHE_URL", url).with("CACHE_TIMEOUT_MS", budget)
    }

    fn dynamodb(&self, wire: &Wire) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&world::aws(self.world.service().dynamodb_url(), wire.connector()))
    }

    /// A new instance of the function, with empty memory.
    fn function(&self, url: &str, budget: &str) -> attribution::App {
        attribution::App::new(&self.env(url, budget), self.dynamodb(&self.wire)).unwrap()
    }

    fn admin(&self, url: &str) -> ::admin::App {
        let rest = world::aws(self.world.service().url(), Wire::default().connector());
        let (bus, queues) = (aws_sdk_eventbridge::Client::new(&rest), aws_sdk_sqs::Client::new(&rest));
        ::admin::App::new(&self.env(url, AMPLE), self.dynamodb(&Wire::default()), bus, queues).unwrap()
    }

    /// Mints this many codes, each for another owner.
    async fn mint(&self, count: usize) -> Vec<String> {
        let codes: Vec<_> = (0..count).map(|number| format!("code-{number}")).collect();
        for code in &codes {
            self.world.mint(&format!("owner-of-{code}"), code).await;
        }
        codes
    }

    /// The cache metrics since the last call.
    fn counted(&self) -> BTreeMap<String, u64> {
        let sums = metrics::sums(&self.log.take()).into_iter();
        let count = |count: f64| count.to_string().parse().unwrap();
        sums.filter_map(|(name, sum)| Some((name.strip_prefix("cache_")?.to_owned(), count(sum)))).collect()
    }

    /// The number of code reads from the table since the last call.
    fn reads(&self) -> usize {
        self.wire.take_calls().iter().filter(|call| call.operation == "GetItem").count()
    }

    async fn end(self) {
        self.world.end().await;
    }
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

fn request(method: &str, path: &str, body: &Value) -> lambda_http::Request {
    let event = json!({
        "version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {"host": "example.com"},
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"}, "isBase64Encoded": false,
        "body": if body.is_null() { String::new() } else { body.to_string() },
    });
    lambda_http::request::from_str(&event.to_string()).unwrap()
}

async fn ask(
    app: &attribution::App,
    method: &str,
    path: &str,
    body: Value,
) -> lambda_http::Response<lambda_http::Body> {
    attribution::handle(app, request(method, path, &body), Call::begin(Duration::from_secs(10)).unwrap()).await
}

/// Opens a link. Returns whether it set a cookie.
async fn land(app: &attribution::App, code: &str) -> bool {
    let answer = ask(app, "GET", &format!("/r/{code}"), Value::Null).await;
    assert_eq!(answer.status(), 302, "{answer:?}");
    answer.headers().contains_key("set-cookie")
}

/// Opens the links of these live codes.
async fn land_all(app: &attribution::App, codes: &[String]) {
    for code in codes {
        assert!(land(app, code).await, "{code}");
    }
}

/// Signs up a referee by a code. Returns the status, and the reason or the referrer.
async fn sign_up(app: &attribution::App, referee: &str, code: &str) -> (u16, String) {
    let answer = ask(app, "POST", "/v1/referrals", json!({"referee_id": referee, "code": code})).await;
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    let said = body["reason"].as_str().or(body["referrer_id"].as_str()).unwrap();
    (answer.status().as_u16(), said.to_owned())
}

/// The server's key for the code with this canonical form.
fn key(canonical: &str) -> String {
    format!("referrals:referrals:code:1:{canonical}")
}

async fn kept(redis: &Redis, canonical: &str) -> Value {
    serde_json::from_str(&redis.ask::<String>(&["GET", &key(canonical)]).await).unwrap()
}

async fn change(app: &::admin::App, code: &str, body: Value) -> world::Answer {
    admin::ask(app, "PATCH", &format!("/admin/codes/{code}"), &body.to_string()).await
}

#[tokio::test]
async fn each_layer_answers_before_the_next() {
    let Some(redis) = Redis::start("each_layer_answers_before_the_next", &[]).await else { return };
    let bench = Bench::start().await;
    let codes = bench.mint(40).await;
    let first = bench.function(&redis.url(), AMPLE);
    land_all(&first, &codes).await;
    assert_eq!((bench.counted(), bench.reads()), (counts([("misses", 40)]), 40));
    for _ in 0..3 {
        land_all(&first, &codes).await;
    }
    assert_eq!((bench.counted(), bench.reads()), (counts([("memory_hits", 120)]), 0));

    // Later instances find every code on the server and do not read the table.
    for _ in 0..3 {
        let other = bench.function(&redis.url(), AMPLE);
        land_all(&other, &codes).await;
        land_all(&other, &codes).await;
    }
    let counted = bench.counted();
    assert_eq!((&counted, bench.reads()), (&counts([("memory_hits", 120), ("server_hits", 120)]), 0));

    // The values live for a long time, and not all equally long.
    let mut lives = Vec::new();
    for number in 0..40 {
        lives.push(redis.ask::<u64>(&["TTL", &key(&format!("C0DE{number}"))]).await);
    }
    let day = 24 * 60 * 60;
    assert!(lives.iter().all(|seconds| (26 * day..=33 * day).contains(seconds)), "{lives:?}");
    assert!(lives.iter().max().unwrap() - lives.iter().min().unwrap() > day, "{lives:?}");
    bench.end().await;
}

#[tokio::test]
async fn without_a_server_memory_is_used() {
    let bench = Bench::start().await;
    let codes = bench.mint(10).await;
    let app = bench.function("", "10");
    land_all(&app, &codes).await;
    land_all(&app, &codes).await;
    assert_eq!((bench.counted(), bench.reads()), (counts([("memory_hits", 10), ("misses", 10)]), 10));
    bench.end().await;
}

/// A hundred concurrent visits miss one code, on an instance with empty memory.
async fn a_hundred(bench: &Bench, url: &str) {
    let app = bench.function(url, AMPLE);
    let landed = join_all((0..100).map(|_| land(&app, "code-0"))).await;
    assert!(landed.into_iter().all(|is_live| is_live));
    assert_eq!((bench.counted(), bench.reads()), (counts([("memory_hits", 99), ("misses", 1)]), 1));
}

#[tokio::test]
async fn a_hundred_concurrent_misses_read_the_table_once() {
    let bench = Bench::start().await;
    bench.mint(1).await;
    a_hundred(&bench, "").await;
    bench.end().await;
}

#[tokio::test]
async fn a_hundred_concurrent_misses_ask_the_server_once() {
    let Some(redis) = Redis::start("a_hundred_concurrent_misses_ask_the_server_once", &[]).await else { return };
    let bench = Bench::start().await;
    bench.mint(1).await;
    a_hundred(&bench, &redis.url()).await;
    let stats: String = redis.ask(&["INFO", "commandstats"]).await;
    for once in ["cmdstat_getrange:calls=1,", "cmdstat_set:calls=1,"] {
        assert!(stats.contains(once), "{stats}");
    }
    bench.end().await;
}

#[tokio::test]
async fn an_unknown_code_is_found_as_soon_as_it_is_minted() {
    let Some(redis) = Redis::start("an_unknown_code_is_found_as_soon_as_it_is_minted", &[]).await else { return };
    let bench = Bench::start().await;
    let app = bench.function(&redis.url(), AMPLE);
    for _ in 0..3 {
        assert!(!land(&app, "code-0").await);
    }
    assert_eq!(sign_up(&app, "bob", "code-0").await, (404, "code_not_found".to_owned()));
    assert_eq!((bench.reads(), redis.size().await), (4, 0));
    bench.mint(1).await;
    assert!(land(&app, "code-0").await);
    assert_eq!(sign_up(&app, "bob", "code-0").await, (201, "owner-of-code-0".to_owned()));
    bench.end().await;
}

#[tokio::test]
async fn a_server_that_restarts_fails_no_request() {
    let Some(mut redis) = Redis::start("a_server_that_restarts_fails_no_request", &[]).await else {
        return;
    };
    let bench = Bench::start().await;
    let codes = bench.mint(240).await;
    let (url, app) = (redis.url(), bench.function(&redis.url(), "1000"));
    // Each code is requested once, so that memory never answers. Eight visitors run concurrently.
    let (queue, landed) = (RefCell::new(codes.iter()), Cell::new(0));
    let next = || queue.borrow_mut().next();
    let visitors = join_all((0..8).map(|_| async {
        while let Some(code) = next() {
            assert!(land(&app, code).await, "{code}");
            landed.set(landed.get() + 1);
        }
    }));
    let trouble = async {
        until(&landed, 80).await;
        redis.kill();
        until(&landed, 160).await;
        redis.restart().await;
    };
    tokio::join!(visitors, trouble);
    let counted = bench.counted();
    println!("killed and restarted: {counted:?}");
    assert!(counted["failures"] > 0 && counted["misses"] == 240, "{counted:?}");

    // It is used again, by the instance that had lost it and by others.
    let more = until_used(&bench, &app, &redis).await;
    let size = redis.size().await;
    bench.counted();
    let other = bench.function(&url, AMPLE);
    land_all(&other, &codes).await;
    for number in 1..=more {
        assert!(land(&other, &format!("more-{number}")).await);
    }
    assert_eq!(bench.counted()["server_hits"], size);
    bench.end().await;
}

/// Mints and opens one code after another until the empty server is used. Returns how many.
async fn until_used(bench: &Bench, app: &attribution::App, redis: &Redis) -> usize {
    let more = Cell::new(0);
    let is_used = async || {
        more.set(more.get() + 1);
        let code = format!("more-{}", more.get());
        bench.world.mint(&format!("owner-of-{code}"), &code).await;
        assert!(land(app, &code).await);
        redis.size().await > 0
    };
    bench.world.until("the server is used", is_used).await;
    more.get()
}

/// Waits until the counter reaches this value.
async fn until(come: &Cell<usize>, count: usize) {
    while come.get() < count {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn not_every_request_waits_for_a_server_that_stops_answering() {
    let name = "not_every_request_waits_for_a_server_that_stops_answering";
    let Some(redis) = Redis::start(name, &[]).await else { return };
    let bench = Bench::start().await;
    let codes = bench.mint(60).await;
    let app = bench.function(&redis.url(), "1000");
    until_used(&bench, &app, &redis).await;
    redis.ask::<()>(&["CLIENT", "PAUSE", "600000", "ALL"]).await;
    bench.counted();
    land_all(&app, &codes).await;
    let counted = bench.counted();
    println!("stopped answering: {counted:?}");
    // Some requests fail on the server, but not each one in turn.
    assert!((1..60).contains(&counted["failures"]) && counted["misses"] == 60, "{counted:?}");
    bench.end().await;
}

/// The answer that a client needs to connect: it sends two commands about itself first.
const GREETING: &[u8] = b"+OK\r\n+OK\r\n";

/// A listener that is not Redis. It answers the first message with the greeting, and each later one with `answer`.
async fn stand_in(greeting: &'static [u8], answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut asked, mut said) = ([0; 4096], greeting);
                while stream.read(&mut asked).await.is_ok_and(|length| length > 0) {
                    if stream.write_all(said).await.is_err() {
                        return;
                    }
                    said = answer;
                }
            });
        }
    });
    url
}

/// Landing and sign-up are served from the table, and the metrics show it.
async fn requests_are_served_from_the_table(bench: &Bench, codes: &[String], url: &str, what: &str) {
    let app = bench.function(url, "10");
    for code in codes {
        assert!(land(&app, code).await, "{what}: {code}: {:#?}", bench.log.ours());
    }
    let referee = format!("referee-{}", what.bytes().map(|byte| format!("{byte:x}")).collect::<String>());
    assert_eq!(sign_up(&app, &referee, &codes[0]).await, (201, format!("owner-of-{}", codes[0])), "{what}");
    let counted = bench.counted();
    println!("{what:?}: {counted:?}");
    assert!(counted["failures"] > 0 && !counted.contains_key("server_hits"), "{what}: {counted:?}");
    assert_eq!(counted["misses"], codes.len() as u64, "{what}: {counted:?}");
}

#[tokio::test]
async fn a_server_that_is_down_or_silent_fails_no_request() {
    let bench = Bench::start().await;
    let codes = bench.mint(20).await;
    requests_are_served_from_the_table(&bench, &codes, &format!("redis://127.0.0.1:{}", free_port()), "down").await;
    requests_are_served_from_the_table(&bench, &codes, &stand_in(b"", b"").await, "silent").await;
    requests_are_served_from_the_table(&bench, &codes, &stand_in(GREETING, b"").await, "silent once connected").await;
    bench.end().await;
}

#[tokio::test]
async fn a_server_with_invalid_answers_fails_no_request() {
    let bench = Bench::start().await;
    let codes = bench.mint(20).await;
    for rubbish in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"+OK\r\n+OK\r\n$5\r\nhello\r\n",
        b"+OK\r\n",
        b":7\r\n",
        b"$1000000000\r\n{",
        b"*1000000000\r\n:1\r\n",
        b"*-7\r\n$x\r\n",
        b"-WRONGTYPE that is something else\r\n",
        b"-NOAUTH Authentication required.\r\n",
    ] {
        let what = String::from_utf8_lossy(rubbish);
        requests_are_served_from_the_table(&bench, &codes, &stand_in(rubbish, rubbish).await, &what).await;
        requests_are_served_from_the_table(
            &bench,
            &codes,
            &stand_in(GREETING, rubbish).await,
            &format!("connected, {what}"),
        )
        .await;
    }
    bench.end().await;
}

#[tokio::test]
async fn a_full_server_fails_no_request() {
    let full = &["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"];
    let Some(redis) = Redis::start("a_full_server_fails_no_request", full).await else { return };
    let filler = "x".repeat(10_000);
    let mut size = 0;
    while redis.try_ask::<()>(&["SET", &format!("filler-{size}"), &filler]).await.is_ok() {
        size += 1;
    }
    let bench = Bench::start().await;
    let codes = bench.mint(20).await;
    let app = bench.function(&redis.url(), AMPLE);
    land_all(&app, &codes).await;
    // It is asked each time: a full server can still answer lookups.
    assert_eq!(bench.counted(), counts([("failures", 20), ("misses", 20)]));
    assert_eq!(redis.size().await, size);
    bench.end().await;
}

#[tokio::test]
async fn an_invalid_value_is_ignored_and_replaced() {
    let Some(redis) = Redis::start("an_invalid_value_is_ignored_and_replaced", &[]).await else { return };
    let bench = Bench::start().await;
    bench.mint(2).await;
    land_all(&bench.function(&redis.url(), AMPLE), &["code-0".to_owned(), "code-1".to_owned()]).await;
    bench.counted();
    let (right, other) = (kept(&redis, "C0DE0").await, kept(&redis, "C0DE1").await.to_string());
    let (key, long) = (key("C0DE0"), "x".repeat(3_000_000));
    for garbage in ["{", "null", "[1,2]", "\u{1F381}", &other, &right.to_string()[1..], &long] {
        redis.ask::<()>(&["SET", &key, garbage]).await;
        assert!(land(&bench.function(&redis.url(), AMPLE), "code-0").await, "{garbage:.99}");
        assert_eq!(bench.counted(), counts([("failures", 1), ("misses", 1)]), "{garbage:.99}");
        assert_eq!(kept(&redis, "C0DE0").await, right, "{garbage:.99}");
    }
    redis.ask::<()>(&["DEL", &key]).await;
    redis.ask::<u64>(&["LPUSH", &key, "a", "b"]).await;
    assert!(land(&bench.function(&redis.url(), AMPLE), "code-0").await);
    assert_eq!(bench.counted(), counts([("failures", 1), ("misses", 1)]));
    assert_eq!(kept(&redis, "C0DE0").await, right);
    bench.end().await;
}

/// The server is not trusted: no decision depends on its values.
#[tokio::test]
async fn a_forged_owner_gets_nothing() {
    let Some(redis) = Redis::start("a_forged_owner_gets_nothing", &[]).await else { return };
    let bench = Bench::start().await;
    bench.mint(1).await;
    bench.world.publish("account.flagged", json!({"user_id": "mallory", "reason": "a test"})).await;
    bench.world.until_idle().await;
    land_all(&bench.function(&redis.url(), AMPLE), &["code-0".to_owned()]).await;
    let right = kept(&redis, "C0DE0").await;
    for (number, (field, forged)) in
        [("owner", "mallory"), ("program", "other"), ("expires_at", "2001-01-01T00:00:00.000Z")].into_iter().enumerate()
    {
        let mut value = right.clone();
        value[field] = json!(forged);
        redis.ask::<()>(&["SET", &key("C0DE0"), &value.to_string()]).await;
        let app = bench.function(&redis.url(), AMPLE);
        let referee = format!("bob-{number}");
        assert_eq!(sign_up(&app, &referee, "code-0").await, (201, "owner-of-code-0".to_owned()), "{field}");
        // The forged value was deleted.
        assert_eq!(redis.size().await, 0, "{field}");
        assert!(land(&app, "code-0").await, "{field}");
        assert_eq!(kept(&redis, "C0DE0").await, right, "{field}");
    }
    bench.end().await;
}

#[tokio::test]
async fn a_changed_expiry_counts_at_once_in_decisions() {
    let Some(redis) = Redis::start("a_changed_expiry_counts_at_once_in_decisions", &[]).await else { return };
    let bench = Bench::start().await;
    bench.mint(1).await;
    let (app, admin) = (bench.function(&redis.url(), AMPLE), bench.admin(&redis.url()));
    assert!(land(&app, "code-0").await);
    let ended = change(&admin, "code-0", json!({"disabled": true})).await.with(200);
    assert!(ended["expires_at"].is_string(), "{ended}");
    assert_eq!(ended, change(&admin, "c-0-D-E-0", json!({"disabled": true})).await.with(200), "twice is once");
    assert_eq!(kept(&redis, "C0DE0").await["expires_at"], ended["expires_at"]);

    // Memory can lag on the landing page. A sign-up is refused, and evicts the code from memory.
    assert!(land(&app, "code-0").await);
    assert_eq!(sign_up(&app, "bob", "code-0").await, (410, "code_expired".to_owned()));
    assert!(!land(&app, "code-0").await);
    bench.reads();
    assert!(!land(&bench.function(&redis.url(), AMPLE), "code-0").await);
    change(&admin, "code-0", json!({"expires_at": null})).await.with(200);
    assert!(land(&bench.function(&redis.url(), AMPLE), "code-0").await);
    assert_eq!(sign_up(&app, "bob", "code-0").await, (201, "owner-of-code-0".to_owned()));
    bench.end().await;
}

/// A lookup that read the table before the change reaches the server after it.
#[tokio::test]
async fn a_value_read_before_a_change_does_not_replace_it() {
    let Some(redis) = Redis::start("a_value_read_before_a_change_does_not_replace_it", &[]).await else { return };
    let bench = Bench::start().await;
    bench.mint(1).await;
    let (app, admin) = (bench.function(&redis.url(), AMPLE), bench.admin(&redis.url()));
    bench.wire.break_next("GetItem", [Fault::AnswerSlow(Duration::from_millis(700))]);
    let reader = land(&app, "code-0");
    let operator = async {
        bench.world.until("the table is read", async || bench.reads() > 0).await;
        change(&admin, "code-0", json!({"disabled": true})).await.with(200)
    };
    let (_, ended) = tokio::join!(reader, operator);
    assert_eq!(kept(&redis, "C0DE0").await["expires_at"], ended["expires_at"]);
    bench.end().await;
}

#[tokio::test]
async fn an_operator_learns_that_the_server_was_not_updated() {
    let Some(mut redis) = Redis::start("an_operator_learns_that_the_server_was_not_updated", &[]).await else { return };
    let bench = Bench::start().await;
    bench.mint(1).await;
    let admin = bench.admin(&redis.url());
    redis.kill();
    change(&admin, "code-0", json!({"disabled": true})).await.refused(503, "unavailable");
    // The change takes effect nevertheless.
    bench.world.attribute("bob", "code-0").await.refused(410, "code_expired");
    redis.restart().await;
    let update = async || change(&admin, "code-0", json!({"disabled": true})).await.status == 200;
    bench.world.until("the server is updated", update).await;
    let ended = bench.world.get("/v1/codes/code-0").await.with(200)["expires_at"].clone();
    assert!(ended.is_string());
    assert_eq!(kept(&redis, "C0DE0").await["expires_at"], ended);
    bench.end().await;
}

#[tokio::test]
async fn only_a_valid_change_of_the_expiry_is_accepted() {
    let world = World::start().await;
    world.mint("ada", "ada-invites").await;
    let change = async |code: &str, body: Value| {
        world.send(Method::PATCH, &format!("/admin/codes/{code}"), &[], body.to_string()).await
    };
    let before = world.contents().await;
    for wrong in [
        json!({}),
        json!({"disabled": false}),
        json!({"disabled": null}),
        json!({"disabled": "true"}),
        json!({"disabled": true, "expires_at": null}),
        json!({"disabled": true, "expires_at": "2099-12-31T00:00:00Z"}),
        json!({"expires_at": "soon"}),
        json!({"expires_at": 7}),
        json!([true]),
    ] {
        change("ada-invites", wrong).await.refused(400, "invalid_request");
    }
    change("ab", json!({"disabled": true})).await.refused(400, "invalid_request");
    for wish in [json!({"disabled": true}), json!({"expires_at": null}), json!({"expires_at": "2099-12-31T00:00:00Z"})]
    {
        change("unknown", wish).await.refused(404, "code_not_found");
    }
    assert_eq!(world.contents().await, before);

    let end = async |body: Value| change("ADA-INV1TES", body).await.with(200)["expires_at"].clone();
    assert_eq!(end(json!({"expires_at": "2099-12-31T01:00:00+01:00"})).await, "2099-12-31T00:00:00.000Z");
    let disabled = end(json!({"disabled": true})).await;
    assert!(disabled.as_str().unwrap() < "2099", "{disabled}");
    assert_eq!(end(json!({"expires_at": null})).await, Value::Null);
    assert_eq!(world.contents().await, before, "as it was minted");
    let past = end(json!({"expires_at": "2001-01-01T00:00:00Z"})).await;
    assert_eq!(end(json!({"disabled": true})).await, past, "it had already expired");
    world.end().await;
}

/// Starts a TLS proxy in front of a server.
async fn over_tls(redis: &Redis, config: ServerConfig) -> String {
    let (acceptor, plain) = (TlsAcceptor::from(Arc::new(config)), redis.address());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rediss://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                if let (Ok(mut outer), Ok(mut inner)) = (acceptor.accept(stream).await, TcpStream::connect(plain).await)
                {
                    drop(tokio::io::copy_bidirectional(&mut outer, &mut inner).await);
                }
            });
        }
    });
    url
}

/// Runs in its own process, because the trusted certificates are read from the environment.
#[tokio::test]
async fn over_tls_only_a_server_with_a_trusted_certificate_is_asked() {
    let Some(redis) = Redis::start("over_tls_only_a_server_with_a_trusted_certificate_is_asked", &[]).await else {
        return;
    };
    let here = || SanType::IpAddress(IpAddr::from([127, 0, 0, 1]));
    let ((trusted, right), (_, unknown)) = (certified(here()), certified(here()));
    let data = Folder::new();
    let authorities = data.path().join("authorities.pem");
    std::fs::write(&authorities, trusted).unwrap();
    for (name, config, kept) in [("unknown", unknown, 0), ("right", right, 1)] {
        let url = over_tls(&redis, config).await;
        let settings =
            [("SSL_CERT_FILE", authorities.to_str().unwrap()), ("CACHE_URL", &url), ("CACHE_TIMEOUT_MS", AMPLE)];
        let running = Running::start(&data.path().join(name), &settings);
        let body = json!({"code": "alice"});
        assert_eq!(running.send(Method::PUT, "/v1/users/alice/code", None, body).await.0, 201);
        let (status, _, cookie) = running.send(Method::GET, "/r/alice", None, Value::Null).await;
        assert_eq!((status, cookie.starts_with("referral=")), (302, true), "{name}");
        assert_eq!(redis.size().await, kept, "{name}");
    }
}

/// A rotation of the password while a function lives: with the values that are valid at each step, it can always open a new
/// connection.
#[tokio::test]
async fn a_rotation_of_the_password_loses_no_connection() {
    const ARN: &str = "CACHE_PASSWORD_SECRET_ARN";
    let test = "a_rotation_of_the_password_loses_no_connection";
    let Some(redis) = Redis::start_locked(test, &["--requirepass", "new"], "new").await else { return };
    redis.ask::<()>(&["ACL", "SETUSER", "default", ">old"]).await;
    let bench = Bench::start().await;
    let codes = bench.mint(200).await;
    let env = bench.env(&redis.url(), AMPLE).with(ARN, "an ARN");
    let hold = |current: &str, other: &str| env.hold_secret(ARN, Values::new(current, [other.to_owned()])).unwrap();
    hold("old", "old");
    let app = attribution::App::new(&env, bench.dynamodb(&bench.wire)).unwrap();
    let codes = RefCell::new(codes.into_iter());
    // A code that this instance has not seen. The server stores it if the function can reach it.
    let is_stored = async || {
        sleep(Duration::from_millis(300)).await;
        let before = redis.size().await;
        let code = codes.borrow_mut().next().unwrap();
        assert!(land(&app, &code).await);
        redis.size().await > before
    };
    let reconnect = async || redis.ask::<u64>(&["CLIENT", "KILL", "TYPE", "NORMAL"]).await;
    assert!(is_stored().await);
    for (step, current, other, rule) in [
        ("the server does not know the current password", "later", "old", ">old"),
        ("the server accepts both", "new", "old", ">old"),
        ("the server accepts only the current password", "new", "old", "<old"),
    ] {
        hold(current, other);
        redis.ask::<()>(&["ACL", "SETUSER", "default", rule]).await;
        assert!(reconnect().await > 0, "{step}");
        bench.world.until(step, is_stored).await;
    }
    bench.log.take();
    hold("old", "old");
    assert!(reconnect().await > 0);
    bench.world.until("the server refuses the former one", async || !is_stored().await && has_failed(&bench)).await;
    bench.end().await;
}

fn has_failed(bench: &Bench) -> bool {
    bench.log.take().iter().any(|line| line["trouble"].as_str().is_some_and(|text| text.contains("wrong password")))
}

/// What the log says about a server that cannot be used, for each kind of fault.
#[tokio::test]
async fn the_log_names_the_kind_of_a_connection_error() {
    const SETTINGS: &[&str] = &["--requirepass", "right", "--user", "app", "on", ">right", "~*", "+@all"];
    let test = "the_log_names_the_kind_of_a_connection_error";
    let (Some(redis), Some(open)) = (Redis::start_locked(test, SETTINGS, "right").await, Redis::start(test, &[]).await)
    else {
        return;
    };
    let bench = Bench::start().await;
    bench.mint(1).await;
    let (locked, open, closed) = (redis.address(), open.address(), free_port());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, certificate) = certified(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
    let untrusted = over_tls(&redis, certificate).await;
    for (url, kind) in [
        (format!("redis://:right@{locked}"), ""),
        (format!("redis://app:right@{locked}"), ""),
        (format!("redis://:wrong@{locked}"), "wrong password"),
        (format!("redis://app:wrong@{locked}"), "wrong user or password"),
        (format!("redis://other:right@{locked}"), "wrong user or password"),
        (format!("redis://{locked}"), "NOAUTH"),
        (format!("redis://{open}/999999"), "missing database"),
        ("redis://no-such-host.invalid".to_owned(), "unknown host"),
        (format!("redis://127.0.0.1:{closed}"), "connection refused"),
        (format!("redis://:right@{}", silent.local_addr().unwrap()), "timeout"),
        (untrusted, "TLS"),
    ] {
        bench.log.take();
        assert!(land(&bench.function(&url, AMPLE), "code-0").await, "{url}");
        let lines = bench.log.take();
        let failed = lines.iter().find(|line| line["outcome"] == "cache_server_failed");
        let trouble = failed.map(|line| line["trouble"].as_str().unwrap().to_owned()).unwrap_or_default();
        assert!(trouble.contains(kind) && trouble.is_empty() == kind.is_empty(), "{url}: {trouble:?}");
        assert!(!trouble.contains("right") && !trouble.contains("127.0.0.1"), "{trouble}");
    }
    // A lookup whose time is over before the answer: the line comes later, without figures, because the failed lookup
    // has been counted.
    let app = bench.function(&format!("redis://:wrong@{locked}"), "1");
    for _ in 0..200 {
        ask(&app, "GET", "/r/code-0", Value::Null).await;
        sleep(Duration::from_millis(15)).await;
        let lines = bench.log.take();
        if lines.iter().any(|line| line["trouble"].as_str().is_some_and(|text| text.contains("wrong password"))) {
            return bench.end().await;
        }
    }
    panic!("the kind was never logged");
}
