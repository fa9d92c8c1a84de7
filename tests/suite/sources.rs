//! The other ways in: the same events from a queue, from Amazon's Kafka and from one's own, as from the bus.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use referrals::runtime::Call;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{self, Fault, World};

/// As often as the SDK tries: more of them in a row, and the caller hears of it.
const TRIES: usize = 4;

/// Takes events from the queue too, with these settings.
async fn world_with<const N: usize>(settings: [(&str, &str); N]) -> World {
    World::with(|options| {
        for (name, value) in settings.into_iter().chain([("INCOMING_QUEUE", "true")]) {
            options.env = std::mem::take(&mut options.env).with(name, value);
        }
    })
    .await
}

fn envelope(detail_type: &str, detail: &Value) -> String {
    json!({"detail-type": detail_type, "source": "shop", "time": "2026-01-31T09:30:00Z", "detail": detail}).to_string()
}

fn order(user: &str, order: &str) -> String {
    envelope("order.completed", &json!({"order_id": order, "user_id": user, "amount": 4200, "currency": "USD"}))
}

/// Sends an event to the queue, as any SDK does.
async fn send(world: &World, body: &str) {
    let queue = format!("{}/000000000000/ConversionIncomingQueue", world.service().url());
    let headers = [("x-amz-target", "AmazonSQS.SendMessage"), ("content-type", "application/x-amz-json-1.0")];
    let request = json!({"QueueUrl": queue, "MessageBody": body}).to_string();
    world.send(Method::POST, "/", &headers, request).await.with(200);
}

fn record(partition: u64, offset: usize, value: &Value) -> Value {
    json!({
        "topic": "events", "partition": partition, "offset": offset, "timestamp": 1_769_851_800_000_u64,
        "timestampType": "CREATE_TIME", "key": null, "value": value, "headers": [],
    })
}

/// A batch of one partition, offsets from 0 on.
fn batch<const N: usize>(source: &str, values: [&str; N]) -> Value {
    let records = values.iter().enumerate().map(|(offset, value)| record(0, offset, &json!(STANDARD.encode(value))));
    json!({"eventSource": source, "bootstrapServers": "b-1:9096", "records": {"events-0": records.collect::<Value>()}})
}

fn msk<const N: usize>(values: [&str; N]) -> Value {
    batch("aws:kafka", values)
}

async fn give(world: &World, batch: Value) -> Value {
    world.service().invoke("ConversionFunction", batch).await.unwrap()
}

fn failed(offset: usize) -> Value {
    json!({"batchItemFailures": [{"itemIdentifier": {"partition": "events-0", "offset": offset}}]})
}

fn none() -> Value {
    json!({"batchItemFailures": []})
}

#[tokio::test]
async fn each_source_converts() {
    let world = world_with([]).await;
    for (referrer, referee) in [("alice", "bob"), ("carol", "dave"), ("erin", "frank"), ("grace", "heidi")] {
        world.refer(referrer, referee).await;
    }
    world.order("bob", "o-1").await;
    send(&world, &order("dave", "o-2")).await;
    assert_eq!(give(&world, msk([&order("frank", "o-3")])).await, none());
    assert_eq!(give(&world, batch("SelfManagedKafka", [&order("heidi", "o-4")])).await, none());
    for (referee, order) in [("bob", "o-1"), ("dave", "o-2"), ("frank", "o-3"), ("heidi", "o-4")] {
        assert_eq!(world.until_status(referee, "rewarded").await["order_id"], order);
    }
    world.end().await;
}

