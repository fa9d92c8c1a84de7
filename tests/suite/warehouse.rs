//! Compares the warehouse with the analytics: many random referrals go through the real functions. Their events on the bus
//! go through the template's transformer into Parquet, with duplicates and in random order. The views must then return the
//! same values as the analytics table.

mod answers;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fastrand::Rng;
use local::{Service, Transformer};
use referrals::{
    analytics::{Analytics, LATEST_WEEK, TIME_TO_CONVERT},
    aws::bus::SOURCE,
    domain::{
        adjustments::Adjustments,
        money::{Currency, Money},
        order::Order,
    },
    referral::{
        Referral,
        machine::{Command, Decision},
        reversal::{Reversal, decided},
    },
    runtime::Call,
    store::items::{referral::to_referral_item, reversal::to_reversal_item},
};
use serde_json::{Value, json};

use self::{
    answers::{Line, QUERIES, expected, tally},
    views::{columns, query, resource},
};
use crate::{
    analytics::{patient, record},
    histories::{SEED, attributed, histories, life, put_all, service},
    world::{
        self, Wire,
        duck::{Duck, Lines, Row},
        recount::difference,
    },
};

/// Days on which events arrive, independent of when they happened.
const ARRIVALS: [&str; 3] = ["2026-11-27", "2026-11-28", "2026-12-01"];

/// The transformer that turns an event into a line for Firehose.
fn transformer() -> Transformer {
    let rule = resource("WarehouseRule")["Properties"].clone();
    assert_eq!(rule["EventPattern"], json!({"source": [SOURCE]}), "the rule must match every event of this service");
    let [target] = &rule["Targets"].as_array().unwrap()[..] else { panic!("{rule}") };
    assert_eq!(target["Arn"], "WarehouseStream");
    Transformer::new(&target["InputTransformer"]).unwrap()
}

/// Referrals that convert just before and exactly at each bound of the histogram and of the weeks.
fn at_bounds(rng: &mut Rng, from: usize) -> Vec<Vec<Referral>> {
    let paid = Money { amount: 4200.try_into().unwrap(), currency: Currency::USD };
    let weeks = (0..=u64::try_from(LATEST_WEEK).unwrap() + 1).map(|weeks| Duration::from_secs(weeks * 7 * 86_400));
    let bounds = TIME_TO_CONVERT.iter().map(|(_, bound)| *bound).chain(weeks);
    let pauses = bounds.flat_map(|bound| [bound.saturating_sub(Duration::from_millis(1)), bound]);
    let lived = pauses.enumerate().map(|(place, pause)| {
        let born = attributed(rng, from + place, 100);
        let (id, user) = ("o-1".parse().unwrap(), born.referee.clone());
        let event = "order.completed".to_owned();
        let (placed_at, latest_sign_up) = (born.created_at, born.created_at);
        let order = Order { id, event, user, paid, placed_at, is_by_operator: false, latest_sign_up, hold_until: None };
        match born.decide(&Command::Convert(&order, Adjustments::NONE), born.created_at.plus(pause)) {
            Decision::Apply(converted, _) => vec![born, *converted],
            other => panic!("{other:?}"),
        }
    });
    lived.collect()
}

/// A call at a time before any hold ends, so that no reward is issued beyond those in the generated referrals.
fn early() -> Call {
    Call { now: "1970-01-01T00:00:00Z".parse().unwrap(), ..Call::begin(Duration::from_secs(600)).unwrap() }
}

/// The stream records of these referrals: in order per referral, some of them twice.
fn records(rng: &mut Rng, lives: &[Vec<Referral>]) -> Vec<Value> {
    let mut turns: Vec<_> = lives.iter().enumerate().flat_map(|(place, life)| vec![place; life.len()]).collect();
    rng.shuffle(&mut turns);
    let (mut next, mut records) = (vec![0; lives.len()], Vec::new());
    for place in turns {
        let (life, revision) = (&lives[place], next[place]);
        next[place] += 1;
        for _ in 0..=u8::from(rng.u8(..5) == 0) {
            let mut record = record(&life[revision], &format!("{:020}", records.len()));
            if let Some(before) = revision.checked_sub(1) {
                let image = serde_dynamo::Item::from(to_referral_item(&life[before]).unwrap());
                record["dynamodb"]["OldImage"] = json!(image);
            }
            records.push(record);
        }
        if let (Some(before), Some(step)) = (revision.checked_sub(1), records.last().cloned()) {
            let reversals = decided(&life[before], &life[revision]);
            records.extend(reversals.iter().map(|reversal| record_of_reversal(&step, reversal)));
        }
    }
    records
}

/// The stream record of a reversal that this step decided.
fn record_of_reversal(step: &Value, reversal: &Reversal) -> Value {
    let image = json!(serde_dynamo::Item::from(to_reversal_item(reversal).unwrap()));
    let mut record = step.clone();
    let item = record["dynamodb"].as_object_mut().unwrap();
    item.remove("OldImage");
    item.insert("Keys".to_owned(), json!({"pk": image["pk"], "sk": image["sk"]}));
    item.insert("NewImage".to_owned(), image);
    record
}

/// Sends the records to both stream functions, and returns the events on the bus.
async fn published(service: &Service, wire: &Wire, records: &[Value]) -> Vec<Value> {
    let bus = aws_sdk_eventbridge::Client::new(&world::aws(service.url(), wire.connector()));
    let sqs = aws_sdk_sqs::Client::new(&world::aws(service.url(), wire.connector()));
    let app = rewards::App::new(service.env(), patient(service), bus, sqs).unwrap();
    for batch in records.chunks(40) {
        let batch = json!({"Records": batch});
        let done = json!({"batchItemFailures": []});
        assert_eq!(rewards::handle(&app, batch.clone(), early()).await.unwrap(), done);
        assert_eq!(service.invoke("AnalyticsFunction", batch).await.unwrap(), done);
    }
    let events = reqwest::get(format!("{}/_local/events", service.url())).await.unwrap();
    serde_json::from_slice(&events.bytes().await.unwrap()).unwrap()
}

