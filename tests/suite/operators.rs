//! Operators' decisions: void, reopen, convert, approve, flag, and the lists of what is held or needs a decision.

use serde_json::{Value, json};

use crate::world::{Answer, World, plain};

/// Orders are over 42 dollars, of which 25 have to be left.
async fn world(hold: &str) -> World {
    World::with_env([("MINIMUM_AMOUNT", "2500"), ("HOLD_SECONDS", hold)]).await
}

async fn act(world: &World, referee: &str, action: &str) -> Answer {
    let path = if action == "approve" { "reviews" } else { "referrals" };
    world.post(&format!("/admin/{path}/{referee}/{action}"), json!({"reason": "asked by the customer"})).await
}

async fn convert(world: &World, referee: &str, order: &str) -> Answer {
    let body = json!({"order_id": order, "amount": 4200, "currency": "USD", "reason": "paid in the store"});
    world.post(&format!("/admin/referrals/{referee}/convert"), body).await
}

async fn converted(world: &World, user: &str, order: &str) {
    world.refer("alice", user).await;
    world.order(user, order).await;
    world.until_status(user, "converted").await;
}

async fn rewarded(world: &World, user: &str, order: &str) {
    world.refer("alice", user).await;
    world.order(user, order).await;
    world.until_status(user, "rewarded").await;
    world.until_idle().await;
}

async fn refund_in_euro(world: &World, order: &str) {
    let detail = json!({"refund_id": "r-1", "order_id": order, "amount": 3900, "currency": "EUR"});
    world.publish("order.refunded", detail).await;
}

/// The actions in the audit entries of a referral.
async fn notes(world: &World, referee: &str) -> Vec<(Value, Value)> {
    let shown = world.get(&format!("/admin/referrals/{referee}")).await.with(200);
    shown["notes"].as_array().unwrap().iter().map(|note| (note["action"].clone(), note["reason"].clone())).collect()
}

/// The referees in a list of referrals, and why each needs a decision.
async fn listed(world: &World, status: &str) -> Vec<(Value, Value)> {
    let (mut all, mut next) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/admin/referrals?status={status}&limit=2{next}")).await.with(200);
        let items = page["items"].as_array().unwrap();
        all.extend(items.iter().map(|item| (item["referee_id"].clone(), item["attention"].clone())));
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    all.sort_by_key(|(referee, _)| referee.to_string());
    all
}

#[tokio::test]
async fn a_void_before_the_issue_is_final_and_can_be_reopened() {
    let world = world("3600").await;
    converted(&world, "bob", "o-1").await;
    let voided = act(&world, "bob", "void").await.with(200);
    assert_eq!((&voided["status"], &voided["void_reason"]), (&json!("voided"), &json!("operator")));
    let again = act(&world, "bob", "void").await.with(200);
    assert_eq!(again, voided);
    world.order("bob", "o-2").await;
    world.until_idle().await;
    assert_eq!(world.referral("bob").await["status"], "voided", "no order revives it");
    assert_eq!(world.announced("referral.voided").await, ["bob:voided"]);

    let reopened = act(&world, "bob", "reopen").await.with(200);
    assert_eq!((&reopened["status"], &reopened["void_reason"]), (&json!("converted"), &Value::Null));
    assert_eq!(reopened["order_id"], "o-1");
    assert_eq!(act(&world, "bob", "reopen").await.with(200), reopened);
    let actions = ["void", "reopen"].map(|action| (json!(action), json!("asked by the customer")));
    assert_eq!(notes(&world, "bob").await, actions);
    world.until("it is published", async || world.announced("referral.converted").await.len() == 2).await;
    assert_eq!(world.announced("referral.converted").await, ["bob:converted", "bob:converted:2"]);
    act(&world, "bob", "void").await.with(200);
    world.until_idle().await;
    world.end().await;
}

