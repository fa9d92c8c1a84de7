//! Flags and clearances: the product's clock may be wrong, and an event arrives more than once.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use referrals::domain::time::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{World, plain};

/// A time that is far in the future.
const FUTURE: &str = "2036-01-01T00:00:00Z";

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// The time `seconds` from now, as text.
fn from_now(seconds: i64) -> String {
    Timestamp::from_millis(now() + seconds * 1000).unwrap().to_string()
}

/// A flag (or a clearance) of an account, with the product's time in its envelope.
fn flag(user: &str, is_flag: bool, time: &str, occurred_at: Option<&str>) -> Value {
    let (kind, reason) = if is_flag { ("account.flagged", json!("a test")) } else { ("account.cleared", Value::Null) };
    let detail = json!({"user_id": user, "reason": reason, "occurred_at": occurred_at});
    json!({"id": "e", "detail-type": kind, "source": "shop", "time": time, "detail": detail})
}

async fn invoke(world: &World, payload: Value) {
    let answer = world.service().invoke("ConversionFunction", payload).await.unwrap();
    assert!(answer.is_null() || answer == json!({"batchItemFailures": []}), "{answer}");
}

/// A batch with one message that was sent to this queue at this time, in milliseconds.
fn message(queue: &str, event: &Value, sent_at: i64) -> Value {
    json!({"Records": [{
        "messageId": "m-1", "body": event.to_string(), "eventSource": "aws:sqs",
        "eventSourceARN": format!("arn:aws:sqs:us-east-1:000000000000:{queue}"),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": sent_at.to_string()},
    }]})
}

