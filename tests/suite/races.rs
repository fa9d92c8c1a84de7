//! Overlapping sweeps, and concurrent delivery marks of both sides: no work is lost, and no claim is ignored.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{join, time::sleep};

use crate::world::{
    Fault, World, plain,
    stand_in::{Reply, SECRET, StandIn},
};

/// The number of referrals whose calls run concurrently: each queue has ten workers.
const REFERRALS: usize = 10;

fn bob(number: usize) -> String {
    format!("bob-{number:02}")
}

/// A World whose subsystem was called for both rewards of each referral and has not answered yet.
async fn held(subsystem: &StandIn) -> World {
    subsystem.set_default_reply(Reply::Hold(200));
    let mut world = World::with_env([
        ("CREDIT_ENDPOINT", subsystem.url()),
        ("POINTS_ENDPOINT", subsystem.url()),
        ("REFERRER_REWARD_TYPE", "points"),
        ("WEBHOOK_SECRET", SECRET),
        ("GRACE_SECONDS", "1"),
    ])
    .await;
    world.audit_stand_in(subsystem);
    join_all((0..REFERRALS).map(async |number| {
        world.refer(&format!("alice-{number}"), &bob(number)).await;
        world.order(&bob(number), &format!("o-{number}")).await;
    }))
    .await;
    world.until("both sides of all referrals are called", async || subsystem.calls().len() == 2 * REFERRALS).await;
    world
}

/// The referral items by referee.
async fn referrals(world: &World) -> BTreeMap<String, Value> {
    let items = world.items().await;
    let items = items.iter().map(plain).filter(|item| item["sk"] == "REFERRAL");
    items.map(|item| (item["pk"].as_str().unwrap().trim_start_matches("REFEREE#").to_owned(), item)).collect()
}

/// The number of `reward.issued` events of each reward.
async fn announced(world: &World) -> BTreeMap<String, usize> {
    world.announced("reward.issued").await.into_iter().fold(BTreeMap::new(), |mut counts, id| {
        *counts.entry(id).or_default() += 1;
        counts
    })
}

async fn sweep(world: &World) {
    world.service().sweep_now().await.unwrap();
}

/// Every fifth reward of a referee is refused permanently while the referrer's is accepted.
#[tokio::test]
async fn both_sides_are_marked_concurrently() {
    let subsystem = StandIn::start().await;
    let is_refused = |number: usize| number.is_multiple_of(5);
    for number in (0..REFERRALS).filter(|number| is_refused(*number)) {
        subsystem.script(&format!("{}:referee", bob(number)), [Reply::Hold(400)]);
    }
    let world = held(&subsystem).await;
    subsystem.release();
    world.until_idle().await;

    let (mut delivered, mut failed) = (Vec::new(), Vec::new());
    for (number, (referee, item)) in referrals(&world).await.into_iter().enumerate() {
        assert_eq!((&item["status"], &item["rev"]), (&json!("rewarded"), &json!(7)), "two calls, two marks: {item:#}");
        delivered.push(format!("{referee}:referrer:delivered"));
        let lane = item["work"].as_str().unwrap_or_default();
        if is_refused(number) {
            failed.push(format!("{referee}:referee:failed"));
            assert!(lane.starts_with("parked#") && item["rewards"]["referee"]["failed_at"].is_string(), "{item:#}");
        } else {
            delivered.push(format!("{referee}:referee:delivered"));
            assert_eq!(lane, "", "has no work left: {item:#}");
        }
    }
    delivered.sort();
    assert_eq!(world.announced("reward.delivered").await, delivered);
    assert_eq!(world.announced("reward.failed").await, failed);
    assert_eq!(subsystem.calls().len(), 2 * REFERRALS, "a lost race for the item does not repeat the call");
    world.end().await;
}

/// Three concurrent sweeps while all rewards that they would announce again are being marked.
#[tokio::test]
async fn concurrent_marks_and_sweeps_leave_no_work() {
    let subsystem = StandIn::start().await;
    let world = held(&subsystem).await;
    sleep(Duration::from_millis(1100)).await;
    join!(sweep(&world), sweep(&world), sweep(&world), async { subsystem.release() });
    world.until_idle().await;

    let (announced, referrals) = (announced(&world).await, referrals(&world).await);
    assert_eq!((announced.len(), referrals.len()), (2 * REFERRALS, REFERRALS));
    for (referee, item) in &referrals {
        assert!(item["work"].is_null() && item["due_at"].is_null(), "has no work left: {item:#}");
        let claims = item["rev"].as_u64().unwrap() - 7;
        assert!(claims <= 1, "claimed while another claim was valid: {item:#}");
        for side in ["referrer", "referee"] {
            let times = announced[&format!("{referee}:{side}:issued")];
            assert!(times as u64 <= 1 + claims, "announced {times} times under {claims} claims: {item:#}");
            assert!(
                subsystem.calls_of(&format!("{referee}:{side}")).len() <= times,
                "called more often than announced"
            );
        }
    }
    assert_eq!(world.announced("reward.delivered").await.len(), 2 * REFERRALS);

    let before = world.contents().await;
    sleep(Duration::from_millis(1100)).await;
    join!(sweep(&world), sweep(&world));
    world.until_idle().await;
    assert_eq!(world.contents().await, before);
    world.end().await;
}

/// A sweep writes slowly, and the next one ends before it.
#[tokio::test]
async fn a_sweep_that_is_overtaken_repeats_nothing() {
    let slow = Fault::Slow(Duration::from_millis(600));
    let world = World::with(|options| {
        options.pace.stream = false;
        options.env = std::mem::take(&mut options.env).with("GRACE_SECONDS", "1");
    })
    .await;
    let overtaken = async || {
        world.wire().break_next("UpdateItem", [slow]);
        join!(sweep(&world), async {
            world.until("the first sweep writes", async || world.wire().is_mended()).await;
            sweep(&world).await;
        });
    };
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    overtaken().await;
    let issued = world.stored("bob").await;
    assert_eq!((&issued["status"], &issued["rev"]), (&json!("rewarded"), &json!(3)), "issued once: {issued:#}");

    sleep(Duration::from_millis(1100)).await;
    overtaken().await;
    assert_eq!(world.announced("reward.issued").await, ["bob:referee:issued", "bob:referrer:issued"]);
    world.until_idle().await;
    assert_eq!(world.stored("bob").await["rev"], 8, "issued, claimed once, two calls and two marks");
    assert_eq!(world.deliveries().await.len(), 2);
    world.end().await;
}
