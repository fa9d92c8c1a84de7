//! Duplicate, concurrent and reordered events have the same result as one event in order.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::World;

const REWARDS: [&str; 2] = ["bob:referee:issued", "bob:referrer:issued"];

/// Publishes `orders` for one referral concurrently, and checks one conversion, two rewards and two calls.
async fn all_at_once(orders: &[String]) -> (World, Value) {
    let world = World::start().await;
    world.refer("alice", "bob").await;
    join_all(orders.iter().map(|order| world.order("bob", order))).await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let item = world.stored("bob").await;
    world.until_redelivered().await;
    assert_eq!(world.stored("bob").await, item);

    // Seven writes: attributed, converted, issued, two calls and two marks. One more for each other order before the issue.
    assert!((7..=15).contains(&item["rev"].as_u64().unwrap()), "{item:#}");
    assert_eq!(item.get("candidates"), None);
    assert_eq!(world.announced("referral.converted").await, ["bob:converted"]);
    assert_eq!(world.announced("reward.issued").await, REWARDS);
    let calls = world.deliveries().await;
    let keys: BTreeSet<_> = calls.iter().map(|call| call["headers"]["idempotency-key"].as_str().unwrap()).collect();
    assert_eq!((calls.len(), keys), (2, BTreeSet::from(["bob:referee", "bob:referrer"])));
    (world, item)
}

#[tokio::test]
async fn one_order_sent_fifty_times_is_rewarded_once() {
    let (world, item) = all_at_once(&vec!["o-1".to_owned(); 50]).await;
    assert_eq!(item["rev"], 7, "{item:#}");
    assert_eq!(item["conversion"]["order"], "o-1");
    world.end().await;
}

#[tokio::test]
async fn one_of_fifty_concurrent_orders_converts() {
    let orders: Vec<_> = (0..50).map(|number| format!("o-{number}")).collect();
    let (world, item) = all_at_once(&orders).await;
    let winner = item["conversion"]["order"].as_str().unwrap();
    assert!(orders.iter().any(|order| order == winner), "{winner}");
    assert_eq!(world.referral("bob").await["order_id"], winner);
    world.end().await;
}