/// Whether the account is flagged, and since when.
async fn account(world: &World, user: &str) -> (bool, String) {
    let item = world.item(&format!("USER#{user}"), "ACCOUNT").await.as_ref().map_or(Value::Null, plain);
    (item["flagged"] == true, item["flag_at"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_flag_with_an_envelope_in_the_future_can_be_cleared_and_its_copy_does_not_flag_again() {
    let world = World::start().await;
    let code = world.mint("alice", "ALICE").await;
    world.publish_at("account.flagged", json!({"user_id": "alice", "reason": "x"}), json!(2_082_758_400)).await;
    world.until("alice is flagged", async || account(&world, "alice").await.0).await;
    assert!(account(&world, "alice").await.1 <= from_now(0));
    // The envelope has whole seconds.
    sleep(Duration::from_millis(1100)).await;
    world.publish("account.cleared", json!({"user_id": "alice"})).await;
    world.until("alice is cleared", async || !account(&world, "alice").await.0).await;
    world.until_redelivered().await;
    assert!(!account(&world, "alice").await.0, "the copy of the flag does not override the clearance");
    world.attribute("bob", code["code"].as_str().unwrap()).await.with(201);
    world.end().await;
}

#[tokio::test]
async fn an_occurred_at_in_the_future_is_quarantined_once_whatever_the_envelope_says() {
    let mut world = World::start().await;
    world.mint("alice", "ALICE").await;
    let before = world.contents().await;
    for envelope in [json!(2_082_758_400), json!(now() / 1000), Value::Null] {
        for kind in ["account.flagged", "account.cleared"] {
            let detail = json!({"user_id": "alice", "reason": "x", "occurred_at": FUTURE});
            world.publish_at(kind, detail, envelope.clone()).await;
        }
    }
    world.until_idle().await;
    world.until_redelivered().await;
    assert_eq!(world.contents().await, before);
    assert_eq!(world.get("/_local/parked").await.with(200)["count"], 6);
    // Five minutes are the limit, and an earlier time in the envelope does not lower it.
    invoke(&world, flag("alice", true, "2026-01-01T00:00:00Z", Some(&from_now(290)))).await;
    assert!(account(&world, "alice").await.0);
    invoke(&world, flag("bob", true, FUTURE, Some(&from_now(310)))).await;
    assert!(!account(&world, "bob").await.0);
    world.expect_unprocessed(7);
    world.end().await;
}

/// A message keeps the time at which it was sent: a copy, a retry and a dead letter keep their time.
#[tokio::test]
async fn a_message_with_an_envelope_in_the_future_is_received_when_it_was_sent() {
    let world = World::with_env([("INCOMING_QUEUE", "true")]).await;
    let (sent_at, hour_ago, now) = (now() - 900_000, from_now(-3600), from_now(-60));
    let sent = Timestamp::from_millis(sent_at).unwrap().to_string();
    for queue in ["ConversionDelayQueue", "ConversionIncomingQueue", "ConversionDeadLetterQueue"] {
        // The last clock was 14 minutes ahead, so its time is in the past when the message arrives.
        for (user, envelope, expected) in
            [("a", &hour_ago, &hour_ago), ("b", &FUTURE.to_owned(), &sent), ("c", &now, &sent)]
        {
            let user = format!("{queue}-{user}");
            invoke(&world, message(queue, &flag(&user, true, envelope, None), sent_at)).await;
            assert_eq!(account(&world, &user).await, (true, expected.clone()), "{queue} {envelope}");
        }
    }
    // What was too far in the future when it was sent stays so.
    let invalid = flag("bob", true, FUTURE, Some(&now));
    invoke(&world, message("ConversionDelayQueue", &invalid, sent_at)).await;
    assert!(!account(&world, "bob").await.0);
    world.end().await;
}

/// The function itself sends the copies of these events, with the time by which it judged the original.
#[tokio::test]
async fn copies_of_events_from_kafka_and_from_the_queue_override_nothing() {
    let world = World::with_env([("INCOMING_QUEUE", "true")]).await;
    let record = |event: &Value| json!({"offset": 1, "timestamp": 1, "value": STANDARD.encode(event.to_string())});
    for (user, time) in [("alice", json!(FUTURE)), ("bob", Value::Null)] {
        let mut event = flag(user, true, "", None);
        event["time"] = time;
        invoke(&world, json!({"eventSource": "aws:kafka", "records": {"events-0": [record(&event)]}})).await;
        invoke(&world, message("ConversionIncomingQueue", &event, now())).await;
        let (is_flagged, at) = account(&world, user).await;
        assert!(is_flagged && at <= from_now(0), "{at}");
        sleep(Duration::from_millis(2)).await;
        invoke(&world, flag(user, false, FUTURE, None)).await;
        assert!(!account(&world, user).await.0);
    }
    world.until_redelivered().await;
    for user in ["alice", "bob"] {
        assert!(!account(&world, user).await.0, "{user}");
    }
    world.end().await;
}

/// A broker that dates its records tells when it received them. A producer's clock does not.
#[tokio::test]
async fn an_event_from_kafka_is_received_when_the_broker_stored_it() {
    let world = World::start().await;
    let appended = now() - 3_600_000;
    let batch = |user: &str, kind: &str| {
        let value = STANDARD.encode(flag(user, true, FUTURE, None).to_string());
        let record = json!({"offset": 1, "timestamp": appended, "timestampType": kind, "value": value});
        json!({"eventSource": "aws:kafka", "records": {"events-0": [record]}})
    };
    invoke(&world, batch("alice", "LOG_APPEND_TIME")).await;
    assert_eq!(account(&world, "alice").await, (true, Timestamp::from_millis(appended).unwrap().to_string()));
    invoke(&world, batch("bob", "CREATE_TIME")).await;
    let (is_flagged, at) = account(&world, "bob").await;
    assert!(is_flagged && at > from_now(-60) && at <= from_now(0), "{at}");
    world.end().await;
}

/// A replay repeats what was said, at the time at which it was said. Without a usable time it overrides nothing.
#[tokio::test]
async fn a_replay_overrides_no_later_change() {
    let world = World::start().await;
    let replayed = |user: &str, is_flag: bool, time: &str| {
        let mut event = flag(user, is_flag, time, None);
        event["replay-name"] = json!("noon");
        event
    };
    invoke(&world, flag("alice", false, "2026-01-02T00:00:00Z", None)).await;
    for time in ["2026-01-01T00:00:00Z", FUTURE] {
        invoke(&world, replayed("alice", true, time)).await;
        assert!(!account(&world, "alice").await.0, "{time}");
    }
    // Without another change it takes effect, and later changes override it.
    invoke(&world, replayed("bob", true, FUTURE)).await;
    assert!(account(&world, "bob").await.0);
    invoke(&world, replayed("bob", false, "2026-01-01T00:00:00Z")).await;
    assert!(!account(&world, "bob").await.0);
    world.end().await;
}

/// Earlier versions stored the time of a wrong clock. It overrides nothing any more.
#[tokio::test]
async fn a_stored_time_in_the_future_is_replaced() {
    let world = World::start().await;
    for (user, was_flagged) in [("alice", true), ("bob", false)] {
        let table = world.service().env().get("TABLE_NAME").unwrap();
        let put = world.service().dynamodb().put_item().table_name(table);
        let text = |value: &str| aws_sdk_dynamodb::types::AttributeValue::S(value.to_owned());
        let flagged = aws_sdk_dynamodb::types::AttributeValue::Bool(was_flagged);
        let put = put.item("pk", text(&format!("USER#{user}"))).item("sk", text("ACCOUNT")).item("flagged", flagged);
        put.item("flag_at", text("2036-01-01T00:00:00.000Z")).send().await.unwrap();
        invoke(&world, flag(user, !was_flagged, "2026-01-01T00:00:00Z", None)).await;
        assert_eq!(account(&world, user).await, (!was_flagged, "2026-01-01T00:00:00.000Z".to_owned()));
    }
    world.end().await;
}

#[tokio::test]
async fn an_invalid_event_is_quarantined_once_from_every_source() {
    let mut world = World::with_env([("INCOMING_QUEUE", "true")]).await;
    let parked = async || world.get("/_local/parked").await.with(200)["count"].clone();
    let broken = json!({"id": "e", "detail-type": "order.cancelled", "source": "shop", "detail": {"order_id": 7}});
    world.publish("order.cancelled", json!({"order_id": 7})).await;
    world.until_idle().await;
    world.until_redelivered().await;
    assert_eq!(parked().await, 1, "the rule quarantines, and the delayed copy does not");
    invoke(&world, message("ConversionDelayQueue", &broken, now())).await;
    // The rule could not reach the delay queue.
    let mut dead_letter = message("ConversionDeadLetterQueue", &broken, now());
    let target = json!({"dataType": "String", "stringValue": "arn:aws:sqs:us-east-1:0:ConversionDelayQueue"});
    dead_letter["Records"][0]["messageAttributes"] = json!({ "TARGET_ARN": target });
    invoke(&world, dead_letter).await;
    assert_eq!(parked().await, 1);
    let value = STANDARD.encode(broken.to_string());
    let record = json!({"offset": 1, "timestamp": 1, "value": value});
    for (first_arrival, count) in [
        (message("ConversionIncomingQueue", &broken, now()), 2),
        (json!({"eventSource": "aws:kafka", "records": {"events-0": [record]}}), 3),
        // It was never processed before it became a dead letter.
        (message("ConversionDeadLetterQueue", &broken, now()), 4),
    ] {
        invoke(&world, first_arrival).await;
        assert_eq!(parked().await, count);
        world.until_redelivered().await;
        assert_eq!(parked().await, count, "it has no copy");
    }
    world.expect_unprocessed(4);
    world.end().await;
}
