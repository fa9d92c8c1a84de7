//! Adjustments of orders: cancellations, refunds and disputes, in any order of arrival, with duplicates and without a user.

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{metrics::Log, world::World};

/// Orders are over 42 dollars, of which 25 have to be left.
async fn world() -> World {
    World::with_env([("HOLD_SECONDS", "3600"), ("MINIMUM_AMOUNT", "2500")]).await
}

fn refund(id: &str, order: &str, amount: u64) -> (&'static str, Value) {
    ("order.refunded", json!({"refund_id": id, "order_id": order, "amount": amount, "currency": "USD"}))
}

fn failed(id: &str, order: &str) -> (&'static str, Value) {
    ("order.refund_failed", json!({"refund_id": id, "order_id": order}))
}

fn dispute(order: &str, id: Option<&str>, at: &str, is_won: bool) -> (&'static str, Value) {
    let what = if is_won { "payment.dispute_won" } else { "payment.disputed" };
    (what, json!({"order_id": order, "dispute_id": id, "occurred_at": format!("2026-01-01T{at}:00Z")}))
}

async fn publish(world: &World, (what, detail): (&str, Value)) {
    world.publish(what, detail).await;
}

/// Publishes an event, and returns the status and the void's reason once it is processed.
async fn after(world: &World, user: &str, (what, detail): (&str, Value)) -> (String, Value) {
    world.publish(what, detail).await;
    world.until_idle().await;
    state(world, user).await
}

async fn state(world: &World, user: &str) -> (String, Value) {
    let shown = world.referral(user).await;
    (shown["status"].as_str().unwrap().to_owned(), shown["void_reason"].clone())
}

fn converted() -> (String, Value) {
    ("converted".to_owned(), Value::Null)
}

fn voided(reason: &str) -> (String, Value) {
    ("voided".to_owned(), json!(reason))
}

async fn ordered(world: &World, user: &str, order: &str) {
    world.refer("alice", user).await;
    world.order(user, order).await;
    world.until_idle().await;
}

#[tokio::test]
async fn refunds_add_up_by_their_id() {
    let world = world().await;
    ordered(&world, "bob", "o-1").await;
    for (id, amount) in [("r-1", 800), ("r-1", 800), ("r-2", 900)] {
        assert_eq!(after(&world, "bob", refund(id, "o-1", amount)).await, converted(), "{id}");
    }
    assert_eq!(after(&world, "bob", refund("r-3", "o-1", 1)).await, voided("order_refunded"));
    // The provider could not carry it out.
    assert_eq!(after(&world, "bob", failed("r-3", "o-1")).await, converted());
    assert_eq!(after(&world, "bob", refund("r-3", "o-1", 1)).await, converted());
    assert_eq!(after(&world, "bob", refund("r-4", "o-1", 1)).await, voided("order_refunded"));
    world.end().await;
}

#[tokio::test]
async fn refunds_count_that_arrive_before_their_order() {
    let world = world().await;
    for (order, last, expected) in [("o-1", 900, converted()), ("o-2", 901, voided("order_refunded"))] {
        for (id, amount) in [("r-1", 800), ("r-2", last), ("r-3", 4200)] {
            publish(&world, refund(id, order, amount)).await;
        }
        publish(&world, failed("r-3", order)).await;
        world.until_idle().await;
        ordered(&world, order, order).await;
        assert_eq!(state(&world, order).await, expected, "{order}");
    }
    world.end().await;
}

#[tokio::test]
async fn many_refunds_at_once_add_up() {
    let world = world().await;
    ordered(&world, "bob", "o-1").await;
    let refunds: Vec<_> = (0..150).map(|number| refund(&format!("r-{}", number % 50), "o-1", 34)).collect();
    join_all(refunds.into_iter().map(|refund| publish(&world, refund))).await;
    world.until_idle().await;
    assert_eq!(state(&world, "bob").await, converted(), "1700 of 4200 are refunded");
    assert_eq!(after(&world, "bob", refund("last", "o-1", 1)).await, voided("order_refunded"));
    world.end().await;
}

