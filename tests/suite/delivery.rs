//! Delivery: the calls to the subsystems and the result of each kind of answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use local::Options;
use referrals::domain::time::Timestamp;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::{
    net::{TcpListener, TcpSocket},
    time::sleep,
};

use crate::world::World;

fn set(options: &mut Options, settings: &[(&str, &str)]) {
    let env = std::mem::take(&mut options.env);
    options.env = settings.iter().fold(env, |env, (name, value)| env.with(name, *value));
}

/// A World in which the referrer gets credit and the referee a coupon, with short retry pauses.
async fn mixed() -> World {
    World::with(|options| {
        set(options, &[("REFEREE_REWARD_TYPE", "coupon")]);
        options.pace.first_retry = Duration::from_millis(25);
    })
    .await
}

/// The calls to one stand-in, in order of arrival.
async fn calls(world: &World, kind: &str) -> Vec<Value> {
    world.deliveries().await.into_iter().filter(|call| call["type"] == kind).collect()
}

fn statuses(calls: &[Value]) -> Vec<u64> {
    calls.iter().map(|call| call["status"].as_u64().unwrap()).collect()
}

/// Asserts that all these calls are identical.
fn assert_same(calls: &[Value], key: &str) {
    for call in calls {
        assert_eq!(call["headers"]["idempotency-key"], key, "{call}");
        assert_eq!(call["headers"]["webhook-id"], key, "{call}");
        assert_eq!(call["body"], calls[0]["body"]);
    }
}

async fn until_reward(world: &World, referee: &str, side: usize, status: &str) -> Value {
    let reward = async || world.referral(referee).await["rewards"][side].clone();
    world.until(&format!("reward {side} of {referee} is {status}"), async || reward().await["status"] == status).await;
    reward().await
}

/// A subsystem that records the raw bytes of every call and forwards it to the stand-in, so that the audit sees it too.
#[derive(Clone, Default)]
struct Subsystem(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    pass_on_to: String,
    calls: Vec<(HeaderMap, Bytes)>,
}

impl Subsystem {
    fn serve(&self, listener: TcpListener) {
        let router = Router::new().fallback(Self::receive).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    fn forward_to(&self, url: String) {
        self.0.lock().unwrap().pass_on_to = url;
    }

    fn received(&self) -> Vec<(HeaderMap, Bytes)> {
        self.0.lock().unwrap().calls.clone()
    }

    async fn receive(State(this): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let url = {
            let mut state = this.0.lock().unwrap();
            state.calls.push((headers.clone(), body.clone()));
            state.pass_on_to.clone()
        };
        let response = reqwest::Client::new().post(url).headers(headers).body(body).send().await.unwrap();
        response.status()
    }
}

const OLD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgfwAAAAA=";

#[tokio::test]
async fn a_call_matches_the_contract_and_is_signed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/rewards/credit", listener.local_addr().unwrap());
    let subsystem = Subsystem::default();
    subsystem.serve(listener);
    let secrets = format!("{NEW_SECRET} {OLD_SECRET}");
    let world = World::with(|options| {
        let coupon = [("REFERRER_REWARD_AMOUNT", "2500"), ("REFEREE_REWARD_AMOUNT", "1"), ("CURRENCY", "EUR")];
        set(options, &coupon);
        set(options, &[("CREDIT_ENDPOINT", &endpoint), ("WEBHOOK_SECRET", &secrets)]);
    })
    .await;
    subsystem.forward_to(format!("{}/_local/subsystems/credit", world.service().url()));
    world.refer("alice", "bob").await;
    let detail = json!({"order_id": "o-1", "user_id": "bob", "amount": 1, "currency": "EUR"});
    world.publish("order.completed", detail).await;
    until_reward(&world, "bob", 0, "delivered").await;
    let bob = until_reward(&world, "bob", 1, "delivered").await;
    world.until_idle().await;

