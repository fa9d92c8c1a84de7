//! The cost of each step: calls to the table and consumed capacity, counted on the wire, with items of the size that UUIDs as ids
//! give them. The results do not depend on time.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::world::{Call, World};

/// Ids of the length that products use.
const ALICE: &str = "a1d9c8b2-6a1e-4bb0-8f2e-3c5d7e9f0a11";
const BOB: &str = "b0b5c8d2-7b2f-4cc1-9a3f-4d6e8fa01b22";
const ORDER: &str = "0bd3c8e2-8c3a-4dd2-ab4a-5e7f9ab12c33";
const ANOTHER_ORDER: &str = "5f1c9d10-2b0e-4c8e-9a57-6c1f3d2e8b44";

/// Sequential calls, write units, read units.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Cost {
    calls: usize,
    write_units: f64,
    read_units: f64,
}

fn cost(calls: &[Call]) -> Cost {
    let units = |write: bool| calls.iter().filter(|call| call.is_write() == write).map(|call| call.units).sum();
    Cost { calls: calls.len(), write_units: units(true), read_units: units(false) }
}

fn budget(calls: usize, write_units: f64, read_units: f64) -> Cost {
    Cost { calls, write_units, read_units }
}

/// A World without delayed copies during a test, because a copy would be counted, too.
async fn world() -> World {
    World::with(|options| options.pace.delay = Duration::from_secs(600)).await
}

/// The same, with a hold of an hour.
async fn world_with_hold() -> World {
    World::with(|options| {
        options.pace.delay = Duration::from_secs(600);
        options.env = std::mem::take(&mut options.env).with("HOLD_SECONDS", "3600");
    })
    .await
}

#[tokio::test]
async fn mint() {
    let world = world().await;
    world.put(&format!("/v1/users/{ALICE}/code"), json!({})).await.with(201);
    assert_eq!(cost(&world.wire().take_calls()), budget(1, 4.0, 0.0));

    world.put(&format!("/v1/users/{BOB}/code"), json!({"device_fingerprint": "laptop"})).await.with(201);
    assert_eq!(cost(&world.wire().take_calls()), budget(1, 6.0, 0.0));
    world.end().await;
}

/// A member with a live code gets it; a member whose code has ended gets another one. A refused transaction reports no
/// capacity and is not counted.
#[tokio::test]
async fn mint_again() {
    let world = world().await;
    let code = world.put(&format!("/v1/users/{ALICE}/code"), json!({})).await.with(201)["code"].clone();
    world.wire().take_calls();
    world.put(&format!("/v1/users/{ALICE}/code"), json!({})).await.with(200);
    let repeated = cost(&world.wire().take_calls());
    assert_eq!((repeated.calls, repeated.read_units), (1, 1.0));

    let path = format!("/admin/codes/{}", code.as_str().unwrap());
    world.send(Method::PATCH, &path, &[], json!({"disabled": true}).to_string()).await.with(200);
    assert_eq!(cost(&world.wire().take_calls()), budget(1, 1.0, 0.0));
    world.put(&format!("/v1/users/{ALICE}/code"), json!({})).await.with(201);
    let replaced = cost(&world.wire().take_calls());
    assert_eq!((replaced.calls, replaced.read_units), (2, 1.0));
    world
        .send(Method::PATCH, &path, &[], json!({"expires_at": null}).to_string())
        .await
        .refused(409, "other_code_live");
    world.end().await;
}

#[tokio::test]
async fn attribute_with_the_code_in_memory() {
    let world = world().await;
    let code = world.put(&format!("/v1/users/{ALICE}/code"), json!({})).await.with(201)["code"].clone();
    let code = code.as_str().unwrap();
    world.land(code).await.unwrap();
    world.wire().take_calls();

    let body = json!({"referee_id": BOB, "code": code, "device_fingerprint": "phone"});
    world.post("/v1/referrals", body).await.with(201);
    assert_eq!(cost(&world.wire().take_calls()), budget(2, 2.0, 4.0));
    world.end().await;
}

#[tokio::test]
async fn an_order_of_a_user_who_was_never_referred() {
    let world = world().await;
    world.order(BOB, ORDER).await;
    world.until_idle().await;
    assert_eq!(cost(&world.wire().take_calls()), budget(1, 0.0, 1.0));
    world.end().await;
}

#[tokio::test]
async fn convert_on_hold_and_repeat() {
    let world = world_with_hold().await;
    world.refer(ALICE, BOB).await;
    world.until_idle().await;
    world.wire().take_calls();

    world.order(BOB, ORDER).await;
    world.until_idle().await;
    assert_eq!(cost(&world.wire().take_calls()), budget(3, 3.0, 1.0));

    world.order(BOB, ORDER).await;
    world.until_idle().await;
    assert_eq!(cost(&world.wire().take_calls()), budget(1, 0.0, 1.0));

    // A candidate: the order's item, then the referral. The index of work does not change.
    world.order(BOB, ANOTHER_ORDER).await;
    world.until_idle().await;
    assert_eq!(cost(&world.wire().take_calls()), budget(3, 2.0, 1.0));
    world.end().await;
}

/// The order belongs to another user. The refused claim reports no capacity and is not counted; the note of the order is.
#[tokio::test]
async fn a_lost_claim() {
    let world = world().await;
    for referee in [BOB, "carol"] {
        world.refer(ALICE, referee).await;
    }
    world.order(BOB, ORDER).await;
    world.until_idle().await;
    world.wire().take_calls();

    world.order("carol", ORDER).await;
    world.until_idle().await;
    assert_eq!(cost(&world.wire().take_calls()), budget(2, 1.0, 1.0));
    world.end().await;
}

