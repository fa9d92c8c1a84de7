//! Lists and reads: each field follows the contract, and pages neither lose nor repeat items.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::World;

/// Whether this is a timestamp in the form that the service writes.
fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == "2026-01-31T09:30:00.000Z".len()
        && chrono::DateTime::parse_from_rfc3339(text).is_ok()
        && text.ends_with('Z')
}

/// Replaces the timestamps of a document by `null`, after checking that they are present.
fn without_times(mut document: Value, fields: &[&str]) -> Value {
    for field in fields {
        assert!(is_time(&document[field]), "{field} of {document:#}");
        document[field] = Value::Null;
    }
    document
}

/// Reads all pages of a list.
async fn walk(world: &World, path: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world.get(&format!("{path}?limit={limit}{cursor}")).await.with(200);
        assert_eq!(page.as_object().unwrap().keys().collect::<Vec<_>>(), ["items", "next_cursor"]);
        let found = page["items"].as_array().unwrap();
        assert!(found.len() <= limit, "{page:#}");
        items.extend(found.iter().cloned());
        pages += 1;
        assert!(pages < 100, "{path} has no end");
        match &page["next_cursor"] {
            Value::Null => return items,
            Value::String(next) => cursor = format!("&cursor={next}"),
            other => panic!("{other}"),
        }
    }
}

fn ids(items: &[Value], field: &str) -> Vec<String> {
    items.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

/// Refers the referees one after another, each in another millisecond. Returns the referrals, newest first.
async fn refer_all(world: &World, code: &str, referees: impl IntoIterator<Item = String>) -> Vec<Value> {
    let mut referrals = Vec::new();
    for referee in referees {
        sleep(Duration::from_millis(2)).await;
        referrals.insert(0, world.attribute(&referee, code).await.with(201));
    }
    referrals
}

#[tokio::test]
async fn a_code_is_returned_with_all_its_fields() {
    let world = World::start().await;
    let url = world.service().url();
    let minted = world.put("/v1/users/alice/code", json!({"code": "ALICE-2026"})).await.with(201);
    let expected = json!({
        "code": "ALICE-2026", "user_id": "alice", "program": "default", "link": format!("{url}/r/ALICE-2026"),
        "created_at": null, "expires_at": null,
    });
    assert_eq!(without_times(minted.clone(), &["created_at"]), expected);
    assert_eq!(world.put("/v1/users/alice/code", json!({})).await.with(200), minted);
    for path in ["/v1/users/alice/code", "/v1/codes/ALICE-2026", "/v1/codes/a11ce2026", "/v1/codes/ALICE%2D2026"] {
        let answer = world.get(path).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.with(200), minted, "{path}");
    }

    let body = json!({"expires_at": "2099-12-31T23:00:00+01:00", "program": "default"});
    let random = world.put("/v1/users/bob/code", body).await.with(201);
    assert_eq!(random["expires_at"], "2099-12-31T22:00:00.000Z");
    let code = random["code"].as_str().unwrap();
    assert!(code.len() == 8 && code.bytes().all(|byte| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&byte)), "{code}");
    assert_eq!(world.get(&format!("/v1/codes/{code}")).await.with(200), random);
    // Neither a body nor a content type is needed.
    let bare = world.send(reqwest::Method::PUT, "/v1/users/carol/code", &[], "").await.with(201);
    assert_eq!((&bare["user_id"], &bare["expires_at"]), (&json!("carol"), &Value::Null));
    world.end().await;
}

