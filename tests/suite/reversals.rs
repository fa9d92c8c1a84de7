//! Reversals: rewards that are taken back because their order no longer stands after the issue.

use futures_util::future::join_all;
use local::Options;
use serde_json::{Value, json};

use crate::world::{
    World,
    stand_in::{Reply, SECRET, StandIn},
};

/// Orders are over 42 dollars, of which 25 have to be left. Rewards are issued at once.
async fn world() -> World {
    World::with_env([("MINIMUM_AMOUNT", "2500")]).await
}

/// A World whose rewards are all credit of this stand-in, with short pauses.
async fn with_stand_in(credit: &StandIn) -> World {
    let mut world = World::with(|options: &mut Options| {
        let env = std::mem::take(&mut options.env).with("CREDIT_ENDPOINT", credit.url()).with("WEBHOOK_SECRET", SECRET);
        options.env =
            env.with("MINIMUM_AMOUNT", "2500").with("GRACE_SECONDS", "1").with("SUBSYSTEM_TIMEOUT_SECONDS", "1");
        options.pace.first_retry = std::time::Duration::from_millis(25);
        options.pace.sweep = std::time::Duration::from_millis(250);
    })
    .await;
    world.audit_stand_in(credit);
    world
}

async fn cancel(world: &World, order: &str) {
    world.publish("order.cancelled", json!({"order_id": order})).await;
}

async fn refund(world: &World, id: &str, order: &str, amount: u64) {
    let detail = json!({"refund_id": id, "order_id": order, "amount": amount, "currency": "USD"});
    world.publish("order.refunded", detail).await;
}

async fn rewarded(world: &World, user: &str, order: &str) {
    world.refer("alice", user).await;
    world.order(user, order).await;
    world.until_status(user, "rewarded").await;
}

fn statuses(referral: &Value) -> Value {
    let of_both = referral["rewards"].as_array().unwrap().iter().map(|reward| reward["status"].clone());
    of_both.chain([referral["status"].clone()]).collect()
}

/// The calls that take rewards back, by key.
async fn taken_back(world: &World) -> Vec<Value> {
    let mut calls = world.deliveries().await;
    calls.retain(|call| call["body"]["reversal_id"].is_string());
    calls.sort_by_key(|call| call["body"]["reversal_id"].to_string());
    calls
}

#[tokio::test]
async fn delivered_rewards_are_taken_back_when_their_order_is_cancelled() {
    let world = world().await;
    rewarded(&world, "bob", "o-1").await;
    world.until_idle().await;
    cancel(&world, "o-1").await;
    world.until_idle().await;

    let referral = world.referral("bob").await;
    assert_eq!(statuses(&referral), json!(["reversed", "reversed", "voided"]));
    assert_eq!(referral["void_reason"], "order_cancelled");
    assert!(referral["rewarded_at"].is_string() && referral["voided_at"].is_string(), "{referral}");
    assert!(referral["rewards"][0]["delivered_at"].is_string(), "{referral}");

    let calls = taken_back(&world).await;
    assert_eq!(calls.len(), 2, "{calls:#?}");
    for (call, (side, user)) in calls.iter().zip([("referee", "bob"), ("referrer", "alice")]) {
        let id = format!("bob:{side}:reversal");
        assert_eq!((&call["headers"]["idempotency-key"], &call["headers"]["webhook-id"]), (&json!(id), &json!(id)));
        let body = &call["body"];
        let expected = json!({
            "reversal_id": id, "reverses": format!("bob:{side}"), "referee_id": "bob", "side": side, "user_id": user,
            "type": "credit", "amount": 1000, "currency": "USD", "issued_at": referral["voided_at"],
        });
        assert_eq!(*body, expected);
    }
    assert_eq!(world.announced("referral.voided").await, ["bob:voided"]);
    let of_both = |what: &str| ["referee", "referrer"].map(|side| format!("bob:{side}:reversal:{what}"));
    assert_eq!(world.announced("reward.reversed").await, of_both("reversed"));
    assert_eq!(world.announced("reversal.delivered").await, of_both("delivered"));

    let before = world.contents().await;
    cancel(&world, "o-1").await;
    world.until_idle().await;
    assert_eq!(world.contents().await, before);
    world.end().await;
}

