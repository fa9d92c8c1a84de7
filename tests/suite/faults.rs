//! Lost answers, conflicts, throttling and unreadable records: the required behaviour under faults.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use referrals::store::keys::Item;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::world::{Fault, World, plain};

/// How often the SDK tries a call. More consecutive faults are reported to the caller.
const TRIES: usize = 4;

/// A long hold, so that no other write of the same kind is in progress.
async fn world_with_long_hold() -> World {
    World::with_env([("HOLD_SECONDS", "3600")]).await
}

/// How many codes the table holds, and how many code owners.
async fn codes(world: &World) -> (usize, usize) {
    let items = world.items().await;
    let count =
        |holds: fn(&str) -> bool| items.iter().filter(|item| holds(plain(item)["sk"].as_str().unwrap())).count();
    (count(|sk| sk == "CODE"), count(|sk| sk.starts_with("CODE#")))
}

/// Faults that an immediate retry overcomes.
const TRANSIENT: [Fault; 5] =
    [Fault::AnswerLost, Fault::RequestLost, Fault::Throttled, Fault::Conflict, Fault::Internal];

#[tokio::test]
async fn a_mint_tolerates_transient_faults() {
    let world = World::start().await;
    for (number, fault) in TRANSIENT.into_iter().enumerate() {
        for body in [json!({}), json!({"code": format!("vanity-{number}"), "device_fingerprint": "a-device-of-hers"})] {
            let user = format!("user-{number}-{}", body["code"].is_null());
            let before = codes(&world).await;
            world.wire().break_next("TransactWriteItems", [fault, fault]);
            let minted = world.put(&format!("/v1/users/{user}/code"), body).await.with(201);
            assert_eq!(codes(&world).await, (before.0 + 1, before.1 + 1), "{fault:?}");
            let again = world.put(&format!("/v1/users/{user}/code"), json!({})).await.with(200);
            assert_eq!(again["code"], minted["code"], "{fault:?}");
        }
    }
    world.end().await;
}

/// A transaction's token is valid within one call. When the caller retries, the code is found by its owner.
#[tokio::test]
async fn a_mint_without_any_answer_is_found_by_the_next_call() {
    let world = World::start().await;
    world.wire().break_next("TransactWriteItems", [Fault::AnswerLost; 2 * TRIES]);
    let lost = world.put("/v1/users/alice/code", json!({"code": "alice"})).await;
    lost.refused(503, "unavailable");
    world.wire().mend();
    let found = world.put("/v1/users/alice/code", json!({"code": "alice"})).await.with(200);
    assert_eq!(found["code"], "alice");
    assert_eq!(codes(&world).await, (1, 1));
    world.put("/v1/users/mallory/code", json!({"code": "alice"})).await.refused(409, "code_taken");
    world.end().await;
}

#[tokio::test]
async fn an_attribution_tolerates_transient_faults() {
    let world = World::start().await;
    world.mint("alice", "alice").await;
    for (number, fault) in TRANSIENT.into_iter().enumerate() {
        let referee = format!("referee-{number}");
        world.wire().break_next("PutItem", [fault, fault]);
        let created = world.attribute(&referee, "alice").await.with(201);
        assert_eq!(created["status"], "pending");
        let item = world.stored(&referee).await;
        assert_eq!(item["rev"], 1, "{fault:?}: {item}");
        world.attribute(&referee, "alice").await.with(200);
        assert_eq!(world.stored(&referee).await, item);
    }
    world.end().await;
}

