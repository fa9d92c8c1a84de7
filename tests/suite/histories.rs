//! Passes many random referral histories to `analytics` under the worst conditions that a stream allows: duplicates,
//! split batches, any order across referrals, lost records and failing calls. The counters must then equal a simple
//! recount, and a rebuild must find no difference.

use std::{collections::VecDeque, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use fastrand::Rng;
use futures_util::future::join_all;
use local::{Options, Service};
use referrals::{
    analytics::{Analytics, CountOutcome, Facts},
    domain::{
        adjustments::Adjustments,
        money::{Currency, Money},
        order::{Order, OrderRecord},
        time::Timestamp,
    },
    fraud::FraudReason,
    program::Terms,
    referral::{
        Referral, State, VoidReason,
        machine::{Command, Decision},
        reward::{Benefit, RewardType, Side},
    },
    store::{
        Store,
        items::referral::{from_referral_item, to_referral_item},
        keys::Item,
    },
};
use serde_json::{Value, json};

use crate::{
    analytics::{patient, record},
    world::{
        Fault, Wire,
        recount::{counted, difference, recount},
    },
};

pub(crate) const SEED: u64 = 20_261_122;
/// How many batches are processed concurrently, each with separate referrals; the template allows as many.
const WORKERS: usize = 4;

/// The number of histories, from `ANALYTICS_HISTORIES`.
pub(crate) fn histories() -> usize {
    std::env::var("ANALYTICS_HISTORIES").map_or(300, |count| count.parse().unwrap())
}

fn money(rng: &mut Rng) -> Money {
    // Mostly small amounts, and sometimes the largest one, so that sums exceed 64 bits.
    let amount = if rng.u8(..10) == 0 { (1 << 53) - 1 } else { rng.u64(..5000) };
    let currency: Currency = rng.choice(["USD", "EUR"]).unwrap().parse().unwrap();
    Money { amount: amount.try_into().unwrap(), currency }
}

fn benefit(rng: &mut Rng) -> Benefit {
    let Money { amount, currency } = money(rng);
    Benefit::new(*rng.choice(&[RewardType::Credit, RewardType::Coupon, RewardType::Points]).unwrap(), amount, currency)
}

fn moment(rng: &mut Rng) -> Timestamp {
    let new_year: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    new_year.plus(Duration::from_secs(rng.u64(..400 * 86_400)))
}

/// A realistic pause: mostly short, sometimes months.
fn pause(rng: &mut Rng) -> Duration {
    let longest = *rng.choice(&[60, 3600, 86_400, 20 * 86_400, 250 * 86_400]).unwrap();
    Duration::from_millis(rng.u64(..longest * 1000))
}

pub(crate) fn attributed(rng: &mut Rng, number: usize, count: usize) -> Referral {
    // A few referrers have many referrals, and most have few.
    let most = rng.usize(..=count / 5);
    let referrer = rng.usize(..=most);
    Referral {
        referee: format!("referee-{number}").parse().unwrap(),
        referrer: format!("referrer-{referrer}").parse().unwrap(),
        code: "CODE".parse().unwrap(),
        program: rng.choice(["default", "other"]).unwrap().parse().unwrap(),
        terms: Terms {
            qualifying_event: "order.completed".to_owned(),
            minimum: Money { amount: 0.try_into().unwrap(), currency: Currency::USD },
            hold_seconds: rng.u32(..100_000),
            referrer: benefit(rng).into(),
            referee: benefit(rng).into(),
        },
        device: None,
        correlation_id: None,
        created_at: moment(rng),
        signed_up_at: None,
        mark: Some(rng.u32(..)),
        notes: Vec::new(),
        candidates: Vec::new(),
        adjusted_order: None,
        reopened: 0,
        rev: 1,
        state: State::Pending,
    }
}

/// Something happens to an order now and then: it is refunded, or a dispute begins or ends.
fn adjust(rng: &mut Rng, record: &mut OrderRecord) {
    let adjustments = &mut record.adjustments;
    match rng.u8(..24) {
        0 => adjustments.disputes = [(None, true)].into(),
        1..4 => adjustments.disputes = [(None, false)].into(),
        4 => adjustments.refunds = [("r-1".parse().unwrap(), record.paid.unwrap())].into(),
        5 => adjustments.failed_refunds = ["r-1".parse().unwrap()].into(),
        _ => return,
    }
    adjustments.version += 1;
}

/// A history from the attribution on: all revisions of the referral.
pub(crate) fn life(rng: &mut Rng, number: usize, count: usize) -> Vec<Referral> {
    let mut revisions = vec![attributed(rng, number, count)];
    let mut now = revisions[0].created_at;
    let user = revisions[0].referee.clone();
    let paid = Money { amount: 4200.try_into().unwrap(), currency: Currency::USD };
    let order = |id: &str| Order {
        id: id.parse().unwrap(),
        event: "order.completed".to_owned(),
        user: user.clone(),
        paid,
        placed_at: now,
        is_by_operator: false,
        latest_sign_up: now,
        hold_until: None,
    };
    let record = |order: &Order| {
        let (id, claimed_by) = (order.id.clone(), Some(user.clone()));
        OrderRecord { id, claimed_by, paid: Some(paid), adjustments: Adjustments::default() }
    };
    let orders = [order("o-1"), order("o-2")];
    let mut records = [record(&orders[0]), record(&orders[1])];
    for _ in 0..rng.usize(..24) {
        now = now.plus(pause(rng));
        let last = revisions.last().unwrap();
        let side = *rng.choice(&Side::BOTH).unwrap();
        let id = last.reward_id(side);
        let resent = last.delivery(&id).map_or(0, |delivery| delivery.resent);
        let place = rng.usize(..orders.len());
        adjust(rng, &mut records[place]);
        // The order that converted the referral, as it is now.
        let by = last.conversion().map(|by| by.order.clone());
        let reopened = by.and_then(|by| records.iter().find(|record| record.id == by)).cloned();
        let reopened = reopened.as_ref();
        let (order, record) = (&orders[place], &records[place]);
        let event = match rng.u8(..18) {
            0..4 => Command::Convert(order, &record.adjustments),
            4..7 => Command::Issue,
            7 => Command::Void(
                *rng.choice(&[
                    FraudReason::ReferrerFlagged.into(),
                    FraudReason::ReciprocalReferral.into(),
                    VoidReason::Operator,
                ])
                .unwrap(),
            ),
            8 => Command::Adjust(record, None),
            9..12 => Command::MarkDelivered(&id),
            12 | 13 => Command::MarkFailed(&id, "400", resent),
            14 => Command::Resend(&id, now),
            15 => Command::Claim(now),
            _ => Command::Reopen(reopened),
        };
        if let Decision::Apply(next, _) = last.decide(&event, now) {
            revisions.push(*next);
        }
    }
    revisions
}

/// The stream records of these histories. Those of one history are in order, but some are repeated later, and some that
/// are not the last of their history are lost.
fn stream_records(rng: &mut Rng, lives: &[Vec<Referral>]) -> Vec<Value> {
    let mut waiting: Vec<VecDeque<&Referral>> = lives.iter().map(|life| life.iter().collect()).collect();
    let (mut records, mut sequence) = (Vec::<Value>::new(), 0);
    while !waiting.is_empty() {
        sequence += 1;
        if !records.is_empty() && rng.u8(..5) == 0 {
            let mut again = rng.choice(&records).unwrap().clone();
            again["dynamodb"]["SequenceNumber"] = json!(format!("{sequence:020}"));
            records.push(again);
            continue;
        }
        let place = rng.usize(..waiting.len());
        let next = waiting[place].pop_front().unwrap();
        if waiting[place].is_empty() {
            waiting.swap_remove(place);
        } else if rng.u8(..20) == 0 {
            continue;
        }
        records.push(record(next, &format!("{sequence:020}")));
    }
    records
}

/// Passes records to the function until all are processed: some batches are split, some are repeated, and after a
/// failure the batch continues at the first failed record.
async fn process(service: &Service, wire: &Wire, rng: &mut Rng, records: &[Value]) {
    let (mut parts, mut calls) = (VecDeque::new(), 0);
    let mut rest = records;
    while !rest.is_empty() {
        let (batch, behind) = rest.split_at(rng.usize(1..40).min(rest.len()));
        rest = behind;
        parts.push_back(batch);
        while let Some(part) = parts.pop_front().filter(|part| !part.is_empty()) {
            calls += 1;
            assert!(calls < 100 + 10 * records.len(), "the records are never finished");
            match rng.u8(..30) {
                0 => wire.break_next("analytics:TransactWriteItems", [Fault::AnswerLost]),
                1 => wire.break_next("analytics:TransactWriteItems", [Fault::Conflict; 4]),
                2 => wire.break_next("analytics:GetItem", [Fault::Throttled; 4]),
                _ => {}
            }
            let answer = service.invoke("AnalyticsFunction", json!({"Records": part})).await.unwrap();
            if let Some(failed) = answer["batchItemFailures"][0]["itemIdentifier"].as_str() {
                let place = part.iter().position(|record| record["dynamodb"]["SequenceNumber"] == failed).unwrap();
                parts.push_front(&part[place..]);
            } else if rng.u8(..8) == 0 {
                let (one, other) = part.split_at(part.len() / 2);
                parts.extend([one, other]);
            }
        }
    }
}

pub(crate) async fn put_all(client: &Client, table: &str, items: Vec<Item>) {
    for items in items.chunks(25) {
        let put = |item: &Item| {
            let put = PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        };
        let requests = items.iter().map(put).collect();
        let answer = client.batch_write_item().request_items(table, requests).send().await.unwrap();
        assert!(answer.unprocessed_items.is_none_or(|left| left.is_empty()));
    }
}

async fn all(client: &Client, table: &str) -> Vec<Item> {
    let pages = client.scan().table_name(table).consistent_read(true).limit(250).into_paginator().items().send();
    pages.collect::<Result<Vec<_>, _>>().await.unwrap()
}

/// A service whose stream feeds no function: the test invokes the function itself.
pub(crate) async fn service(wire: &Wire) -> Service {
    let mut options = Options { connector: Some(wire.connector()), ..Options::default() };
    (options.pace.stream, options.pace.schedule) = (false, false);
    Service::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_history_counts_once_under_any_delivery() {
    let (count, mut rng, wire) = (histories(), Rng::with_seed(SEED), Wire::default());
    let service = service(&wire).await;
    let (client, began) = (patient(&service), std::time::Instant::now());
    let lives: Vec<_> = (0..count).map(|number| life(&mut rng, number, count)).collect();
    let items = lives.iter().map(|life| to_referral_item(life.last().unwrap()).unwrap()).collect();
    put_all(&client, "referrals", items).await;

    let workers = lives.chunks(count.div_ceil(WORKERS)).map(|lives| (rng.fork(), lives));
    let workers = workers.map(|(mut rng, lives)| {
        let (service, wire) = (&service, &wire);
        async move {
            let records = stream_records(&mut rng, lives);
            process(service, wire, &mut rng, &records).await;
            records.len()
        }
    });
    let records: usize = join_all(workers).await.into_iter().sum();
    wire.mend();
    println!("{count} lives, {records} records, processed after {:?}", began.elapsed());

    let stored = all(&client, "referrals").await;
    let stored: Vec<_> = stored.into_iter().map(|item| from_referral_item(item).unwrap()).collect();
    assert_eq!(stored.len(), count);
    let live = counted(&all(&client, "metrics").await);
    assert!(live.len() > 100, "{live:?}");
    assert_eq!(difference(&live, &recount(&stored)), [""; 0]);

    let rebuilt = rebuild::open_or_create(&client, "rebuilt").await.unwrap();
    let looked_at = std::cell::Cell::new(0);
    let count_items = |items| looked_at.set(looked_at.get() + items);
    let report = rebuild::rebuild(&Store::new(&client, "referrals"), &rebuilt, count_items).await.unwrap();
    assert_eq!((report.counted, report.already_counted, report.unreadable), (count as u64, 0, 0));
    assert_eq!(looked_at.get(), count as u64);
    assert_eq!(rebuild::compare(&rebuilt, &Analytics::new(&client, "metrics")).await.unwrap(), [""; 0]);
    println!("rebuilt and compared after {:?}", began.elapsed());
    service.stop().await;
}

/// The comparison reports each difference, and the rebuild repairs in the live table what the stream lost.
#[tokio::test]
async fn a_rebuild_finds_differences_and_repairs_lost_records() {
    let wire = Wire::default();
    let service = service(&wire).await;
    let (client, mut rng) = (patient(&service), Rng::with_seed(SEED));
    let lives: Vec<_> = (0..12).map(|number| life(&mut rng, number, 12)).collect();
    let items = lives.iter().map(|life| to_referral_item(life.last().unwrap()).unwrap()).collect();
    put_all(&client, "referrals", items).await;
    let (store, live) = (Store::new(&client, "referrals"), Analytics::new(&client, "metrics"));
    // The live table knows the latest revision of most referrals, an older one of one, and nothing of another.
    let late = lives.iter().position(|life| life.len() > 2).unwrap();
    let absent = (late + 1) % lives.len();
    for (number, life) in lives.iter().enumerate().filter(|(number, _)| *number != absent) {
        let known = if number == late { &life[0] } else { life.last().unwrap() };
        assert_eq!(live.record(&Facts::from(known)).await.unwrap(), CountOutcome::Counted);
    }
    let rebuilt = rebuild::open_or_create(&client, "rebuilt").await.unwrap();
    rebuild::rebuild(&store, &rebuilt, |_| ()).await.unwrap();
    let lines = rebuild::compare(&rebuilt, &live).await.unwrap();
    for number in [late, absent] {
        let stream_records =
            lines.iter().filter(|line| line.starts_with(&format!("REFEREE#referee-{number} FACTS:"))).count();
        assert_eq!(stream_records, 1, "{lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("PROGRAM#")), "{lines:#?}");

    let report = rebuild::rebuild(&store, &live, |_| ()).await.unwrap();
    assert_eq!((report.counted, report.already_counted), (2, 10));
    assert_eq!(rebuild::compare(&rebuilt, &live).await.unwrap(), [""; 0]);
    let report = rebuild::rebuild(&store, &live, |_| ()).await.unwrap();
    assert_eq!((report.counted, report.already_counted), (0, 12));

    // Change one counter, and add one that should not exist.
    let add = |pk: &str, sk: &str| {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let update = client.update_item().table_name("metrics").key("pk", text(pk)).key("sk", text(sk));
        update
            .update_expression("ADD converted :one")
            .expression_attribute_values(":one", AttributeValue::N("1".into()))
    };
    let counter = all(&client, "metrics").await.into_iter().find(|item| item["pk"].as_s().unwrap().contains("DAYS"));
    let counter = counter.unwrap();
    add(counter["pk"].as_s().unwrap(), counter["sk"].as_s().unwrap()).send().await.unwrap();
    add("PROGRAM#default#DAYS#0", "1999-01-01").send().await.unwrap();
    let lines = rebuild::compare(&rebuilt, &live).await.unwrap();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines.contains(&"PROGRAM#default#DAYS#0 1999-01-01: nothing; in the other table: converted 1".to_owned()),
        "{lines:#?}"
    );
    service.stop().await;
}

/// The table that a rebuild creates has the definition of the deployed one.
#[tokio::test]
async fn a_rebuilt_table_has_the_templates_definition() {
    let service = service(&Wire::default()).await;
    let client = patient(&service);
    rebuild::open_or_create(&client, "rebuilt").await.unwrap();
    let described = async |name: &str| client.describe_table().table_name(name).send().await.unwrap().table.unwrap();
    let (made, deployed) = (described("rebuilt").await, described("metrics").await);
    assert_eq!(made.key_schema, deployed.key_schema);
    let index = |table: &aws_sdk_dynamodb::types::TableDescription| {
        let [index] = table.global_secondary_indexes() else { panic!("{table:?}") };
        (index.index_name.clone(), index.key_schema.clone(), index.projection.clone())
    };
    assert_eq!(index(&made), index(&deployed));
    let attributes = |table: &aws_sdk_dynamodb::types::TableDescription| {
        let of = table.attribute_definitions().iter();
        let mut names: Vec<_> = of.map(|of| format!("{} {}", of.attribute_name, of.attribute_type)).collect();
        names.sort();
        names
    };
    assert_eq!(attributes(&made), attributes(&deployed));
    service.stop().await;
}
