//! Analytics: every referral is counted once, and queries read only the analytics table.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_dynamodb::{Client, config::timeout::TimeoutConfig};
use local::Service;
use referrals::{
    analytics::{Analytics, CountOutcome, Facts, Share, Shares},
    domain::money::{Amount, Currency, Money},
    referral::{Referral, reward::Benefit},
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
        "type": "credit", "currency": "USD", "currency_exponent": 2, "issued": {"count": 3, "amount": 3000},
        "delivered": {"count": 3, "amount": 3000}, "failed": {"count": 0, "amount": 0},
        "reversed": {"count": 0, "amount": 0},
    });
    let points = json!({
        "type": "points", "currency": null, "currency_exponent": null, "issued": {"count": 3, "amount": 3000},
        "delivered": {"count": 2, "amount": 2000}, "failed": {"count": 1, "amount": 1000},
        "reversed": {"count": 0, "amount": 0},
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
    let owed = json!({
        "type": "points", "currency": null, "currency_exponent": null,
        "held": none, "issued": none, "failed": one, "total": one,
    });
    assert_eq!(liability, json!({"items": [owed]}));

    let before = world.get("/admin/programs/default/daily?to=2025-11-01").await.with(200);
    assert_eq!((&before["total"]["attributed"], &before["total"]["conversion_rate"]), (&json!(0), &Value::Null));
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
    let voided = ["referrer_flagged", "referee_flagged", "reciprocal_referral"];
    let voided = voided.into_iter().chain(["order_cancelled", "order_refunded", "payment_disputed", "operator"]);
    let rewards = ["issued", "delivered", "failed", "reversed"].into_iter().flat_map(|stage| {
        let sums = ["credit_USD_count", "credit_USD_amount", "points_count", "points_amount", "other_count"];
        sums.map(|sum| format!("{stage}_{sum}"))
    });
    let counts = ["referrer_id", "net_conversions", "attributed", "converted", "rewarded"].map(str::to_owned);
    let expected: Vec<_> =
        counts.into_iter().chain(voided.map(|reason| format!("voided_{reason}"))).chain(rewards).collect();
    assert_eq!(ranked[0], expected);
    let row = |row: usize| -> BTreeMap<&str, &str> {
        ranked[0]
            .iter()
            .map(String::as_str)
            .zip(ranked[row].iter().map(String::as_str))
            .filter(|(_, cell)| *cell != "0")
            .collect()
    };
    let alice = [
        ("referrer_id", "alice"),
        ("net_conversions", "2"),
        ("attributed", "4"),
        ("converted", "3"),
        ("rewarded", "2"),
        ("voided_referee_flagged", "1"),
        ("issued_credit_USD_count", "2"),
        ("issued_credit_USD_amount", "2000"),
        ("delivered_credit_USD_count", "2"),
        ("delivered_credit_USD_amount", "2000"),
    ];
    assert_eq!(row(1), BTreeMap::from(alice));
    assert_eq!((row(2)["referrer_id"], row(2)["net_conversions"], ranked.len()), ("dora", "1", 3));
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

/// The header line of an answer as CSV.
async fn header(world: &World, path: &str) -> String {
    world.get(path).await.with(200).as_str().unwrap().lines().next().unwrap().to_owned()
}

/// A spreadsheet that appends pages or days needs the same columns in each.
#[tokio::test]
async fn the_columns_of_a_csv_do_not_depend_on_its_rows() {
    let (empty, filled) = (World::with_env([("REFEREE_REWARD_TYPE", "points")]).await, filled().await);
    for query in ["referrers?period=all&", "referrers?period=2025-11&", "daily?", "daily?to=2025-11-01&", "cohorts?"] {
        let path = format!("/admin/programs/default/{query}format=csv");
        assert_eq!(header(&empty, &path).await, header(&filled, &path).await, "{query}");
    }
    let of = async |query: &str| header(&filled, &format!("/admin/programs/default/{query}&format=csv")).await;
    let first = filled.get("/admin/programs/default/referrers?period=all&limit=1&format=csv").await;
    let link = first.headers["link"].to_str().unwrap().to_owned();
    let next = link.strip_prefix("<?").unwrap().split('>').next().unwrap();
    assert_eq!(
        of("referrers?period=all&limit=1").await,
        header(&filled, &format!("/admin/programs/default/referrers?{next}")).await
    );
    assert_eq!(of("referrers?period=all").await, of("referrers?period=2025-11").await);
    assert_eq!(of("daily?").await, of("daily?to=2025-11-01").await);
    empty.end().await;
    filled.end().await;
}

/// Rewards of a type and currency that is not configured any more are counted, so that no reward is missing in a CSV.
#[tokio::test]
async fn rewards_of_an_earlier_configuration_are_in_the_column_other() {
    let world = World::with(|options| {
        options.pace.stream = false;
        options.env = std::mem::take(&mut options.env).with("CURRENCY", "EUR");
    })
    .await;
    let at = Some("2026-11-22T12:00:00Z".parse().unwrap());
    let share = |benefit| Share { benefit, delivered_at: at, failed_at: None, reversed_at: None };
    let earlier = Money { amount: Amount::small(700), currency: Currency::USD };
    let shares =
        Shares { referrer: share(Benefit::Credit(earlier)), referee: share(Benefit::Points(Amount::small(5))) };
    let facts = Facts { rewarded_at: at, shares: Some(shares), ..converted_by("alice", "bob") };
    analytics(&world).record(&facts).await.unwrap();
    let path = "/admin/programs/default/daily?from=2026-11-22&to=2026-11-22&format=csv";
    let text = world.get(path).await.with(200).as_str().unwrap().to_owned();
    let lines: Vec<Vec<_>> = text.lines().map(|line| line.split(',').collect()).collect();
    let cell = |name: &str| lines[1][lines[0].iter().position(|column| *column == name).expect(&text)];
    let cells = ["issued_credit_EUR_count", "issued_other_count", "delivered_other_count", "failed_other_count"];
    assert_eq!(cells.map(cell), ["0", "2", "2", "0"], "{text}");
    world.end().await;
}

/// A spreadsheet evaluates a cell that begins with one of these characters, and a member chooses their own id.
#[tokio::test]
async fn text_cells_are_no_formulas() {
    let world = World::start().await;
    for (referrer, referee) in [("-2+3", "r1"), ("+1", "r2"), ("@sum", "r3"), ("a-b", "r4")] {
        let at = |user: &str| user.replace('+', "%2B").replace('@', "%40");
        let code = world.put(&format!("/v1/users/{}/code", at(referrer)), json!({})).await.with(201);
        world.attribute(referee, code["code"].as_str().unwrap()).await.with(201);
        world.order(referee, &format!("o-{referee}")).await;
    }
    world.until_idle().await;
    let names = async |query: &str| -> BTreeSet<String> {
        let path = format!("/admin/programs/default/referrers?period=all&format=csv{query}");
        let text = world.get(&path).await.with(200).as_str().unwrap().to_owned();
        text.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect()
    };
    let set = |names: [&str; 4]| -> BTreeSet<String> { names.into_iter().map(str::to_owned).collect() };
    assert_eq!(names("").await, set(["'-2+3", "'+1", "'@sum", "a-b"]));
    assert_eq!(names("&raw=false").await, names("").await);
    assert_eq!(names("&raw=true").await, set(["-2+3", "+1", "@sum", "a-b"]));
    // The link to the next page has the same form.
    let first = world.get("/admin/programs/default/referrers?period=all&limit=1&format=csv&raw=true").await;
    assert!(first.headers["link"].to_str().unwrap().contains("raw=true"), "{first:?}");
    world.end().await;
}

/// A mistyped program must not look like one without referrals.
#[tokio::test]
async fn a_program_that_is_neither_configured_nor_counted_is_not_found() {
    let world = World::with(|options| options.pace.stream = false).await;
    let questions = ["daily", "referrers", "cohorts", "daily?format=csv", "referrers?format=csv", "cohorts?format=csv"];
    for question in questions {
        world.get(&format!("/admin/programs/other/{question}")).await.refused(404, "program_not_found");
        world.get(&format!("/admin/programs/default/{question}")).await.with(200);
    }
    world.get("/admin/programs/other/daily?format=xls").await.refused(400, "invalid_request");
    // A program that ran here earlier is still in the analytics, also outside the days and months of its counters.
    let facts = Facts { program: "other".parse().unwrap(), ..converted_by("alice", "bob") };
    analytics(&world).record(&facts).await.unwrap();
    for question in questions.into_iter().chain(["daily?to=2025-11-01", "referrers?period=2025-11"]) {
        world.get(&format!("/admin/programs/other/{question}")).await.with(200);
    }
    world.get("/admin/programs/others/daily").await.refused(404, "program_not_found");
    world.end().await;
}

/// A client must not guess how many digits a currency has: JavaScript engines differ from ISO 4217 and from each other.
#[tokio::test]
async fn amounts_carry_the_exponent_of_their_currency() {
    for (currency, exponent) in [("HUF", json!(2)), ("IQD", json!(3)), ("JPY", json!(0)), ("XYZ", Value::Null)] {
        let world = World::with_env([("CURRENCY", currency), ("REFEREE_REWARD_TYPE", "points")]).await;
        world.script("credit", json!({"answers": [400]})).await;
        world.refer("alice", "bob").await;
        let detail = json!({"order_id": "o-1", "user_id": "bob", "amount": 4200, "currency": currency});
        world.publish("order.completed", detail).await;
        world.until_status("bob", "rewarded").await;
        world.until_idle().await;
        let daily = world.get("/admin/programs/default/daily").await.with(200)["total"]["rewards"].clone();
        let ranked = world.get("/admin/programs/default/referrers?period=all").await.with(200);
        let owed = world.get("/admin/liability").await.with(200)["items"].clone();
        let failed = world.get("/admin/rewards").await.with(200)["items"].clone();
        for shown in [&daily[0], &ranked["items"][0]["rewards"][0], &owed[0], &failed[0]] {
            assert_eq!((&shown["currency"], &shown["currency_exponent"]), (&json!(currency), &exponent), "{shown}");
        }
        assert_eq!((&daily[1]["currency"], daily[1].get("currency_exponent")), (&Value::Null, Some(&Value::Null)));
        world.end().await;
    }
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