#[tokio::test]
async fn each_step_is_written_once_despite_transient_faults() {
    let world = World::with(|options| {
        options.env = std::mem::take(&mut options.env).with("HOLD_SECONDS", "1").with("REFEREE_REWARD_TYPE", "coupon");
    })
    .await;
    for (number, fault) in TRANSIENT.into_iter().enumerate() {
        let bob = format!("bob-{number}");
        world.refer(&format!("alice-{number}"), &bob).await;

        world.wire().break_next("UpdateItem", [fault, fault]);
        world.order(&bob, &format!("o-{number}")).await;
        world.until_status(&bob, "converted").await;
        world.until_idle().await;
        let converted = world.stored(&bob).await;
        assert_eq!(converted["rev"], 2, "{fault:?}: {converted:#}");
        assert!(world.wire().is_mended(), "{fault:?}");

        // Slow subsystems, so that the writes of the issue and of the calls are complete before the marks are broken.
        for kind in ["credit", "coupon"] {
            world.script(kind, json!({"delay_ms": 800})).await;
        }
        tokio::time::sleep(Duration::from_millis(1050)).await;
        world.wire().break_next("UpdateItem", [fault, fault]);
        world.service().sweep_now().await.unwrap();
        assert!(world.wire().is_mended(), "{fault:?}");
        // Both calls are recorded before they are made.
        world.until("both are called", async || world.deliveries().await.len() == 2 * (number + 1)).await;
        let issued = world.stored(&bob).await;
        assert_eq!((&issued["status"], &issued["rev"]), (&json!("rewarded"), &json!(5)), "{fault:?}: {issued:#}");

        world.wire().break_next("UpdateItem", [fault, fault]);
        let delivered = async || {
            let item = world.stored(&bob).await;
            ["referrer", "referee"].iter().all(|side| item["rewards"][side]["delivered_at"].is_string())
        };
        world.until("both are delivered", delivered).await;
        world.until_idle().await;
        assert_eq!(world.stored(&bob).await["rev"], 7, "{fault:?}");
        assert!(world.wire().is_mended(), "{fault:?}");
    }
    // The SDK's retries overcame every fault: no subsystem was called twice, and no event was published twice.
    assert_eq!(world.deliveries().await.len(), 2 * TRANSIENT.len());
    let issued = world.announced("reward.issued").await;
    assert_eq!((issued.len(), issued.iter().collect::<BTreeSet<_>>().len()), (10, 10), "{issued:?}");
    world.end().await;
}

#[tokio::test]
async fn a_flag_tolerates_transient_faults() {
    let world = World::start().await;
    world.mint("alice", "alice").await;
    for (number, fault) in TRANSIENT.into_iter().enumerate() {
        world.wire().break_next("UpdateItem", [fault, fault]);
        let reason = format!("reason {number}");
        let at = format!("2026-01-01T00:00:0{number}Z");
        world.publish("account.flagged", json!({"user_id": "alice", "reason": reason, "occurred_at": at})).await;
        world.until_idle().await;
        let account = plain(&world.item("USER#alice", "ACCOUNT").await.unwrap());
        assert_eq!((&account["flagged"], &account["flag_reason"]), (&json!(true), &json!(reason)), "{fault:?}");
    }
    world.attribute("bob", "alice").await.refused(422, "referrer_flagged");
    world.end().await;
}

#[tokio::test]
async fn a_slow_call_is_retried_after_the_timeout() {
    // The same timeouts as on AWS.
    let world = World::with(|options| {
        options.pace.slack = 1;
        options.env = std::mem::take(&mut options.env).with("HOLD_SECONDS", "3600");
    })
    .await;
    world.mint("alice", "alice").await;
    world.wire().break_next("BatchGetItem", [Fault::Slow(Duration::from_secs(30))]);
    world.wire().break_next("PutItem", [Fault::Slow(Duration::from_secs(30))]);
    world.attribute("bob", "alice").await.with(201);
    // A call that is slower than usual, but within the timeout, is not retried.
    world.wire().break_next("UpdateItem", [Fault::Slow(Duration::from_millis(400))]);
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    world.until_idle().await;
    assert_eq!(world.stored("bob").await["rev"], 2);
    world.end().await;
}

