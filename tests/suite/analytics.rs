//! Analytics: every referral is counted once, and queries read only the analytics table.

use std::time::Duration;

use aws_sdk_dynamodb::{Client, config::timeout::TimeoutConfig};
use local::Service;
use referrals::{
    analytics::{Analytics, CountOutcome, Facts},
    referral::Referral,
    runtime::Call,
    store::{
        items::referral::{from_referral_item, to_referral_item},
        keys,
    },
};
use serde_json::{Value, json};

use crate::world::{
    Fault, World,
    recount::{counted, difference, recount},
};

/// A client with long timeouts, for slow machines. The functions use shorter ones.
pub(crate) fn patient(service: &Service) -> Client {
    let (patience, client) = (Duration::from_secs(120), service.dynamodb());
    let timeouts = TimeoutConfig::builder().operation_timeout(patience).operation_attempt_timeout(patience).build();
    Client::from_conf(client.config().to_builder().timeout_config(timeouts).build())
}

fn analytics(world: &World) -> Analytics {
    Analytics::new(&patient(world.service()), world.service().env().get("METRICS_TABLE_NAME").unwrap())
}

/// The stream record of a write that stored this referral.
pub(crate) fn record(referral: &Referral, sequence: &str) -> Value {
    let item = serde_dynamo::Item::from(to_referral_item(referral).unwrap());
    let keys = serde_dynamo::Item::from(keys::Key::referral(&referral.referee).attributes());
    json!({
        "eventID": format!("e-{sequence}"), "eventName": "MODIFY", "eventVersion": "1.1",
        "eventSource": "aws:dynamodb", "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_772_442_300,
            "Keys": keys, "NewImage": item, "SequenceNumber": sequence, "SizeBytes": 900,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:000000000000:table/referrals/stream/x",
    })
}

async fn stored(world: &World, referee: &str) -> Referral {
    from_referral_item(world.item(&format!("REFEREE#{referee}"), "REFERRAL").await.unwrap()).unwrap()
}

/// Invokes the function with records, and returns the failed items.
async fn invoke(world: &World, records: Vec<Value>) -> Vec<Value> {
    let answer = world.service().invoke("AnalyticsFunction", json!({"Records": records})).await.unwrap();
    answer["batchItemFailures"].as_array().unwrap().clone()
}