/// An event's type and detail.
type Event = (&'static str, Value);

/// Pairs of related events, in order of occurrence, with the expected result of both.
fn pairs(code: &Value) -> [(&'static str, [Event; 2], Value); 6] {
    let order = ("order.completed", json!({"order_id": "o-1", "user_id": "bob", "amount": 4200, "currency": "USD"}));
    let refund = json!({"refund_id": "r-1", "order_id": "o-1", "user_id": "bob", "amount": 4200, "currency": "USD"});
    let undone = json!({"order_id": "o-1", "user_id": "bob"});
    let flagged = json!({"user_id": "bob", "reason": "x", "occurred_at": "2026-01-01T00:00:00Z"});
    let cleared = json!({"user_id": "bob", "occurred_at": "2026-01-02T00:00:00Z"});
    let flagged_again = json!({"user_id": "bob", "reason": "y", "occurred_at": "2026-01-03T00:00:00Z"});
    let signed_up = ("customer.signed_up", json!({"user_id": "bob", "code": code}));
    [
        ("cancelled", [order.clone(), ("order.cancelled", undone.clone())], json!(["voided", "order_cancelled", null])),
        ("refunded", [order.clone(), ("order.refunded", refund)], json!(["voided", "order_refunded", null])),
        ("disputed", [order.clone(), ("payment.disputed", undone)], json!(["voided", "payment_disputed", null])),
        ("signed up", [signed_up, order], json!(["converted", null, null])),
        (
            "cleared",
            [("account.flagged", flagged), ("account.cleared", cleared.clone())],
            json!(["pending", null, false]),
        ),
        (
            "flagged again",
            [("account.cleared", cleared), ("account.flagged", flagged_again)],
            json!(["pending", null, true]),
        ),
    ]
}

/// Publishes a pair, each event twice. Returns the World, the expected result and the pair's name.
async fn after(pair: usize, reversed: bool) -> (World, Value, Value) {
    // A hold, so that nothing is issued, and a delay that is longer than the events before it take.
    let world = World::with(|options| {
        options.env = std::mem::take(&mut options.env).with("HOLD_SECONDS", "3600");
        options.pace.delay = Duration::from_secs(3);
    })
    .await;
    let code = world.put("/v1/users/alice/code", json!({})).await.with(201)["code"].clone();
    let (name, mut events, expected) = pairs(&code)[pair].clone();
    if name != "signed up" {
        world.attribute("bob", code.as_str().unwrap()).await.with(201);
    }
    if reversed {
        events.reverse();
    }
    for (detail_type, detail) in events {
        world.publish(detail_type, detail.clone()).await;
        world.publish(detail_type, detail).await;
        world.until_idle().await;
    }
    (world, expected, json!(name))
}

/// The referral's status and void reason, and whether bob is flagged.
async fn now(world: &World) -> Value {
    let (item, account) = (world.stored("bob").await, world.item("USER#bob", "ACCOUNT").await);
    let flagged = account.map(|account| crate::world::plain(&account)["flagged"].clone());
    json!([item["status"], item["voided"]["reason"], flagged])
}

#[tokio::test]
async fn duplicate_events_in_order() {
    join_all((0..6).map(|pair| async move {
        let (world, expected, name) = after(pair, false).await;
        assert_eq!(now(&world).await, expected, "{name}");
        world.end().await;
    }))
    .await;
}

#[tokio::test]
async fn duplicate_events_in_reverse_order() {
    join_all((0..6).map(|pair| async move {
        let (world, expected, name) = after(pair, true).await;
        // All results except one are right immediately. An order before its sign-up is applied when the delay queue
        // redelivers it.
        if name == "signed up" {
            assert_ne!(now(&world).await, expected, "{name}: this proves nothing");
        } else {
            assert_eq!(now(&world).await, expected, "{name}");
        }
        world.until(&format!("{name} in reverse order: {expected}"), async || now(&world).await == expected).await;
        world.end().await;
    }))
    .await;
}

#[tokio::test]
async fn an_order_before_its_attribution_is_not_lost() {
    let world = World::start().await;
    world.order("bob", "o-1").await;
    world.until_idle().await;
    assert_eq!(world.items().await.len(), 0, "an order of a user who was not referred stores nothing");
    world.refer("alice", "bob").await;
    let referral = world.until_status("bob", "rewarded").await;
    assert_eq!(referral["order_id"], "o-1");
    world.until_idle().await;
    assert_eq!(world.deliveries().await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn twenty_concurrent_sign_up_events_create_one_code_and_one_referral() {
    let world = World::start().await;
    world.mint("alice", "alice").await;
    let signed_up = json!({"user_id": "bob", "code": "alice", "device_fingerprint": "a-device-of-bobs"});
    join_all((0..20).map(|_| world.publish("customer.signed_up", signed_up.clone()))).await;
    world.until_idle().await;

    let bobs = world.get("/v1/users/bob/code").await.with(200)["code"].clone();
    let item = world.stored("bob").await;
    assert_eq!((&item["status"], &item["rev"]), (&json!("pending"), &json!(1)));
    assert_eq!(world.referral("bob").await["referrer_id"], "alice");
    assert_eq!(world.announced("referral.attributed").await, ["bob:attributed"]);

    world.until_redelivered().await;
    assert_eq!(world.get("/v1/users/bob/code").await.with(200)["code"], bobs);
    assert_eq!(world.stored("bob").await, item);
    // Two codes, their two owner items, bob's account with his device, and the referral.
    assert_eq!(world.items().await.len(), 6);
    let account = crate::world::plain(&world.item("USER#bob", "ACCOUNT").await.unwrap());
    assert_eq!(account["devices"].as_array().map(Vec::len), Some(1), "{account}");
    world.end().await;
}

#[tokio::test]
async fn the_latest_flag_or_clearance_counts_in_any_order_of_arrival() {
    let world = World::start().await;
    world.mint("alice", "alice").await;
    let flagged = json!({"user_id": "alice", "reason": "x", "occurred_at": "2026-01-02T00:00:00Z"});
    let cleared = |at: &str| json!({"user_id": "alice", "occurred_at": at});

    world.publish("account.flagged", flagged.clone()).await;
    world.until_idle().await;
    world.publish("account.cleared", cleared("2026-01-01T00:00:00Z")).await;
    world.until_idle().await;
    world.attribute("bob", "alice").await.refused(422, "referrer_flagged");

    // At the same time, the flag wins.
    world.publish("account.cleared", cleared("2026-01-02T00:00:00Z")).await;
    world.until_idle().await;
    world.attribute("bob", "alice").await.refused(422, "referrer_flagged");

    world.publish("account.cleared", cleared("2026-01-03T00:00:00Z")).await;
    world.until_idle().await;
    world.publish("account.flagged", flagged).await;
    world.until_idle().await;
    world.until_redelivered().await;
    world.attribute("bob", "alice").await.with(201);
    world.end().await;
}

/// One invocation generates a code for each sign-up of its batch, without collisions.
#[tokio::test]
async fn a_batch_of_sign_ups_mints_a_code_for_each() {
    let world = World::start().await;
    let message = |number: usize| {
        let event = json!({"detail-type": "customer.signed_up", "source": "shop", "detail": {"user_id": format!("m-{number}")}});
        json!({"messageId": number.to_string(), "body": event.to_string()})
    };
    let batch = json!({"Records": (0..10).map(message).collect::<Vec<_>>()});
    let answer = world.service().invoke("ConversionFunction", batch).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    for number in 0..10 {
        world.get(&format!("/v1/users/m-{number}/code")).await.with(200);
    }
    world.end().await;
}
