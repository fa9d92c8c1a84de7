//! Which orders convert: an order that was placed before the sign-up of its user is an order of an existing customer, and an order
//! converts the referral of one user.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use referrals::{
    domain::money::Money,
    store::{
        Store,
        keys::{Key, SK, text},
    },
};
use serde_json::{Value, json};

use crate::{
    metrics::Log,
    world::{Fault, World, plain},
};

const MINUTE: u64 = 60;

fn ago(seconds: u64) -> DateTime<Utc> {
    Utc::now() - Duration::from_secs(seconds)
}

fn order(user: &str, occurred_at: Option<DateTime<Utc>>) -> Value {
    let mut detail = json!({"order_id": format!("o-{user}"), "user_id": user, "amount": 4200, "currency": "USD"});
    if let Some(at) = occurred_at {
        detail["occurred_at"] = at.to_rfc3339().into();
    }
    detail
}

/// Publishes an order, waits for its delayed copy, too, and returns the state of its user's referral.
async fn after(world: &World, detail: Value, time: Option<DateTime<Utc>>) -> Value {
    let user = detail["user_id"].as_str().unwrap().to_owned();
    world.publish_at("order.completed", detail, time.map_or(Value::Null, |at| at.timestamp().into())).await;
    world.until_redelivered().await;
    world.referral(&user).await["status"].clone()
}

/// An earlier build claimed orders without the attribute that keeps them.
#[tokio::test]
async fn a_claimed_order_is_never_deleted() {
    let world = World::with_env([("HOLD_SECONDS", "3600")]).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    let update = |expression: &str| {
        let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
        let update = world.service().dynamodb().update_item().table_name(table).update_expression(expression);
        let update = update.key("pk", text("ORDER#o-1")).key("sk", text("ORDER"));
        update.expression_attribute_names("#ttl", "ttl")
    };
    let ttl = async || plain(&world.item("ORDER#o-1", "ORDER").await.unwrap())["ttl"].clone();
    update("REMOVE #ttl").send().await.unwrap();
    let refund = json!({"refund_id": "r-1", "order_id": "o-1", "amount": 1, "currency": "USD"});
    world.publish("order.refunded", refund.clone()).await;
    world.until_idle().await;
    assert!(ttl().await.is_null());
    // A crash left the time to delete it. A repeated event removes it, and so does a repeated claim.
    let expires = async || {
        let at = aws_sdk_dynamodb::types::AttributeValue::N("1".to_owned());
        update("SET #ttl = :at").expression_attribute_values(":at", at).send().await.unwrap();
        assert_eq!(ttl().await, 1);
    };
    expires().await;
    world.publish("order.refunded", refund).await;
    world.until_idle().await;
    assert!(ttl().await.is_null());
    expires().await;
    let store = Store::new(&world.service().dynamodb(), world.service().env().get("TABLE_NAME").unwrap());
    let paid = Money { amount: 4200.try_into().unwrap(), currency: "USD".parse().unwrap() };
    store.claim(&"o-1".parse().unwrap(), &"bob".parse().unwrap(), &paid).await.unwrap();
    assert!(ttl().await.is_null());
    world.end().await;
}

#[tokio::test]
async fn an_order_from_before_the_sign_up_does_not_convert() {
    let log = Log::default();
    let _lines = log.start("INFO");
    let world = World::start().await;
    for (user, occurred_at, time, expected) in [
        ("years-ago", Some(ago(3 * 31_536_000)), None, "pending"),
        ("just-too-old", Some(ago(16 * MINUTE)), None, "pending"),
        ("in-time", Some(ago(10 * MINUTE)), None, "rewarded"),
        ("by-its-envelope", None, Some(ago(16 * MINUTE)), "pending"),
        ("in-time-by-its-envelope", None, Some(ago(10 * MINUTE)), "rewarded"),
        // What the product says counts more than when it was published.
        ("published-early", Some(ago(0)), Some(ago(16 * MINUTE)), "rewarded"),
        ("published-late", Some(ago(16 * MINUTE)), Some(ago(0)), "pending"),
    ] {
        world.refer("alice", user).await;
        log.take();
        assert_eq!(after(&world, order(user, occurred_at), time).await, expected, "{user}");
        let is_logged = !Log::with(&log.take(), "order_before_sign_up").is_empty();
        assert!(is_logged || expected == "rewarded", "{user}");
    }
    // Another order still converts.
    let later = json!({"order_id": "o-2", "user_id": "just-too-old", "amount": 4200, "currency": "USD"});
    assert_eq!(after(&world, later, None).await, "rewarded");
    world.end().await;
}