#[tokio::test]
async fn duplicate_and_late_records_count_once() {
    let world = World::start().await;
    world.refer("alice", "bob").await;
    let pending = stored(&world, "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let delivered = stored(&world, "bob").await;
    let before = counted(&world.analytics_items().await);
    let (first, last) = (record(&pending, "1"), record(&delivered, "2"));
    for records in [vec![last.clone()], vec![first.clone(), last.clone(), first.clone()], vec![last, first]] {
        assert_eq!(invoke(&world, records).await, [Value::Null; 0]);
    }
    assert_eq!(counted(&world.analytics_items().await), before);
    world.end().await;
}

#[tokio::test]
async fn several_steps_in_one_batch_are_counted_in_one_write() {
    let mut world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    let pending = stored(&world, "bob").await;
    world.refer("alice", "dan").await;
    let other = stored(&world, "dan").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    let converted = stored(&world, "bob").await;
    world.wire().take_analytics_calls();
    let records = vec![record(&pending, "1"), record(&other, "2"), record(&converted, "3")];
    assert_eq!(invoke(&world, records).await, [Value::Null; 0]);
    let calls: Vec<_> = world.wire().take_analytics_calls().into_iter().map(|call| call.operation).collect();
    assert_eq!(calls, ["analytics:GetItem", "analytics:TransactWriteItems"].repeat(2));
    assert_eq!(difference(&counted(&world.analytics_items().await), &recount([&converted, &other])), [""; 0]);
    // The stream is off, so bob's rewards are not issued yet.
    world.allow_outstanding_work();
    world.end().await;
}

#[tokio::test]
async fn a_lost_answer_counts_once_and_a_conflict_is_retried() {
    let world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    let bob = stored(&world, "bob").await;
    world.wire().break_next("analytics:TransactWriteItems", [Fault::AnswerLost, Fault::Conflict]);
    assert_eq!(invoke(&world, vec![record(&bob, "1")]).await, [Value::Null; 0]);
    assert_eq!(difference(&counted(&world.analytics_items().await), &recount([&bob])), [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn a_failure_is_reported_from_the_first_record_of_its_referral() {
    let world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    world.refer("alice", "dan").await;
    let (bob, dan) = (stored(&world, "bob").await, stored(&world, "dan").await);
    let mut later = dan.clone();
    later.rev += 1;
    let records = vec![record(&bob, "1"), record(&dan, "2"), json!("broken"), record(&later, "4"), record(&bob, "5")];
    world.wire().break_next("analytics:GetItem", [Fault::Throttled; 4]);
    assert_eq!(invoke(&world, records.clone()).await, [json!({"itemIdentifier": "1"})]);
    assert!(world.analytics_items().await.is_empty());
    // Now bob is counted, and dan fails.
    assert_eq!(invoke(&world, vec![records[0].clone()]).await, [Value::Null; 0]);
    world.wire().break_next("analytics:GetItem", [Fault::Internal; 4]);
    assert_eq!(invoke(&world, records[1..].to_vec()).await, [json!({"itemIdentifier": "2"})]);
    assert_eq!(invoke(&world, records).await, [Value::Null; 0]);
    assert_eq!(difference(&counted(&world.analytics_items().await), &recount([&bob, &dan])), [""; 0]);
    world.end().await;
}

/// Concurrent writers change the same counters and the same referral.
#[tokio::test]
async fn concurrent_records_are_neither_lost_nor_counted_twice() {
    let world = World::with(|options| options.pace.stream = false).await;
    world.refer("alice", "bob").await;
    let bob = stored(&world, "bob").await;
    let revisions: Vec<Facts> = (0..8_u64).map(|more| Facts { rev: bob.rev + more, ..Facts::from(&bob) }).collect();
    let analytics = analytics(&world);
    let records = revisions.iter().map(|facts| analytics.record(facts));
    let outcomes = futures_util::future::join_all(records).await;
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Ok(CountOutcome::Counted))), "{outcomes:?}");
    // A writer that lost five times has failed, and Lambda would retry its record.
    analytics.record(&revisions[7]).await.unwrap();
    assert_eq!(analytics.record(&revisions[7]).await.unwrap(), CountOutcome::AlreadyCounted);
    assert_eq!(difference(&counted(&world.analytics_items().await), &recount([&bob])), [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn an_invalid_batch_and_an_expired_deadline_fail() {
    let world = World::start().await;
    assert!(world.service().invoke("AnalyticsFunction", json!({"detail": {}})).await.is_err());
    let call = Call::begin(Duration::ZERO).unwrap();
    let app = analytics::App::new(world.service().env(), &world.service().dynamodb()).unwrap();
    world.refer("alice", "bob").await;
    let batch = json!({"Records": [record(&stored(&world, "bob").await, "7")]});
    let answer = analytics::handle(&app, batch, call).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([{"itemIdentifier": "7"}]), "the deadline has passed");
    world.end().await;
}

/// A service with referrals of two referrers. Of alice's four, three convert and one of these is voided. Dora's one converts.
async fn filled() -> World {
    let world = World::with_env([("REFEREE_REWARD_TYPE", "points")]).await;
    for (referrer, referee) in [("alice", "a1"), ("alice", "a2"), ("alice", "a3"), ("alice", "a4"), ("dora", "d1")] {
        world.refer(referrer, referee).await;
    }
    world.publish("account.flagged", json!({"user_id": "a3", "reason": "a test"})).await;
    world.until_idle().await;
    world.script("points", json!({"answers": [400]})).await;
    for referee in ["a1", "a2", "a3", "d1"] {
        world.order(referee, &format!("o-{referee}")).await;
        world.until_idle().await;
    }
    world.until_redelivered().await;
    world
}

#[tokio::test]
async fn queries_read_only_the_analytics_table() {
    let world = filled().await;
    world.wire().take_calls();
    let today = chrono::Utc::now().format("%Y-%m-%d").to_string();
    // Queries both days, because the test can run at midnight.
    let yesterday = (chrono::Utc::now() - chrono::Duration::days(1)).format("%Y-%m-%d").to_string();
    let daily = world.get(&format!("/admin/programs/default/daily?from={yesterday}&to={today}")).await.with(200);
    let total = &daily["total"];
    assert_eq!(daily["days"].as_array().unwrap().len(), 2, "{daily}");
    assert_eq!(
        (&total["attributed"], &total["converted"], &total["converted_since"]),
        (&json!(5), &json!(4), &json!(4))
    );
    assert_eq!((&total["rewarded"], &total["conversion_rate"]), (&json!(3), &json!(0.8)));
    assert_eq!(total["voided"], json!({"referee_flagged": 1}));
    let conversions: u64 =
        total["time_to_convert"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
    assert_eq!(conversions, 4);
    let credit = json!({
        "type": "credit", "currency": "USD", "issued": {"count": 3, "amount": 3000},
        "delivered": {"count": 3, "amount": 3000}, "failed": {"count": 0, "amount": 0},
    });
    let points = json!({
        "type": "points", "currency": null, "issued": {"count": 3, "amount": 3000},
        "delivered": {"count": 2, "amount": 2000}, "failed": {"count": 1, "amount": 1000},
    });
    assert_eq!(total["rewards"], json!([credit, points]));

    let ranked = world.get("/admin/programs/default/referrers?period=all").await.with(200);
    let of = |name: &str| -> Vec<Value> {
        ranked["items"].as_array().unwrap().iter().map(|row| row[name].clone()).collect()
    };
    assert_eq!(
        (of("referrer_id"), of("net_conversions")),
        (vec![json!("alice"), json!("dora")], vec![json!(2), json!(1)])
    );
    assert_eq!((of("attributed"), of("converted")), (vec![json!(4), json!(1)], vec![json!(3), json!(1)]));
    assert_eq!(ranked["items"][0]["rewards"][0]["delivered"], json!({"count": 2, "amount": 2000}));
    assert_eq!(
        ranked["items"][0]["rewards"].as_array().unwrap().len(),
        1,
        "the referee's points are not counted for alice"
    );

    let cohorts = world.get("/admin/programs/default/cohorts").await.with(200);
    let weeks = cohorts["weeks"].as_array().unwrap();
    assert_eq!((weeks.len(), weeks[0]["converted_by_week"].as_array().unwrap().len()), (12, 12));
    assert_eq!(weeks.iter().map(|week| week["attributed"].as_u64().unwrap()).sum::<u64>(), 5, "{cohorts}");

    let liability = world.get("/admin/liability").await.with(200);
    let (none, one) = (json!({"count": 0, "amount": 0}), json!({"count": 1, "amount": 1000}));
    let owed = json!({"type": "points", "currency": null, "held": none, "issued": none, "failed": one, "total": one});
    assert_eq!(liability, json!({"items": [owed]}));

    let nowhere = world.get("/admin/programs/other/daily").await.with(200);
    assert_eq!((&nowhere["total"]["attributed"], &nowhere["total"]["conversion_rate"]), (&json!(0), &Value::Null));
    assert_eq!(world.wire().take_calls(), [], "the operational table is not read");
    assert!(world.wire().take_analytics_calls().len() > 40);
    world.end().await;
}

#[tokio::test]
async fn held_rewards_are_part_of_the_liability() {
    let world = World::with_env([("HOLD_SECONDS", "3600")]).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    world.until_idle().await;
    let owed = world.get("/admin/liability").await.with(200)["items"][0].clone();
    assert_eq!(
        (&owed["held"], &owed["total"]),
        (&json!({"count": 2, "amount": 2000}), &json!({"count": 2, "amount": 2000}))
    );
    world.publish("order.cancelled", json!({"order_id": "o-1", "user_id": "bob"})).await;
    world.until_status("bob", "voided").await;
    world.until_idle().await;
    assert_eq!(world.get("/admin/liability").await.with(200), json!({"items": []}));
    world.end().await;
}

#[tokio::test]
async fn every_query_answers_as_csv() {
    let world = filled().await;
    let csv = async |path: &str| -> Vec<Vec<String>> {
        let answer = world.get(path).await;
        assert_eq!(answer.headers["content-type"], "text/csv", "{answer:?}");
        let text = answer.with(200).as_str().unwrap().to_owned();
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    };
    let ranked = csv("/admin/programs/default/referrers?period=all&format=csv").await;
    let expected = [
        "referrer_id",
        "net_conversions",
        "attributed",
        "converted",
        "rewarded",
        "voided_referee_flagged",
        "issued_credit_USD_count",
        "issued_credit_USD_amount",
        "delivered_credit_USD_count",
        "delivered_credit_USD_amount",
    ];
    assert_eq!(ranked[0], expected);
    assert_eq!(ranked[1], ["alice", "2", "4", "3", "2", "1", "2", "2000", "2", "2000"]);
    assert_eq!(ranked[2], ["dora", "1", "1", "1", "1", "0", "1", "1000", "1", "1000"]);
    let daily = csv("/admin/programs/default/daily?format=csv").await;
    assert_eq!((daily.len(), &daily[0][..3]), (31, &["date", "attributed", "converted"].map(str::to_owned)[..]));
    assert!(daily.iter().all(|row| row.len() == daily[0].len()));
    let cohorts = csv("/admin/programs/default/cohorts?format=csv").await;
    assert_eq!((cohorts.len(), cohorts[0].len(), cohorts[12].len()), (13, 29, 29));
    let liability = csv("/admin/liability?format=csv").await;
    assert_eq!(liability[1], ["points", "", "0", "0", "0", "0", "1", "1000", "1", "1000"]);

    // CSV cannot contain a cursor, so a header links to the next page.
    let first = world.get("/admin/programs/default/referrers?period=all&limit=1&format=csv").await;
    let link = first.headers["link"].to_str().unwrap().to_owned();
    let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    let second = world.get(&format!("/admin/programs/default/referrers{next}")).await;
    assert!(second.body.as_str().unwrap().contains("\ndora,"), "{second:?}");
    assert!(second.headers.get("link").is_none());
    world.end().await;
}

#[tokio::test]
async fn invalid_queries_are_refused() {
    let world = World::start().await;
    for path in [
        "programs/default/daily?from=yesterday",
        "programs/default/daily?from=2026-11-02&to=2026-11-01",
        "programs/default/daily?from=2025-11-01&to=2026-11-02",
        "programs/default/daily?format=xls",
        "programs/a%23b/daily",
        "programs/default/cohorts?from=2026-11-01",
        "programs/default/cohorts?from=2025-W01&to=2026-W02",
        "programs/default/referrers?period=2026",
        "programs/default/referrers?limit=0",
        "programs/default/referrers?cursor=MTcjYWRh",
        "liability?format=xls",
    ] {
        world.get(&format!("/admin/{path}")).await.refused(400, "invalid_request");
    }
    for path in ["daily?from=2025-11-02&to=2026-11-02", "cohorts?from=2025-W01&to=2026-W01", "daily?from=9999-12-31"] {
        world.get(&format!("/admin/programs/default/{path}")).await.with(200);
    }
    world.end().await;
}

/// The facts of a converted referral of this referrer.
fn converted_by(referrer: &str, referee: &str) -> Facts {
    let at = "2026-11-22T12:00:00Z".parse().unwrap();
    Facts {
        referee: referee.parse().unwrap(),
        referrer: referrer.parse().unwrap(),
        program: "default".parse().unwrap(),
        rev: 2,
        attributed_at: at,
        converted_at: Some(at),
        rewarded_at: None,
        voided: None,
        shares: None,
    }
}

/// Many referrers have equal counts. Pages of any size must list each of them once and in the same order.
#[tokio::test]
async fn pages_list_each_referrer_once_and_in_one_order() {
    let world = World::with(|options| options.pace.stream = false).await;
    let analytics = analytics(&world);
    for referrer in 0..30 {
        for referee in 0..=referrer % 3 {
            analytics.record(&converted_by(&format!("r{referrer}"), &format!("e{referrer}-{referee}"))).await.unwrap();
        }
    }
    let mut orders = Vec::new();
    for limit in [1, 7, 29, 30, 100] {
        let (mut order, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/admin/programs/default/referrers?period=2026-11&limit={limit}{cursor}");
            let page = world.get(&path).await.with(200);
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit && !items.is_empty(), "{page}");
            order.extend(
                items.iter().map(|row| (row["net_conversions"].as_u64().unwrap(), row["referrer_id"].to_string())),
            );
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(order.len(), 30, "{order:?}");
        assert!(order.is_sorted_by(|one, next| one.0 >= next.0), "{order:?}");
        orders.push(order);
    }
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "{orders:?}");
    assert_eq!(orders[0].iter().collect::<std::collections::BTreeSet<_>>().len(), 30);
    world.end().await;
}

/// The cost of a referral that is counted twice: after its attribution, and after everything that follows an order.
#[tokio::test]
async fn counting_a_referral_costs_few_units() {
    let world = World::with(|options| {
        options.pace.stream = false;
        options.env = std::mem::take(&mut options.env).with("GRACE_SECONDS", "0");
    })
    .await;
    let (alice, bob) = ("a1d9c8b2-6a1e-4bb0-8f2e-3c5d7e9f0a11", "b0b5c8d2-7b2f-4cc1-9a3f-4d6e8fa01b22");
    world.refer(alice, bob).await;
    let cost = async || {
        assert_eq!(invoke(&world, vec![record(&stored(&world, bob).await, "1")]).await, [Value::Null; 0]);
        let calls = world.wire().take_analytics_calls();
        calls.iter().map(|call| (call.is_write(), call.units)).collect::<Vec<_>>()
    };
    // The facts, the day, and the referrer's month and total; a transaction costs twice the units of single writes.
    assert_eq!(cost().await, [(false, 1.0), (true, 8.0)]);
    world.order(bob, "0bd3c8e2-8c3a-4dd2-ab4a-5e7f9ab12c33").await;
    world.until_status(bob, "converted").await;
    for _ in ["issued", "announced"] {
        world.service().sweep_now().await.unwrap();
    }
    world.until_idle().await;
    assert_eq!(world.referral(bob).await["rewards"][1]["status"], "delivered");
    // The same and the index entries of two leaderboards. The conversion and the rewards are counted at once, so the
    // liability does not change in between.
    assert_eq!(cost().await, [(false, 1.0), (true, 10.0)]);
    world.end().await;
}