#[tokio::test]
async fn a_pending_referral_can_be_voided_and_reopened() {
    let world = world("0").await;
    world.refer("alice", "bob").await;
    act(&world, "bob", "void").await.with(200);
    let reopened = act(&world, "bob", "reopen").await.with(200);
    assert_eq!((&reopened["status"], &reopened["voided_at"]), (&json!("pending"), &Value::Null));
    world.until("it is published", async || world.announced("referral.attributed").await.len() == 2).await;
    assert_eq!(world.announced("referral.attributed").await, ["bob:attributed", "bob:attributed:2"]);
    act(&world, "bob", "void").await.with(200);
    world.until("it is published", async || world.announced("referral.voided").await.len() == 2).await;
    assert_eq!(world.announced("referral.voided").await, ["bob:voided", "bob:voided:2"]);
    act(&world, "bob", "reopen").await.with(200);
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    assert_eq!(world.announced("referral.converted").await, ["bob:converted:3"]);
    assert_eq!(world.deliveries().await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn a_void_after_the_issue_takes_both_rewards_back() {
    let world = world("0").await;
    rewarded(&world, "bob", "o-1").await;
    let voided = act(&world, "bob", "void").await.with(200);
    assert_eq!((&voided["status"], &voided["void_reason"]), (&json!("voided"), &json!("operator")));
    for reward in voided["rewards"].as_array().unwrap() {
        assert_eq!((&reward["status"], &reward["reversed_amount"]), (&json!("reversed"), &json!(1000)));
        assert_eq!(reward["currency_exponent"], 2);
    }
    world.until_idle().await;
    let calls = world.deliveries().await;
    let taken_back = calls.iter().filter(|call| call["body"]["reversal_id"].is_string()).count();
    assert_eq!((calls.len(), taken_back), (4, 2));
    act(&world, "bob", "void").await.with(200);
    act(&world, "bob", "reopen").await.refused(409, "wrong_state");
    convert(&world, "bob", "o-2").await.refused(409, "wrong_state");
    assert_eq!(notes(&world, "bob").await.len(), 1);
    // The order has always stood, so no operator has to decide.
    let part = json!({"refund_id": "r", "order_id": "o-1", "amount": 1, "currency": "USD"});
    world.publish("order.refunded", part).await;
    world.until_idle().await;
    assert_eq!(listed(&world, "attention").await, []);
    world.end().await;
}

#[tokio::test]
async fn a_void_because_of_an_order_becomes_final() {
    let world = world("3600").await;
    converted(&world, "bob", "o-1").await;
    world.publish("order.cancelled", json!({"order_id": "o-1"})).await;
    world.until_status("bob", "voided").await;
    act(&world, "bob", "reopen").await.refused(409, "wrong_state");
    assert_eq!(act(&world, "bob", "void").await.with(200)["void_reason"], "operator");
    world.order("bob", "o-2").await;
    world.until_idle().await;
    assert_eq!(world.referral("bob").await["status"], "voided");
    assert_eq!(world.announced("referral.voided").await, ["bob:voided", "bob:voided:2"]);
    // Reopened, it is as before: an order can convert it.
    assert_eq!(act(&world, "bob", "reopen").await.with(200)["void_reason"], "order_cancelled");
    world.order("bob", "o-3").await;
    let next = world.until_status("bob", "converted").await;
    assert_eq!(next["order_id"], "o-3");
    act(&world, "bob", "void").await.with(200);
    world.until_idle().await;
    world.end().await;
}

#[tokio::test]
async fn a_referral_of_a_flagged_user_is_reopened_after_the_flag_is_cleared() {
    let world = world("0").await;
    world.refer("alice", "bob").await;
    let flag = |flagged: bool| json!({"flagged": flagged, "reason": "checked"});
    world.put("/admin/accounts/bob/flag", flag(true)).await.with(200);
    world.order("bob", "o-1").await;
    let voided = world.until_status("bob", "voided").await;
    assert_eq!(voided["void_reason"], "referee_flagged");
    act(&world, "bob", "reopen").await.refused(409, "rule_broken");
    convert(&world, "bob", "o-2").await.refused(409, "wrong_state");
    world.put("/admin/accounts/bob/flag", flag(false)).await.with(200);
    assert_eq!(world.referral("bob").await["status"], "voided", "a clearance releases nothing by itself");
    act(&world, "bob", "reopen").await.with(200);
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    assert_eq!(world.deliveries().await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn an_operator_converts_by_an_order_that_no_event_reported() {
    let world = world("3600").await;
    for user in ["bob", "carol", "dave"] {
        world.refer("alice", user).await;
    }
    let shown = convert(&world, "bob", "o-1").await.with(200);
    assert_eq!((&shown["status"], &shown["order_id"]), (&json!("converted"), &json!("o-1")));
    assert_eq!(shown["conversion_event"], "operator");
    let (at, due) = (shown["converted_at"].as_str().unwrap(), shown["due_at"].as_str().unwrap());
    let hold = chrono::DateTime::parse_from_rfc3339(due).unwrap() - chrono::DateTime::parse_from_rfc3339(at).unwrap();
    assert_eq!(hold.num_seconds(), 3600);
    assert_eq!(convert(&world, "bob", "o-1").await.with(200), shown);
    convert(&world, "bob", "o-2").await.refused(409, "wrong_state");
    convert(&world, "carol", "o-1").await.refused(409, "order_claimed");
    // The event of the same order changes nothing.
    world.order("bob", "o-1").await;
    world.until_idle().await;
    assert_eq!(world.referral("bob").await["conversion_event"], "operator");

    let path = "/admin/referrals/carol/convert";
    let small = json!({"order_id": "o-3", "amount": 2499, "currency": "USD", "reason": "x"});
    world.post(path, small).await.refused(422, "order_not_qualifying");
    let euro = json!({"order_id": "o-3", "amount": 4200, "currency": "EUR", "reason": "x"});
    world.post(path, euro).await.refused(422, "order_not_qualifying");
    world.publish("order.cancelled", json!({"order_id": "o-4"})).await;
    world.until_idle().await;
    convert(&world, "carol", "o-4").await.refused(409, "order_undone");
    assert_eq!(world.referral("carol").await["status"], "pending");
    // Without an amount the minimum counts as paid.
    world.post(path, json!({"order_id": "o-5", "reason": "x"})).await.with(200);
    let one = json!({"refund_id": "r", "order_id": "o-5", "amount": 1, "currency": "USD"});
    world.publish("order.refunded", one).await;
    world.until_status("carol", "voided").await;
    convert(&world, "carol", "o-5").await.refused(409, "order_undone");

    world.put("/admin/accounts/alice/flag", json!({"flagged": true, "reason": "stolen card"})).await.with(200);
    convert(&world, "dave", "o-6").await.refused(409, "rule_broken");
    act(&world, "bob", "void").await.with(200);
    world.until_idle().await;
    world.end().await;
}

#[tokio::test]
async fn a_refund_in_another_currency_needs_a_decision() {
    let mut world = world("1").await;
    for (user, order) in [("bob", "o-1"), ("carol", "o-2")] {
        converted(&world, user, order).await;
        refund_in_euro(&world, order).await;
    }
    let why = json!("refund_in_other_currency");
    world.until("both are listed", async || listed(&world, "attention").await.len() == 2).await;
    assert_eq!(listed(&world, "attention").await, [(json!("bob"), why.clone()), (json!("carol"), why)]);
    assert_eq!(listed(&world, "held").await, []);
    let quarantined = async || world.get("/_local/parked").await.with(200)["count"].clone();
    assert_eq!(quarantined().await, 2);
    // Longer than the hold, and until the copies of the refunds have arrived.
    world.until_redelivered().await;
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(world.referral("bob").await["status"], "converted");
    assert_eq!((quarantined().await, world.deliveries().await.len()), (json!(2), 0));

    assert_eq!(act(&world, "bob", "approve").await.with(200)["attention"], Value::Null);
    act(&world, "bob", "approve").await.with(200);
    assert_eq!(act(&world, "carol", "void").await.with(200)["status"], "voided");
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    assert_eq!(world.deliveries().await.len(), 2);
    assert_eq!(notes(&world, "bob").await.len(), 1, "the second approval changed nothing");
    assert_eq!(listed(&world, "attention").await, []);
    world.expect_unprocessed(2);
    world.end().await;
}

/// The adjustments arrive before the order, or after the issue.
#[tokio::test]
async fn what_is_unclear_is_found_at_any_time() {
    let mut world = world("0").await;
    refund_in_euro(&world, "o-1").await;
    world.until_idle().await;
    converted_and_held(&world, "bob", "o-1").await;
    rewarded(&world, "carol", "o-2").await;
    refund_in_euro(&world, "o-2").await;
    world.until("both are listed", async || listed(&world, "attention").await.len() == 2).await;
    assert_eq!(world.referral("carol").await["status"], "rewarded");
    for user in ["bob", "carol"] {
        act(&world, user, "approve").await.with(200);
    }
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    assert_eq!(listed(&world, "attention").await, []);
    world.expect_unprocessed(1);
    world.end().await;
}

async fn converted_and_held(world: &World, user: &str, order: &str) {
    converted(world, user, order).await;
    world.until_idle().await;
    assert_eq!(world.referral(user).await["status"], "converted");
}

#[tokio::test]
async fn too_many_adjustments_need_a_decision() {
    let mut world = world("0").await;
    let adjust = async |number: u32| {
        let detail = json!({"refund_id": format!("r-{number}"), "order_id": "o-1"});
        world.publish("order.refund_failed", detail).await;
    };
    for number in 0..100 {
        adjust(number).await;
    }
    world.until_idle().await;
    assert_eq!(world.get("/_local/parked").await.with(200)["count"], 0);
    adjust(100).await;
    adjust(101).await;
    world.until_idle().await;
    assert_eq!(world.get("/_local/parked").await.with(200)["count"], 2);
    converted_and_held(&world, "bob", "o-1").await;
    assert_eq!(listed(&world, "attention").await, [(json!("bob"), json!("too_many_adjustments"))]);
    act(&world, "bob", "approve").await.with(200);
    world.until_status("bob", "rewarded").await;
    // Further ones are quarantined, and need no second decision.
    adjust(102).await;
    world.until_idle().await;
    assert_eq!(world.get("/_local/parked").await.with(200)["count"], 3);
    assert_eq!(listed(&world, "attention").await, []);
    world.expect_unprocessed(3);
    world.end().await;
}

#[tokio::test]
async fn an_order_that_stands_again_after_a_reversal_is_listed() {
    let world = world("0").await;
    rewarded(&world, "bob", "o-1").await;
    let at = |minute: u32| json!({"order_id": "o-1", "occurred_at": format!("2026-01-01T10:{minute:02}:00Z")});
    world.publish("payment.disputed", at(1)).await;
    world.until_status("bob", "voided").await;
    world.publish("payment.dispute_won", at(2)).await;
    world.until("it is listed", async || listed(&world, "attention").await.len() == 1).await;
    world.until_idle().await;
    assert_eq!(listed(&world, "attention").await, [(json!("bob"), json!("order_stands_again"))]);
    assert_eq!(act(&world, "bob", "approve").await.with(200)["status"], "voided");
    assert_eq!(listed(&world, "attention").await, []);
    assert_eq!(world.deliveries().await.len(), 4, "nothing is granted again");
    world.end().await;
}

#[tokio::test]
async fn held_referrals_are_listed_with_their_due_time() {
    let world = world("86400").await;
    for number in 0..5 {
        converted(&world, &format!("user-{number}"), &format!("o-{number}")).await;
    }
    let held = listed(&world, "held").await;
    let expected: Vec<_> = (0..5).map(|number| (json!(format!("user-{number}")), Value::Null)).collect();
    assert_eq!(held, expected);
    let shown = world.get("/admin/referrals/user-0").await.with(200);
    assert!(shown["due_at"].as_str() > shown["converted_at"].as_str(), "{shown}");
    for number in 0..5 {
        act(&world, &format!("user-{number}"), "void").await.with(200);
    }
    assert_eq!(listed(&world, "held").await, []);
    world.until_idle().await;
    world.end().await;
}

#[tokio::test]
async fn an_operator_flags_and_clears_an_account() {
    let world = world("0").await;
    let set = async |flagged: bool, reason: &str| {
        let body = json!({"flagged": flagged, "reason": reason});
        world.put("/admin/accounts/bob/flag", body).await.with(200)
    };
    let first = set(true, "stolen card").await;
    assert_eq!(
        (&first["user_id"], &first["flagged"], &first["reason"]),
        (&json!("bob"), &json!(true), &json!("stolen card"))
    );
    assert_eq!(set(true, "stolen card").await, first, "a repetition changes nothing");
    // An event whose time is slightly ahead does not win against the operator.
    let ahead = (chrono::Utc::now() + chrono::Duration::minutes(4)).to_rfc3339();
    world.publish("account.cleared", json!({"user_id": "bob", "occurred_at": ahead})).await;
    world.until_idle().await;
    set(true, "still stolen").await;
    let account = plain(&world.item("USER#bob", "ACCOUNT").await.unwrap());
    assert_eq!((&account["flagged"], &account["flag_reason"]), (&json!(true), &json!("still stolen")));
    set(false, "a mistake").await;
    let account = plain(&world.item("USER#bob", "ACCOUNT").await.unwrap());
    assert_eq!(account["flagged"], false);
    let items = world.items().await;
    let notes = items.iter().map(plain).filter(|item| item["pk"] == "USER#bob" && item["kind"] == "operator");
    let mut notes: Vec<_> =
        notes.map(|note| (note["at"].to_string(), note["action"].clone(), note["reason"].clone())).collect();
    notes.sort_by_key(|(at, ..)| at.clone());
    let notes: Vec<_> = notes.into_iter().map(|(_, action, reason)| (action, reason)).collect();
    let expected = [("flag", "stolen card"), ("flag", "still stolen"), ("clear", "a mistake")];
    assert_eq!(notes, expected.map(|(action, reason)| (json!(action), json!(reason))));
    world.end().await;
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let world = world("0").await;
    world.refer("alice", "bob").await;
    let before = world.contents().await;
    let paths = ["referrals/bob/void", "referrals/bob/reopen", "referrals/bob/convert", "reviews/bob/approve"];
    for path in paths {
        let path = format!("/admin/{path}");
        for reason in [Value::Null, json!(" "), json!(7), json!("x".repeat(257))] {
            let body = json!({"reason": reason, "order_id": "o-1"});
            world.post(&path, body).await.refused(400, "invalid_request");
        }
    }
    let half = json!({"order_id": "o-1", "amount": 1, "reason": "x"});
    world.post("/admin/referrals/bob/convert", half).await.refused(400, "invalid_request");
    world.post("/admin/referrals/bob/convert", json!({"reason": "x"})).await.refused(400, "invalid_request");
    world.put("/admin/accounts/bob/flag", json!({"reason": "x"})).await.refused(400, "invalid_request");
    world.put("/admin/accounts/bob/flag", json!({"flagged": true})).await.refused(400, "invalid_request");
    world.get("/admin/referrals?status=other").await.refused(400, "invalid_request");
    for action in ["void", "reopen", "approve"] {
        act(&world, "unknown", action).await.refused(404, "referral_not_found");
    }
    convert(&world, "unknown", "o-1").await.refused(404, "referral_not_found");
    world.get("/admin/referrals/unknown").await.refused(404, "referral_not_found");
    act(&world, "bob", "reopen").await.refused(409, "wrong_state");
    assert_eq!(world.contents().await, before);
    world.end().await;
}