#[tokio::test]
async fn a_referral_is_returned_with_all_its_fields_in_each_state() {
    let world = World::with_env([("HOLD_SECONDS", "1"), ("REFEREE_REWARD_TYPE", "points")]).await;
    world.mint("alice", "ALICE").await;
    let created = world.attribute("bob", "ALICE").await.with(201);
    let mut expected = json!({
        "referee_id": "bob", "referrer_id": "alice", "code": "ALICE", "program": "default", "status": "pending",
        "created_at": null, "conversion_event": null, "order_id": null, "converted_at": null, "rewarded_at": null,
        "voided_at": null, "void_reason": null, "rewards": [],
    });
    assert_eq!(without_times(created.clone(), &["created_at"]), expected);
    assert_eq!(world.referral("bob").await, created);

    world.order("bob", "o-1").await;
    let converted = world.until_status("bob", "converted").await;
    expected["status"] = json!("converted");
    expected["conversion_event"] = json!("order.completed");
    expected["order_id"] = json!("o-1");
    assert_eq!(without_times(converted.clone(), &["created_at", "converted_at"]), expected);

    // Another referral that is voided meanwhile.
    world.attribute("carol", "ALICE").await.with(201);
    world.order("carol", "o-2").await;
    world.until_status("carol", "converted").await;
    world.publish("order.cancelled", json!({"order_id": "o-2", "user_id": "carol"})).await;
    let voided = world.until_status("carol", "voided").await;
    let mut expected_voided = expected.clone();
    expected_voided["referee_id"] = json!("carol");
    expected_voided["status"] = json!("voided");
    expected_voided["order_id"] = json!("o-2");
    expected_voided["void_reason"] = json!("order_cancelled");
    assert_eq!(without_times(voided.clone(), &["created_at", "converted_at", "voided_at"]), expected_voided);

    sleep(Duration::from_millis(1100)).await;
    world.service().sweep_now().await.unwrap();
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let rewarded = world.referral("bob").await;
    expected["status"] = json!("rewarded");
    expected["rewards"] = json!([
        {"reward_id": "bob:referrer", "side": "referrer", "user_id": "alice", "type": "credit", "amount": 1000, "reversed_amount": 0,
         "currency": "USD", "status": "delivered", "issued_at": null, "delivered_at": null},
        {"reward_id": "bob:referee", "side": "referee", "user_id": "bob", "type": "points", "amount": 1000, "reversed_amount": 0,
         "currency": null, "status": "delivered", "issued_at": null, "delivered_at": null},
    ]);
    let mut shown = without_times(rewarded.clone(), &["created_at", "converted_at", "rewarded_at"]);
    for reward in shown["rewards"].as_array_mut().unwrap() {
        *reward = without_times(reward.clone(), &["issued_at", "delivered_at"]);
    }
    assert_eq!(shown, expected);
    assert_eq!(rewarded["created_at"], created["created_at"]);
    assert_eq!(rewarded["converted_at"], converted["converted_at"]);

    // The lists return the same data, and each user gets the reward of their own side.
    let list = world.get("/v1/users/alice/referrals").await.with(200);
    assert_eq!(list, json!({"items": [voided, rewarded], "next_cursor": null}));
    let of_alice = world.get("/v1/users/alice/rewards").await.with(200);
    assert_eq!(of_alice, json!({"items": [rewarded["rewards"][0]], "next_cursor": null}));
    let of_bob = world.get("/v1/users/bob/rewards").await.with(200);
    assert_eq!(of_bob, json!({"items": [rewarded["rewards"][1]], "next_cursor": null}));
    world.end().await;
}

#[tokio::test]
async fn a_failed_reward_has_the_status_failed() {
    let world = World::start().await;
    world.script("credit", json!({"answers": [400, 400]})).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let rewards = world.get("/v1/users/alice/rewards").await.with(200)["items"].clone();
    let shown = without_times(rewards[0].clone(), &["issued_at"]);
    assert_eq!((&shown["status"], &shown["delivered_at"]), (&json!("failed"), &Value::Null));
    world.end().await;
}

