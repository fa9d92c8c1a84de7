//! Analytics: every referral counted once, and questions answered from the counters alone.

use std::time::Duration;

use referrals::{
    metrics::{Facts, Metrics, Taken},
    referral::Referral,
    runtime::Call,
    table,
};
use serde_json::{Value, json};

use crate::world::{
    Fault, World,
    recount::{counted, difference, recount},
};

fn metrics(world: &World) -> Metrics {
    Metrics::new(&world.service().dynamodb(), world.service().env().get("METRICS_TABLE_NAME").unwrap())
}

/// A stream record of a referral as it is after a write.
fn record(referral: &Referral, sequence: usize) -> Value {
    let item = serde_dynamo::Item::from(table::referral_item(referral).unwrap());
    let keys = serde_dynamo::Item::from(table::Key::referral(&referral.referee).attributes());
    json!({
        "eventID": format!("e-{sequence}"), "eventName": "MODIFY", "eventVersion": "1.1",
        "eventSource": "aws:dynamodb", "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_772_442_300,
            "Keys": keys, "NewImage": item, "SequenceNumber": format!("{sequence}"), "SizeBytes": 900,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:000000000000:table/referrals/stream/x",
    })
}

async fn stored(world: &World, referee: &str) -> Referral {
    table::referral_from(world.item(&format!("REFEREE#{referee}"), "REFERRAL").await.unwrap()).unwrap()
}

/// Hands records to the function, and gives what it gave back.
async fn invoke(world: &World, records: Vec<Value>) -> Vec<Value> {
    let answer = world.service().invoke("AnalyticsFunction", json!({"Records": records})).await.unwrap();
    answer["batchItemFailures"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_comes_twice_or_late_counts_once() {
    let world = World::start().await;
    world.refer("alice", "bob").await;
    let pending = stored(&world, "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.settle().await;
    let delivered = stored(&world, "bob").await;
    let before = world.metrics().await;
    let (first, last) = (record(&pending, 1), record(&delivered, 2));
    for records in [vec![last.clone()], vec![first.clone(), last.clone(), first.clone()], vec![last, first]] {
        assert_eq!(invoke(&world, records).await, [Value::Null; 0]);
    }
    assert_eq!(world.metrics().await, before);
    world.end().await;
}

#[tokio::test]
async fn a_batch_that_goes_several_steps_is_counted_in_one() {
    let world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    let pending = stored(&world, "bob").await;
    world.refer("alice", "dan").await;
    let other = stored(&world, "dan").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    let converted = stored(&world, "bob").await;
    world.wire().take_metrics_calls();
    let records = vec![record(&pending, 1), record(&other, 2), record(&converted, 3)];
    assert_eq!(invoke(&world, records).await, [Value::Null; 0]);
    let calls: Vec<_> = world.wire().take_metrics_calls().into_iter().map(|call| call.operation).collect();
    assert_eq!(calls, ["metrics:GetItem", "metrics:TransactWriteItems"].repeat(2));
    assert_eq!(difference(&counted(&world.metrics().await), &recount([&converted, &other])), [""; 0]);
    world.service().sweep_now().await.unwrap();
    world.service().sweep_now().await.unwrap();
    world.settle().await;
    let mut world = world;
    world.expect_owed();
    world.end().await;
}

#[tokio::test]
async fn an_answer_that_gets_lost_counts_once_and_a_conflict_is_tried_again() {
    let world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    let bob = stored(&world, "bob").await;
    world.wire().break_next("metrics:TransactWriteItems", [Fault::AnswerLost, Fault::Conflict]);
    assert_eq!(invoke(&world, vec![record(&bob, 1)]).await, [Value::Null; 0]);
    assert_eq!(difference(&counted(&world.metrics().await), &recount([&bob])), [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn what_fails_is_given_back_from_the_first_record_of_its_referral_on() {
    let world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    world.refer("alice", "dan").await;
    let (bob, dan) = (stored(&world, "bob").await, stored(&world, "dan").await);
    let mut later = dan.clone();
    later.rev += 1;
    let records = vec![record(&bob, 1), record(&dan, 2), json!("broken"), record(&later, 4), record(&bob, 5)];
    world.wire().break_next("metrics:GetItem", [Fault::Throttled; 4]);
    assert_eq!(invoke(&world, records.clone()).await, [json!({"itemIdentifier": "1"})]);
    assert_eq!(world.metrics().await, [Value::Null; 0]);
    // This time bob is read, and dan is not.
    world.wire().break_next("metrics:TransactWriteItems", []);
    assert_eq!(invoke(&world, vec![records[0].clone()]).await, [Value::Null; 0]);
    world.wire().break_next("metrics:GetItem", [Fault::Internal; 4]);
    assert_eq!(invoke(&world, records[1..].to_vec()).await, [json!({"itemIdentifier": "2"})]);
    assert_eq!(invoke(&world, records).await, [Value::Null; 0]);
    assert_eq!(difference(&counted(&world.metrics().await), &recount([&bob, &dan])), [""; 0]);
    world.end().await;
}

/// Many at once add to the same counters, and to one referral.
#[tokio::test]
async fn nothing_is_lost_or_doubled_in_a_race() {
    let world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    let bob = stored(&world, "bob").await;
    let revisions: Vec<Facts> = (0..8_u64).map(|more| Facts { rev: bob.rev + more, ..Facts::from(&bob) }).collect();
    let metrics = metrics(&world);
    let takes = revisions.iter().map(|facts| metrics.take(facts));
    let outcomes = futures_util::future::join_all(takes).await;
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Ok(Taken::Counted))), "{outcomes:?}");
    assert_eq!(
        metrics.take(&revisions[7]).await.unwrap(),
        if matches!(outcomes[7], Ok(_)) { Taken::Known } else { Taken::Counted }
    );
    assert_eq!(difference(&counted(&world.metrics().await), &recount([&bob])), [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn what_is_no_batch_fails() {
    let world = World::start().await;
    assert!(world.service().invoke("AnalyticsFunction", json!({"detail": {}})).await.is_err());
    let call = Call::begin(Duration::ZERO).unwrap();
    let app = analytics::App::new(world.service().env(), &world.service().dynamodb()).unwrap();
    world.refer("alice", "bob").await;
    let batch = json!({"Records": [record(&stored(&world, "bob").await, 7)]});
    let answer = analytics::handle(&app, batch, call).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([{"itemIdentifier": "7"}]), "its time is over");
    world.end().await;
}