/// Every route that needs the table answers 503 with `Retry-After`.
async fn unavailable(fault: Fault) {
    let world = World::start().await;
    world.mint("alice", "alice").await;
    world.refer("carol", "dave").await;
    world.get("/v1/codes/alice").await.with(200);
    let body = json!({"referee_id": "bob", "code": "alice"});
    let mut calls = vec![
        ("TransactWriteItems", Method::PUT, "/v1/users/bob/code", json!({})),
        ("PutItem", Method::POST, "/v1/referrals", body.clone()),
    ];
    // Only writes can conflict with a transaction.
    if fault != Fault::Conflict {
        calls.extend([
            ("BatchGetItem", Method::POST, "/v1/referrals", body),
            ("GetItem", Method::GET, "/v1/users/alice/code", Value::Null),
            ("GetItem", Method::GET, "/v1/referrals/dave", Value::Null),
            ("Query", Method::GET, "/v1/users/carol/referrals", Value::Null),
            ("Query", Method::GET, "/v1/users/carol/rewards", Value::Null),
        ]);
    }
    for (operation, method, path, body) in calls {
        let what = format!("{operation} of {method} {path} under {fault:?}");
        world.wire().break_next(operation, [fault; 2 * TRIES]);
        let answer = world.send(method, path, &[], body.to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (503, "unavailable"), "{what}");
        let pause = answer.headers["retry-after"].to_str().unwrap();
        assert!(pause.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{what}: {pause}");
        assert!(!world.wire().is_mended(), "{what}: retried for too long");
        world.wire().mend();
    }
    // No write was left incomplete, and a retry succeeds.
    world.get("/v1/referrals/bob").await.refused(404, "referral_not_found");
    world.get("/v1/users/bob/code").await.refused(404, "code_not_found");
    world.put("/v1/users/bob/code", json!({})).await.with(201);
    world.attribute("bob", "alice").await.with(201);
    world.end().await;
}

/// Each fault has its own World, because an SDK client retries less after many errors.
#[tokio::test]
async fn a_persistent_table_failure_is_answered_with_503() {
    for fault in [Fault::Throttled, Fault::RequestLost, Fault::Internal, Fault::Conflict] {
        unavailable(fault).await;
    }
}

#[tokio::test]
async fn a_link_redirects_without_the_table() {
    let world = World::start().await;
    world.mint("alice", "alice").await;
    let landing = world.service().env().get("LANDING_URL").unwrap().to_owned();
    for fault in [Fault::Throttled, Fault::RequestLost, Fault::Internal] {
        world.wire().break_next("GetItem", [fault; 2 * TRIES]);
        let answer = world.get("/r/alice").await;
        assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().unwrap()), (302, landing.as_str()));
        assert_eq!(answer.cookie(), None, "a code that was not looked up sets no cookie");
        world.wire().mend();
    }
    assert!(world.land("alice").await.is_some());
    // From then on the code is cached.
    world.wire().take_calls();
    assert!(world.land("alice").await.is_some());
    assert_eq!(world.wire().take_calls(), []);
    world.end().await;
}

/// Throttling outlasts the SDK's retries and Lambda's. The event then waits in the dead-letter queue, which feeds the
/// function again.
#[tokio::test]
async fn an_event_survives_a_long_table_outage() {
    let world = World::start().await;
    world.refer("alice", "bob").await;
    world.until_idle().await;
    // Three invocations by the rule, one by the delay queue, and one more.
    world.wire().break_next("GetItem", [Fault::Throttled; 5 * TRIES]);
    world.order("bob", "o-1").await;
    world.until("bob is rewarded", async || world.stored("bob").await["status"] == "rewarded").await;
    world.until_idle().await;
    world.until_redelivered().await;
    assert!(world.wire().is_mended());
    assert_eq!(world.stored("bob").await["rev"], 7);
    assert_eq!(world.deliveries().await.len(), 2);
    world.end().await;
}

/// The reads and the write of the issue, and the mark, fail for longer than the SDK retries.
#[tokio::test]
async fn the_stream_and_queues_retry_failed_writes() {
    let world = World::start().await;
    world.refer("alice", "bob").await;
    world.until_idle().await;
    world.wire().break_next("BatchGetItem", [Fault::Throttled; 2 * TRIES]);
    world.order("bob", "o-1").await;
    world.until("bob is rewarded", async || world.stored("bob").await["status"] == "rewarded").await;
    world.until_idle().await;
    assert_eq!(world.stored("bob").await["rev"], 7);
    assert_eq!(world.announced("reward.issued").await, ["bob:referee:issued", "bob:referrer:issued"]);

    world.refer("carol", "dave").await;
    world.until_idle().await;
    world.wire().break_next("UpdateItem", [Fault::Conflict; 2 * TRIES]);
    world.order("dave", "o-2").await;
    world.until("dave is rewarded", async || world.stored("dave").await["status"] == "rewarded").await;
    world.until_idle().await;
    assert_eq!(world.stored("dave").await["rev"], 7);

    // The calls succeeded but the marks did not, so the calls are repeated with the same keys.
    world.script("credit", json!({"delay_ms": 800})).await;
    world.refer("erin", "frank").await;
    world.order("frank", "o-3").await;
    let of_frank = async || {
        let calls = world.deliveries().await;
        calls.into_iter().filter(|call| call["body"]["referee_id"] == "frank").collect::<Vec<_>>()
    };
    world.until("both are called", async || of_frank().await.len() == 2).await;
    world.wire().break_next("UpdateItem", [Fault::RequestLost; 2 * TRIES]);
    world.until("it was tried", async || world.wire().is_mended()).await;
    world.until_idle().await;
    let of_frank = of_frank().await;
    assert!(of_frank.len() > 2, "{of_frank:#?}");
    let keys: BTreeSet<_> = of_frank.iter().map(|call| call["headers"]["idempotency-key"].to_string()).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(world.stored("frank").await["rev"], 7);
    world.end().await;
}

