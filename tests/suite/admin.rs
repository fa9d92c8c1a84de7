//! The operators' API: lists undelivered rewards, sends refused ones again with the same key, and redrives dead letters.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use referrals::{domain::time::Timestamp, runtime::Call};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    metrics::Log,
    world::{self, Answer, Fault, Wire, World},
};

/// More attempts than the functions' clients make.
const ALWAYS: usize = 10;

/// A World in which the referrer gets credit and the referee a coupon, with short retry pauses.
async fn mixed() -> World {
    World::with(|options| {
        options.env = std::mem::take(&mut options.env).with("REFEREE_REWARD_TYPE", "coupon");
        options.pace.first_retry = Duration::from_millis(5);
    })
    .await
}

/// The calls to one stand-in in order of arrival: keys and statuses of the answers.
async fn calls(world: &World, kind: &str) -> Vec<(String, u64)> {
    let calls = world.deliveries().await.into_iter().filter(|call| call["type"] == kind);
    calls.map(|call| (text(&call["reward_id"]), call["status"].as_u64().unwrap())).collect()
}

/// The number of calls with this answer for each key.
async fn tally(world: &World, kind: &str, status: u64) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for (key, _) in calls(world, kind).await.into_iter().filter(|(_, answer)| *answer == status) {
        *tally.entry(key).or_default() += 1;
    }
    tally
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn now() -> Timestamp {
    Timestamp::from(chrono::Utc::now())
}

/// Refers and rewards all `referees`, and waits until all subsystems have answered.
async fn reward(world: &World, referees: &[String]) {
    for referee in referees {
        world.refer("alice", referee).await;
        world.order(referee, &format!("o-{referee}")).await;
    }
    for referee in referees {
        world.until_status(referee, "rewarded").await;
    }
    world.until_idle().await;
}

fn named(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// The ids of their rewards on one side.
fn keys(referees: &[String], side: &str) -> BTreeSet<String> {
    referees.iter().map(|referee| format!("{referee}:{side}")).collect()
}

async fn script(world: &World, kind: &str, status: u16, times: usize) {
    world.script(kind, json!({"answers": vec![status; times]})).await;
}

async fn list(world: &World, query: &str) -> Value {
    world.get(&format!("/admin/rewards{query}")).await.with(200)
}

async fn listed(world: &World, query: &str) -> Vec<String> {
    list(world, query).await["items"].as_array().unwrap().iter().map(|item| text(&item["reward_id"])).collect()
}

async fn resend(world: &World, reward: &str) -> Answer {
    world.send(Method::POST, &format!("/admin/rewards/{reward}/resend"), &[], "").await
}

async fn until_reward(world: &World, reward: &str, status: &str) {
    let (referee, side) = reward.split_once(':').unwrap();
    let side = usize::from(side == "referee");
    let holds = async || world.referral(referee).await["rewards"][side]["status"] == status;
    world.until(&format!("{reward} is {status}"), holds).await;
    world.until_idle().await;
}

/// Repeats the resend call until the answer has no cursor. Returns how many rewards each call sent.
async fn resend_all(world: &World, body: &Value) -> Vec<u64> {
    let (mut sent, mut body) = (Vec::new(), body.clone());
    loop {
        let answer = world.post("/admin/rewards/resend", body.clone()).await.with(200);
        sent.push(answer["resent"].as_u64().unwrap());
        assert!(sent.len() < 60, "the resend does not end: {sent:?}");
        world.until_idle().await;
        match answer["next_cursor"].clone() {
            Value::Null => return sent,
            cursor => body["cursor"] = cursor,
        }
    }
}

/// The function alone, and the proxy between it and all other services.
pub(crate) fn function(world: &World) -> (admin::App, Wire) {
    let (wire, env) = (Wire::default(), world.service().env());
    let (service, table) = (world.service().url(), world.service().dynamodb_url());
    let rest = world::aws(service, wire.connector());
    let app = admin::App::new(
        env,
        aws_sdk_dynamodb::Client::new(&world::aws(table, wire.connector())),
        aws_sdk_eventbridge::Client::new(&rest),
        aws_sdk_sqs::Client::new(&rest),
    );
    (app.unwrap(), wire)
}

/// Sends one of the files in `events/` to the function.
async fn send_file(app: &admin::App, name: &str, call: Call) -> (u16, Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events").join(format!("admin-{name}.json"));
    let answer = answer(app, &fs::read_to_string(path).unwrap(), call).await;
    (answer.status.as_u16(), answer.body)
}

/// Sends a request in the form in which the gateway passes it to the function.
pub(crate) async fn ask(app: &admin::App, method: &str, path: &str, body: &str) -> Answer {
    answer(app, &event(method, path, body), call()).await
}

fn event(method: &str, path: &str, body: &str) -> String {
    json!({
        "version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {"host": "example.com"}, "body": body,
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"}, "isBase64Encoded": false,
    })
    .to_string()
}

async fn answer(app: &admin::App, event: &str, call: Call) -> Answer {
    let answer = admin::handle(app, lambda_http::request::from_str(event).unwrap(), call).await;
    let (parts, body) = answer.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: serde_json::from_slice(&body).unwrap() }
}

