//! The files in `events/`: this test sends them to the functions, as SAM does, in the order of a referral's life cycle.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use local::{Options, Service};
use serde_json::{Value, json};

use crate::world::World;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn file(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder().join(path)).unwrap()).unwrap()
}

/// The files in order: name, function, and the status of an HTTP answer (0: none).
const LIFE: [(&str, &str, u64); 53] = [
    ("attribution-mint-vanity", "AttributionFunction", 201),
    ("attribution-mint", "AttributionFunction", 200),
    ("attribution-code-of-user", "AttributionFunction", 200),
    ("attribution-code", "AttributionFunction", 200),
    ("attribution-land", "AttributionFunction", 302),
    ("attribution-land-head", "AttributionFunction", 302),
    ("attribution-land-slash", "AttributionFunction", 302),
    ("attribution-land-without-code", "AttributionFunction", 302),
    ("conversion-account-flagged", "ConversionFunction", 0),
    ("conversion-account-cleared", "ConversionFunction", 0),
    ("attribution-attribute-by-cookie", "AttributionFunction", 201),
    ("attribution-attribute", "AttributionFunction", 200),
    ("conversion-customer-signed-up", "ConversionFunction", 0),
    ("attribution-referral", "AttributionFunction", 200),
    ("admin-void", "AdminFunction", 200),
    ("admin-reopen", "AdminFunction", 200),
    ("conversion-order-completed", "ConversionFunction", 0),
    ("conversion-delayed", "ConversionFunction", 0),
    ("conversion-dead-letter", "ConversionFunction", 0),
    ("conversion-incoming-queue", "ConversionFunction", 0),
    ("conversion-kafka-msk", "ConversionFunction", 0),
    ("conversion-kafka-self-managed", "ConversionFunction", 0),
    ("rewards-stream", "RewardsFunction", 0),
    ("analytics-stream", "AnalyticsFunction", 0),
    ("sweep-schedule", "SweepFunction", 0),
    ("admin-convert", "AdminFunction", 200),
    ("admin-approve", "AdminFunction", 200),
    ("admin-flag", "AdminFunction", 200),
    ("admin-referrals", "AdminFunction", 200),
    ("admin-referral", "AdminFunction", 200),
    ("admin-undelivered", "AdminFunction", 200),
    ("admin-resend", "AdminFunction", 202),
    ("admin-resend-all", "AdminFunction", 200),
    ("admin-dead-letters", "AdminFunction", 200),
    ("admin-redrive", "AdminFunction", 202),
    ("admin-daily", "AdminFunction", 200),
    ("admin-referrers", "AdminFunction", 200),
    ("admin-cohorts", "AdminFunction", 200),
    ("admin-liability", "AdminFunction", 200),
    ("admin-dashboard", "AdminFunction", 200),
    ("admin-dashboard-file", "AdminFunction", 200),
    ("delivery-queue", "DeliveryFunction", 0),
    ("attribution-referrals-of-user", "AttributionFunction", 200),
    ("attribution-rewards-of-user", "AttributionFunction", 200),
    ("conversion-order-cancelled", "ConversionFunction", 0),
    ("admin-reversals", "AdminFunction", 200),
    ("admin-resend-reversal", "AdminFunction", 202),
    ("admin-resend-all-reversals", "AdminFunction", 200),
    ("delivery-queue-reversal", "DeliveryFunction", 0),
    ("conversion-payment-disputed", "ConversionFunction", 0),
    ("conversion-payment-dispute-won", "ConversionFunction", 0),
    ("attribution-explain", "AttributionFunction", 200),
    ("admin-end-code", "AdminFunction", 200),
];

async fn world(hold: &str) -> World {
    let settings = file("env.json")["Parameters"].clone();
    let key = |name: &str| settings[name].as_str().unwrap().to_owned();
    // The cookie and the order in a file are as old as the file.
    let names = ["COOKIE_KEY", "FINGERPRINT_KEY", "ATTRIBUTION_WINDOW_DAYS", "ORDER_LEAD_SECONDS"];
    let [cookie, fingerprint, window, lead] = names.map(key);
    World::with_env([
        ("COOKIE_KEY", &cookie),
        ("FINGERPRINT_KEY", &fingerprint),
        ("ATTRIBUTION_WINDOW_DAYS", &window),
        ("ORDER_LEAD_SECONDS", &lead),
        ("HOLD_SECONDS", hold),
    ])
    .await
}

async fn invoke(world: &World, name: &str, function: &str) -> Value {
    let answer = world.service().invoke(function, file(&format!("events/{name}.json"))).await;
    answer.unwrap_or_else(|problem| panic!("{name}: {problem}"))
}