/// An unreadable referral in the stream and in the work index, for which an event arrives too.
#[tokio::test]
async fn an_unreadable_referral_is_quarantined_and_blocks_no_other() {
    let mut world = World::with_env([("HOLD_SECONDS", "1")]).await;
    world.refer("alice", "bob").await;
    let item = unreadable();
    put(&world, item.clone()).await;
    world.refer("carol", "dave").await;
    world.order("bob", "o-1").await;
    world.order("dave", "o-2").await;
    world.until_status("bob", "converted").await;
    world.until_status("dave", "converted").await;
    world.until_idle().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let problem = world.service().sweep_now().await.unwrap_err();
    assert!(problem.to_string().contains("1 referrals or pages are left"), "{problem}");
    for referee in ["bob", "dave"] {
        assert_eq!(world.until_status(referee, "rewarded").await["status"], "rewarded");
    }
    world.until_idle().await;

    // Quarantined once, with its full content, and unchanged in the table.
    let parked = world.get("/_local/parked").await.with(200);
    assert_eq!(parked["count"], 1, "{parked:#}");
    let quarantined = &parked["items"][0];
    assert_eq!(
        (&quarantined["queue"], &quarantined["body"]["function"]),
        (&json!("QuarantineQueue"), &json!("rewards"))
    );
    assert_eq!(
        quarantined["body"]["payload"]["dynamodb"]["NewImage"]["status"],
        json!({"S": "bewitched"}),
        "{quarantined:#}"
    );
    let reason = quarantined["body"]["reason"].as_str().unwrap();
    assert!(reason.contains("REFEREE#") && !reason.contains("mallory"), "{reason}");
    assert_eq!(world.item("REFEREE#mallory", "REFERRAL").await, Some(item));
    world.get("/v1/referrals/mallory").await.refused(503, "unavailable");

    delete_unreadable(&world).await;
    world.expect_unprocessed(1);
    world.end().await;
}

/// Only the failed messages of a queue's batch are returned. Unreadable ones are quarantined and not returned.
#[tokio::test]
async fn only_the_failed_messages_of_a_queue_batch_are_returned() {
    let mut world = world_with_long_hold().await;
    world.refer("alice", "bob").await;
    world.refer("carol", "dave").await;
    put(&world, unreadable()).await;
    world.until_idle().await;
    let order = |user: &str| {
        let detail = json!({"order_id": format!("o-{user}"), "user_id": user, "amount": 4200, "currency": "USD"});
        json!({"detail-type": "order.completed", "source": "shop", "detail": detail})
    };
    let broken = json!({"detail-type": "order.completed", "source": "shop", "detail": {"order_id": 7}});
    let bodies = [
        order("bob").to_string(),
        order("mallory").to_string(),
        broken.to_string(),
        "no JSON".to_owned(),
        order("dave").to_string(),
    ];
    let message = |(number, body): (usize, &String)| json!({"messageId": format!("m-{number}"), "body": body, "eventSource": "aws:sqs"});
    let batch = json!({"Records": bodies.iter().enumerate().map(message).collect::<Vec<_>>()});
    let answer = world.service().invoke("ConversionFunction", batch).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "m-1"}]}));
    for referee in ["bob", "dave"] {
        assert_eq!(world.stored(referee).await["status"], "converted", "{referee}");
    }
    delete_unreadable(&world).await;
    // The two unreadable messages, and the unreadable item's own stream record.
    world.expect_unprocessed(3);
    world.end().await;
}

