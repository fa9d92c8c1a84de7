//! Many referrals at once, and a subsystem that fails three calls of ten: at rest, all that was issued is booked, once.
//!
//! `SOAK_REFERRALS=10000 cargo test -p tests --test suite -- soak --nocapture` by night; a hundred otherwise.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::world::{
    Answer, World, plain,
    stand_in::{Reply, SECRET, StandIn},
};

/// How many referrals come in side by side.
const AT_ONCE: usize = 32;
/// How many referees one referrer brings.
const EACH: usize = 10;
const SEED: u64 = 7;

fn referrals() -> usize {
    std::env::var("SOAK_REFERRALS").map_or(100, |count| count.parse().unwrap())
}

/// Does the same for each number, some at a time.
async fn for_each(count: usize, what: impl AsyncFn(usize)) {
    let what = &what;
    stream::iter(0..count).for_each_concurrent(AT_ONCE, |number| what(number)).await;
}

/// Asks until there is room: a machine that is busy with other things may answer 503, as it should.
async fn taken(ask: impl AsyncFn() -> Answer) {
    let mut answer = ask().await;
    while answer.status == 503 {
        sleep(Duration::from_millis(100)).await;
        answer = ask().await;
    }
    assert!(answer.status.is_success(), "{answer:?}");
}

/// How many referrals still owe something, by the index alone.
async fn owed(world: &World) -> usize {
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    let scan = world.service().dynamodb().scan().table_name(table).index_name("work").limit(250);
    scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_all_that_was_issued_is_booked_once() {
    let count = referrals();
    let points = StandIn::start().await;
    points.usually(Reply::Moody(SEED));
    // What a minute is when deployed, and the grace: long enough for the backlog of so many on one machine that not every
    // reward is announced time and again while it waits its turn.
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
    world.audit_too(&points);

    let began = Instant::now();
    for_each(count.div_ceil(EACH), async |number| {
        let path = format!("/v1/users/ann-{number}/code");
        taken(async || world.put(&path, json!({"code": format!("ann-{number}")})).await).await;
    })
    .await;
    for_each(count, async |number| {
        let bob = format!("bob-{number}");
        taken(async || world.attribute(&bob, &format!("ann-{}", number / EACH)).await).await;
        world.order(&bob, &format!("o-{number}")).await;
    })
    .await;
    let taken_in = began.elapsed();
    // Booked first, which is cheap to know; marked, and nothing under way, a little later.
    let patience = Duration::from_secs(60) + Duration::from_millis(80) * u32::try_from(count).unwrap();
    while points.booked_count() < count || !world.service().idle().unwrap() || owed(&world).await > 0 {
        let booked = points.booked_count();
        assert!(began.elapsed() < patience, "after {patience:?} {booked} of {count} are booked");
        sleep(Duration::from_millis(250)).await;
    }
    let at_rest = began.elapsed();
    println!("{count} referrals taken in after {taken_in:?}, at rest after {at_rest:?}");

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
        assert_eq!(call.body, booked[&call.key], "one key, several contents");
    }
    let announced = world.announced("reward.issued").await.len();
    let dead = world.get("/_local/parked").await.with(200)["count"].clone();
    let credits = world.deliveries().await.len();
    println!(
        "{}",
        json!({
            "referrals": count, "seconds_to_take_in": taken_in.as_secs_f64(), "seconds_to_rest": at_rest.as_secs_f64(),
            "rewards_a_second": 2.0 * count as f64 / at_rest.as_secs_f64(),
            "points_calls": calls.len(),
            "points_booked": booked.len(), "credit_calls": credits, "announcements": announced, "dead_letters": dead,
        })
    );
    world.expect_overtaken();
    world.end().await;
}