#[tokio::test]
async fn every_file_works_in_a_referrals_life_cycle() {
    let world = world("0").await;
    for (name, function, status) in LIFE {
        if ["conversion-order-completed", "conversion-order-cancelled"].contains(&name) {
            // The subsystem refuses both rewards, and later both reversals. Operators send them again.
            world.script("credit", json!({"answers": [400, 400]})).await;
        }
        let answer = invoke(&world, name, function).await;
        let body = || serde_json::from_str::<Value>(answer["body"].as_str().unwrap()).unwrap();
        match name {
            "attribution-land" => assert!(answer["cookies"][0].is_string(), "{answer}"),
            "attribution-land-head" => assert!(answer["cookies"].as_array().is_none_or(Vec::is_empty), "{answer}"),
            "attribution-land-slash" => {
                let location = answer["headers"]["location"].as_str().unwrap();
                assert!(location.ends_with("landing/shoes?utm_source=mail"), "{answer}");
            }
            "admin-undelivered" => assert_eq!(body()["items"].as_array().unwrap().len(), 2, "{answer}"),
            "admin-resend" => assert_eq!(body()["reward_id"], "bob:referee", "{answer}"),
            "admin-reversals" => assert_eq!(body()["items"].as_array().unwrap().len(), 2, "{answer}"),
            "admin-resend-reversal" => assert_eq!(body()["reversal_id"], "bob:referee:reversal", "{answer}"),
            "admin-resend-all" | "admin-resend-all-reversals" => {
                assert_eq!(body(), json!({"resent": 1, "next_cursor": null}))
            }
            "admin-void" => assert_eq!(body()["void_reason"], "operator", "{answer}"),
            "admin-reopen" => assert_eq!(body()["status"], "pending", "{answer}"),
            "admin-referral" => assert_eq!(body()["notes"].as_array().unwrap().len(), 2, "{answer}"),
            "attribution-explain" => assert!(body()["decisions"].as_array().unwrap().len() > 10, "{answer}"),
            "admin-dead-letters" => assert_eq!(body()["items"].as_array().unwrap().len(), 4, "{answer}"),
            "admin-end-code" => assert!(body()["expires_at"].is_string(), "{answer}"),
            "admin-redrive" => assert_eq!(body(), json!({"queue": "credit", "messages": 0})),
            "admin-daily" => assert_eq!(body()["days"].as_array().unwrap().len(), 7, "{answer}"),
            "admin-referrers" => assert_eq!(body()["items"][0]["referrer_id"], "alice", "{answer}"),
            "admin-cohorts" => assert!(answer["body"].as_str().unwrap().starts_with("week,attributed,"), "{answer}"),
            "admin-liability" => assert_eq!(body(), json!({"items": []})),
            _ => {}
        }
        if status > 0 {
            assert_eq!(answer["statusCode"], status, "{name}: {answer}");
        }
        assert!(answer.get("batchItemFailures").is_none_or(|failed| *failed == json!([])), "{name}: {answer}");
        world.until_idle().await;
    }
    let referral = world.referral("bob").await;
    assert_eq!((&referral["void_reason"], &referral["order_id"]), (&json!("order_cancelled"), &json!("order-1001")));
    for reward in referral["rewards"].as_array().unwrap() {
        assert_eq!(reward["status"], "reversed", "{reward}");
    }
    // The stream record in the file contains a referral of bob that is as old as the file.
    world.ignore_events(|event| event["detail"]["occurred_at"] == "2026-03-02T09:05:00.412Z").await;
    world.end().await;
}

#[tokio::test]
async fn a_full_refund_during_the_hold_voids() {
    let world = world("3600").await;
    for (name, function, _) in
        LIFE.iter().filter(|(name, ..)| name.contains("mint-vanity") || name.ends_with("completed"))
    {
        invoke(&world, name, function).await;
        if *function == "AttributionFunction" {
            invoke(&world, "attribution-attribute", function).await;
        }
    }
    assert_eq!(world.referral("bob").await["status"], "converted");
    invoke(&world, "conversion-order-refunded", "ConversionFunction").await;
    assert_eq!(world.referral("bob").await["void_reason"], "order_refunded");
    invoke(&world, "conversion-order-refund-failed", "ConversionFunction").await;
    assert_eq!(world.referral("bob").await["status"], "converted");
    world.end().await;
}

#[test]
fn every_file_is_sent() {
    let files = fs::read_dir(folder().join("events")).unwrap();
    let found: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap().replace(".json", "")).collect();
    let mut read: BTreeSet<String> = LIFE.iter().map(|(name, ..)| (*name).to_owned()).collect();
    read.extend(["conversion-order-refunded", "conversion-order-refund-failed"].map(str::to_owned));
    assert_eq!(found, read);
}

/// Both types of the list reach the function, but a referral converts by the type that its terms name.
#[tokio::test]
async fn only_the_qualifying_event_of_the_terms_converts() {
    let mut world = World::with(|options| {
        options.pace.delay = Duration::from_secs(600);
        options.env = std::mem::take(&mut options.env)
            .with("QUALIFYING_EVENT", "subscription.started")
            .with("QUALIFYING_EVENTS", "subscription.started, trial.ended");
    })
    .await;
    world.refer("alice", "bob").await;
    // An invalid event shows that the rule lets the type through, and that it is parsed as an order.
    world.publish("trial.ended", json!({"user_id": "bob"})).await;
    let quarantined = async || world.get("/_local/parked").await.with(200)["count"].clone();
    world.until("the invalid event is quarantined", async || quarantined().await == 1).await;
    let order = |id: &str| json!({"order_id": id, "user_id": "bob", "amount": 500, "currency": "USD"});
    world.publish("trial.ended", order("o-1")).await;
    world.publish("order.completed", order("o-2")).await;
    world.until_idle().await;
    assert_eq!(world.referral("bob").await["status"], "pending");
    world.publish("subscription.started", order("o-3")).await;
    let rewarded = world.until_status("bob", "rewarded").await;
    assert_eq!((&rewarded["conversion_event"], &rewarded["order_id"]), (&json!("subscription.started"), &json!("o-3")));
    world.until_idle().await;
    world.expect_unprocessed(1);
    world.end().await;
}

#[tokio::test]
async fn a_qualifying_event_that_the_rule_does_not_let_through_is_refused_at_start() {
    let mut options = Options::default();
    options.env = std::mem::take(&mut options.env)
        .with("QUALIFYING_EVENT", "subscription.started")
        .with("QUALIFYING_EVENTS", "trial.ended,order.completed");
    let problem = Service::start(options).await.err().unwrap().to_string();
    assert!(problem.contains("QUALIFYING_EVENTS") && problem.contains("subscription.started"), "{problem}");
}