#[tokio::test]
async fn pages_contain_each_referral_once() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    world.mint("dave", "DAVE").await;
    let expected = refer_all(&world, "ALICE", (0..25).map(|number| format!("bob-{number}"))).await;
    let others = refer_all(&world, "DAVE", ["zed".to_owned()]).await;
    let times = ids(&expected, "created_at");
    assert!(times.is_sorted_by(|newer, older| newer > older), "{times:?}");

    for limit in [1, 2, 7, 24, 25, 26, 100] {
        assert_eq!(walk(&world, "/v1/users/alice/referrals", limit).await, expected, "limit {limit}");
    }
    let page = world.get("/v1/users/alice/referrals?limit=100").await.with(200);
    assert_eq!(page["next_cursor"], Value::Null);
    // The default limit is fifty. A limit of two returns two.
    let page = world.get("/v1/users/alice/referrals").await.with(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_cursor"]), (25, &Value::Null));
    let page = world.get("/v1/users/alice/referrals?limit=2").await.with(200);
    assert_eq!(page["items"], json!(expected[..2]));
    assert!(page["next_cursor"].is_string(), "{page:#}");

    // A referral that is created between two page reads is not on a later page.
    let cursor = page["next_cursor"].as_str().unwrap();
    world.attribute("late", "ALICE").await.with(201);
    let next = world.get(&format!("/v1/users/alice/referrals?limit=2&cursor={cursor}")).await.with(200);
    assert_eq!(next["items"], json!(expected[2..4]));
    assert_eq!(walk(&world, "/v1/users/dave/referrals", 1).await, others);
    world.end().await;
}

#[tokio::test]
async fn a_list_without_a_limit_ends_at_fifty() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let expected = refer_all(&world, "ALICE", (0..51).map(|number| format!("bob-{number}"))).await;
    let page = world.get("/v1/users/alice/referrals").await.with(200);
    assert_eq!(page["items"], json!(expected[..50]));
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = world.get(&format!("/v1/users/alice/referrals?cursor={cursor}")).await.with(200);
    assert_eq!(page, json!({"items": [expected[50]], "next_cursor": null}));
    world.end().await;
}

#[tokio::test]
async fn a_list_can_be_filtered_by_code() {
    let world = World::start().await;
    world.mint("alice", "ALICE-2026").await;
    let expected = refer_all(&world, "ALICE-2026", ["bob".to_owned(), "carol".to_owned()]).await;
    for (code, found) in [("ALICE-2026", &expected[..]), ("a11ce2026", &expected[..]), ("DAVE", &[])] {
        let page = world.get(&format!("/v1/users/alice/referrals?code={code}")).await.with(200);
        assert_eq!(page, json!({"items": found, "next_cursor": null}), "{code}");
    }
    // A page that the filter emptied still has a cursor.
    let page = world.get("/v1/users/alice/referrals?code=DAVE&limit=1").await.with(200);
    assert_eq!(page["items"], json!([]));
    assert!(page["next_cursor"].is_string(), "{page:#}");
    world.end().await;
}

/// Checks the list of a user who refers `before` others, is then referred, and then refers `after` more.
async fn rewards_in_order(before: usize, after: usize) {
    let world = World::start().await;
    world.mint("top", "TOP").await;
    world.mint("mid", "MID").await;
    let mut expected = Vec::new();
    for (code, referees) in [
        ("MID", (0..before).map(|number| format!("early-{number}")).collect::<Vec<_>>()),
        ("TOP", vec!["mid".to_owned()]),
        ("MID", (0..after).map(|number| format!("late-{number}")).collect()),
    ] {
        for referral in refer_all(&world, code, referees).await.iter().rev() {
            let referee = referral["referee_id"].as_str().unwrap();
            world.order(referee, &format!("o-{referee}")).await;
            expected.insert(0, format!("{referee}:{}", if code == "TOP" { "referee" } else { "referrer" }));
        }
    }
    world.until_idle().await;
    for limit in (1..=expected.len() + 1).chain([100]) {
        let rewards = walk(&world, "/v1/users/mid/rewards", limit).await;
        assert_eq!(ids(&rewards, "reward_id"), expected, "limit {limit}");
        assert!(rewards.iter().all(|reward| reward["user_id"] == "mid"), "{rewards:#?}");
    }
    // Other lists contain only the user's own items.
    assert_eq!(ids(&walk(&world, "/v1/users/top/rewards", 1).await, "reward_id"), ["mid:referrer"]);
    assert_eq!(walk(&world, "/v1/users/mid/referrals", 2).await.len(), before + after);
    world.end().await;
}

