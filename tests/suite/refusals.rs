//! Refusals: each reason with its status, the order in which reasons are checked, and that a refusal writes nothing.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::world::{World, plain};

/// The time this many seconds from now.
fn from_now(seconds: i64) -> String {
    (Utc::now() + chrono::Duration::seconds(seconds)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Asserts that a sign-up is refused and that the table stays unchanged.
async fn refused(world: &World, sign_up: Value, status: u16, reason: &str) {
    let before = world.contents().await;
    world.post("/v1/referrals", sign_up).await.refused(status, reason);
    assert_eq!(world.contents().await, before, "{reason} wrote");
}

/// Asserts that a mint is refused and that the table stays unchanged.
async fn mint_refused(world: &World, user: &str, body: Value, status: u16, reason: &str) {
    let before = world.contents().await;
    world.put(&format!("/v1/users/{user}/code"), body).await.refused(status, reason);
    assert_eq!(world.contents().await, before, "{reason} wrote");
}

/// Flags or clears an account by event, and waits until the event is processed.
async fn publish_flag(world: &World, what: &str, user: &str, occurred_at: &str) {
    let detail = json!({"user_id": user, "reason": "a test", "occurred_at": occurred_at});
    world.publish(what, detail).await;
    world.until_idle().await;
}

async fn account(world: &World, user: &str) -> Option<Value> {
    world.item(&format!("USER#{user}"), "ACCOUNT").await.as_ref().map(plain)
}

/// Writes a code of a program that this stack does not run, as a stack with several programs would.
async fn mint_elsewhere(world: &World, user: &str, code: &str) {
    let table = world.service().env().get("TABLE_NAME").unwrap();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = || world.service().dynamodb().put_item().table_name(table).item("code", text(code));
    let item = put().item("pk", text(&format!("CODE#{code}"))).item("sk", text("CODE")).item("owner", text(user));
    item.item("program", text("other")).item("created_at", text(&from_now(0))).send().await.unwrap();
    let note = put().item("pk", text(&format!("USER#{user}"))).item("sk", text("CODE#other"));
    note.send().await.unwrap();
}

#[tokio::test]
async fn an_unknown_program_is_refused() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    mint_refused(&world, "bob", json!({"program": "other"}), 404, "program_not_found").await;
    world.get("/v1/users/alice/code?program=other").await.refused(404, "program_not_found");
    world.get("/v1/users/alice/code?program=default").await.with(200);
    world.get("/v1/users/bob/code?program=default").await.refused(404, "code_not_found");

    // Checked after the form of the request, and before the owner of the code.
    mint_refused(&world, "bob", json!({"program": "other", "code": "ALICE"}), 404, "program_not_found").await;
    let past = json!({"program": "other", "expires_at": from_now(-60)});
    mint_refused(&world, "bob", past, 400, "invalid_request").await;
    world.get("/v1/users/bob/code?program=o%20ther").await.refused(400, "invalid_request");
    world.get("/v1/users/bob/code?program=other&limit=0").await.refused(404, "program_not_found");

    // At attribution the program of the code counts. It is checked before the referee's own referral.
    mint_elsewhere(&world, "dave", "DAVE").await;
    refused(&world, json!({"referee_id": "bob", "code": "DAVE"}), 404, "program_not_found").await;
    refused(&world, json!({"referee_id": "dave", "code": "DAVE"}), 404, "program_not_found").await;
    world.attribute("bob", "ALICE").await.with(201);
    refused(&world, json!({"referee_id": "bob", "code": "DAVE"}), 404, "program_not_found").await;
    assert_eq!(world.land("DAVE").await, None);
    world.end().await;
}

#[tokio::test]
async fn an_unknown_code_is_refused() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    refused(&world, json!({"referee_id": "bob", "code": "UNKNOWN"}), 404, "code_not_found").await;
    world.get("/v1/codes/UNKNOWN").await.refused(404, "code_not_found");
    world.get("/v1/users/bob/code").await.refused(404, "code_not_found");
    // Checked after the form of the request, and before the referee's own referral.
    world.attribute("bob", "ALICE").await.with(201);
    refused(&world, json!({"referee_id": "bob", "code": "UNKNOWN"}), 404, "code_not_found").await;
    refused(&world, json!({"referee_id": "b b", "code": "UNKNOWN"}), 400, "invalid_request").await;
    refused(&world, json!({"referee_id": "bob", "code": "UNKNOWN", "ip": "x"}), 404, "code_not_found").await;
    // An unknown code is not cached: it is found immediately after it is minted.
    world.mint("dave", "UNKNOWN").await;
    world.attribute("erin", "UNKNOWN").await.with(201);
    world.end().await;
}