#[tokio::test]
async fn a_dispute_that_was_won_restores_the_order_in_any_order_of_arrival() {
    let world = world().await;
    for user in ["bob", "carol"] {
        ordered(&world, user, user).await;
    }
    assert_eq!(after(&world, "bob", dispute("bob", None, "10:00", false)).await, voided("payment_disputed"));
    assert_eq!(after(&world, "bob", dispute("bob", None, "10:01", true)).await, converted());
    assert_eq!(after(&world, "carol", dispute("carol", None, "10:01", true)).await, converted());
    assert_eq!(after(&world, "carol", dispute("carol", None, "10:00", false)).await, converted());
    // At the same time, the dispute counts.
    assert_eq!(after(&world, "carol", dispute("carol", None, "10:01", false)).await, voided("payment_disputed"));
    // Another dispute of the order.
    assert_eq!(after(&world, "bob", dispute("bob", Some("d-2"), "09:00", false)).await, voided("payment_disputed"));
    assert_eq!(after(&world, "bob", dispute("bob", None, "10:02", true)).await, voided("payment_disputed"));
    assert_eq!(after(&world, "bob", dispute("bob", Some("d-2"), "09:01", true)).await, converted());
    // Every event arrives again through the delay queue and changes nothing.
    world.until_redelivered().await;
    assert_eq!(state(&world, "bob").await, converted());
    assert_eq!(state(&world, "carol").await, voided("payment_disputed"));
    world.end().await;
}

#[tokio::test]
async fn a_restored_conversion_keeps_its_hold_and_has_its_own_events() {
    let world = world().await;
    ordered(&world, "bob", "o-1").await;
    let before = world.stored("bob").await;
    after(&world, "bob", dispute("o-1", None, "10:00", false)).await;
    after(&world, "bob", dispute("o-1", None, "10:01", true)).await;
    let stored = world.stored("bob").await;
    assert_eq!((&stored["due_at"], &stored["conversion"]["number"]), (&before["due_at"], &json!(2)));
    world.until_idle().await;
    assert_eq!(world.announced("referral.converted").await, ["bob:converted", "bob:converted:2"]);
    assert_eq!(world.announced("referral.voided").await, ["bob:voided"]);
    world.end().await;
}

#[tokio::test]
async fn the_log_names_each_effect() {
    let log = Log::default();
    let _lines = log.start("INFO");
    let world = world().await;
    ordered(&world, "bob", "o-1").await;
    for (event, outcome) in [
        (refund("r-1", "o-1", 1), "adjustment_noted"),
        (dispute("o-1", None, "10:00", false), "voided"),
        (refund("r-2", "o-1", 1), "adjustment_noted"),
        (dispute("o-1", None, "10:01", true), "restored"),
        (refund("r-3", "o-1", 1), "adjustment_noted"),
        (refund("r-3", "o-1", 1), "duplicate"),
        (refund("r-1", "unknown", 1), "adjustment_noted"),
    ] {
        log.take();
        after(&world, "bob", event).await;
        assert!(!Log::with(&log.take(), outcome).is_empty(), "{outcome}");
    }
    world.end().await;
}

#[tokio::test]
async fn another_order_converts_after_the_first_one_was_undone() {
    let world = world().await;
    ordered(&world, "bob", "o-1").await;
    let cancelled = ("order.cancelled", json!({"order_id": "o-1"}));
    assert_eq!(after(&world, "bob", cancelled).await, voided("order_cancelled"));
    world.order("bob", "o-2").await;
    world.until_idle().await;
    let shown = world.referral("bob").await;
    assert_eq!((&shown["status"], &shown["order_id"]), (&json!("converted"), &json!("o-2")));
    assert_eq!((&shown["void_reason"], &shown["voided_at"]), (&Value::Null, &Value::Null));
    // The first order is of no importance any more.
    assert_eq!(after(&world, "bob", dispute("o-1", None, "10:00", false)).await, converted());
    world.end().await;
}

