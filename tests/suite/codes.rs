//! Ended codes: a member whose code has ended gets another one, and at most one code of a member is live, also in races
//! and under faults.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{Answer, Fault, World, plain};

/// How many clients send a request at the same time.
const CLIENTS: usize = 20;
/// How often a race is repeated.
const ROUNDS: usize = 10;

/// The time this many milliseconds from now.
fn from_now(millis: i64) -> String {
    (Utc::now() + chrono::Duration::milliseconds(millis)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

async fn change(world: &World, code: &str, body: Value) -> Answer {
    world.send(Method::PATCH, &format!("/admin/codes/{code}"), &[], body.to_string()).await
}

async fn disable(world: &World, code: &str) {
    change(world, code, json!({"disabled": true})).await.with(200);
}

async fn revive(world: &World, code: &str) -> Answer {
    change(world, code, json!({"expires_at": null})).await
}

async fn mint_of(world: &World, user: &str, body: Value) -> Answer {
    world.put(&format!("/v1/users/{user}/code"), body).await
}

async fn code_of(world: &World, user: &str) -> Value {
    world.get(&format!("/v1/users/{user}/code")).await.with(200)
}

/// The codes of this user that never expire, in the table.
async fn unlimited(world: &World, user: &str) -> Vec<Value> {
    let items = world.items().await;
    let codes = items.iter().map(plain).filter(|item| item["sk"] == "CODE" && item["owner"] == user);
    codes.filter(|item| item["expires_at"].is_null()).map(|item| item["code"].clone()).collect()
}

#[tokio::test]
async fn an_ended_code_is_replaced() {
    let world = World::start().await;
    let first = world.mint("ada", "ada-first").await;
    let cookie = world.land("ada-first").await.unwrap();
    world.attribute("bob", "ada-first").await.with(201);
    disable(&world, "ada-first").await;

    let second = mint_of(&world, "ada", json!({"code": "ada-second"})).await.with(201);
    assert_eq!((&second["code"], &second["expires_at"]), (&json!("ada-second"), &Value::Null));
    for body in [json!({}), json!({"code": "ada-third"}), json!({"code": "ada-first"})] {
        assert_eq!(mint_of(&world, "ada", body).await.with(200), second);
    }
    assert_eq!(code_of(&world, "ada").await, second);
    world.get("/v1/codes/ada-third").await.refused(404, "code_not_found");

    // The first code keeps its owner, and no other user gets it.
    let old = world.get("/v1/codes/ada-first").await.with(200);
    assert_eq!((&old["user_id"], &old["created_at"]), (&json!("ada"), &first["created_at"]));
    assert!(old["expires_at"].is_string(), "{old}");
    mint_of(&world, "mallory", json!({"code": "ADA-F1RST"})).await.refused(409, "code_taken");
    world.attribute("carol", "ada-first").await.refused(410, "code_expired");
    // The visit happened while the code was live.
    world.attribute_by_cookie("carol", &cookie).await.with(201);
    // To refuse earlier visitors too, the code ended before their visit.
    change(&world, "ada-first", json!({"expires_at": "2026-01-01T00:00:00Z"})).await.with(200);
    world.attribute_by_cookie("dave", &cookie).await.refused(410, "code_expired");

    world.attribute("dave", "ada-second").await.with(201);
    world.attribute("bob", "ada-first").await.with(200);
    world.attribute("bob", "ada-second").await.refused(409, "already_referred");
    let list = world.get("/v1/users/ada/referrals").await.with(200);
    let referees = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|item| item["referee_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(referees(&list), ["dave", "carol", "bob"]);
    for (code, expected) in [("ada-first", vec!["carol", "bob"]), ("ada-second", vec!["dave"])] {
        let list = world.get(&format!("/v1/users/ada/referrals?code={code}")).await.with(200);
        assert_eq!(referees(&list), expected, "{code}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_expired_code_is_replaced_by_a_generated_one() {
    let world = World::start().await;
    let body = json!({"expires_at": from_now(300)});
    let first = mint_of(&world, "ada", body.clone()).await.with(201);
    assert_eq!(mint_of(&world, "ada", json!({})).await.with(200), first);
    sleep(Duration::from_millis(350)).await;
    assert_eq!(code_of(&world, "ada").await, first, "an ended code is shown until there is another");
    mint_of(&world, "ada", body).await.refused(400, "invalid_request");
    let second = mint_of(&world, "ada", json!({})).await.with(201);
    assert_ne!(second["code"], first["code"]);
    assert_eq!(code_of(&world, "ada").await, second);
    // The second code ends, too.
    disable(&world, second["code"].as_str().unwrap()).await;
    let third = mint_of(&world, "ada", json!({"expires_at": from_now(60_000)})).await.with(201);
    assert_eq!(code_of(&world, "ada").await, third);
    world.end().await;
}

#[tokio::test]
async fn an_ended_code_is_not_handed_out_again() {
    let world = World::start().await;
    world.mint("ada", "ada-first").await;
    world.mint("bob", "bobs-code").await;
    disable(&world, "ada-first").await;
    let before = world.contents().await;
    for taken in ["ada-first", "ADAF1RST", "bobs-code"] {
        mint_of(&world, "ada", json!({"code": taken})).await.refused(409, "code_taken");
    }
    assert_eq!(world.contents().await, before);
    mint_of(&world, "ada", json!({"code": "ada-second"})).await.with(201);
    disable(&world, "ada-second").await;
    mint_of(&world, "ada", json!({"code": "ada-first"})).await.refused(409, "code_taken");
    world.end().await;
}

/// A repeated sign-up event must not give a code to a member whose code an operator has disabled.
#[tokio::test]
async fn a_sign_up_event_does_not_replace_an_ended_code() {
    let world = World::start().await;
    world.publish("customer.signed_up", json!({"user_id": "ada"})).await;
    world.until("the code is minted", async || world.get("/v1/users/ada/code").await.status == 200).await;
    let code = code_of(&world, "ada").await["code"].clone();
    disable(&world, code.as_str().unwrap()).await;
    world.publish("customer.signed_up", json!({"user_id": "ada"})).await;
    world.until_redelivered().await;
    assert_eq!(code_of(&world, "ada").await["code"], code);
    assert_eq!(world.items().await.len(), 2);
    mint_of(&world, "ada", json!({})).await.with(201);
    world.end().await;
}

#[tokio::test]
async fn a_code_is_not_revived_while_another_one_is_live() {
    let world = World::start().await;
    world.mint("ada", "ada-first").await;
    disable(&world, "ada-first").await;
    revive(&world, "ADA-F1RST").await.with(200);
    assert_eq!(mint_of(&world, "ada", json!({})).await.with(200)["code"], "ada-first");
    disable(&world, "ada-first").await;
    world.mint("ada", "ada-second").await;

    let before = world.contents().await;
    revive(&world, "ada-first").await.refused(409, "other_code_live");
    change(&world, "ada-first", json!({"expires_at": from_now(60_000)})).await.refused(409, "other_code_live");
    assert_eq!(world.contents().await, before);
    // The live code can be changed, and the ended one can end earlier.
    change(&world, "ada-second", json!({"expires_at": from_now(60_000)})).await.with(200);
    revive(&world, "ada-second").await.with(200);
    change(&world, "ada-first", json!({"expires_at": "2026-01-01T00:00:00Z"})).await.with(200);
    world.attribute("bob", "ada-first").await.refused(410, "code_expired");

    disable(&world, "ada-second").await;
    assert_eq!(revive(&world, "ada-first").await.with(200)["expires_at"], Value::Null);
    assert_eq!(code_of(&world, "ada").await["code"], "ada-first");
    assert_eq!(mint_of(&world, "ada", json!({"code": "ada-third"})).await.with(200)["code"], "ada-first");
    revive(&world, "ada-second").await.refused(409, "other_code_live");
    world.attribute("bob", "ada-first").await.with(201);
    world.end().await;
}

#[tokio::test]
async fn many_clients_replace_an_ended_code_once() {
    let world = World::start().await;
    world.mint("ada", "ada-0").await;
    for round in 1..=3 {
        let live = code_of(&world, "ada").await;
        disable(&world, live["code"].as_str().unwrap()).await;
        let answers = join_all((0..CLIENTS).map(async |client| {
            let body = if client % 2 == 0 { json!({}) } else { json!({"code": format!("ada-{round}-{client}")}) };
            mint_of(&world, "ada", body).await
        }))
        .await;
        let created: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(created.len(), 1, "{answers:#?}");
        for answer in &answers {
            assert!([200, 201].contains(&answer.status.as_u16()), "{answer:?}");
            assert_eq!(answer.body, created[0].body);
        }
        assert_eq!(code_of(&world, "ada").await, created[0].body);
        assert_eq!(unlimited(&world, "ada").await, [created[0].body["code"].clone()]);
    }
    world.end().await;
}

#[tokio::test]
async fn many_clients_replace_and_revive_a_code_and_one_code_is_live() {
    let world = World::start().await;
    let (mut revived, mut replaced) = (0, 0);
    for round in 0..ROUNDS {
        let (user, first) = (format!("user-{round}"), format!("first-{round}"));
        world.mint(&user, &first).await;
        disable(&world, &first).await;
        let minted = join_all(
            (0..CLIENTS / 2)
                .map(async |client| mint_of(&world, &user, json!({"code": format!("second-{round}-{client}")})).await),
        );
        let operators = join_all((0..CLIENTS / 2).map(async |_| revive(&world, &first).await));
        let (minted, operators) = if round % 2 == 0 {
            join(minted, operators).await
        } else {
            let (operators, minted) = join(operators, minted).await;
            (minted, operators)
        };
        let live = code_of(&world, &user).await;
        assert_eq!(unlimited(&world, &user).await, [live["code"].clone()], "round {round}");
        let is_revived = live["code"] == first.as_str();
        for answer in &minted {
            assert_eq!(answer.body["code"], live["code"], "{answer:?}");
        }
        assert_eq!(minted.iter().filter(|answer| answer.status == 201).count(), usize::from(!is_revived));
        for answer in &operators {
            match is_revived {
                true => assert_eq!(answer.status, 200, "{answer:?}"),
                false => answer.refused(409, "other_code_live"),
            }
        }
        *(if is_revived { &mut revived } else { &mut replaced }) += 1;
    }
    println!("{revived} rounds revived the first code, {replaced} replaced it");
    world.end().await;
}

/// Two ended codes of one member are revived at once: one of them becomes the live code.
#[tokio::test]
async fn one_of_two_revived_codes_is_live() {
    let world = World::start().await;
    for round in 0..ROUNDS {
        let user = format!("user-{round}");
        let codes = ["one", "two"].map(|name| format!("{name}-{round}"));
        for code in &codes {
            world.mint(&user, code).await;
            disable(&world, code).await;
        }
        let answers = join_all((0..CLIENTS).map(|client| revive(&world, &codes[client % 2]))).await;
        let live = code_of(&world, &user).await;
        assert_eq!(unlimited(&world, &user).await, [live["code"].clone()], "round {round}");
        for (client, answer) in answers.iter().enumerate() {
            match live["code"] == codes[client % 2].as_str() {
                true => assert_eq!(answer.status, 200, "{answer:?}"),
                false => answer.refused(409, "other_code_live"),
            }
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_replacement_and_a_revival_tolerate_transient_faults() {
    let world = World::start().await;
    let faults = [Fault::AnswerLost, Fault::RequestLost, Fault::Throttled, Fault::Conflict, Fault::Internal];
    for (number, fault) in faults.into_iter().enumerate() {
        let (user, first, second) = (format!("user-{number}"), format!("first-{number}"), format!("second-{number}"));
        world.mint(&user, &first).await;
        disable(&world, &first).await;
        world.wire().break_next("TransactWriteItems", [fault, fault]);
        revive(&world, &first).await.with(200);
        disable(&world, &first).await;
        // The first transaction finds the ended code, and the second one replaces it.
        let body = json!({"code": second, "device_fingerprint": "a-device"});
        world.wire().break_next("TransactWriteItems", [fault, fault]);
        assert_eq!(mint_of(&world, &user, body).await.with(201)["code"], second.as_str(), "{fault:?}");
        disable(&world, &second).await;
        // A read does not conflict.
        let of_read = if matches!(fault, Fault::Conflict) { Fault::Throttled } else { fault };
        world.wire().break_next("GetItem", [of_read]);
        mint_of(&world, &user, json!({})).await.with(201);
        assert_eq!(unlimited(&world, &user).await.len(), 1, "{fault:?}");
    }
    world.end().await;
}