/// As on the bus, every kind of event is taken, and none that is nobody's.
#[tokio::test]
async fn every_kind_of_event_comes_by_any_source() {
    let world = world_with([("HOLD_SECONDS", "3600")]).await;
    let signed_up = |user: &str, code: &str| envelope("customer.signed_up", &json!({"user_id": user, "code": code}));
    let cancelled = |user: &str, order: &str| envelope("order.cancelled", &json!({"user_id": user, "order_id": order}));
    world.mint("alice", "ALICE-2026").await;
    let shipped = envelope("order.shipped", &json!({"order_id": "o-1"}));
    let kafka =
        msk([&signed_up("bob", "ALICE-2026"), &shipped, &order("bob", "o-1"), &cancelled("bob", "o-1"), &shipped]);
    assert_eq!(give(&world, kafka).await, none());
    assert_eq!(world.referral("bob").await["status"], "voided");

    for (event, status) in [
        (signed_up("carol", "ALICE-2026"), "pending"),
        (order("carol", "o-2"), "converted"),
        (cancelled("carol", "o-2"), "voided"),
    ] {
        send(&world, &event).await;
        world.until_status("carol", status).await;
    }
    world.end().await;
}

#[tokio::test]
async fn the_same_order_through_all_sources_is_one_conversion() {
    let world = world_with([]).await;
    world.refer("alice", "bob").await;
    let order = order("bob", "o-1");
    send(&world, &order).await;
    world.order("bob", "o-1").await;
    for batch in [msk([&order, &order]), batch("SelfManagedKafka", [&order])] {
        assert_eq!(give(&world, batch).await, none());
    }
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    world.until_redelivered().await;
    // Attributed, converted, issued, and two rewards delivered.
    assert_eq!(world.stored("bob").await["rev"], 5);
    assert_eq!(world.deliveries().await.len(), 2);
    assert_eq!(world.announced("referral.converted").await, ["bob:converted"]);
    world.end().await;
}

#[tokio::test]
async fn a_poison_record_is_put_aside_and_stands_in_nobodys_way() {
    let mut world = world_with([]).await;
    for (referrer, referee) in [("alice", "bob"), ("carol", "dave"), ("erin", "frank"), ("grace", "heidi")] {
        world.refer(referrer, referee).await;
    }
    let broken = envelope("order.completed", &json!({"order_id": 7}));
    let mut kafka =
        msk([&order("bob", "o-1"), "no JSON", "{\"order_id\": \"o-9\"}", &broken, "", &order("dave", "o-2")]);
    kafka["records"]["events-0"][4]["value"] = Value::Null;
    assert_eq!(give(&world, kafka.clone()).await, none());
    for referee in ["bob", "dave"] {
        world.until_status(referee, "rewarded").await;
    }
    // The whole record, so that it is known where it was; a tombstone is none of our business.
    let parked = world.get("/_local/parked").await.with(200);
    let mut offsets: Vec<_> = parked["items"].as_array().unwrap().iter().map(|item| &item["body"]["payload"]).collect();
    offsets.sort_by_key(|payload| payload["offset"].as_u64());
    assert_eq!(offsets, [1, 2, 3].map(|offset| &kafka["records"]["events-0"][offset]), "{parked:#}");

    for body in [&order("frank", "o-3"), "no JSON", &order("heidi", "o-4")] {
        send(&world, body).await;
    }
    for referee in ["frank", "heidi"] {
        world.until_status(referee, "rewarded").await;
    }
    world.until_idle().await;
    world.expect_unprocessed(4);
    world.end().await;
}

/// Of each partition what was done is done, and it goes on from the record that the table would not take.
#[tokio::test]
async fn a_partition_goes_on_from_what_the_table_would_not_take() {
    let world = World::with_env([("HOLD_SECONDS", "3600")]).await;
    world.refer("alice", "bob").await;
    world.refer("carol", "dave").await;
    let signed_up = |user: &str| envelope("customer.signed_up", &json!({ "user_id": user }));
    // Of these only the orders of the referred update an item.
    let mut kafka = msk([&order("nobody", "o-0"), &signed_up("erin"), &order("bob", "o-1"), &order("dave", "o-2")]);
    let elsewhere = [record(1, 70, &json!(STANDARD.encode(signed_up("frank"))))];
    kafka["records"]["events-1"] = json!(elsewhere);
    world.wire().break_next("UpdateItem", [Fault::Throttled; TRIES]);
    assert_eq!(give(&world, kafka.clone()).await, failed(2));
    assert!(world.wire().is_mended(), "nothing behind the record that failed was tried");
    for user in ["erin", "frank"] {
        world.get(&format!("/v1/users/{user}/code")).await.with(200);
    }
    for referee in ["bob", "dave"] {
        assert_eq!(world.referral(referee).await["status"], "pending", "{referee}");
    }

    // Lambda brings what was given back and what is behind it.
    let rest: Vec<Value> = kafka["records"]["events-0"].as_array().unwrap()[2..].to_vec();
    let again = json!({"eventSource": "aws:kafka", "records": {"events-0": rest}});
    assert_eq!(give(&world, again).await, none());
    for referee in ["bob", "dave"] {
        assert_eq!(world.referral(referee).await["status"], "converted", "{referee}");
    }
    world.end().await;
}