#[tokio::test]
async fn refunds_after_the_issue_take_back_only_below_the_minimum() {
    let world = world().await;
    rewarded(&world, "bob", "o-1").await;
    for (id, amount) in [("r-1", 800), ("r-1", 800), ("r-2", 900)] {
        refund(&world, id, "o-1", amount).await;
        world.until_idle().await;
        assert_eq!(statuses(&world.referral("bob").await), json!(["delivered", "delivered", "rewarded"]), "{id}");
    }
    refund(&world, "r-3", "o-1", 1).await;
    world.until_idle().await;
    assert_eq!(statuses(&world.referral("bob").await), json!(["reversed", "reversed", "voided"]));
    assert_eq!(taken_back(&world).await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn nothing_is_granted_again_after_a_reversal() {
    let world = world().await;
    rewarded(&world, "bob", "o-1").await;
    world.until_idle().await;
    world.publish("payment.disputed", json!({"order_id": "o-1", "dispute_id": "d"})).await;
    world.until_idle().await;
    assert_eq!(world.referral("bob").await["void_reason"], "payment_disputed");
    world.publish("payment.dispute_won", json!({"order_id": "o-1", "dispute_id": "d"})).await;
    world.order("bob", "o-2").await;
    world.until_idle().await;
    assert_eq!(statuses(&world.referral("bob").await), json!(["reversed", "reversed", "voided"]));
    assert_eq!((world.deliveries().await.len(), taken_back(&world).await.len()), (4, 2));
    world.end().await;
}

/// The order falls during the call that grants the reward.
#[tokio::test]
async fn a_reversal_waits_for_the_answer_of_its_reward() {
    let credit = StandIn::start().await;
    credit.set_default_reply(Reply::Hold(200));
    let world = with_stand_in(&credit).await;
    rewarded(&world, "bob", "o-1").await;
    world.until("both are called", async || credit.calls().len() == 2).await;
    cancel(&world, "o-1").await;
    world.until_status("bob", "voided").await;
    world.until("the reversals are announced", async || world.announced("reward.reversed").await.len() == 2).await;
    assert!(credit.calls().iter().all(|call| call.body["reversal_id"].is_null()), "sent before the answer: {credit:?}");
    credit.release();
    world.until("both are taken back", async || credit.booked_count() == 4).await;
    world.until_idle().await;
    assert_eq!(statuses(&world.referral("bob").await), json!(["reversed", "reversed", "voided"]));
    world.end().await;
}

#[tokio::test]
async fn a_refused_reward_is_closed_without_a_call() {
    let credit = StandIn::start().await;
    credit.script("bob:referrer", [Reply::Status(400)]);
    let world = with_stand_in(&credit).await;
    rewarded(&world, "bob", "o-1").await;
    world.until("it is refused", async || world.referral("bob").await["rewards"][0]["status"] == "failed").await;
    world.until_idle().await;
    cancel(&world, "o-1").await;
    world.until_status("bob", "voided").await;
    world.until_idle().await;
    let keys: Vec<_> = credit.booked().into_keys().collect();
    assert_eq!(keys, ["bob:referee", "bob:referee:reversal"]);
    assert_eq!(credit.calls_of("bob:referrer:reversal").len(), 0);
    let shown = world.get("/admin/rewards?status=failed").await.with(200);
    assert_eq!(shown["items"], json!([]), "nothing is left for an operator");
    world.post("/admin/rewards/bob:referrer/resend", json!({})).await.refused(409, "reward_reversed");
    world.post("/admin/reversals/bob:referrer:reversal/resend", json!({})).await.refused(409, "already_delivered");
    world.end().await;
}

/// Nothing was announced yet when the order fell.
#[tokio::test]
async fn a_reward_that_was_never_called_is_not_sent_any_more() {
    let credit = StandIn::start().await;
    let mut world = World::with(|options: &mut Options| {
        let env = std::mem::take(&mut options.env).with("CREDIT_ENDPOINT", credit.url()).with("WEBHOOK_SECRET", SECRET);
        options.env = env.with("GRACE_SECONDS", "0");
        options.pace.stream = false;
        options.pace.schedule = false;
    })
    .await;
    world.audit_stand_in(&credit);
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    world.service().sweep_now().await.unwrap();
    world.until_status("bob", "rewarded").await;
    cancel(&world, "o-1").await;
    world.until_status("bob", "voided").await;
    // An event that was published before, and arrives now.
    for side in ["referrer", "referee"] {
        let detail = json!({"reward_id": format!("bob:{side}"), "type": "credit"});
        world.publish_as_service("reward.issued", detail).await;
    }
    world.until_idle().await;
    // Without the stream, the sweep announces the reversals, and their delivery closes them.
    world.service().sweep_now().await.unwrap();
    world.until_idle().await;
    assert_eq!(world.announced("reward.reversed").await.len(), 2);
    assert_eq!(world.get("/admin/reversals?status=issued").await.with(200)["items"], json!([]));
    assert_eq!(credit.calls().len(), 0, "{credit:?}");
    assert_eq!(statuses(&world.referral("bob").await), json!(["reversed", "reversed", "voided"]));
    world.end().await;
}

#[tokio::test]
async fn a_refused_reversal_is_listed_and_sent_again() {
    let credit = StandIn::start().await;
    credit.script("bob:referrer:reversal", [Reply::Status(404), Reply::Status(404)]);
    credit.script("bob:referee:reversal", [Reply::Status(503)]);
    let world = with_stand_in(&credit).await;
    rewarded(&world, "bob", "o-1").await;
    world.until_idle().await;
    cancel(&world, "o-1").await;
    let listed = async || world.get("/admin/reversals?status=failed&type=credit").await.with(200)["items"].clone();
    world.until("it is refused", async || listed().await.as_array().unwrap().len() == 1).await;
    let item = listed().await[0].clone();
    assert_eq!((&item["reversal_id"], &item["status"]), (&json!("bob:referrer:reversal"), &json!("failed")));
    assert!(item["failure"].as_str().unwrap().starts_with("404") && item["failed_at"].is_string(), "{item}");
    assert_eq!((&item["amount"], &item["currency_exponent"]), (&json!(1000), &json!(2)));

    let again = world.post("/admin/reversals/bob:referrer:reversal/resend", json!({})).await.with(202);
    assert_eq!(again["status"], "issued");
    world.until("it is refused again", async || listed().await.as_array().unwrap().len() == 1).await;
    let all = json!({"type": "credit", "since": "2026-01-01T00:00:00Z"});
    assert_eq!(world.post("/admin/reversals/resend", all).await.with(200)["resent"], 1);
    world.until("it is taken back", async || credit.booked_count() == 4).await;
    world.until_idle().await;
    assert_eq!(listed().await, json!([]));
    let refusals = ["bob:referrer:reversal:failed", "bob:referrer:reversal:failed:1"];
    assert_eq!(world.announced("reversal.failed").await, refusals);
    world.post("/admin/reversals/bob:referrer:reversal/resend", json!({})).await.refused(409, "already_delivered");
    world.post("/admin/reversals/eve:referrer:reversal/resend", json!({})).await.refused(404, "reversal_not_found");
    world.post("/admin/reversals/bob:referrer/resend", json!({})).await.refused(400, "invalid_request");
    world.end().await;
}

/// A reward of an earlier version, which did not record its calls, may have been called.
#[tokio::test]
async fn a_reward_whose_calls_were_not_recorded_is_sent_again_before_it_is_taken_back() {
    let credit = StandIn::start().await;
    credit.set_default_reply(Reply::Silence);
    let world = with_stand_in(&credit).await;
    rewarded(&world, "bob", "o-1").await;
    world.until("both are booked", async || credit.booked_count() == 2).await;
    let (table, key) = (world.service().env().get("TABLE_NAME").unwrap().to_owned(), |text: &str| {
        aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned())
    });
    let forget = world.service().dynamodb().update_item().table_name(table);
    let forget = forget.key("pk", key("REFEREE#bob")).key("sk", key("REFERRAL"));
    let forget = forget
        .update_expression("REMOVE rewards.#calls, rewards.referrer.called_at, rewards.referee.called_at")
        .expression_attribute_names("#calls", "calls");
    forget.send().await.unwrap();
    cancel(&world, "o-1").await;
    world.until_status("bob", "voided").await;
    assert_eq!(credit.booked_count(), 2, "nothing is taken back before the answer");
    credit.set_default_reply(Reply::Status(200));
    world.until("both are taken back", async || credit.booked_count() == 4).await;
    world.until_idle().await;
    world.end().await;
}

#[tokio::test]
async fn many_refunds_at_once_take_back_once() {
    const PARTS: u64 = 50;
    let world = world().await;
    rewarded(&world, "bob", "o-1").await;
    rewarded(&world, "carol", "o-2").await;
    world.until_idle().await;
    // Each part is reported three times. 4200 is paid, and 4150 of it is refunded in parts.
    let parts = (0..3 * PARTS).map(|number| refund_part(&world, number % PARTS));
    let whole = (0..PARTS).map(|_| async { refund(&world, "r", "o-2", 4200).await });
    futures_util::join!(join_all(parts), join_all(whole));
    world.until_idle().await;
    for user in ["bob", "carol"] {
        assert_eq!(statuses(&world.referral(user).await), json!(["reversed", "reversed", "voided"]));
    }
    assert_eq!(taken_back(&world).await.len(), 4);
    world.end().await;
}

async fn refund_part(world: &World, number: u64) {
    refund(world, &format!("r-{number}"), "o-1", 83).await;
}

/// Cancellations, refunds and disputes at the same time as issue and delivery, at a subsystem that fails three of ten calls. The
/// audit compares the books.
#[tokio::test]
async fn adjustments_that_race_issue_and_delivery_keep_the_books_right() {
    const REFERRALS: usize = 24;
    let credit = StandIn::start().await;
    credit.set_default_reply(Reply::Flaky(7));
    let world = with_stand_in(&credit).await;
    let pairs = (0..REFERRALS).map(|number| (format!("bob-{number}"), format!("o-{number}")));
    join_all(pairs.enumerate().map(async |(number, (user, order))| {
        world.refer(&format!("alice-{number}"), &user).await;
        world.order(&user, &order).await;
        tokio::time::sleep(std::time::Duration::from_millis(number as u64 * 12)).await;
        match number % 3 {
            0 => cancel(&world, &order).await,
            1 => futures_util::join!(refund(&world, "r-1", &order, 900), refund(&world, "r-2", &order, 900)).0,
            _ => drop(world.publish("payment.disputed", json!({"order_id": order})).await),
        }
    }))
    .await;
    let open = async || {
        let of = async |path: &str| world.get(path).await.with(200)["items"].as_array().unwrap().len();
        of("/admin/reversals?status=issued").await + of("/admin/rewards?status=issued").await
    };
    for number in 0..REFERRALS {
        world.until_status(&format!("bob-{number}"), "voided").await;
    }
    world.until("all is taken back", async || open().await == 0).await;
    world.until_idle().await;
    let booked = credit.booked();
    let (reversals, grants): (Vec<_>, Vec<_>) = booked.keys().partition(|key| key.ends_with(":reversal"));
    assert_eq!(reversals.len(), grants.len(), "{booked:#?}");
    world.end().await;
}