fn call() -> Call {
    Call::begin(Duration::from_secs(29)).unwrap()
}

#[tokio::test]
async fn a_refused_reward_is_listed_with_the_answer_and_resent_with_its_key() {
    let world = mixed().await;
    script(&world, "credit", 400, 1).await;
    reward(&world, &["bob".to_owned()]).await;
    let stored = world.stored("bob").await["rewards"]["referrer"].clone();
    let shown = world.referral("bob").await["rewards"][0].clone();
    let mut expected = shown.clone();
    expected["status"] = json!("failed");
    expected["currency_exponent"] = json!(2);
    expected["referee_id"] = json!("bob");
    expected["failed_at"] = stored["failed_at"].clone();
    expected["failure"] = json!("400: {\"received\":true}");
    assert!(expected["failed_at"].is_string(), "{stored:#}");
    assert_eq!(list(&world, "").await, json!({"items": [expected], "next_cursor": null}));

    let answer = resend(&world, "bob%3Areferrer").await.with(202);
    expected["status"] = json!("issued");
    (expected["failed_at"], expected["failure"]) = (Value::Null, Value::Null);
    assert_eq!(answer, expected);
    until_reward(&world, "bob:referrer", "delivered").await;
    assert_eq!(calls(&world, "credit").await, [("bob:referrer".to_owned(), 400), ("bob:referrer".to_owned(), 200)]);
    let stored = world.stored("bob").await;
    assert!(stored.get("work").is_none() && stored.get("due_at").is_none(), "{stored:#}");
    assert_eq!(list(&world, "").await, json!({"items": [], "next_cursor": null}));
    assert_eq!(list(&world, "?status=issued").await["items"], json!([]));
    assert_eq!(world.announced("reward.delivered").await, ["bob:referee:delivered", "bob:referrer:delivered"]);

    // A delivered reward cannot be sent again, and other ids do not exist.
    world.refer("alice", "carol").await;
    world.until_idle().await;
    let before = world.contents().await;
    for delivered in ["bob:referrer", "bob:referee"] {
        resend(&world, delivered).await.refused(409, "already_delivered");
    }
    for unknown in ["carol:referrer", "unknown:referee", "alice:referrer"] {
        resend(&world, unknown).await.refused(404, "reward_not_found");
    }
    for broken in ["bob", "bob:", "bob:friend", ":referrer", "bob%20x:referrer", "bob:referrer:referrer", "%23"] {
        resend(&world, broken).await.refused(400, "invalid_request");
    }
    world.until_idle().await;
    assert_eq!(world.contents().await, before);
    assert_eq!(calls(&world, "credit").await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn a_second_refusal_is_a_second_failure() {
    let world = mixed().await;
    script(&world, "credit", 422, 2).await;
    reward(&world, &["bob".to_owned()]).await;
    let first = text(&list(&world, "").await["items"][0]["failed_at"]);
    sleep(Duration::from_millis(5)).await;
    resend(&world, "bob:referrer").await.with(202);
    let answers = async || calls(&world, "credit").await.len() == 2;
    world.until("it was refused again", answers).await;
    until_reward(&world, "bob:referrer", "failed").await;
    let again = list(&world, "").await["items"][0].clone();
    assert!(text(&again["failed_at"]) > first, "{again}");
    assert!(text(&again["failure"]).starts_with("422: "), "{again}");
    assert!(world.stored("bob").await["work"].as_str().unwrap().starts_with("parked#"));
    resend(&world, "bob:referrer").await.with(202);
    until_reward(&world, "bob:referrer", "delivered").await;
    assert_eq!(calls(&world, "credit").await.last().unwrap().1, 200);
    world.until_idle().await;
    // Both failures are published, as separate events.
    assert_eq!(world.announced("reward.failed").await, ["bob:referrer:failed", "bob:referrer:failed:1"]);
    world.end().await;
}

/// The write comes before the event. If the bus fails, the sweep publishes the event.
#[tokio::test]
async fn the_sweep_publishes_after_the_grace_what_the_bus_did_not_accept() {
    const GRACE: Duration = Duration::from_secs(2);
    let world = World::with_env([("GRACE_SECONDS", "2"), ("REFERRER_REWARD_TYPE", "coupon")]).await;
    script(&world, "credit", 400, 1).await;
    reward(&world, &["bob".to_owned()]).await;
    let (app, wire) = function(&world);
    wire.break_next("PutEvents", [Fault::Internal; ALWAYS]);
    let call = call();
    let (status, problem) = send_file(&app, "resend", call).await;
    assert_eq!((status, &problem["reason"]), (503, &json!("unavailable")), "{problem}");
    assert_eq!(world.referral("bob").await["rewards"][1]["status"], "issued");
    let stored = world.stored("bob").await;
    assert!(text(&stored["work"]).starts_with("due#"), "{stored:#}");
    assert_eq!(stored["due_at"], call.now.plus(GRACE).to_string());
    assert_eq!(calls(&world, "credit").await.len(), 1);
    while now() <= call.now.plus(GRACE) {
        sleep(Duration::from_millis(20)).await;
    }
    world.service().sweep_now().await.unwrap();
    until_reward(&world, "bob:referee", "delivered").await;
    assert_eq!(tally(&world, "credit", 200).await, [("bob:referee".to_owned(), 1)].into());
    world.end().await;
}

#[tokio::test]
async fn undelivered_rewards_are_listed_by_status_and_filtered() {
    let mut world = mixed().await;
    // Two credits are refused, and one coupon is not delivered.
    script(&world, "credit", 400, 1).await;
    reward(&world, &["bob".to_owned()]).await;
    sleep(Duration::from_millis(5)).await;
    let between = now();
    script(&world, "credit", 404, 1).await;
    script(&world, "coupon", 503, 8).await;
    reward(&world, &["carol".to_owned()]).await;

    assert_eq!(listed(&world, "?status=issued").await, ["carol:referee"]);
    assert_eq!(
        BTreeSet::from_iter(listed(&world, "?status=failed").await),
        keys(&["bob".into(), "carol".into()], "referrer")
    );
    assert_eq!(listed(&world, "?status=issued&type=coupon").await, ["carol:referee"]);
    assert_eq!(listed(&world, "?type=credit").await.len(), 2);
    for nothing in ["?status=issued&type=credit", "?type=coupon", "?type=points"] {
        assert_eq!(list(&world, nothing).await, json!({"items": [], "next_cursor": null}), "{nothing}");
    }
    // The filter uses the time of the refusal for failed rewards and the time of the issue for others, both inclusive.
    let failed_at = text(&world.stored("carol").await["rewards"]["referrer"]["failed_at"]);
    let issued_at = text(&world.referral("carol").await["rewards"][1]["issued_at"]);
    let after = |moment: &str| Timestamp::try_from(moment.to_owned()).unwrap().plus(Duration::from_millis(1));
    for (query, expected) in [
        (format!("?since={between}"), vec!["carol:referrer"]),
        (format!("?since={failed_at}"), vec!["carol:referrer"]),
        (format!("?since={}", after(&failed_at)), vec![]),
        (format!("?status=issued&since={issued_at}"), vec!["carol:referee"]),
        (format!("?status=issued&since={}", after(&issued_at)), vec![]),
    ] {
        assert_eq!(listed(&world, &query).await, expected, "{query}");
    }
    for wrong in
        ["status=delivered", "type=gold", "since=yesterday", "limit=0", "limit=101", "limit=x", "cursor=", "cursor=!"]
    {
        world.get(&format!("/admin/rewards?{wrong}")).await.refused(400, "invalid_request");
    }

    // An undelivered reward can be sent again too.
    let answer = resend(&world, "carol:referee").await.with(202);
    assert_eq!((&answer["status"], &answer["failed_at"]), (&json!("issued"), &Value::Null));
    until_reward(&world, "carol:referee", "delivered").await;
    assert_eq!(listed(&world, "?status=issued").await, [""; 0]);
    // Its first message is in the dead-letter queue.
    world.expect_unprocessed(1);
    world.end().await;
}

/// A converted referral on hold is in the same index partition but has no rewards.
#[tokio::test]
async fn referrals_on_hold_are_not_listed() {
    let world = World::with_env([("HOLD_SECONDS", "86400")]).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    for status in ["issued", "failed"] {
        let page = list(&world, &format!("?status={status}&limit=1")).await;
        assert_eq!(page, json!({"items": [], "next_cursor": null}));
    }
    resend(&world, "bob:referrer").await.refused(404, "reward_not_found");
    world.end().await;
}

#[tokio::test]
async fn pages_list_each_reward_once_and_invalid_cursors_are_rejected() {
    let world = mixed().await;
    let referees = named("referee", 30);
    script(&world, "credit", 400, 30).await;
    reward(&world, &referees).await;
    for limit in [4, 1, 100] {
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let page = list(&world, &format!("?limit={limit}{cursor}")).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit, "{page:#}");
            found.extend(items.iter().map(|item| text(&item["reward_id"])));
            pages += 1;
            match page["next_cursor"].as_str() {
                None => break,
                Some(next) => cursor = format!("&cursor={next}"),
            }
        }
        assert!(pages >= 30_usize.div_ceil(limit), "{pages} pages of {limit}");
        assert_eq!(found.len(), 30, "{found:?}");
        assert_eq!(BTreeSet::from_iter(found), keys(&referees, "referrer"));
    }

    let cursor = text(&list(&world, "?limit=4").await["next_cursor"]);
    let other = text(&world.get("/v1/users/alice/referrals?limit=1").await.with(200)["next_cursor"]);
    let forged = |place: &str| URL_SAFE_NO_PAD.encode(place);
    let place = String::from_utf8(URL_SAFE_NO_PAD.decode(&cursor).unwrap()).unwrap();
    for (query, cursor) in [
        ("?status=issued", cursor.clone()),
        ("?", other),
        ("?", forged("")),
        ("?", forged("bob")),
        ("?", forged(&format!("{place}#bob"))),
        ("?", forged(&place.replace('p', "q"))),
        ("?", forged(&format!("{}#p20", now()))),
        ("?", cursor[1..].to_owned()),
    ] {
        world.get(&format!("/admin/rewards{query}&cursor={cursor}")).await.refused(400, "invalid_request");
        let status = if query == "?" { "failed" } else { "issued" };
        let body = json!({"type": "credit", "since": now(), "status": status, "cursor": cursor});
        world.post("/admin/rewards/resend", body).await.refused(400, "invalid_request");
    }
    assert_eq!(calls(&world, "credit").await.len(), 30);
    world.end().await;
}