#[tokio::test]
async fn a_users_reward_as_referee_is_listed_in_order() {
    rewards_in_order(3, 3).await;
}

#[tokio::test]
async fn a_users_reward_as_referee_can_be_the_oldest() {
    rewards_in_order(0, 4).await;
}

#[tokio::test]
async fn a_users_reward_as_referee_can_be_the_newest() {
    rewards_in_order(4, 0).await;
}

#[tokio::test]
async fn a_users_reward_as_referee_can_be_the_only_one() {
    rewards_in_order(0, 0).await;
}

#[tokio::test]
async fn pages_without_a_reward_do_not_end_the_list() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let referees: Vec<_> = (0..6).map(|number| format!("bob-{number}")).collect();
    refer_all(&world, "ALICE", referees).await;
    for referee in ["bob-0", "bob-3"] {
        world.order(referee, &format!("o-{referee}")).await;
    }
    world.until_idle().await;
    for limit in [1, 2, 3, 6, 100] {
        let rewards = walk(&world, "/v1/users/alice/rewards", limit).await;
        assert_eq!(ids(&rewards, "reward_id"), ["bob-3:referrer", "bob-0:referrer"], "limit {limit}");
    }
    world.end().await;
}

#[tokio::test]
async fn escaped_and_plain_ids_are_the_same_id() {
    let world = World::start().await;
    let (alice, bob) = ("alice+x@example.com", "auth0|b_o-b.7");
    let forms = |id: &str| {
        let escaped = id.replace('@', "%40").replace('+', "%2B").replace('|', "%7C");
        let all: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
        [id.replace('|', "%7C"), escaped, all]
    };
    let code = world.mint(&forms(alice)[1], "ALICE").await;
    assert_eq!(code["user_id"], alice);
    let referral = world.attribute(bob, "ALICE").await.with(201);
    world.attribute("carol", "ALICE").await.with(201);
    world.order(bob, "o-1").await;
    world.until_idle().await;
    for form in forms(alice) {
        assert_eq!(world.get(&format!("/v1/users/{form}/code")).await.with(200), code, "{form}");
        let referees = walk(&world, &format!("/v1/users/{form}/referrals"), 1).await;
        assert_eq!(ids(&referees, "referee_id"), ["carol", bob], "{form}");
        let rewards = walk(&world, &format!("/v1/users/{form}/rewards"), 1).await;
        assert_eq!(ids(&rewards, "reward_id"), [format!("{bob}:referrer")], "{form}");
    }
    for form in forms(bob) {
        let shown = world.get(&format!("/v1/referrals/{form}")).await.with(200);
        assert_eq!((&shown["referee_id"], &shown["created_at"]), (&json!(bob), &referral["created_at"]), "{form}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_unknown_user_has_empty_lists() {
    let world = World::start().await;
    world.refer("alice", "bob").await;
    let empty = json!({"items": [], "next_cursor": null});
    for path in ["/v1/users/unknown/referrals", "/v1/users/unknown/rewards", "/v1/users/bob/referrals"] {
        assert_eq!(world.get(path).await.with(200), empty, "{path}");
    }
    // The same for users with referrals but without rewards.
    for path in ["/v1/users/alice/rewards", "/v1/users/bob/rewards"] {
        assert_eq!(world.get(path).await.with(200), empty, "{path}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_cursor_is_safe_in_a_url_as_it_is() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    refer_all(&world, "ALICE", (0..9).map(|number| format!("b+o|b@{number}"))).await;
    let mut cursors = BTreeSet::new();
    let mut path = "/v1/users/alice/referrals?limit=1".to_owned();
    loop {
        let page = world.get(&path).await.with(200);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{cursor}");
        assert!(cursors.insert(cursor.to_owned()), "the same cursor twice");
        path = format!("/v1/users/alice/referrals?limit=1&cursor={cursor}");
    }
    assert!(cursors.len() >= 8, "{cursors:?}");
    world.end().await;
}