/// Drops some events that a later event of the same referral replaces, duplicates others, and shuffles all.
fn disturbed(rng: &mut Rng, events: Vec<Value>) -> Vec<Value> {
    let is = |event: &Value, kind: &str| event["detail-type"] == kind;
    let rewarded: BTreeSet<_> = events.iter().filter(|event| is(event, "referral.rewarded")).map(referee).collect();
    let is_early = |event: &Value| is(event, "referral.attributed") || is(event, "referral.converted");
    let (mut arriving, mut lost) = (Vec::new(), 0);
    for event in events {
        if is_early(&event) && rewarded.contains(&referee(&event)) && rng.u8(..10) == 0 {
            lost += 1;
            continue;
        }
        arriving.extend(std::iter::repeat_n(event, 1 + usize::from(rng.u8(..4) == 0)));
    }
    assert!(lost > 5, "{lost} lost");
    rng.shuffle(&mut arriving);
    arriving
}

fn referee(event: &Value) -> String {
    event["detail"]["referee_id"].as_str().unwrap().to_owned()
}

/// The lines of these events for Firehose, spread over several days. AWS does not document how the transformer writes
/// `null`, so both forms occur.
fn arrived(rng: &mut Rng, events: &[Value]) -> Lines {
    let (transformer, mut lines) = (transformer(), Lines::new());
    let names: BTreeSet<_> = columns().into_iter().map(|(name, _)| name).collect();
    assert_eq!(transformer.variables().map(str::to_owned).collect::<BTreeSet<_>>(), names);
    for events in events.chunks(500) {
        let line = |event: &Value| {
            let line = transformer.apply(event, rng.choice(["", "null"]).unwrap()).unwrap();
            let fields: BTreeMap<String, String> = serde_json::from_str(&line).unwrap();
            assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
            assert_eq!(fields.into_keys().collect::<BTreeSet<_>>(), names);
            line
        };
        let made: Vec<_> = events.iter().map(line).collect();
        lines.arrive(rng.choice(ARRIVALS).unwrap(), &made);
    }
    lines
}

/// The example queries in docs/deployment.md.
fn examples() -> Vec<String> {
    let document = include_str!("../../docs/deployment.md");
    let (_, rest) = document.split_once("```sql\n").unwrap();
    let (sql, _) = rest.split_once("```").unwrap();
    sql.split(';').map(str::trim).filter(|query| !query.is_empty()).map(str::to_owned).collect()
}

/// Asserts that the example queries return what `admin` returns.
async fn examples_equal_admin(service: &Service, answers: &[Vec<Row>]) {
    let [rate, best] = answers else { panic!("docs/deployment.md has {} queries", answers.len()) };
    let admin = async |path: &str| {
        let answer = reqwest::get(format!("{}/admin/programs/default/{path}", service.url())).await.unwrap();
        serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap()
    };
    let daily = admin("daily?from=2026-11-01&to=2026-11-14").await;
    let rate: f64 = rate[0].values().next().unwrap().as_ref().unwrap().parse().unwrap();
    let rounded = daily["total"]["conversion_rate"].as_f64().unwrap();
    assert!(rate > 0.0 && (rate - rounded).abs() <= 0.000_05, "{rate}, {rounded}");

    // Referrers with equal counts can be in a different order.
    let referrers = admin("referrers?period=2026-11&limit=10").await;
    let ranked =
        referrers["items"].as_array().unwrap().iter().map(|referrer| referrer["net_conversions"].as_i64().unwrap());
    let ranked: Vec<_> = ranked.collect();
    let counts: Vec<i64> = best.iter().map(|row| Line(row).text("net_conversions").parse().unwrap()).collect();
    assert!(ranked.len() > 2 && counts.starts_with(&ranked), "{counts:?}, {ranked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_views_equal_the_analytics() {
    let Some(duck) = Duck::find("the_views_equal_the_analytics") else { return };
    let (count, mut rng, wire) = (histories(), Rng::with_seed(SEED + 1), Wire::default());
    let (service, began) = (service(&wire).await, std::time::Instant::now());
    let client = patient(&service);
    let mut lives: Vec<_> = (0..count).map(|number| life(&mut rng, number, count)).collect();
    lives.extend(at_bounds(&mut rng, count));
    let items = lives.iter().map(|life| to_referral_item(life.last().unwrap()).unwrap()).collect();
    put_all(&client, "referrals", items).await;

    let events = published(&service, &wire, &records(&mut rng, &lives)).await;
    let events = disturbed(&mut rng, events);
    let lines = arrived(&mut rng, &events);
    println!("{} lives, {} events arrived after {:?}", lives.len(), events.len(), began.elapsed());

    let queries = QUERIES.iter().map(|(view, _)| format!("SELECT * FROM {view}")).chain(examples());
    let answer = query(&duck, &lines, &queries.collect::<Vec<_>>());
    println!("answered after {:?}", began.elapsed());
    let expected = expected(&Analytics::new(&client, "metrics"), &lives).await;
    assert!(expected.len() > 1000, "{}", expected.len());
    assert_eq!(difference(&tally(&answer), &expected), [""; 0]);
    examples_equal_admin(&service, &answer.answers[QUERIES.len()..]).await;
    service.stop().await;
}