#[tokio::test]
async fn all_rewards_of_a_type_since_a_time_are_resent_once_at_the_given_rate() {
    let world = mixed().await;
    let (early, late) = (named("early", 3), named("late", 10));
    script(&world, "credit", 400, 13).await;
    script(&world, "coupon", 410, 13).await;
    reward(&world, &early).await;
    sleep(Duration::from_millis(5)).await;
    let since = now();
    reward(&world, &late).await;
    assert_eq!(listed(&world, "?limit=100").await.len(), 26);

    let began = Instant::now();
    let body = json!({"type": "credit", "since": since, "per_second": 20});
    let answer = world.post("/admin/rewards/resend", body).await.with(200);
    assert_eq!(answer, json!({"resent": 10, "next_cursor": null}));
    assert!(began.elapsed() >= Duration::from_millis(9 * 1000 / 20), "{:?}", began.elapsed());
    world.until_idle().await;
    let sent: BTreeMap<_, _> = keys(&late, "referrer").into_iter().map(|key| (key, 1)).collect();
    assert_eq!(tally(&world, "credit", 200).await, sent);
    assert_eq!(tally(&world, "coupon", 200).await, BTreeMap::new());
    assert_eq!(BTreeSet::from_iter(listed(&world, "?type=credit").await), keys(&early, "referrer"));
    assert_eq!(listed(&world, "?type=coupon").await.len(), 13);

    // The coupons are resent in several calls. No call repeats what an earlier one sent.
    let body = json!({"type": "coupon", "since": "2026-01-01T01:00:00+01:00", "limit": 4, "per_second": 100});
    let sent = resend_all(&world, &body).await;
    assert!(sent.iter().all(|count| *count <= 4) && sent.iter().sum::<u64>() == 13, "{sent:?}");
    let all: Vec<_> = early.iter().chain(&late).cloned().collect();
    let expected: BTreeMap<_, _> = keys(&all, "referee").into_iter().map(|key| (key, 1)).collect();
    assert_eq!(tally(&world, "coupon", 200).await, expected);
    // `null` is the same as a missing field.
    let body = json!({"type": "credit", "since": "1970-01-01T00:00:00Z", "status": null, "limit": null,
        "per_second": null, "cursor": null});
    assert_eq!(world.post("/admin/rewards/resend", body).await.with(200)["resent"], 3);
    world.until_idle().await;
    assert_eq!(list(&world, "").await["items"], json!([]));
    world.end().await;
}

