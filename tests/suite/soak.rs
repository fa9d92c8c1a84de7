//! Many concurrent referrals and a subsystem that fails three of ten calls: at the end every issued reward is booked
//! once.
//!
//! `SOAK_REFERRALS=10000 cargo test -p tests --test suite -- soak --nocapture` runs every night; the default is a
//! hundred.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::world::{
    Answer, World, plain,
    stand_in::{Reply, SECRET, StandIn},
};

/// How many referrals are created at the same time.
const CONCURRENCY: usize = 32;
/// How many referees each referrer has.
const PER_REFERRER: usize = 10;
const SEED: u64 = 7;

fn referrals() -> usize {
    std::env::var("SOAK_REFERRALS").map_or(100, |count| count.parse().unwrap())
}

/// Runs `what` for each number, several at a time.
async fn for_each(count: usize, what: impl AsyncFn(usize)) {
    let what = &what;
    stream::iter(0..count).for_each_concurrent(CONCURRENCY, |number| what(number)).await;
}

/// Retries while the answer is 503, which is correct on a machine that is busy with other tests.
async fn accepted(ask: impl AsyncFn() -> Answer) {
    let mut answer = ask().await;
    while answer.status == 503 {
        sleep(Duration::from_millis(100)).await;
        answer = ask().await;
    }
    assert!(answer.status.is_success(), "{answer:?}");
}

/// How many referrals have outstanding work, according to the index.
async fn outstanding(world: &World) -> usize {
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    let scan = world.service().dynamodb().scan().table_name(table).index_name("work").limit(250);
    scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_every_issued_reward_is_booked_once() {
    let count = referrals();
    let points = StandIn::start().await;
    points.set_default_reply(Reply::Flaky(SEED));
    // The sweep interval and the grace period. They must be long enough for the backlog on one machine; otherwise the
    // sweep announces rewards again and again while they wait.
    let minute = Duration::from_secs(2) * u32::try_from(1 + count / 500).unwrap();
    let mut world = World::with(|options| {
        let env = std::mem::take(&mut options.env).with("POINTS_ENDPOINT", points.url()).with("WEBHOOK_SECRET", SECRET);
        let env = env.with("REFERRER_REWARD_TYPE", "points").with("RETRY_SECONDS", "0");
        options.env = env.with("GRACE_SECONDS", minute.as_secs().to_string());
        options.pace.first_retry = Duration::from_millis(20);
        options.pace.sweep = minute;
        options.pace.schedule = true;
    })
    .await;
    world.audit_stand_in(&points);

    let began = Instant::now();
    for_each(count.div_ceil(PER_REFERRER), async |number| {
        let path = format!("/v1/users/ann-{number}/code");
        accepted(async || world.put(&path, json!({"code": format!("ann-{number}")})).await).await;
    })
    .await;
    for_each(count, async |number| {
        let bob = format!("bob-{number}");
        accepted(async || world.attribute(&bob, &format!("ann-{}", number / PER_REFERRER)).await).await;
        world.order(&bob, &format!("o-{number}")).await;
    })
    .await;
    let received = began.elapsed();
    // Bookings are cheap to check, so wait for them first, then for the marks and for running work.
    let limit = Duration::from_secs(60) + Duration::from_millis(80) * u32::try_from(count).unwrap();
    while points.booked_count() < count || !world.service().idle().unwrap() || outstanding(&world).await > 0 {
        let booked = points.booked_count();
        assert!(began.elapsed() < limit, "after {limit:?} {booked} of {count} are booked");
        sleep(Duration::from_millis(250)).await;
    }
    let completed = began.elapsed();
    println!("{count} referrals received after {received:?}, complete after {completed:?}");

    let items: Vec<_> = world.items().await.iter().map(plain).filter(|item| item["sk"] == "REFERRAL").collect();
    assert_eq!(items.len(), count);
    for item in &items {
        let rewards = &item["rewards"];
        assert!(rewards["referrer"]["delivered_at"].is_string(), "{item:#}");
        assert!(rewards["referee"]["delivered_at"].is_string(), "{item:#}");
    }
    let (calls, booked) = (points.calls(), points.booked());
    assert_eq!(booked.len(), count);
    for call in &calls {
        assert_eq!(call.body, booked[&call.key], "one key with different bodies");
    }
    let announced = world.announced("reward.issued").await.len();
    let dead = world.get("/_local/parked").await.with(200)["count"].clone();
    let credits = world.deliveries().await.len();
    println!(
        "{}",
        json!({
            "referrals": count, "seconds_to_take_in": received.as_secs_f64(), "seconds_to_rest": completed.as_secs_f64(),
            "rewards_a_second": 2.0 * count as f64 / completed.as_secs_f64(),
            "points_calls": calls.len(),
            "points_booked": booked.len(), "credit_calls": credits, "announcements": announced, "dead_letters": dead,
        })
    );
    world.allow_obsolete_dead_letters();
    world.end().await;
}