#[tokio::test]
async fn a_code_of_another_user_is_refused() {
    let world = World::start().await;
    world.mint("alice", "ALICE-2026").await;
    for code in ["ALICE-2026", "alice2026", "A11CE-2O26"] {
        let body = json!({"code": code, "device_fingerprint": "bobs-phone"});
        mint_refused(&world, "bob", body, 409, "code_taken").await;
    }
    // A user who has a code keeps it and cannot get another one.
    let own = world.get("/v1/users/alice/code").await.with(200);
    world.mint("bob", "BOB").await;
    for body in [json!({}), json!({"code": "ALICE-2026"}), json!({"code": "BOB"}), json!({"code": "FREE"})] {
        let before = world.contents().await;
        assert_eq!(world.put("/v1/users/alice/code", body).await.with(200), own);
        assert_eq!(world.contents().await, before);
    }
    world.get("/v1/codes/FREE").await.refused(404, "code_not_found");
    world.end().await;
}

#[tokio::test]
async fn the_referees_own_referral_is_checked_first() {
    let world = World::start().await;
    world.mint("alice", "ALICE-2026").await;
    world.mint("dave", "DAVE").await;
    world.mint("bob", "BOB").await;
    let first = world.attribute("bob", "ALICE-2026").await.with(201);

    for code in ["ALICE-2026", "a11ce2026"] {
        let before = world.contents().await;
        assert_eq!(world.attribute("bob", code).await.with(200), first);
        assert_eq!(world.contents().await, before);
    }
    refused(&world, json!({"referee_id": "bob", "code": "DAVE"}), 409, "already_referred").await;
    // The same holds for their own code, and if the other code has further faults.
    refused(&world, json!({"referee_id": "bob", "code": "BOB"}), 409, "already_referred").await;
    publish_flag(&world, "account.flagged", "dave", &from_now(0)).await;
    refused(&world, json!({"referee_id": "bob", "code": "DAVE"}), 409, "already_referred").await;

    // The same code finds the referral, even if it could not be attributed now.
    publish_flag(&world, "account.flagged", "alice", &from_now(0)).await;
    assert_eq!(world.attribute("bob", "ALICE-2026").await.with(200), first);
    refused(&world, json!({"referee_id": "carol", "code": "ALICE-2026"}), 422, "referrer_flagged").await;

    // A voided referral stays forever.
    world.order("bob", "o-1").await;
    let voided = world.until_status("bob", "voided").await;
    assert_eq!(voided["void_reason"], "referrer_flagged");
    let again = world.attribute("bob", "ALICE-2026").await.with(200);
    assert_eq!((&again["status"], &again["rewards"]), (&json!("voided"), &json!([])));
    refused(&world, json!({"referee_id": "bob", "code": "DAVE"}), 409, "already_referred").await;
    world.end().await;
}

#[tokio::test]
async fn an_expired_code_is_refused() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let ends = json!({"code": "DAVE", "expires_at": from_now(1)});
    world.put("/v1/users/dave/code", ends).await.with(201);
    world.attribute("bob", "DAVE").await.with(201);
    world.attribute("carol", "ALICE").await.with(201);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    refused(&world, json!({"referee_id": "erin", "code": "DAVE"}), 410, "code_expired").await;
    world.attribute("bob", "DAVE").await.with(200);
    refused(&world, json!({"referee_id": "carol", "code": "DAVE"}), 409, "already_referred").await;
    world.end().await;
}