    let received = subsystem.received();
    assert_eq!(received.len(), 2);
    let mut bodies = BTreeMap::new();
    for (headers, body) in &received {
        for secret in [OLD_SECRET, NEW_SECRET] {
            Webhook::new(secret).unwrap().verify(body, headers).unwrap();
            let mut forged = body.to_vec();
            forged.push(b' ');
            assert!(Webhook::new(secret).unwrap().verify(&forged, headers).is_err());
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        let id = body["reward_id"].as_str().unwrap().to_owned();
        for (name, value) in
            [("idempotency-key", &id), ("webhook-id", &id), ("content-type", &"application/json".to_owned())]
        {
            assert_eq!(headers[name], value.as_str(), "{name}");
        }
        bodies.insert(id, body);
    }
    let body = |side: &str, user: &str, amount: u64| {
        json!({
            "reward_id": format!("bob:{side}"), "referee_id": "bob", "side": side, "user_id": user,
            "type": "credit", "amount": amount, "currency": "EUR", "issued_at": bob["issued_at"],
        })
    };
    let expected = [("bob:referee", body("referee", "bob", 1)), ("bob:referrer", body("referrer", "alice", 2500))];
    assert_eq!(bodies, expected.map(|(id, body)| (id.to_owned(), body)).into());
    world.end().await;
}

#[tokio::test]
async fn a_weak_secret_stops_the_start() {
    for (name, weak) in [
        ("WEBHOOK_SECRET", "whsec_"),
        ("WEBHOOK_SECRET", "whsec_c2hvcnQ"),
        ("COOKIE_KEY", "short"),
        ("FINGERPRINT_KEY", "short"),
    ] {
        let mut options = local::Options::default();
        set(&mut options, &[(name, weak)]);
        let problem = local::Service::start(options).await.err().map(|problem| problem.to_string());
        assert!(problem.as_ref().is_some_and(|problem| problem.contains(name)), "{name}={weak}: {problem:?}");
    }
}

#[tokio::test]
async fn only_the_local_secret_verifies_a_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let subsystem = Subsystem::default();
    subsystem.serve(listener);
    let world = World::with(|options| set(options, &[("CREDIT_ENDPOINT", &endpoint)])).await;
    subsystem.forward_to(format!("{}/_local/subsystems/credit", world.service().url()));
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let received = subsystem.received();
    assert_eq!(received.len(), 2);
    let secret = world.service().env().get("WEBHOOK_SECRET").unwrap();
    for (headers, body) in &received {
        Webhook::new(secret).unwrap().verify(body, headers).unwrap();
        assert!(Webhook::new(OLD_SECRET).unwrap().verify(body, headers).is_err());
    }
    world.end().await;
}

/// The local service shows the text that was signed, so that a developer can try a library's verification with it.
#[tokio::test]
async fn the_shown_text_of_a_delivery_has_the_shown_signature() {
    let world = World::start().await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let webhook = Webhook::new(world.service().env().get("WEBHOOK_SECRET").unwrap()).unwrap();
    let calls = calls(&world, "credit").await;
    assert_eq!(calls.len(), 2);
    for call in calls {
        let mut headers = HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, call["headers"][name].as_str().unwrap().parse().unwrap());
        }
        let text = call["body_text"].as_str().unwrap_or_default();
        webhook.verify(text.as_bytes(), &headers).unwrap_or_else(|problem| panic!("{problem}: {call:#}"));
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), call["body"]);
    }
    world.end().await;
}

#[tokio::test]
async fn each_reward_type_goes_to_its_own_subsystem() {
    let world = World::with_env([
        ("REFERRER_REWARD_TYPE", "coupon"),
        ("REFERRER_REWARD_AMOUNT", "1500"),
        ("REFEREE_REWARD_TYPE", "points"),
        ("REFEREE_REWARD_AMOUNT", "300"),
    ])
    .await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let (coupons, points) = (calls(&world, "coupon").await, calls(&world, "points").await);
    assert_eq!((coupons.len(), points.len(), calls(&world, "credit").await.len()), (1, 1, 0));
    let given = |call: &Value| {
        json!([call["reward_id"], call["body"]["type"], call["body"]["amount"], call["body"]["currency"]])
    };
    assert_eq!(given(&coupons[0]), json!(["bob:referrer", "coupon", 1500, "USD"]));
    assert_eq!(given(&points[0]), json!(["bob:referee", "points", 300, null]));
    assert!(points[0]["body"].as_object().unwrap().contains_key("currency"));
    let shown = world.referral("bob").await["rewards"].clone();
    assert_eq!((&shown[1]["type"], &shown[1]["currency"]), (&json!("points"), &Value::Null));
    assert_eq!((&shown[0]["status"], &shown[1]["status"]), (&json!("delivered"), &json!("delivered")));
    world.end().await;
}

/// With the default pauses of the local service: the first retry after one second.
#[tokio::test]
async fn retries_of_one_subsystem_do_not_delay_another() {
    let world = World::with(|options| {
        set(options, &[("REFEREE_REWARD_TYPE", "coupon")]);
        options.pace.first_retry = Duration::from_secs(1);
    })
    .await;
    world.script("credit", json!({"answers": [500, 500, 500]})).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    let coupon = until_reward(&world, "bob", 1, "delivered").await;
    assert_eq!(world.referral("bob").await["rewards"][0]["status"], "issued");
    let credit = until_reward(&world, "bob", 0, "delivered").await;
    world.until_idle().await;

    let of_credit = calls(&world, "credit").await;
    assert_eq!(statuses(&of_credit), [500, 500, 500, 200]);
    assert_same(&of_credit, "bob:referrer");
    assert_eq!(statuses(&calls(&world, "coupon").await), [200]);
    let after = |reward: &Value| {
        let time = |name: &str| Timestamp::try_from(reward[name].as_str().unwrap().to_owned()).unwrap();
        time("delivered_at").since(time("issued_at"))
    };
    assert!(after(&credit) < Duration::from_secs(30) && after(&credit) > Duration::from_secs(6), "{credit}");
    assert!(after(&coupon) < Duration::from_secs(3), "{coupon}");
    world.end().await;
}