/// Orders that arrive during the hold convert one after another, each with its own hold.
#[tokio::test]
async fn the_next_order_converts_when_one_is_undone() {
    let log = Log::default();
    let _lines = log.start("INFO");
    let world = world().await;
    ordered(&world, "bob", "o-1").await;
    log.take();
    for order in ["o-2", "o-3"] {
        world.order("bob", order).await;
        world.until_idle().await;
        assert!(!Log::with(&log.take(), "candidate_kept").is_empty());
    }
    let cancel = |order: &str| ("order.cancelled", json!({"order_id": order}));
    assert_eq!(after(&world, "bob", dispute("o-1", None, "10:00", false)).await, converted());
    assert!(!Log::with(&log.take(), "next_order_converted").is_empty());
    let stored = world.stored("bob").await;
    let arrived: DateTime<Utc> = stored["conversion"]["at"].as_str().unwrap().parse().unwrap();
    let due: DateTime<Utc> = stored["due_at"].as_str().unwrap().parse().unwrap();
    assert_eq!((&stored["conversion"]["order"], (due - arrived).num_seconds()), (&json!("o-2"), 3600));

    // The first order stands again, so it is the next one.
    assert_eq!(after(&world, "bob", dispute("o-1", None, "10:01", true)).await, converted());
    for (undone, next) in [("o-2", "o-1"), ("o-1", "o-3")] {
        assert_eq!(after(&world, "bob", cancel(undone)).await, converted());
        assert_eq!(world.referral("bob").await["order_id"], next);
    }
    assert_eq!(after(&world, "bob", cancel("o-3")).await, voided("order_cancelled"));
    world.until_redelivered().await;
    assert_eq!(state(&world, "bob").await, voided("order_cancelled"));
    let converted = ["bob:converted", "bob:converted:2", "bob:converted:3", "bob:converted:4"];
    assert_eq!(world.announced("referral.converted").await, converted);
    assert_eq!(world.announced("referral.voided").await, ["bob:voided:4"]);
    world.end().await;
}

/// Of many orders at once, one converts and eight are kept.
#[tokio::test]
async fn many_orders_at_once_are_kept() {
    let world = world().await;
    world.refer("alice", "bob").await;
    let orders: Vec<_> = (1..=12).map(|number| format!("o-{number}")).collect();
    join_all(orders.iter().map(|order| world.order("bob", order))).await;
    world.until_idle().await;
    let stored = world.stored("bob").await;
    assert_eq!(stored["candidates"].as_array().unwrap().len(), 8, "{stored}");
    let first = stored["conversion"]["order"].as_str().unwrap();
    let next = stored["candidates"][0]["order"].clone();
    assert_eq!(after(&world, "bob", ("order.cancelled", json!({"order_id": first}))).await, converted());
    assert_eq!(world.referral("bob").await["order_id"], next);
    world.end().await;
}

/// A candidate that is undone is passed over, also if it was undone before it arrived.
#[tokio::test]
async fn an_undone_candidate_does_not_convert() {
    let world = world().await;
    let cancel = |order: &str| ("order.cancelled", json!({"order_id": order}));
    publish(&world, cancel("early")).await;
    ordered(&world, "bob", "o-1").await;
    for order in ["early", "late", "last"] {
        world.order("bob", order).await;
        world.until_idle().await;
    }
    assert_eq!(after(&world, "bob", cancel("late")).await, converted());
    assert_eq!(after(&world, "bob", cancel("o-1")).await, converted());
    assert_eq!(world.referral("bob").await["order_id"], "last");
    world.end().await;
}

#[tokio::test]
async fn a_void_because_of_fraud_is_final() {
    let world = World::with_env([("MINIMUM_AMOUNT", "2500")]).await;
    world.refer("alice", "bob").await;
    world.publish("account.flagged", json!({"user_id": "bob", "reason": "fraud"})).await;
    world.until_idle().await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "voided").await;
    world.order("bob", "o-2").await;
    world.until_idle().await;
    assert_eq!(state(&world, "bob").await, voided("referee_flagged"));
    world.end().await;
}

#[tokio::test]
async fn an_order_keeps_a_hundred_adjustments_and_the_next_is_quarantined() {
    let mut world = world().await;
    ordered(&world, "bob", "o-1").await;
    publish(&world, dispute("o-1", None, "10:00", true)).await;
    for number in 0..99 {
        publish(&world, refund(&format!("r-{number}"), "o-1", 1)).await;
    }
    world.until_idle().await;
    assert_eq!(state(&world, "bob").await, converted());
    assert_eq!(after(&world, "bob", refund("r-100", "o-1", 4200)).await, converted());
    // One that is known still counts as a repetition.
    assert_eq!(after(&world, "bob", refund("r-7", "o-1", 1)).await, converted());
    // A later state of a known dispute needs no room.
    assert_eq!(after(&world, "bob", dispute("o-1", None, "10:01", false)).await, voided("payment_disputed"));
    world.until_redelivered().await;
    let parked = world.get("/_local/parked").await.with(200);
    assert_eq!(parked["count"], 1, "{parked}");
    assert_eq!(parked["items"][0]["body"]["payload"]["detail"]["refund_id"], "r-100", "{parked}");
    world.expect_unprocessed(1);
    world.end().await;
}