/// A member is not new, regardless of how the code or the visit is newer than their sign-up.
#[tokio::test]
async fn only_new_users_are_referred() {
    let world = World::with(|options| options.pace.delay = std::time::Duration::from_secs(600)).await;
    world.mint("alice", "ALICE").await;
    let cookie = world.land("ALICE").await.unwrap();
    let years_ago = "2020-01-01T00:00:00Z";
    let by_cookie = async |referee: &str, more: Value| {
        let body = with(json!({"referee_id": referee}), more).to_string();
        world.send(reqwest::Method::POST, "/v1/referrals", &[("cookie", &cookie)], body).await
    };
    // By a typed code, by a visit, and by both.
    refused(&world, json!({"referee_id": "bob", "code": "ALICE", "signed_up_at": years_ago}), 422, "not_new").await;
    for more in [json!({"signed_up_at": years_ago}), json!({"signed_up_at": years_ago, "code": "a-l-i-c-e"})] {
        by_cookie("bob", more).await.refused(422, "not_new");
    }
    refused(&world, json!({"referee_id": "bob", "code": "ALICE", "signed_up_at": from_now(-330)}), 422, "not_new")
        .await;
    // Within the tolerance.
    let soon = json!({"referee_id": "carol", "code": "ALICE", "signed_up_at": from_now(-270)});
    world.post("/v1/referrals", soon).await.with(201);
    by_cookie("dave", json!({"signed_up_at": from_now(-270)})).await.with(201);
    by_cookie("erin", json!({})).await.with(201);
    // By event: the member's own code is minted.
    let detail = json!({"user_id": "frank", "code": "ALICE", "signed_up_at": years_ago});
    world.publish("customer.signed_up", detail).await;
    world.publish("customer.signed_up", json!({"user_id": "gina", "code": "ALICE"})).await;
    world.until_idle().await;
    world.get("/v1/users/frank/code").await.with(200);
    world.get("/v1/referrals/frank").await.refused(404, "referral_not_found");
    assert_eq!(world.referral("gina").await["referrer_id"], "alice");
    // After the referee's own referral, and before the rules.
    let again = json!({"referee_id": "carol", "code": "ALICE", "signed_up_at": years_ago});
    world.post("/v1/referrals", again).await.with(200);
    refused(&world, json!({"referee_id": "alice", "code": "ALICE", "signed_up_at": years_ago}), 422, "not_new").await;
    let ends = json!({"code": "ENDS", "expires_at": from_now(1)});
    world.put("/v1/users/hugo/code", ends).await.with(201);
    let cookie = world.land("ENDS").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    refused(&world, json!({"referee_id": "bob", "code": "ENDS"}), 410, "code_expired").await;
    let body = json!({"referee_id": "bob", "signed_up_at": years_ago}).to_string();
    world.send(reqwest::Method::POST, "/v1/referrals", &[("cookie", &cookie)], body).await.refused(422, "not_new");
    world.end().await;
}

#[tokio::test]
async fn a_sign_up_that_is_reported_too_late_is_not_new() {
    let world = World::with_env([("NEW_WITHIN_DAYS", "7")]).await;
    // The code is older than both sign-ups.
    world.mint("alice", "ALICE").await;
    backdate(&world, "A11CE", "2020-01-01T00:00:00.000Z").await;
    let at = |days: i64| from_now(days * 24 * 60 * 60);
    refused(&world, json!({"referee_id": "bob", "code": "ALICE", "signed_up_at": at(-8)}), 422, "not_new").await;
    let recent = json!({"referee_id": "bob", "code": "ALICE", "signed_up_at": at(-6)});
    world.post("/v1/referrals", recent).await.with(201);
    world.end().await;
}

/// Changes the creation time of a code, which is named in its canonical form.
async fn backdate(world: &World, code: &str, created_at: &str) {
    let table = world.service().env().get("TABLE_NAME").unwrap();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let update = world.service().dynamodb().update_item().table_name(table);
    let update = update.key("pk", text(&format!("CODE#{code}"))).key("sk", text("CODE"));
    let update = update.update_expression("SET created_at = :at");
    update.expression_attribute_values(":at", text(created_at)).send().await.unwrap();
}