/// Both rewards of a referral have the requested type.
#[tokio::test]
async fn a_referral_with_two_rewards_counts_once_for_the_limit() {
    let world = World::start().await;
    let referees = named("referee", 5);
    script(&world, "credit", 400, 10).await;
    reward(&world, &referees).await;
    let page = list(&world, "?limit=2").await;
    assert_eq!((page["items"].as_array().unwrap().len(), page["next_cursor"].is_string()), (4, true), "{page:#}");
    let sent = resend_all(&world, &json!({"type": "credit", "since": "1970-01-01T00:00:00Z", "limit": 2.0})).await;
    assert!(sent.iter().all(|count| *count <= 4) && sent.iter().sum::<u64>() == 10, "{sent:?}");
    let tally = tally(&world, "credit", 200).await;
    assert!(tally.len() == 10 && tally.values().all(|times| *times == 1), "{tally:?}");
    world.end().await;
}

#[tokio::test]
async fn a_scan_does_not_resend_what_is_refused_again() {
    let world = mixed().await;
    let referees = named("referee", 6);
    script(&world, "credit", 400, 1000).await;
    reward(&world, &referees).await;
    let body = json!({"type": "credit", "since": "1970-01-01T00:00:00Z", "limit": 1, "per_second": 100});
    assert_eq!(resend_all(&world, &body).await.iter().sum::<u64>(), 6);
    let refused: BTreeMap<_, _> = keys(&referees, "referrer").into_iter().map(|key| (key, 2)).collect();
    assert_eq!(tally(&world, "credit", 400).await, refused);
    // A new scan finds it again.
    world.script("credit", json!({})).await;
    assert_eq!(resend_all(&world, &body).await.iter().sum::<u64>(), 6);
    assert_eq!(list(&world, "").await["items"], json!([]));
    world.end().await;
}