/// Both rewards go to one subsystem in one batch, and it fails for one of them.
#[tokio::test]
async fn an_error_of_one_side_does_not_repeat_the_other_side() {
    let world = World::start().await;
    world.script("credit", json!({"answers": [503]})).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    until_reward(&world, "bob", 0, "delivered").await;
    until_reward(&world, "bob", 1, "delivered").await;
    world.until_idle().await;
    let calls = calls(&world, "credit").await;
    assert_eq!(calls.len(), 3);
    let keys: BTreeSet<_> = calls[..2].iter().map(|call| call["reward_id"].to_string()).collect();
    assert_eq!(keys.len(), 2, "the first two calls are for different rewards");
    assert_eq!((&calls[0]["status"], &calls[2]["reward_id"]), (&json!(503), &calls[0]["reward_id"]));
    world.end().await;
}

#[tokio::test]
async fn temporary_errors_are_retried_with_the_same_key() {
    let world = mixed().await;
    world.script("credit", json!({"answers": [408, 409, 425, 429, 503, 599]})).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    until_reward(&world, "bob", 0, "delivered").await;
    world.until_idle().await;
    let calls = calls(&world, "credit").await;
    assert_eq!(statuses(&calls), [408, 409, 425, 429, 503, 599, 200]);
    assert_same(&calls, "bob:referrer");
    world.end().await;
}

#[tokio::test]
async fn a_permanent_refusal_needs_attention_and_the_other_side_is_delivered() {
    let world = mixed().await;
    let refusals = [301_u16, 307, 400, 404, 410, 422];
    for (number, status) in refusals.into_iter().enumerate() {
        let bob = format!("bob-{status}");
        world.script("credit", json!({"answers": [status]})).await;
        world.refer(&format!("alice-{status}"), &bob).await;
        world.order(&bob, &format!("o-{status}")).await;
        let refused = until_reward(&world, &bob, 0, "failed").await;
        assert_eq!(refused["delivered_at"], Value::Null);
        until_reward(&world, &bob, 1, "delivered").await;
        world.until_idle().await;
        assert_eq!(calls(&world, "credit").await.len(), number + 1, "{status}: called more than once");

        let item = world.stored(&bob).await;
        let reward = &item["rewards"]["referrer"];
        assert!(item["work"].as_str().unwrap().starts_with("parked#"), "{item:#}");
        assert_eq!(item["due_at"], reward["failed_at"]);
        assert!(reward["failure"].as_str().unwrap().starts_with(&status.to_string()), "{reward}");
    }
    let failed: Vec<_> = refusals.iter().map(|status| format!("bob-{status}:referrer:failed")).collect();
    assert_eq!(world.announced("reward.failed").await, failed);
    // It needs an operator. No sweep sends it again.
    let before = world.contents().await;
    world.service().sweep_now().await.unwrap();
    world.until_idle().await;
    assert_eq!(world.contents().await, before);
    assert_eq!(calls(&world, "credit").await.len(), refusals.len());
    world.end().await;
}

/// After the grace period, the sweep announces the undelivered reward again and not the refused one.
#[tokio::test]
async fn the_sweep_does_not_repeat_a_refused_reward() {
    let mut world = World::with(|options| {
        set(options, &[("REFEREE_REWARD_TYPE", "coupon"), ("GRACE_SECONDS", "1")]);
        options.pace.first_retry = Duration::from_secs(60);
    })
    .await;
    world.script("credit", json!({"answers": [400]})).await;
    world.script("coupon", json!({"answers": [500]})).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    until_reward(&world, "bob", 0, "failed").await;
    world.until("the coupon was tried", async || calls(&world, "coupon").await.len() == 1).await;
    assert!(world.stored("bob").await["work"].as_str().unwrap().starts_with("due#"), "the coupon is undelivered");
    sleep(Duration::from_millis(1100)).await;
    world.service().sweep_now().await.unwrap();
    until_reward(&world, "bob", 1, "delivered").await;
    assert_eq!(statuses(&calls(&world, "credit").await), [400]);
    assert_eq!(
        world.announced("reward.issued").await,
        ["bob:referee:issued", "bob:referee:issued", "bob:referrer:issued"],
    );
    assert!(world.stored("bob").await["work"].as_str().unwrap().starts_with("parked#"));
    // The first message of the coupon is still delayed by a minute and would have nothing to deliver.
    world.allow_outstanding_work();
    world.end().await;
}