#[tokio::test]
async fn the_queue_brings_again_what_the_table_would_not_take() {
    let world = world_with([]).await;
    world.refer("alice", "bob").await;
    world.until_idle().await;
    world.wire().break_next("UpdateItem", [Fault::Throttled; TRIES]);
    send(&world, &order("bob", "o-1")).await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    assert_eq!(world.stored("bob").await["rev"], 5);
    world.end().await;
}

/// What comes past the bus comes once more too, and not for ever.
#[tokio::test]
async fn an_order_that_overtook_its_sign_up_comes_once_more() {
    let world = world_with([]).await;
    send(&world, &order("bob", "o-1")).await;
    world.until_idle().await;
    assert_eq!(give(&world, msk([&order("dave", "o-2")])).await, none());
    world.refer("alice", "bob").await;
    world.refer("carol", "dave").await;
    for referee in ["bob", "dave"] {
        world.until_status(referee, "rewarded").await;
    }
    world.until_redelivered().await;
    world.wire().take_calls();
    world.until_redelivered().await;
    assert_eq!(world.wire().take_calls(), []);
    world.end().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_sure_to_come_once_more() {
    let world = World::with_env([("DELAY_QUEUE_URL", "http://127.0.0.1/000000000000/NoSuchQueue")]).await;
    assert_eq!(give(&world, msk([&order("bob", "o-1"), &order("dave", "o-2")])).await, failed(0));
    let message = json!({
        "messageId": "m-1", "body": order("bob", "o-1"), "eventSource": "aws:sqs",
        "eventSourceARN": world.service().env().get("INCOMING_QUEUE_ARN").unwrap(),
    });
    let answer = give(&world, json!({"Records": [message]})).await;
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "m-1"}]}));
    world.end().await;
}

#[tokio::test]
async fn a_partition_goes_on_from_where_time_ran_out() {
    let world = World::with_env([("HOLD_SECONDS", "3600")]).await;
    world.refer("alice", "bob").await;
    world.refer("carol", "dave").await;
    let dynamodb = world::aws(world.service().dynamodb_url(), world.wire().connector());
    let sqs = aws_sdk_sqs::Client::new(&world::aws(world.service().url(), world.wire().connector()));
    let app = conversion::App::new(world.service().env(), aws_sdk_dynamodb::Client::new(&dynamodb), sqs).unwrap();
    let call = |millis| Call::begin(Duration::from_millis(millis)).unwrap();
    let kafka = msk([&order("nobody", "o-0"), &order("bob", "o-1"), &order("dave", "o-2")]);
    // Half a second is less than it takes to report.
    assert_eq!(conversion::handle(&app, kafka.clone(), call(500)).await.unwrap(), failed(0));

    world.wire().break_next("UpdateItem", [Fault::Slow(Duration::from_secs(20))]);
    assert_eq!(conversion::handle(&app, kafka.clone(), call(4000)).await.unwrap(), failed(1));
    assert_eq!(world.referral("dave").await["status"], "pending");
    assert_eq!(conversion::handle(&app, kafka, call(10_000)).await.unwrap(), none());
    for referee in ["bob", "dave"] {
        assert_eq!(world.referral(referee).await["status"], "converted", "{referee}");
    }
    world.end().await;
}