/// The product reports a sign-up some minutes late. The time of the sign-up counts.
#[tokio::test]
async fn the_reported_time_of_the_sign_up_counts() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let ahead = Utc::now() + Duration::from_secs(10 * MINUTE);
    for (user, signed_up_at, expected) in
        [("late", Some(ago(4 * MINUTE)), "rewarded"), ("now", None, "pending"), ("ahead", Some(ahead), "pending")]
    {
        let mut body = json!({"referee_id": user, "code": "ALICE"});
        if let Some(at) = signed_up_at {
            body["signed_up_at"] = at.to_rfc3339().into();
        }
        world.post("/v1/referrals", body).await.with(201);
        assert_eq!(after(&world, order(user, Some(ago(17 * MINUTE))), None).await, expected, "{user}");
    }
    world.end().await;
}

/// A sign-up by event happened at `signed_up_at`, or else when the event was sent.
#[tokio::test]
async fn a_sign_up_by_event_has_the_time_of_the_event() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    for (user, time, signed_up_at, expected) in [
        ("sent-late", Some(ago(4 * MINUTE)), None, "rewarded"),
        ("sent-now", None, None, "pending"),
        ("reported-late", None, Some(ago(4 * MINUTE)), "rewarded"),
    ] {
        let mut detail = json!({"user_id": user, "code": "ALICE"});
        if let Some(at) = signed_up_at {
            detail["signed_up_at"] = at.to_rfc3339().into();
        }
        let time = time.map_or(Value::Null, |at| at.timestamp().into());
        world.publish_at("customer.signed_up", detail, time).await;
        world.until_status(user, "pending").await;
        assert_eq!(after(&world, order(user, Some(ago(17 * MINUTE))), None).await, expected, "{user}");
    }
    world.end().await;
}

#[tokio::test]
async fn the_tolerance_is_a_setting() {
    let world = World::with_env([("ORDER_LEAD_SECONDS", "0")]).await;
    world.refer("alice", "bob").await;
    assert_eq!(after(&world, order("bob", Some(ago(MINUTE))), None).await, "pending");
    world.refer("alice", "carol").await;
    assert_eq!(after(&world, order("carol", Some(ago(0))), None).await, "rewarded");
    world.end().await;
}

/// An order that converts late is held for the delay of the copy, so that its cancellation counts, too.
#[tokio::test]
async fn an_order_that_converts_late_is_not_paid_at_once() {
    let mut world = World::with_env([("DELAY_SECONDS", "300")]).await;
    let held = async |user: &str| {
        let stored = world.stored(user).await;
        let due_at: DateTime<Utc> = stored["due_at"].as_str().unwrap_or_else(|| panic!("{stored}")).parse().unwrap();
        assert!((290..=300).contains(&(due_at - Utc::now()).num_seconds()), "{stored}");
    };
    // The order arrives before its sign-up, and its cancellation after the copy.
    world.publish("order.completed", of("early", "o-1")).await;
    world.until_idle().await;
    world.refer("alice", "early").await;
    world.until_redelivered().await;
    assert_eq!(world.referral("early").await["status"], "converted");
    held("early").await;
    world.publish("order.cancelled", json!({"order_id": "o-1"})).await;
    world.until_idle().await;
    assert_eq!(world.referral("early").await["void_reason"], "order_cancelled");

    world.refer("alice", "old").await;
    assert_eq!(after(&world, order("old", Some(ago(310))), None).await, "converted");
    held("old").await;
    world.refer("alice", "new").await;
    assert_eq!(after(&world, order("new", Some(ago(200))), None).await, "rewarded");
    world.allow_outstanding_work();
    world.end().await;
}

fn of(user: &str, order: &str) -> Value {
    json!({"order_id": order, "user_id": user, "amount": 4200, "currency": "USD"})
}

#[tokio::test]
async fn an_order_converts_the_referral_of_one_user() {
    let log = Log::default();
    let _lines = log.start("INFO");
    let world = World::start().await;
    for user in ["guest", "member"] {
        world.refer("alice", user).await;
    }
    assert_eq!(after(&world, of("guest", "o-1"), None).await, "rewarded");
    log.take();
    assert_eq!(after(&world, of("member", "o-1"), None).await, "pending");
    assert!(!Log::with(&log.take(), "order_of_another_user").is_empty());
    // A repetition for the first user changes nothing, and another order converts the second one.
    assert_eq!(after(&world, of("guest", "o-1"), None).await, "rewarded");
    assert_eq!(after(&world, of("member", "o-2"), None).await, "rewarded");
    assert_eq!(world.deliveries().await.len(), 4);
    world.end().await;
}

