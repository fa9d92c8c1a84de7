//! The other event sources: events from a queue, from Amazon MSK and from self-managed Kafka have the same effect as from the bus.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::Utc;
use referrals::runtime::Call;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{self, Fault, World};

/// The number of attempts of the SDK. With that many faults in a row, a call fails.
const TRIES: usize = 4;

/// A World that also takes events from the queue, with these settings.
async fn world_with<const N: usize>(settings: [(&str, &str); N]) -> World {
    World::with(|options| {
        for (name, value) in settings.into_iter().chain([("INCOMING_QUEUE", "true")]) {
            options.env = std::mem::take(&mut options.env).with(name, value);
        }
    })
    .await
}

fn envelope(detail_type: &str, detail: &Value) -> String {
    json!({"detail-type": detail_type, "source": "shop", "time": Utc::now().to_rfc3339(), "detail": detail}).to_string()
}

fn order(user: &str, order: &str) -> String {
    envelope("order.completed", &json!({"order_id": order, "user_id": user, "amount": 4200, "currency": "USD"}))
}

/// Sends an event to the queue, with a request as an SDK sends it.
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

async fn invoke(world: &World, batch: Value) -> Value {
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
    assert_eq!(invoke(&world, msk([&order("frank", "o-3")])).await, none());
    assert_eq!(invoke(&world, batch("SelfManagedKafka", [&order("heidi", "o-4")])).await, none());
    for (referee, order) in [("bob", "o-1"), ("dave", "o-2"), ("frank", "o-3"), ("heidi", "o-4")] {
        assert_eq!(world.until_status(referee, "rewarded").await["order_id"], order);
    }
    world.end().await;
}

/// Every source takes every type of event, and ignores unknown types, as the bus does.
#[tokio::test]
async fn every_source_takes_every_type_of_event() {
    let world = world_with([("HOLD_SECONDS", "3600")]).await;
    let signed_up = |user: &str, code: &str| envelope("customer.signed_up", &json!({"user_id": user, "code": code}));
    let cancelled = |user: &str, order: &str| envelope("order.cancelled", &json!({"user_id": user, "order_id": order}));
    world.mint("alice", "ALICE-2026").await;
    let shipped = envelope("order.shipped", &json!({"order_id": "o-1"}));
    let kafka =
        msk([&signed_up("bob", "ALICE-2026"), &shipped, &order("bob", "o-1"), &cancelled("bob", "o-1"), &shipped]);
    assert_eq!(invoke(&world, kafka).await, none());
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
        assert_eq!(invoke(&world, batch).await, none());
    }
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    world.until_redelivered().await;
    // Attributed, converted, issued, and two rewards delivered.
    assert_eq!(world.stored("bob").await["rev"], 7);
    assert_eq!(world.deliveries().await.len(), 2);
    assert_eq!(world.announced("referral.converted").await, ["bob:converted"]);
    world.end().await;
}