/// Starts with a sign-up that has every fault, and corrects one fault after another.
#[tokio::test]
async fn reasons_are_checked_in_order() {
    let world = World::start().await;
    let ends = from_now(1);
    let alice = json!({"code": "ALICE", "expires_at": ends, "device_fingerprint": "laptop"});
    world.put("/v1/users/alice/code", alice).await.with(201);
    world.mint("bob", "BOB").await;
    world.attribute("alice", "BOB").await.with(201);
    publish_flag(&world, "account.flagged", "alice", &from_now(0)).await;
    let carol = json!({"code": "CAROL", "expires_at": ends, "device_fingerprint": "phone"});
    world.put("/v1/users/carol/code", carol).await.with(201);
    publish_flag(&world, "account.flagged", "carol", &from_now(0)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;

    let earlier = from_now(-60);
    let by_alice = |more: Value| with(json!({"referee_id": "bob", "code": "ALICE"}), more);
    refused(&world, by_alice(json!({"device_fingerprint": "laptop"})), 410, "code_expired").await;
    let live = json!({"device_fingerprint": "laptop", "signed_up_at": earlier});
    refused(&world, by_alice(live.clone()), 422, "referrer_flagged").await;
    publish_flag(&world, "account.cleared", "alice", &from_now(1)).await;
    refused(&world, by_alice(live), 422, "device_match").await;
    refused(&world, by_alice(json!({"signed_up_at": earlier})), 422, "reciprocal_referral").await;
    let phone = json!({"device_fingerprint": "bobs-phone", "signed_up_at": earlier});
    refused(&world, by_alice(phone), 422, "reciprocal_referral").await;

    let by_carol = |more: Value| with(json!({"referee_id": "carol", "code": "CAROL"}), more);
    refused(&world, by_carol(json!({"device_fingerprint": "phone"})), 410, "code_expired").await;
    let live = json!({"device_fingerprint": "phone", "signed_up_at": earlier});
    refused(&world, by_carol(live.clone()), 422, "self_referral").await;
    publish_flag(&world, "account.cleared", "carol", &from_now(1)).await;
    refused(&world, by_carol(live), 422, "self_referral").await;
    refused(&world, by_carol(json!({"signed_up_at": earlier})), 422, "self_referral").await;

    // Other users without faults can sign up by both codes.
    for (referee, code) in [("dave", "ALICE"), ("erin", "CAROL")] {
        let sign_up = json!({"referee_id": referee, "code": code, "signed_up_at": earlier});
        world.post("/v1/referrals", sign_up).await.with(201);
    }
    world.end().await;
}

fn with(mut body: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more}") };
    body.as_object_mut().unwrap().extend(more);
    body
}

#[tokio::test]
async fn the_latest_flag_event_wins_in_any_order_of_arrival() {
    let world = World::start().await;
    let (flagged, cleared) = ("account.flagged", "account.cleared");
    let [early, late] = [from_now(-20), from_now(-10)];
    let cases = [
        ("flag-clear", [(flagged, &early), (cleared, &late)], false),
        ("flag-clear-late", [(cleared, &late), (flagged, &early)], false),
        ("clear-flag", [(cleared, &early), (flagged, &late)], true),
        ("clear-flag-late", [(flagged, &late), (cleared, &early)], true),
        ("tie", [(flagged, &late), (cleared, &late)], true),
        ("tie-turned", [(cleared, &late), (flagged, &late)], true),
    ];
    for (user, events, is_flagged) in &cases {
        world.mint(user, &format!("CODE-{user}")).await;
        for (what, at) in events {
            publish_flag(&world, what, user, at).await;
        }
        let referee = format!("of-{user}");
        let answer = world.attribute(&referee, &format!("CODE-{user}")).await;
        if *is_flagged {
            answer.refused(422, "referrer_flagged");
        } else {
            assert_eq!(answer.with(201)["referrer_id"], *user);
        }
        let account = account(&world, user).await.unwrap();
        assert_eq!(account["flagged"], *is_flagged, "{account:#}");
        assert_eq!(account["flag_at"], *late, "{account:#}");
        assert_eq!(account.get("flag_reason").is_some(), *is_flagged, "{account:#}");
    }
    // After a second, all events are delivered again. They change nothing.
    let before = world.contents().await;
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    world.until_idle().await;
    assert_eq!(world.contents().await, before);
    // A referrer whose flag is cleared can refer again.
    publish_flag(&world, cleared, "tie", &from_now(0)).await;
    world.attribute("of-tie", "CODE-tie").await.with(201);
    world.end().await;
}