#[tokio::test]
async fn an_order_of_a_user_who_is_not_referred_is_not_claimed() {
    let world = World::start().await;
    world.publish("order.completed", of("stranger", "o-1")).await;
    world.until_idle().await;
    world.refer("alice", "bob").await;
    assert_eq!(after(&world, of("bob", "o-1"), None).await, "rewarded");
    world.end().await;
}

#[tokio::test]
async fn of_many_users_with_one_order_one_converts() {
    let world = World::start().await;
    let users: Vec<String> = (0..20).map(|number| format!("user-{number}")).collect();
    for user in &users {
        world.refer("alice", user).await;
    }
    join_all(users.iter().map(|user| world.publish("order.completed", of(user, "o-1")))).await;
    world.until_idle().await;
    let mut rewarded = 0;
    for user in &users {
        rewarded += u32::from(world.referral(user).await["status"] == "rewarded");
    }
    assert_eq!(rewarded, 1);
    world.end().await;
}

/// The function ends between the claim and the step, or does not get the answer to the claim. The repetition continues.
#[tokio::test]
async fn a_claimed_order_converts_after_a_crash() {
    for faults in [
        // The answer to the claim is lost, and so is each request after it.
        vec![Fault::AnswerLost, Fault::RequestLost, Fault::RequestLost, Fault::RequestLost],
        vec![Fault::AnswerLost],
    ] {
        let world = World::start().await;
        world.refer("alice", "bob").await;
        world.until_idle().await;
        world.wire().break_next("UpdateItem", faults);
        assert_eq!(after(&world, of("bob", "o-1"), None).await, "rewarded");
        assert!(world.wire().is_mended());
        world.end().await;
    }
}

/// Removes all claims, as if a version without claims had written the table.
async fn forget_claims(world: &World) {
    let (client, table) = (world.service().dynamodb(), world.service().env().get("TABLE_NAME").unwrap().to_owned());
    for item in world.items().await {
        if let Some(key) = Key::of(&item).filter(|_| item[SK] == text("ORDER")) {
            client.delete_item().table_name(&table).set_key(Some(key.attributes())).send().await.unwrap();
        }
    }
}

#[tokio::test]
async fn orders_of_an_earlier_version_are_claimed_by_a_command() {
    let world = World::start().await;
    for (user, order) in [("bob", "o-1"), ("carol", "o-1"), ("dave", "o-2")] {
        world.refer("alice", user).await;
        assert_eq!(after(&world, of(user, order), None).await, "rewarded");
        forget_claims(&world).await;
    }
    world.refer("alice", "eve").await;
    let store = Store::new(&world.service().dynamodb(), world.service().env().get("TABLE_NAME").unwrap());
    // The second run stands for a repetition after an interruption.
    for _ in 0..2 {
        let report = claim_orders::claim_orders(&store, Utc::now().into(), |_items| ()).await.unwrap();
        assert_eq!((report.claimed, report.unreadable), (2, 0), "{report:?}");
        let [line] = report.attention.as_slice() else { panic!("{report:?}") };
        assert!(line.starts_with("order o-1 converted "), "{line}");
    }
    assert_eq!(after(&world, of("eve", "o-2"), None).await, "pending");
    assert_eq!(after(&world, of("eve", "o-1"), None).await, "pending");
    assert_eq!(after(&world, of("eve", "o-3"), None).await, "rewarded");
    world.end().await;
}

/// An earlier version converted the referral. Then its order is disputed, and the provider does not name the user.
#[tokio::test]
async fn the_command_applies_adjustments_that_arrived_without_a_user() {
    let world = World::with_env([("HOLD_SECONDS", "3600")]).await;
    world.refer("alice", "bob").await;
    assert_eq!(after(&world, of("bob", "o-1"), None).await, "converted");
    forget_claims(&world).await;
    let at = |seconds| ago(seconds).to_rfc3339();
    world.publish("payment.disputed", json!({"order_id": "o-1", "occurred_at": at(20)})).await;
    world.until_idle().await;
    assert_eq!(world.referral("bob").await["status"], "converted");
    let store = Store::new(&world.service().dynamodb(), world.service().env().get("TABLE_NAME").unwrap());
    claim_orders::claim_orders(&store, Utc::now().into(), |_items| ()).await.unwrap();
    assert_eq!(world.referral("bob").await["void_reason"], "payment_disputed");
    world.publish("payment.dispute_won", json!({"order_id": "o-1", "occurred_at": at(10)})).await;
    world.until_idle().await;
    assert_eq!(world.referral("bob").await["status"], "converted");
    world.end().await;
}
