//! The correlation id: a keyed value that is stored with the referral. It does not reveal the referee, and a change of
//! the key does not change it.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use referrals::{domain::id::UserId, runtime::Call};
use serde_json::{Value, json};

use crate::{
    metrics::Log,
    world::{self, Wire, World},
};

/// An id that can be found by trying: a telephone number.
const REFEREE: &str = "4915550001234";

/// The hash that versions up to 0.1.0 published.
fn hash(user: &str) -> String {
    user.parse::<UserId>().unwrap().hashed()
}

/// The correlation ids of all events about this referee.
async fn published(world: &World, referee: &str) -> BTreeSet<String> {
    let events = world.events().await.into_iter().filter(|event| event["source"] == "referrals");
    let events = events.filter(|event| event["detail"]["referee_id"] == referee);
    events.map(|event| event["detail"]["correlation_id"].as_str().unwrap().to_owned()).collect()
}

async fn stored(world: &World, referee: &str) -> Value {
    world.stored(referee).await["correlation_id"].clone()
}

fn attribution(world: &World, key: &str) -> attribution::App {
    let env = world.service().env().clone().with("FINGERPRINT_KEY", key);
    let aws = world::aws(world.service().dynamodb_url(), Wire::default().connector());
    attribution::App::new(&env, aws_sdk_dynamodb::Client::new(&aws)).unwrap()
}

async fn sign_up(app: &attribution::App, referee: &str, code: &str) -> u16 {
    let event = json!({
        "version": "2.0", "rawPath": "/v1/referrals", "rawQueryString": "", "headers": {"host": "example.com"},
        "requestContext": {"http": {"method": "POST", "path": "/v1/referrals"}, "stage": "$default"},
        "isBase64Encoded": false, "body": json!({"referee_id": referee, "code": code}).to_string(),
    });
    let request = lambda_http::request::from_str(&event.to_string()).unwrap();
    let call = Call::begin(Duration::from_secs(10)).unwrap();
    attribution::handle(app, request, call).await.status().as_u16()
}

#[tokio::test]
async fn ids_in_events_and_log_lines_cannot_be_reversed() {
    let log = Log::default();
    let _guard = log.start("DEBUG");
    let world = World::start().await;
    let code = world.put("/v1/users/1234567/code", json!({})).await.with(201)["code"].clone();
    let code = code.as_str().unwrap();
    // An order before the sign-up, of a user without a referral.
    world.order(REFEREE, "o-0").await;
    world.until_idle().await;
    world.attribute(REFEREE, code).await.with(201);
    world.order(REFEREE, "o-1").await;
    world.until_status(REFEREE, "rewarded").await;
    world.publish("account.flagged", json!({"user_id": REFEREE, "reason": "test"})).await;
    world.publish("customer.signed_up", json!({"user_id": "7654321", "code": code})).await;
    world.until_idle().await;

    let id = stored(&world, REFEREE).await;
    let text = id.as_str().expect("the referral has a correlation id");
    assert!(text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    assert_eq!(published(&world, REFEREE).await, BTreeSet::from([text.to_owned()]));
    let lines = log.ours();
    for outcome in ["attributed", "converted", "rewarded", "delivered", "not_referred", "flagged", "minted"] {
        assert!(!Log::with(&lines, outcome).is_empty(), "{outcome}: {lines:#?}");
    }
    for line in lines.iter().map(Value::to_string) {
        for user in [REFEREE, "1234567", "7654321"] {
            assert!(!line.contains(&hash(user)) && !line.contains(user), "{line}");
        }
    }
    // The line about an order before the sign-up has the id that the referral got later.
    for outcome in ["not_referred", "attributed", "converted", "flagged"] {
        assert!(Log::with(&lines, outcome).iter().any(|line| line["correlation_id"] == id), "{outcome}: {lines:#?}");
    }
    world.end().await;
}

#[tokio::test]
async fn another_key_does_not_change_a_stored_id() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let (old, new) = (attribution(&world, &"a".repeat(32)), attribution(&world, &"b".repeat(32)));
    assert_eq!(sign_up(&old, REFEREE, "ALICE").await, 201);
    let id = stored(&world, REFEREE).await;
    assert_eq!(sign_up(&new, REFEREE, "ALICE").await, 200);
    assert_eq!(sign_up(&new, "bob", "ALICE").await, 201);
    assert_eq!(sign_up(&old, "carol", "ALICE").await, 201);
    for referee in [REFEREE, "bob", "carol"] {
        let before = stored(&world, referee).await;
        world.order(referee, &format!("o-{referee}")).await;
        world.until_status(referee, "rewarded").await;
        world.until_idle().await;
        assert_eq!(stored(&world, referee).await, before);
        assert_eq!(published(&world, referee).await, BTreeSet::from([before.as_str().unwrap().to_owned()]));
    }
    assert_eq!(stored(&world, REFEREE).await, id);
    // The keys are independent.
    assert_eq!(sign_up(&new, "dave", "ALICE").await, 201);
    let dave = stored(&world, "dave").await;
    assert!(id.is_string() && dave.is_string() && dave != id, "{id} {dave}");
    world.end().await;
}

/// Version 0.1.0 stored no correlation id, and published the hash.
#[tokio::test]
async fn a_referral_without_a_stored_id_keeps_its_hash() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    world.attribute("bob", "ALICE").await.with(201);
    let mut item = world.item("REFEREE#bob", "REFERRAL").await.unwrap();
    item.remove("correlation_id");
    for value in item.values_mut() {
        if let AttributeValue::S(text) = value {
            *text = text.replace("bob", "zoe");
        }
    }
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    world.service().dynamodb().put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    world.order("zoe", "o-1").await;
    world.until_status("zoe", "rewarded").await;
    world.until_idle().await;
    assert_eq!(published(&world, "zoe").await, BTreeSet::from([hash("zoe")]));
    assert_eq!(stored(&world, "zoe").await, Value::Null, "only the functions that create a referral compute the id");
    world.end().await;
}
