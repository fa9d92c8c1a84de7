//! Running out of time: unfinished work is returned as failed while there is still time to do so.

use std::time::Duration;

use referrals::runtime::Call;
use serde_json::{Value, json};

use crate::world::{self, Fault, World};

/// A call with half a second left, which is less than the time reserved for the answer.
fn late() -> Call {
    Call::begin(Duration::from_millis(500)).unwrap()
}

/// A call with four seconds: enough for work, but not for a table that takes longer.
fn short() -> Call {
    Call::begin(Duration::from_secs(4)).unwrap()
}

fn sqs(world: &World) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::new(&world::aws(world.service().url(), world.wire().connector()))
}

fn eventbridge(world: &World) -> aws_sdk_eventbridge::Client {
    aws_sdk_eventbridge::Client::new(&world::aws(world.service().url(), world.wire().connector()))
}

fn dynamodb(world: &World) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&world::aws(world.service().dynamodb_url(), world.wire().connector()))
}

fn order(user: &str) -> String {
    let detail = json!({"order_id": format!("o-{user}"), "user_id": user, "amount": 1, "currency": "USD"});
    json!({"detail-type": "order.completed", "source": "shop", "detail": detail}).to_string()
}

#[tokio::test]
async fn unfinished_queue_messages_are_returned_as_failed() {
    let world = World::start().await;
    world.refer("alice", "bob").await;
    world.refer("alice", "carol").await;
    let app = conversion::App::new(world.service().env(), dynamodb(&world), sqs(&world)).unwrap();
    let batch = json!({"Records": [
        {"messageId": "m-bob", "body": order("bob")},
        {"messageId": "m-carol", "body": order("carol")},
    ]});
    let all = json!({"batchItemFailures": [{"itemIdentifier": "m-bob"}, {"itemIdentifier": "m-carol"}]});
    assert_eq!(conversion::handle(&app, batch.clone(), late()).await.unwrap(), all);

    // One of the two meets a slow table; only that one is retried.
    world.wire().break_next("GetItem", [Fault::Slow(Duration::from_secs(20))]);
    let answer = conversion::handle(&app, batch.clone(), short()).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1, "{answer}");
    let none = json!({"batchItemFailures": []});
    assert_eq!(conversion::handle(&app, batch, Call::begin(Duration::from_secs(10)).unwrap()).await.unwrap(), none);
    for referee in ["bob", "carol"] {
        world.until_status(referee, "rewarded").await;
    }
    world.end().await;
}

#[tokio::test]
async fn the_stream_continues_at_the_first_unfinished_record() {
    let world = World::start().await;
    let app = rewards::App::new(world.service().env(), dynamodb(&world), eventbridge(&world), sqs(&world)).unwrap();
    let record = |number: &str| json!({"dynamodb": {"SequenceNumber": number}});
    let batch = json!({"Records": [record("101"), record("102")]});
    let answer: Value = rewards::handle(&app, batch, late()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "101"}]}));
    world.end().await;
}

#[tokio::test]
async fn a_sweep_without_time_starts_no_work() {
    let mut world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    let app = sweep::App::new(world.service().env(), dynamodb(&world), eventbridge(&world)).unwrap();
    let swept = sweep::handle(&app, Value::Null, late()).await.unwrap();
    assert_eq!((&swept["due"], &swept["failed"]), (&json!(0), &json!(0)), "{swept}");
    assert_eq!(world.referral("bob").await["status"], "converted");
    world.allow_outstanding_work();
    world.end().await;
}

#[tokio::test]
async fn a_sweep_that_runs_out_of_time_does_not_fail() {
    let mut world = World::with(|options| options.pace.stream = false).await;
    for (referee, order) in [("bob", "o-1"), ("carol", "o-2")] {
        world.refer("alice", referee).await;
        world.order(referee, order).await;
        world.until_status(referee, "converted").await;
    }
    let app = sweep::App::new(world.service().env(), dynamodb(&world), eventbridge(&world)).unwrap();
    world.wire().break_next("UpdateItem", [Fault::Slow(Duration::from_secs(20))]);
    let swept = sweep::handle(&app, Value::Null, short()).await.unwrap();
    assert_eq!([&swept["due"], &swept["advanced"], &swept["left"], &swept["failed"]], [2, 1, 1, 0], "{swept}");
    world.service().sweep_now().await.unwrap();
    for referee in ["bob", "carol"] {
        assert_eq!(world.referral(referee).await["status"], "rewarded");
    }
    world.allow_outstanding_work();
    world.end().await;
}