/// A stream batch stops at the first failed record, so that the order of each referral's records is kept.
#[tokio::test]
async fn a_stream_batch_stops_at_the_first_failed_record() {
    let mut world = World::with(|options| options.pace.stream = false).await;
    for (referrer, referee) in [("alice", "bob"), ("carol", "dave"), ("erin", "frank")] {
        world.refer(referrer, referee).await;
    }
    world.order("dave", "o-1").await;
    world.until_status("dave", "converted").await;
    let mut records = Vec::new();
    for (number, referee) in ["bob", "dave", "frank"].into_iter().enumerate() {
        let item = world.item(&format!("REFEREE#{referee}"), "REFERRAL").await.unwrap();
        records.push(record(&format!("{}", 100 + number), &item));
    }
    let batch = json!({ "Records": records });

    world.wire().break_next("BatchGetItem", [Fault::Throttled; 2 * TRIES]);
    let answer = world.service().invoke("RewardsFunction", batch.clone()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "101"}]}));
    assert_eq!(world.announced("referral.attributed").await, ["bob:attributed"]);
    assert_eq!(world.announced("referral.converted").await, ["dave:converted"]);
    assert_eq!(world.stored("dave").await["status"], "converted");
    world.wire().mend();

    let answer = world.service().invoke("RewardsFunction", batch).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(world.announced("referral.attributed").await, ["bob:attributed", "bob:attributed", "frank:attributed"]);
    assert_eq!(world.stored("dave").await["status"], "rewarded");
    world.allow_outstanding_work();
    world.end().await;
}

/// Announcing a conversion and issuing its rewards are independent.
#[tokio::test]
async fn a_bus_outage_does_not_delay_the_issue() {
    let mut world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    let item = world.item("REFEREE#bob", "REFERRAL").await.unwrap();
    let batch = json!({ "Records": [record("100", &item)] });

    world.wire().break_next("PutEvents", [Fault::Internal; TRIES]);
    let answer = world.service().invoke("RewardsFunction", batch.clone()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "100"}]}));
    world.wire().mend();
    assert_eq!(world.announced("referral.converted").await, [""; 0]);
    let issued = world.stored("bob").await;
    assert_eq!(issued["status"], "rewarded");

    let answer = world.service().invoke("RewardsFunction", batch).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(world.announced("referral.converted").await, ["bob:converted"]);
    assert_eq!(world.stored("bob").await, issued);
    world.allow_outstanding_work();
    world.end().await;
}

/// A referral with an unknown status, due in the work index.
fn unreadable() -> Item {
    let texts = [
        ("pk", "REFEREE#mallory"),
        ("sk", "REFERRAL"),
        ("referrer", "REFERRER#alice"),
        ("referred_at", "2026-01-31T09:30:00.000Z#mallory"),
        ("status", "bewitched"),
        ("work", "due#0"),
        ("due_at", "2026-01-31T09:30:00.000Z"),
    ];
    texts.map(|(name, text)| (name.to_owned(), AttributeValue::S(text.to_owned()))).into()
}

async fn put(world: &World, item: Item) {
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    world.service().dynamodb().put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
}

/// Deletes the unreadable referral, because the audit reads every referral.
async fn delete_unreadable(world: &World) {
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    let key: Item = unreadable().into_iter().filter(|(name, _)| name == "pk" || name == "sk").collect();
    world.service().dynamodb().delete_item().table_name(table).set_key(Some(key)).send().await.unwrap();
    world.until_idle().await;
}

/// A stream record for a new item, in the form that Lambda receives.
fn record(sequence: &str, item: &Item) -> Value {
    let keys: Item = item.clone().into_iter().filter(|(name, _)| name == "pk" || name == "sk").collect();
    json!({
        "eventID": sequence, "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1", "eventSourceARN": "arn:aws:dynamodb:us-east-1:000000000000:table/referrals/stream/x",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_769_851_800, "Keys": image(&keys), "NewImage": image(item),
            "SequenceNumber": sequence, "SizeBytes": 1, "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    })
}

fn image(item: &Item) -> Value {
    item.iter().map(|(name, value)| (name.clone(), spelt(value))).collect::<Map<_, _>>().into()
}

fn spelt(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::M(item) => json!({ "M": image(item) }),
        other => panic!("a referral has no {other:?}"),
    }
}
