//! Replay: stream records that Lambda gave up are published and counted again.

use std::{fs, path::Path};

use referrals::{
    analytics::Analytics,
    aws::bus::Bus,
    store::keys::{Item, PK, SK},
};
use replay::{Destinations, Report, file};
use serde_json::{Value, json};

use crate::world::{self, Folder, Wire, World};

/// The stream record of an item's first write.
fn record(item: &Item) -> Value {
    let image = |item: Item| serde_json::to_value(serde_dynamo::Item::from(item)).unwrap();
    let keys: Item = [PK, SK].map(|name| (name.to_owned(), item[name].clone())).into();
    let change = json!({
        "Keys": image(keys), "NewImage": image(item.clone()), "SequenceNumber": "7", "SizeBytes": 900,
        "StreamViewType": "NEW_AND_OLD_IMAGES", "ApproximateCreationDateTime": 1
    });
    json!({"eventID": "e-1", "eventName": "INSERT", "awsRegion": "us-east-1", "dynamodb": change})
}

/// Writes an invocation record as Lambda does, under the name that Lambda gives its object.
fn give_up(folder: &Path, function: &str, records: &[Value]) {
    let shard = folder.join("aws/lambda/6f2a/shardId-00000001573689847184-864758bb/2026/11/29");
    fs::create_dir_all(&shard).unwrap();
    let invocation = json!({
        "requestContext": {
            "requestId": "316aa6d0", "functionArn": format!("arn:aws:lambda:us-east-1:123456789012:function:{function}"),
            "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 11
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0", "timestamp": "2026-11-29T00:13:49.717Z",
        "DDBStreamBatchInfo": {"shardId": "shardId-00000001573689847184-864758bb", "batchSize": records.len()},
        "payload": json!({"Records": records}).to_string()
    });
    fs::write(shard.join(format!("2026-11-29T00.13.49-{function}")), invocation.to_string()).unwrap();
}

async fn replay(folder: &Folder, function: &str, to: &Destinations) -> Report {
    let files = file::files(folder.path()).unwrap();
    replay::replay(&files, function, to, || ()).await.unwrap()
}

/// A referral that was attributed and rewarded while the stream was broken.
async fn lost() -> (World, Folder) {
    let mut world = World::with(|options| options.pace.stream = false).await;
    world.allow_outstanding_work();
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    world.service().sweep_now().await.unwrap();
    world.until_status("bob", "rewarded").await;
    let folder = Folder::new();
    let item = world.item("REFEREE#bob", "REFERRAL").await.unwrap();
    give_up(folder.path(), "stack-RewardsFunction-1", &[record(&item)]);
    give_up(folder.path(), "stack-AnalyticsFunction-1", &[record(&item)]);
    (world, folder)
}

fn bus(world: &World) -> Bus {
    let client = aws_sdk_eventbridge::Client::new(&world::aws(world.service().url(), Wire::default().connector()));
    Bus::from_env(world.service().env(), client.into()).unwrap()
}

#[tokio::test]
async fn a_record_that_the_stream_gave_up_is_announced_again() {
    let (world, folder) = lost().await;
    let of_referrals = async || world.announced("referral.rewarded").await;
    assert_eq!(of_referrals().await, [""; 0], "the record is lost");

    let dry = replay(&folder, "RewardsFunction", &Destinations::default()).await;
    assert_eq!(dry.batches.into_iter().collect::<Vec<_>>(), [("stack-RewardsFunction-1".to_owned(), 1)]);
    assert_eq!((dry.changes, dry.skipped, dry.events["reward.issued"]), (1, 1, 2));
    assert_eq!(of_referrals().await, [""; 0], "a dry run publishes nothing");

    let to = Destinations { bus: Some(bus(&world)), analytics: None };
    for times in 1..=2 {
        let report = replay(&folder, "RewardsFunction", &to).await;
        assert!(report.unreadable.is_empty(), "{report}");
        assert_eq!(of_referrals().await, vec!["bob:rewarded"; times], "a repeated replay publishes the same events");
        world.until_idle().await;
    }
    let calls = world.deliveries().await;
    assert_eq!(calls.len(), 2, "the second time there was nothing to deliver: {calls:?}");
    world.end().await;
}

#[tokio::test]
async fn a_record_that_the_stream_gave_up_is_counted_again() {
    let (world, folder) = lost().await;
    let analytics = Analytics::from_env(world.service().env(), &world.service().dynamodb()).unwrap();
    let to = Destinations { bus: None, analytics: Some(analytics) };
    for counted in [1, 0] {
        let report = replay(&folder, "AnalyticsFunction", &to).await;
        assert_eq!((report.changes, report.counted), (1, counted), "{report}");
    }
    let day = world.get("/admin/programs/default/daily").await.with(200);
    assert_eq!(day["total"]["rewarded"], 1, "{day}");
    world.end().await;
}

/// A file that cannot be read is reported and does not stop the others.
#[tokio::test]
async fn unreadable_files_and_other_sources_are_reported() {
    let (world, folder) = lost().await;
    let kafka =
        json!({"requestContext": {"functionArn": "arn:aws:lambda:us-east-1:1:function:conversion"}, "payload": "{}"});
    fs::write(folder.path().join("kafka"), kafka.to_string()).unwrap();
    fs::write(folder.path().join("half"), "{\"requestContext\":").unwrap();
    give_up(folder.path(), "stack-RewardsFunction-2", &[json!("broken")]);
    let report = replay(&folder, "", &Destinations::default()).await;
    assert_eq!((report.changes, report.skipped, report.unreadable.len()), (2, 1, 2), "{report}");
    assert_eq!(report.batches.len(), 3, "{report}");
    world.end().await;
}