#[tokio::test]
async fn an_unreadable_record_is_quarantined_and_blocks_no_other() {
    let mut world = world_with([]).await;
    for (referrer, referee) in [("alice", "bob"), ("carol", "dave"), ("erin", "frank"), ("grace", "heidi")] {
        world.refer(referrer, referee).await;
    }
    let broken = envelope("order.completed", &json!({"order_id": 7}));
    let mut kafka =
        msk([&order("bob", "o-1"), "no JSON", "{\"order_id\": \"o-9\"}", &broken, "", &order("dave", "o-2")]);
    kafka["records"]["events-0"][4]["value"] = Value::Null;
    assert_eq!(invoke(&world, kafka.clone()).await, none());
    for referee in ["bob", "dave"] {
        world.until_status(referee, "rewarded").await;
    }
    // The quarantine has the whole record, with its topic, partition and offset. A record without a value is skipped.
    let quarantined = world.get("/_local/parked").await.with(200);
    let items = quarantined["items"].as_array().unwrap();
    let mut offsets: Vec<_> = items.iter().map(|item| &item["body"]["payload"]).collect();
    offsets.sort_by_key(|payload| payload["offset"].as_u64());
    assert_eq!(offsets, [1, 2, 3].map(|offset| &kafka["records"]["events-0"][offset]), "{quarantined:#}");

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

/// Each partition keeps its processed records, and continues at the record whose write failed.
#[tokio::test]
async fn a_partition_continues_at_the_record_whose_write_failed() {
    let world = World::with_env([("HOLD_SECONDS", "3600")]).await;
    world.refer("alice", "bob").await;
    world.refer("carol", "dave").await;
    let signed_up = |user: &str| envelope("customer.signed_up", &json!({ "user_id": user }));
    // Only the orders of referred users update an item.
    let mut kafka = msk([&order("zoe", "o-0"), &signed_up("erin"), &order("bob", "o-1"), &order("dave", "o-2")]);
    let elsewhere = [record(1, 70, &json!(STANDARD.encode(signed_up("frank"))))];
    kafka["records"]["events-1"] = json!(elsewhere);
    world.wire().break_next("UpdateItem", [Fault::Throttled; TRIES]);
    assert_eq!(invoke(&world, kafka.clone()).await, failed(2));
    assert!(world.wire().is_mended(), "no record after the failed one was tried");
    for user in ["erin", "frank"] {
        world.get(&format!("/v1/users/{user}/code")).await.with(200);
    }
    for referee in ["bob", "dave"] {
        assert_eq!(world.referral(referee).await["status"], "pending", "{referee}");
    }

    // Lambda delivers the failed record again, with those after it.
    let rest: Vec<Value> = kafka["records"]["events-0"].as_array().unwrap()[2..].to_vec();
    let again = json!({"eventSource": "aws:kafka", "records": {"events-0": rest}});
    assert_eq!(invoke(&world, again).await, none());
    for referee in ["bob", "dave"] {
        assert_eq!(world.referral(referee).await["status"], "converted", "{referee}");
    }
    world.end().await;
}

#[tokio::test]
async fn the_queue_redelivers_an_event_whose_write_failed() {
    let world = world_with([]).await;
    world.refer("alice", "bob").await;
    world.until_idle().await;
    world.wire().break_next("UpdateItem", [Fault::Throttled; TRIES]);
    send(&world, &order("bob", "o-1")).await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    assert_eq!(world.stored("bob").await["rev"], 7);
    world.end().await;
}

/// An event that did not arrive through the bus also gets one delayed copy, and only one.
#[tokio::test]
async fn an_order_before_its_sign_up_converts_with_its_delayed_copy() {
    let world = world_with([]).await;
    send(&world, &order("bob", "o-1")).await;
    world.until_idle().await;
    assert_eq!(invoke(&world, msk([&order("dave", "o-2")])).await, none());
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
async fn an_event_is_acknowledged_only_after_its_delayed_copy_is_queued() {
    let world = World::with_env([("DELAY_QUEUE_URL", "http://127.0.0.1/000000000000/NoSuchQueue")]).await;
    assert_eq!(invoke(&world, msk([&order("bob", "o-1"), &order("dave", "o-2")])).await, failed(0));
    let message = json!({
        "messageId": "m-1", "body": order("bob", "o-1"), "eventSource": "aws:sqs",
        "eventSourceARN": world.service().env().get("INCOMING_QUEUE_ARN").unwrap(),
    });
    let answer = invoke(&world, json!({"Records": [message]})).await;
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "m-1"}]}));
    world.end().await;
}

#[tokio::test]
async fn a_partition_continues_where_time_ran_out() {
    let world = World::with_env([("HOLD_SECONDS", "3600")]).await;
    world.refer("alice", "bob").await;
    world.refer("carol", "dave").await;
    let dynamodb = world::aws(world.service().dynamodb_url(), world.wire().connector());
    let sqs = aws_sdk_sqs::Client::new(&world::aws(world.service().url(), world.wire().connector()));
    let app = conversion::App::new(world.service().env(), aws_sdk_dynamodb::Client::new(&dynamodb), sqs).unwrap();
    let call = |millis| Call::begin(Duration::from_millis(millis)).unwrap();
    let kafka = msk([&order("zoe", "o-0"), &order("bob", "o-1"), &order("dave", "o-2")]);
    // Half a second is less than the reserve for the report.
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