#[tokio::test]
async fn a_slow_subsystem_is_called_again_with_the_same_key() {
    let world = mixed().await;
    world.script("credit", json!({"delay_ms": 6000})).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until("it is being asked", async || calls(&world, "credit").await.len() == 1).await;
    // Later calls are answered immediately. The first call is in progress and will time out.
    world.script("credit", json!({})).await;
    let credit = until_reward(&world, "bob", 0, "delivered").await;
    world.until_idle().await;
    let calls = calls(&world, "credit").await;
    assert_eq!(calls.len(), 2);
    assert_same(&calls, "bob:referrer");
    let time = |name: &str| Timestamp::try_from(credit[name].as_str().unwrap().to_owned()).unwrap();
    let took = time("delivered_at").since(time("issued_at"));
    assert!(took > Duration::from_millis(4900) && took < Duration::from_secs(9), "{took:?}");
    world.end().await;
}

/// A subsystem is down for longer than its queue retries. The sweep announces again until the reward is delivered.
#[tokio::test]
async fn a_subsystem_that_is_down_is_called_until_it_recovers() {
    // Bound but not listening: connections are refused, and no other process gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    let mut world = World::with(|options| {
        set(options, &[("CREDIT_ENDPOINT", &endpoint), ("REFEREE_REWARD_TYPE", "coupon"), ("GRACE_SECONDS", "1")]);
        options.pace.first_retry = Duration::from_millis(5);
    })
    .await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    until_reward(&world, "bob", 1, "delivered").await;
    let parked = async || world.get("/_local/parked").await.with(200)["count"].clone();
    world.until("the queue gave up", async || parked().await == 1).await;
    assert_eq!(world.referral("bob").await["rewards"][0]["status"], "issued");
    assert!(world.stored("bob").await["work"].as_str().unwrap().starts_with("due#"));

    sleep(Duration::from_millis(1050)).await;
    world.service().sweep_now().await.unwrap();
    world.until("the queue gave up again", async || parked().await == 2).await;
    let reward = world.referral("bob").await["rewards"][0].clone();
    assert_eq!(reward["status"], "issued");
    let issued = ["bob:referee:issued", "bob:referrer:issued", "bob:referrer:issued"];
    assert_eq!(world.announced("reward.issued").await, issued);

    let subsystem = Subsystem::default();
    subsystem.forward_to(format!("{}/_local/subsystems/credit", world.service().url()));
    subsystem.serve(socket.listen(16).unwrap());
    let is_delivered = async || {
        world.service().sweep_now().await.unwrap();
        world.referral("bob").await["rewards"][0]["status"] == "delivered"
    };
    world.until("the subsystem that is back has its reward", is_delivered).await;
    let calls = calls(&world, "credit").await;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["body"]["issued_at"], reward["issued_at"]);
    world.expect_unprocessed(2);
    world.end().await;
}

#[tokio::test]
async fn an_undelivered_reward_stays_issued() {
    let mut world = mixed().await;
    world.script("credit", json!({"answers": [500, 500, 500, 500, 500, 500, 500, 500]})).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    let parked = async || world.get("/_local/parked").await.with(200)["count"].clone();
    world.until("the queue gave up", async || parked().await == 1).await;
    // Younger than the grace period: the sweep does nothing.
    world.service().sweep_now().await.unwrap();
    world.until_idle().await;
    assert_eq!(world.referral("bob").await["rewards"][0]["status"], "issued");
    assert_eq!(calls(&world, "credit").await.len(), 8);
    let parked = world.get("/_local/parked").await.with(200);
    assert_eq!(parked["items"][0]["queue"], "CreditDeadLetterQueue");
    world.expect_unprocessed(1);
    world.allow_outstanding_work();
    world.end().await;
}

/// Amounts come from the table. A message for a delivered reward pays nothing, regardless of its content.
#[tokio::test]
async fn a_forged_message_pays_nothing() {
    let mut world = World::start().await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    world.refer("carol", "dave").await;
    world.until_idle().await;
    let before = world.contents().await;

    for reward in ["bob:referrer", "bob:referee", "bob:referrer", "dave:referrer"] {
        let detail = json!({"reward_id": reward, "type": "credit", "amount": 999_999, "user_id": "mallory"});
        world.publish_as_service("reward.issued", detail).await;
    }
    world.until_idle().await;
    assert_eq!(world.deliveries().await.len(), 2);
    assert_eq!(world.contents().await, before);

    // An unreadable message is quarantined.
    world.publish_as_service("reward.issued", json!({"reward_id": "bob:friend", "type": "credit"})).await;
    world.until_idle().await;
    let parked = world.get("/_local/parked").await.with(200);
    assert_eq!(parked["items"][0]["body"]["function"], "delivery", "{parked:#}");
    assert_eq!(world.deliveries().await.len(), 2);
    world.expect_unprocessed(1);
    world.end().await;
}