/// The order's item, then the referral. A void also removes the referral from the index of work.
#[tokio::test]
async fn adjustments() {
    let world = world_with_hold().await;
    world.refer(ALICE, BOB).await;
    world.order(BOB, ORDER).await;
    let adjust = async |id: &str, order: &str, amount: u64| {
        world.until_idle().await;
        world.wire().take_calls();
        let detail = json!({"refund_id": id, "order_id": order, "amount": amount, "currency": "USD"});
        world.publish("order.refunded", detail).await;
        world.until_idle().await;
        cost(&world.wire().take_calls())
    };
    assert_eq!(adjust("r-1", "unknown", 1).await, budget(1, 1.0, 0.0));
    assert_eq!(adjust("r-1", ORDER, 1).await, budget(3, 2.0, 1.0));
    // Repeated: the refused write reports no capacity and is not counted.
    assert_eq!(adjust("r-1", ORDER, 1).await, budget(1, 0.0, 1.0));
    assert_eq!(adjust("r-2", ORDER, 4199).await, budget(3, 3.0, 1.0));
    assert_eq!(world.referral(BOB).await["status"], "voided");
    world.end().await;
}

#[tokio::test]
async fn convert_issue_and_deliver_both() {
    let world = world().await;
    world.refer(ALICE, BOB).await;
    world.until_idle().await;
    world.wire().take_calls();

    world.order(BOB, ORDER).await;
    world.until_idle().await;
    let calls = world.wire().take_calls();
    let (convert, rest) = calls.split_at(3);
    let (issue, deliver) = rest.split_at(2);
    assert_eq!(cost(convert), budget(3, 3.0, 1.0), "{calls:?}");
    assert_eq!(cost(issue), budget(2, 1.0, 3.0), "{calls:?}");
    let Cost { calls, write_units, read_units } = cost(deliver);
    // Each side: the referral, the record of the call, the mark. Two writes of the same item can conflict.
    assert_eq!(read_units, 2.0, "{deliver:?}");
    assert!((5.0..=6.0).contains(&write_units), "{deliver:?}");
    assert!((6..=10).contains(&calls), "{deliver:?}");
    world.end().await;
}

/// The order's item, the referral, then the referral with both reversals in one transaction, four units for each side. Each reversal
/// is then delivered with one read and one write.
#[tokio::test]
async fn take_both_back() {
    let world = world().await;
    world.refer(ALICE, BOB).await;
    world.order(BOB, ORDER).await;
    world.until_idle().await;
    world.wire().take_calls();

    world.publish("order.cancelled", json!({"order_id": ORDER})).await;
    world.until_idle().await;
    let calls = world.wire().take_calls();
    let (reverse, deliver) = calls.split_at(3);
    assert_eq!(cost(reverse), budget(3, 9.0, 1.0), "{calls:?}");
    assert_eq!(cost(deliver), budget(4, 4.0, 4.0), "{calls:?}");
    assert_eq!(world.referral(BOB).await["status"], "voided");
    world.end().await;
}

#[tokio::test]
async fn a_message_for_a_delivered_reward() {
    let world = world().await;
    world.refer(ALICE, BOB).await;
    world.order(BOB, ORDER).await;
    world.until_idle().await;
    world.wire().take_calls();

    let event = json!({"detail": {"reward_id": format!("{BOB}:referrer")}}).to_string();
    let batch = json!({"Records": [{"messageId": "m-1", "body": event}]});
    let answer = world.service().invoke("DeliveryFunction", batch).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(cost(&world.wire().take_calls()), budget(1, 0.0, 1.0));
    world.end().await;
}

/// The note of a refused order is written once. The second write is refused, reports no capacity and is not counted.
#[tokio::test]
async fn a_refused_order_and_its_repetition() {
    let world = world().await;
    world.refer(ALICE, BOB).await;
    world.until_idle().await;
    world.wire().take_calls();
    let old = json!({
        "order_id": ORDER, "user_id": BOB, "amount": 4200, "currency": "USD", "occurred_at": "2020-01-01T00:00:00Z",
    });
    for (calls, write_units) in [(2, 1.0), (1, 0.0)] {
        world.publish("order.completed", old.clone()).await;
        world.until_idle().await;
        assert_eq!(cost(&world.wire().take_calls()), budget(calls, write_units, 1.0));
    }
    world.end().await;
}

/// The partition of the referral, then its order.
#[tokio::test]
async fn explain() {
    let world = world().await;
    world.refer(ALICE, BOB).await;
    world.order(BOB, ORDER).await;
    world.until_idle().await;
    world.wire().take_calls();
    world.get(&format!("/v1/referrals/{BOB}/explain")).await.with(200);
    assert_eq!(cost(&world.wire().take_calls()), budget(2, 0.0, 2.0));
    world.end().await;
}

/// The referral, then its step and the audit entry in one transaction, two units for each. A void also removes the referral from
/// the index of work.
#[tokio::test]
async fn an_operators_void() {
    let world = world_with_hold().await;
    world.refer(ALICE, BOB).await;
    world.order(BOB, ORDER).await;
    world.until_idle().await;
    world.wire().take_calls();
    let path = format!("/admin/referrals/{BOB}/void");
    world.post(&path, json!({"reason": "asked by the customer"})).await.with(200);
    world.until_idle().await;
    assert_eq!(cost(&world.wire().take_calls()), budget(2, 5.0, 1.0));
    world.end().await;
}