#[tokio::test]
async fn a_device_of_the_referrer_is_refused() {
    let world = World::start().await;
    world.mint("zoe", "ZOE").await;
    // Devices from the mint,
    let minted = json!({"code": "ALICE", "device_fingerprint": "at-mint"});
    world.put("/v1/users/alice/code", minted).await.with(201);
    // from a repeated mint,
    world.put("/v1/users/alice/code", json!({"device_fingerprint": "at-mint-again"})).await.with(200);
    // from the referrer's own sign-up,
    let came = json!({"referee_id": "alice", "code": "ZOE", "device_fingerprint": "at-sign-up"});
    world.post("/v1/referrals", came).await.with(201);
    // and from an event.
    world.publish("customer.signed_up", json!({"user_id": "dave", "device_fingerprint": "by-event"})).await;
    world.until_idle().await;
    let daves = world.get("/v1/users/dave/code").await.with(200)["code"].clone();

    for device in ["at-mint", "at-mint-again", "at-sign-up"] {
        let sign_up = json!({"referee_id": "bob", "code": "ALICE", "device_fingerprint": device});
        refused(&world, sign_up, 422, "device_match").await;
    }
    let sign_up = json!({"referee_id": "bob", "code": daves, "device_fingerprint": "by-event"});
    refused(&world, sign_up, 422, "device_match").await;

    // Another device, a device of another user, or no device is accepted.
    for (referee, device) in [("r-1", json!("At-Mint")), ("r-2", json!("by-event")), ("r-3", json!(null))] {
        let sign_up = json!({"referee_id": referee, "code": "ALICE", "device_fingerprint": device});
        world.post("/v1/referrals", sign_up).await.with(201);
    }
    world.end().await;
}

#[tokio::test]
async fn a_fingerprint_is_never_stored_in_clear() {
    let world = World::start().await;
    let secret = "SECRET-FINGERPRINT";
    let mint = json!({"code": "ALICE", "device_fingerprint": format!("{secret}-1")});
    world.put("/v1/users/alice/code", mint).await.with(201);
    world.put("/v1/users/alice/code", json!({"device_fingerprint": format!("{secret}-2")})).await.with(200);
    let sign_up = json!({"referee_id": "bob", "code": "ALICE", "device_fingerprint": format!("{secret}-3")});
    let answer = world.post("/v1/referrals", sign_up).await.with(201);
    assert!(!answer.to_string().contains(secret), "{answer}");
    let event = json!({"user_id": "carol", "code": "ALICE", "device_fingerprint": format!("{secret}-4")});
    world.publish("customer.signed_up", event).await;
    world.until_idle().await;

    // Digests of them are stored, each in its place.
    let devices = account(&world, "alice").await.unwrap()["devices"].clone();
    assert_eq!(devices.as_array().map(Vec::len), Some(2), "{devices}");
    for referee in ["bob", "carol"] {
        let referral = plain(&world.item(&format!("REFEREE#{referee}"), "REFERRAL").await.unwrap());
        assert_eq!(referral["device"].as_str().map(str::len), Some(22), "{referral:#}");
    }
    for item in world.contents().await {
        assert!(!item.contains(secret), "{item}");
    }
    for event in world.events().await.iter().filter(|event| event["source"] == "referrals") {
        assert!(!event.to_string().contains(secret), "{event}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_user_cannot_refer_their_referrer() {
    let world = World::start().await;
    for (user, code) in [("alice", "ALICE"), ("bob", "BOB"), ("carol", "CAROL")] {
        world.mint(user, code).await;
    }
    world.attribute("bob", "ALICE").await.with(201);
    refused(&world, json!({"referee_id": "alice", "code": "BOB"}), 422, "reciprocal_referral").await;
    // A longer cycle is allowed.
    world.attribute("carol", "BOB").await.with(201);
    world.attribute("alice", "CAROL").await.with(201);
    world.end().await;
}

#[tokio::test]
async fn a_user_who_was_not_referred_has_no_referral() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    world.get("/v1/referrals/alice").await.refused(404, "referral_not_found");
    world.end().await;
}