/// They stay undelivered and move to a later place in the index, which the scan has not reached yet.
#[tokio::test]
async fn one_scan_resends_an_undelivered_reward_once() {
    let mut world = mixed().await;
    let referees = named("referee", 6);
    script(&world, "credit", 500, 1000).await;
    reward(&world, &referees).await;
    assert_eq!(listed(&world, "?status=issued").await.len(), 6);
    let body = json!({
        "type": "credit", "status": "issued", "since": "1970-01-01T00:00:00Z", "limit": 1, "per_second": 100,
    });
    assert_eq!(resend_all(&world, &body).await.iter().sum::<u64>(), 6);
    // The queue delivers a message eight times.
    let offered: BTreeMap<_, _> = keys(&referees, "referrer").into_iter().map(|key| (key, 16)).collect();
    assert_eq!(tally(&world, "credit", 500).await, offered);
    world.script("credit", json!({})).await;
    assert_eq!(resend_all(&world, &body).await.iter().sum::<u64>(), 6);
    assert_eq!(list(&world, "?status=issued").await["items"], json!([]));
    world.expect_unprocessed(12);
    world.end().await;
}

/// With little time left, the scan stops and returns a cursor.
#[tokio::test]
async fn a_scan_that_runs_out_of_time_continues_at_its_cursor() {
    let world = mixed().await;
    let referees = named("referee", 6);
    script(&world, "credit", 400, 6).await;
    reward(&world, &referees).await;
    let (app, _) = function(&world);
    let (mut sent, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let body = json!({"type": "credit", "since": "1970-01-01T00:00:00Z", "per_second": 2, "cursor": cursor});
        // One second of this is reserved.
        let call = Call::begin(Duration::from_millis(2200)).unwrap();
        let answer = answer(&app, &event("POST", "/admin/rewards/resend", &body.to_string()), call).await.with(200);
        sent.push(answer["resent"].as_u64().unwrap_or_else(|| panic!("{answer}")));
        cursor = answer["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert!(sent.len() > 1 && sent.iter().sum::<u64>() == 6, "{sent:?}");
    world.until_idle().await;
    let expected: BTreeMap<_, _> = keys(&referees, "referrer").into_iter().map(|key| (key, 1)).collect();
    assert_eq!(tally(&world, "credit", 200).await, expected);
    world.end().await;
}

#[tokio::test]
async fn invalid_bodies_are_rejected_and_send_nothing() {
    let world = mixed().await;
    script(&world, "credit", 400, 1).await;
    reward(&world, &["bob".to_owned()]).await;
    let before = world.contents().await;
    let with = |name: &str, value: Value| {
        let mut body = json!({"type": "credit", "since": "1970-01-01T00:00:00Z"});
        body[name] = value;
        body.to_string()
    };
    let mut bodies = vec![String::new(), "{".to_owned(), "[]".to_owned(), "null".to_owned(), "{}".to_owned()];
    bodies.extend([json!({"type": "credit"}), json!({"since": "1970-01-01T00:00:00Z"})].map(|body| body.to_string()));
    for (name, values) in [
        ("type", vec![json!("gold"), json!(null), json!(1)]),
        ("since", vec![json!("yesterday"), json!(0), json!(null), json!("2026-01-01")]),
        ("status", vec![json!("delivered"), json!(1)]),
        ("limit", vec![json!(0), json!(1001), json!(-1), json!("10"), json!(1.5)]),
        ("per_second", vec![json!(0), json!(101), json!(-1), json!("10")]),
        ("cursor", vec![json!(""), json!("!"), json!(7)]),
    ] {
        bodies.extend(values.into_iter().map(|value| with(name, value)));
    }
    for body in bodies {
        world.send(Method::POST, "/admin/rewards/resend", &[], body).await.refused(400, "invalid_request");
    }
    let large = vec![b' '; 64 * 1024 + 1];
    world.send(Method::POST, "/admin/rewards/resend", &[], large).await.refused(413, "payload_too_large");
    world.until_idle().await;
    assert_eq!(world.contents().await, before);
    assert_eq!(calls(&world, "credit").await.len(), 1);
    world.end().await;
}

async fn dead_letters(world: &World) -> BTreeMap<String, u64> {
    let queues = world.get("/admin/dead-letters").await.with(200);
    let items = queues["items"].as_array().unwrap().iter();
    items.map(|item| (text(&item["queue"]), item["messages"].as_u64().unwrap())).collect()
}

async fn last_redrive(world: &World, queue: &str) -> Value {
    let queues = world.get("/admin/dead-letters").await.with(200);
    let item = queues["items"].as_array().unwrap().iter().find(|item| item["queue"] == queue);
    item.unwrap()["last_redrive"].clone()
}

#[tokio::test]
async fn dead_letters_are_counted_and_redriven() {
    let world = mixed().await;
    let referees = named("referee", 3);
    script(&world, "credit", 503, 24).await;
    reward(&world, &referees).await;
    let counts = |credit: u64| {
        [("conversion", 0), ("coupon", 0), ("credit", credit), ("points", 0)]
            .map(|(name, count)| (name.to_owned(), count))
            .into()
    };
    assert_eq!(dead_letters(&world).await, counts(3));

    let redrive = |queue: &'static str, body: String| {
        let path = format!("/admin/dead-letters/{queue}/redrive");
        let world = &world;
        async move { world.send(Method::POST, &path, &[], body).await }
    };
    for body in ["{", "[]", r#"{"per_second":0}"#, r#"{"per_second":501}"#, r#"{"per_second":"10"}"#] {
        redrive("credit", body.to_owned()).await.refused(400, "invalid_request");
    }
    for unknown in ["gold", "CreditDeadLetterQueue", "%20", "credit%3A"] {
        redrive(unknown, String::new()).await.refused(404, "queue_not_found");
    }
    assert_eq!(dead_letters(&world).await, counts(3));

    // At one per second, the last message arrives two seconds after the first. Meanwhile another redrive is refused.
    let began = Instant::now();
    let answer = redrive("credit", json!({"per_second": 1}).to_string()).await.with(202);
    assert_eq!(answer, json!({"queue": "credit", "messages": 3}));
    redrive("credit", String::new()).await.refused(409, "under_way");
    let running = last_redrive(&world, "credit").await;
    assert_eq!((&running["status"], &running["to_move"]), (&json!("running"), &json!(3)), "{running}");
    assert!((1..=3).contains(&running["moved"].as_u64().unwrap()), "{running}");
    redrive("coupon", String::new()).await.with(202);
    for referee in &referees {
        until_reward(&world, &format!("{referee}:referrer"), "delivered").await;
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(dead_letters(&world).await, counts(0));
    let delivered: BTreeMap<_, _> = keys(&referees, "referrer").into_iter().map(|key| (key, 1)).collect();
    assert_eq!(tally(&world, "credit", 200).await, delivered);
    // Then the redrive has ended.
    sleep(Duration::from_millis(1_200)).await;
    let ended = last_redrive(&world, "credit").await;
    assert_eq!((&ended["status"], &ended["moved"]), (&json!("completed"), &json!(3)), "{ended}");
    assert_eq!((&ended["started_at"], &ended["failure_reason"]), (&running["started_at"], &Value::Null), "{ended}");
    assert_eq!(last_redrive(&world, "points").await, Value::Null);
    assert_eq!(redrive("credit", "{}".to_owned()).await.with(202), json!({"queue": "credit", "messages": 0}));
    world.end().await;
}

#[tokio::test]
async fn unavailable_queues_are_answered_with_503() {
    let world = mixed().await;
    let (app, wire) = function(&world);
    // The four queues are read concurrently.
    wire.break_next("GetQueueAttributes", [Fault::Internal; 4 * ALWAYS]);
    assert_eq!(send_file(&app, "dead-letters", call()).await.0, 503);
    wire.mend();
    wire.break_next("ListMessageMoveTasks", [Fault::Internal; 4 * ALWAYS]);
    assert_eq!(send_file(&app, "dead-letters", call()).await.0, 503);
    wire.mend();
    wire.break_next("StartMessageMoveTask", [Fault::Internal; ALWAYS]);
    assert_eq!(send_file(&app, "redrive", call()).await.0, 503);
    wire.mend();
    assert_eq!(send_file(&app, "redrive", call()).await, (202, json!({"queue": "credit", "messages": 0})));
    world.end().await;
}

#[tokio::test]
async fn concurrent_resends_use_one_key() {
    let world = mixed().await;
    script(&world, "credit", 400, 1).await;
    reward(&world, &["bob".to_owned()]).await;
    let (first, second, third) = tokio::join!(
        resend(&world, "bob:referrer"),
        resend(&world, "bob:referrer"),
        world.post("/admin/rewards/resend", json!({"type": "credit", "since": "1970-01-01T00:00:00Z"})),
    );
    // A resend after the delivery is answered with 409.
    for answer in [&first, &second] {
        assert!([202, 409].contains(&answer.status.as_u16()), "{answer:?}");
    }
    assert!(first.status == 202 || second.status == 202 || third.body["resent"] == 1, "{first:?} {second:?} {third:?}");
    assert_eq!(third.status, 200, "{third:?}");
    until_reward(&world, "bob:referrer", "delivered").await;
    let calls = calls(&world, "credit").await;
    assert!(calls.len() >= 2 && calls.iter().all(|(key, _)| key == "bob:referrer"), "{calls:?}");
    let stored = world.stored("bob").await;
    assert!(stored.get("work").is_none(), "{stored:#}");
    world.end().await;
}

/// The subsystem has answered, and an operator sends the reward again before the answer is written.
#[tokio::test]
async fn a_resend_during_the_mark_neither_loses_nor_strands_the_reward() {
    for answer in [200_u16, 400] {
        let world = mixed().await;
        world.script("credit", json!({"answers": [answer], "delay_ms": 400})).await;
        world.refer("alice", "bob").await;
        world.order("bob", "o-1").await;
        let asked = async || calls(&world, "credit").await.len() == 1;
        world.until("the subsystem is being called", asked).await;
        until_other_side(&world).await;
        // The next write is the mark. It is delayed.
        world.wire().break_next("UpdateItem", [Fault::Slow(Duration::from_millis(700))]);
        world.script("credit", json!({})).await;
        world.until("the mark is in progress", async || world.wire().is_mended()).await;
        let (app, _) = function(&world);
        ask(&app, "POST", "/admin/rewards/bob:referrer/resend", "").await.with(202);
        world.until_idle().await;
        let status = text(&world.referral("bob").await["rewards"][0]["status"]);
        let listed = listed(&world, "").await;
        match status.as_str() {
            "delivered" => assert!(listed.is_empty(), "{listed:?}"),
            // The refusal was written last. The reward is then failed and needs an operator.
            "failed" if answer == 400 => {
                assert_eq!(listed, ["bob:referrer"]);
                resend(&world, "bob:referrer").await.with(202);
                until_reward(&world, "bob:referrer", "delivered").await;
            }
            other => panic!("{other} after {answer}"),
        }
        let stored = world.stored("bob").await;
        assert!(stored.get("work").is_none() && stored.get("due_at").is_none(), "{stored:#}");
        world.end().await;
    }
}

async fn until_other_side(world: &World) {
    let delivered = async || world.referral("bob").await["rewards"][1]["status"] == "delivered";
    world.until("the coupon is delivered", delivered).await;
}

/// The log names the operator and the route of each change, and contains no user id.
#[tokio::test]
async fn the_log_names_the_operator() {
    let world = mixed().await;
    script(&world, "coupon", 400, 1).await;
    reward(&world, &["bob".to_owned()]).await;
    let (app, _) = function(&world);
    let log = Log::default();
    let logging = log.start("INFO");
    for (name, status) in [("undelivered", 200), ("resend", 202), ("resend-all", 200), ("redrive", 202)] {
        assert_eq!(send_file(&app, name, call()).await.0, status, "{name}");
    }
    drop(logging);
    let lines = log.ours();
    let asked: Vec<_> = lines.iter().filter(|line| line["outcome"] == "admin_request").collect();
    let told: Vec<_> = asked.iter().map(|line| (text(&line["operator"]), text(&line["route"]))).collect();
    let olga = "arn:aws:sts::123456789012:assumed-role/referrals-operator/olga";
    let expected = [
        (olga, "POST /admin/rewards/{reward_id}/resend"),
        ("op-7f3a", "POST /admin/rewards/resend"),
        (olga, "POST /admin/dead-letters/{queue}/redrive"),
    ];
    assert_eq!(told, expected.map(|(who, what)| (who.to_owned(), what.to_owned())));
    let sent = lines.iter().find(|line| line["outcome"] == "reward_resent").unwrap();
    assert_eq!((&sent["side"], sent["correlation_id"].is_string()), (&json!("referee"), true), "{sent}");
    for line in &lines {
        for user in ["bob", "alice"] {
            assert!(!line.to_string().contains(user), "{line}");
        }
    }
    world.until_idle().await;
    world.end().await;
}
