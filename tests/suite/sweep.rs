//! The sweep: it does everything that the stream did not do, exactly once, from the index of work, and does not pay
//! flagged users.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use local::Options;
use referrals::{
    domain::time::Timestamp,
    referral::Referral,
    runtime::Call,
    store::{
        items::referral::{from_referral_item, to_referral_item},
        keys,
    },
};
use serde_json::{Value, json};
use tokio::{join, net::TcpSocket, time::sleep};

use crate::world::{self, World, plain};

fn set(options: &mut Options, name: &str, value: &str) {
    options.env = std::mem::take(&mut options.env).with(name, value);
}

/// A World without a stream, with a grace period of one second.
async fn streamless() -> World {
    World::with(|options| {
        options.pace.stream = false;
        set(options, "GRACE_SECONDS", "1");
    })
    .await
}

/// Runs `what` concurrently for each number.
async fn at_once<T>(count: usize, what: impl AsyncFn(usize) -> T) -> Vec<T> {
    let what = &what;
    join_all((0..count).map(|number| what(number))).await
}

async fn sweep(world: &World) {
    world.service().sweep_now().await.unwrap();
}

fn time(value: &Value) -> Timestamp {
    Timestamp::try_from(value.as_str().unwrap().to_owned()).unwrap()
}

/// The lane of every referral in the index of work.
async fn lanes(world: &World) -> BTreeMap<String, String> {
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    let scan = world.service().dynamodb().scan().table_name(table).index_name("work").send().await.unwrap();
    let entry = |item: &keys::Item| {
        let item = plain(item);
        let text = |name: &str| item[name].as_str().unwrap().to_owned();
        let lane = text("work").split_once('#').unwrap().0.to_owned();
        (text("pk").trim_start_matches("REFEREE#").to_owned(), lane)
    };
    scan.items().iter().map(entry).collect()
}

async fn lane(world: &World, referee: &str) -> Option<String> {
    lanes(world).await.remove(referee)
}

#[tokio::test]
async fn without_a_stream_the_sweep_issues_and_delivers() {
    let world = streamless().await;
    world.refer("alice", "bob").await;
    sweep(&world).await;
    assert_eq!(world.stored("bob").await["rev"], 1);
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    assert_eq!(lane(&world, "bob").await.as_deref(), Some("due"));

    sweep(&world).await;
    let issued = world.stored("bob").await;
    assert_eq!((&issued["status"], &issued["rev"]), (&json!("rewarded"), &json!(3)));

    // Within the grace period the stream can still be late.
    sweep(&world).await;
    world.until_idle().await;
    assert_eq!(world.stored("bob").await, issued);
    assert_eq!(world.events().await.iter().filter(|event| event["source"] == "referrals").count(), 0);
    assert_eq!(lane(&world, "bob").await.as_deref(), Some("due"));

    sleep(Duration::from_millis(1050)).await;
    sweep(&world).await;
    assert_eq!(world.announced("reward.issued").await, ["bob:referee:issued", "bob:referrer:issued"]);
    world.until_idle().await;
    let delivered = world.stored("bob").await;
    assert_eq!(delivered["rev"], 8, "issued, claimed, two calls and two marks: {delivered:#}");
    assert_eq!(lane(&world, "bob").await, None);
    assert_eq!(world.deliveries().await.len(), 2);

    // No work is left, so the sweep changes nothing.
    sleep(Duration::from_millis(1050)).await;
    sweep(&world).await;
    assert_eq!(world.stored("bob").await, delivered);
    assert_eq!(world.announced("reward.issued").await.len(), 2);
    world.end().await;
}

/// With a hold and two subsystems: one sweep after the hold and one after the grace period are enough.
#[tokio::test]
async fn without_a_stream_two_sweeps_deliver_every_reward() {
    const REFERRALS: usize = 120;
    let world = World::with(|options| {
        options.pace.stream = false;
        set(options, "HOLD_SECONDS", "1");
        set(options, "GRACE_SECONDS", "1");
        set(options, "REFEREE_REWARD_TYPE", "coupon");
    })
    .await;
    at_once(REFERRALS, async |number| {
        world.refer(&format!("alice-{}", number % 7), &format!("bob-{number}")).await;
        world.order(&format!("bob-{number}"), &format!("o-{number}")).await;
    })
    .await;
    let statuses = async || {
        let items: Vec<_> = world.items().await.iter().map(plain).filter(|item| item["sk"] == "REFERRAL").collect();
        items.iter().map(|item| item["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    world.until("all are converted", async || statuses().await == vec!["converted"; REFERRALS]).await;
    sleep(Duration::from_millis(1050)).await;
    sweep(&world).await;
    assert_eq!(statuses().await, vec!["rewarded"; REFERRALS]);
    assert!(world.deliveries().await.is_empty(), "within the grace period");
    sleep(Duration::from_millis(1050)).await;
    sweep(&world).await;
    world.until_idle().await;
    let calls = world.deliveries().await;
    let to = |kind: &str| calls.iter().filter(|call| call["type"] == kind).count();
    assert_eq!((to("credit"), to("coupon"), calls.len()), (REFERRALS, REFERRALS, 2 * REFERRALS));
    assert!(lanes(&world).await.is_empty());
    world.end().await;
}

/// Only the schedule runs sweeps.
#[tokio::test]
async fn without_a_stream_the_schedule_delivers_every_reward() {
    const REFERRALS: usize = 10;
    let world = World::with(|options| {
        options.pace.stream = false;
        options.pace.schedule = true;
        options.pace.sweep = Duration::from_millis(250);
        set(options, "HOLD_SECONDS", "1");
        set(options, "GRACE_SECONDS", "1");
        set(options, "REFERRER_REWARD_TYPE", "points");
    })
    .await;
    at_once(REFERRALS, async |number| {
        world.refer(&format!("alice-{number}"), &format!("bob-{number}")).await;
        world.order(&format!("bob-{number}"), &format!("o-{number}")).await;
    })
    .await;
    world.until("all have both", async || world.announced("reward.issued").await.len() >= 2 * REFERRALS).await;
    world.until_idle().await;
    for number in 0..REFERRALS {
        let item = world.stored(&format!("bob-{number}")).await;
        let (conversion, rewards) = (&item["conversion"], &item["rewards"]);
        let issued_at = time(&rewards["issued_at"]);
        assert!(
            issued_at >= time(&conversion["at"]).plus(Duration::from_secs(1)),
            "issued before the hold was over: {item:#}"
        );
        for side in ["referrer", "referee"] {
            let took = time(&rewards[side]["delivered_at"]).since(issued_at);
            assert!(took >= Duration::from_secs(1), "delivered within the grace period: {item:#}");
            assert!(took < Duration::from_secs(10), "later than two sweeps: {item:#}");
        }
    }
    assert!(lanes(&world).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn two_sweeps_at_once_announce_once() {
    const REFERRALS: usize = 12;
    let world = streamless().await;
    at_once(REFERRALS, async |number| {
        let bob = format!("bob-{number}");
        world.refer(&format!("alice-{number}"), &bob).await;
        world.order(&bob, &format!("o-{number}")).await;
        world.until_status(&bob, "converted").await;
    })
    .await;
    join!(sweep(&world), sweep(&world), sweep(&world));
    for number in 0..REFERRALS {
        assert_eq!(world.stored(&format!("bob-{number}")).await["rev"], 3);
    }
    sleep(Duration::from_millis(1050)).await;
    join!(sweep(&world), sweep(&world), sweep(&world));
    let issued = world.announced("reward.issued").await;
    let mut once = issued.clone();
    once.dedup();
    assert_eq!((issued.len(), once.len()), (2 * REFERRALS, 2 * REFERRALS), "{issued:#?}");
    world.until_idle().await;
    assert_eq!(world.deliveries().await.len(), 2 * REFERRALS);
    world.end().await;
}

/// The subsystem is unavailable: each announcement waits twice as long as the one before it.
#[tokio::test]
async fn pauses_between_announcements_grow() {
    // Bound but not listening: calls are refused, and no other process gets the port.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}/", closed.local_addr().unwrap());
    let mut world = World::with(|options| {
        options.pace.stream = false;
        options.pace.first_retry = Duration::from_secs(60);
        set(options, "GRACE_SECONDS", "1");
        set(options, "CREDIT_ENDPOINT", &endpoint);
    })
    .await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    sweep(&world).await;
    let issued_at = time(&world.stored("bob").await["rewards"]["issued_at"]);

    let mut due_at = issued_at.plus(Duration::from_secs(1));
    for claims in 1..=3 {
        let announced = async || world.announced("reward.issued").await.len();
        world
            .until("the claim is due", async || {
                Timestamp::from(chrono::Utc::now()).plus(Duration::from_millis(250)) > due_at
            })
            .await;
        sweep(&world).await;
        if Timestamp::from(chrono::Utc::now()) < due_at {
            assert_eq!(announced().await, 2 * (claims - 1), "announced too early");
        }
        world.until("it is due", async || Timestamp::from(chrono::Utc::now()) > due_at).await;
        sweep(&world).await;
        sweep(&world).await;
        assert_eq!(announced().await, 2 * claims);
        let is_called = async || {
            let item = world.stored("bob").await;
            ["referrer", "referee"].iter().all(|side| item["rewards"][side]["called_at"].is_string())
        };
        world.until("both calls are recorded", is_called).await;
        let item = world.stored("bob").await;
        assert_eq!((&item["status"], item["rev"].as_u64()), (&json!("rewarded"), Some(5 + claims as u64)));
        let next = time(&item["due_at"]);
        let (pause, before) = (next.since(issued_at), due_at.since(issued_at));
        assert!(pause >= before * 2, "due after {before:?}, then after {pause:?}");
        assert_eq!(lane(&world, "bob").await.as_deref(), Some("due"));
        due_at = next;
    }
    world.allow_outstanding_work();
    world.end().await;
}

#[tokio::test]
async fn stream_and_sweep_at_once_issue_once() {
    const REFERRALS: usize = 20;
    let world = World::with_env([("GRACE_SECONDS", "600")]).await;
    at_once(REFERRALS, async |number| world.refer(&format!("alice-{number}"), &format!("bob-{number}")).await).await;
    let orders = at_once(REFERRALS, async |number| world.order(&format!("bob-{number}"), &format!("o-{number}")).await);
    let sweeps = async {
        for _ in 0..30 {
            sweep(&world).await;
        }
    };
    join!(orders, sweeps);
    for number in 0..REFERRALS {
        world.until_status(&format!("bob-{number}"), "rewarded").await;
    }
    world.until_idle().await;
    for number in 0..REFERRALS {
        let item = world.stored(&format!("bob-{number}")).await;
        assert_eq!(item["rev"], 7, "converted, issued, two calls, two marks: {item:#}");
    }
    // The SDK repeats a slow call to the bus, so an announcement can be published twice. An issue cannot happen twice.
    let mut issued = world.announced("reward.issued").await;
    issued.dedup();
    assert_eq!(issued.len(), 2 * REFERRALS, "{issued:#?}");
    world.end().await;
}

/// The item of every referral, as text.
async fn referrals(world: &World) -> Vec<String> {
    world.contents().await.into_iter().filter(|item| item.contains(r#""sk":"REFERRAL""#)).collect()
}

#[tokio::test]
async fn a_user_flagged_during_the_hold_is_not_paid() {
    let world = World::with_env([("HOLD_SECONDS", "2")]).await;
    for case in ["giver", "taker", "both", "cleared", "honest"] {
        let bob = format!("bob-{case}");
        world.refer(&format!("alice-{case}"), &bob).await;
        world.order(&bob, &format!("o-{case}")).await;
        world.until_status(&bob, "converted").await;
    }
    let flag = async |user: &str| {
        let at = "2026-01-01T00:00:00Z";
        world.publish("account.flagged", json!({"user_id": user, "reason": "stolen card", "occurred_at": at})).await;
    };
    for user in ["alice-giver", "bob-taker", "alice-both", "bob-both", "alice-cleared", "bob-cleared"] {
        flag(user).await;
    }
    world.until_idle().await;
    for user in ["alice-cleared", "bob-cleared"] {
        world.publish("account.cleared", json!({"user_id": user, "occurred_at": "2026-01-02T00:00:00Z"})).await;
    }
    world.until_idle().await;
    assert_eq!(lanes(&world).await.len(), 5);
    sleep(Duration::from_millis(2050)).await;
    sweep(&world).await;
    world.until_idle().await;

    for (case, reason) in [("giver", "referrer_flagged"), ("taker", "referee_flagged"), ("both", "referrer_flagged")] {
        let shown = world.referral(&format!("bob-{case}")).await;
        assert_eq!((&shown["status"], &shown["void_reason"]), (&json!("voided"), &json!(reason)), "{case}");
        assert_eq!((&shown["rewards"], &shown["order_id"]), (&json!([]), &json!(format!("o-{case}"))), "{case}");
    }
    for case in ["cleared", "honest"] {
        assert_eq!(world.referral(&format!("bob-{case}")).await["status"], "rewarded", "{case}");
    }
    assert_eq!(world.deliveries().await.len(), 4);
    let voided = world.announced("referral.voided").await;
    assert_eq!(voided, ["bob-both:voided", "bob-giver:voided", "bob-taker:voided"]);
    assert!(lanes(&world).await.is_empty());

    // A later flag changes nothing: issued rewards stay issued, and voided referrals keep their reason.
    let before = referrals(&world).await;
    assert_eq!(before.len(), 5);
    for user in ["alice-honest", "bob-honest", "bob-giver"] {
        flag(user).await;
    }
    world.until_idle().await;
    sweep(&world).await;
    world.until_idle().await;
    assert_eq!(referrals(&world).await, before);
    world.end().await;
}

/// Two users are attributed to each other at the same time, so that neither write sees the other. The issue finds it.
#[tokio::test]
async fn concurrent_reciprocal_referrals_are_voided_at_issue() {
    let world = World::with_env([("HOLD_SECONDS", "1")]).await;
    world.refer("alice", "bob").await;
    world.mint("bob", "bobs-code").await;
    world.attribute("alice", "bobs-code").await.refused(422, "reciprocal_referral");

    // Writes what the race would have left in the table.
    let bobs = from_referral_item(world.item("REFEREE#bob", "REFERRAL").await.unwrap()).unwrap();
    let alices = Referral { referee: bobs.referrer.clone(), referrer: bobs.referee.clone(), ..bobs };
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    let put = world.service().dynamodb().put_item().table_name(table);
    put.set_item(Some(to_referral_item(&alices).unwrap())).send().await.unwrap();

    for user in ["alice", "bob"] {
        world.order(user, &format!("o-{user}")).await;
        world.until_status(user, "converted").await;
    }
    sleep(Duration::from_millis(1050)).await;
    sweep(&world).await;
    world.until_idle().await;
    for user in ["alice", "bob"] {
        let shown = world.referral(user).await;
        assert_eq!((&shown["status"], &shown["void_reason"]), (&json!("voided"), &json!("reciprocal_referral")));
    }
    assert_eq!(world.deliveries().await.len(), 0);
    world.end().await;
}

/// The race itself, ten times: no pair is ever paid for both referrals.
#[tokio::test]
async fn pairs_that_refer_each_other_concurrently_are_not_paid_twice() {
    let world = World::start().await;
    let paid = at_once(10, async |number| {
        let (ann, ben) = (format!("ann-{number}"), format!("ben-{number}"));
        world.mint(&ann, &ann).await;
        world.mint(&ben, &ben).await;
        let (of_ann, of_ben) = join!(world.attribute(&ann, &ben), world.attribute(&ben, &ann));
        for user in [&ann, &ben] {
            world.order(user, &format!("o-{user}")).await;
        }
        match (of_ann.status.as_u16(), of_ben.status.as_u16()) {
            (201, 201) => {
                for user in [&ann, &ben] {
                    let shown = world.until_status(user, "voided").await;
                    assert_eq!(shown["void_reason"], "reciprocal_referral");
                }
                0
            }
            (201, 422) => {
                of_ben.refused(422, "reciprocal_referral");
                world.until_status(&ann, "rewarded").await;
                2
            }
            (422, 201) => {
                of_ann.refused(422, "reciprocal_referral");
                world.until_status(&ben, "rewarded").await;
                2
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
    world.until_idle().await;
    assert_eq!(world.deliveries().await.len(), paid.into_iter().sum::<usize>());
    world.end().await;
}

/// In each phase the index of work contains exactly the referrals with work left, in the right lane.
#[tokio::test]
async fn the_index_contains_exactly_the_work_left() {
    let world = World::with(|options| {
        set(options, "HOLD_SECONDS", "2");
        set(options, "REFEREE_REWARD_TYPE", "coupon");
    })
    .await;
    world.refer("alice", "bob").await;
    world.refer("carol", "dave").await;
    world.refer("erin", "frank").await;
    assert!(lanes(&world).await.is_empty(), "pending: no work");

    for user in ["bob", "dave", "frank"] {
        world.order(user, &format!("o-{user}")).await;
        world.until_status(user, "converted").await;
    }
    let due =
        |users: &[&str]| users.iter().map(|user| ((*user).to_owned(), "due".to_owned())).collect::<BTreeMap<_, _>>();
    assert_eq!(lanes(&world).await, due(&["bob", "dave", "frank"]), "on hold");

    world.publish("order.cancelled", json!({"order_id": "o-frank", "user_id": "frank"})).await;
    world.until_status("frank", "voided").await;
    assert_eq!(lanes(&world).await, due(&["bob", "dave"]), "voided: no work");

    // Both are issued. One credit is refused permanently and one accepted, while the calls for the coupons are running.
    world.script("coupon", json!({"delay_ms": 1500})).await;
    world.script("credit", json!({"answers": [400]})).await;
    sleep(Duration::from_millis(2050)).await;
    sweep(&world).await;
    let settled = async |user: &str, side: &str| {
        let reward = world.stored(user).await["rewards"][side].clone();
        reward["delivered_at"].is_string() || reward["failed_at"].is_string()
    };
    world
        .until("the credits are settled", async || {
            settled("bob", "referrer").await && settled("dave", "referrer").await
        })
        .await;
    assert_eq!(lanes(&world).await, due(&["bob", "dave"]), "the coupons are not delivered yet");

    world.until_idle().await;
    let failed = if world.stored("bob").await["rewards"]["referrer"]["failed_at"].is_string() { "bob" } else { "dave" };
    let attention = BTreeMap::from([(failed.to_owned(), "parked".to_owned())]);
    assert_eq!(lanes(&world).await, attention, "delivered: no work; refused: needs attention");
    world.end().await;
}

/// What a sweep reports that runs this many seconds from now.
async fn swept_after(world: &World, seconds: u64) -> Value {
    let aws = |url: &str| world::aws(url, world.wire().connector());
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws(world.service().dynamodb_url()));
    let eventbridge = aws_sdk_eventbridge::Client::new(&aws(world.service().url()));
    let app = sweep::App::new(world.service().env(), dynamodb, eventbridge).unwrap();
    let call = Call::begin(Duration::from_secs(30)).unwrap();
    let call = Call { now: call.now.plus(Duration::from_secs(seconds)), ..call };
    sweep::handle(&app, Value::Null, call).await.unwrap()
}

async fn converted(world: &World, referee: &str) {
    world.refer("alice", referee).await;
    world.order(referee, &format!("order-of-{referee}")).await;
    world.until_status(referee, "converted").await;
}

#[tokio::test]
async fn what_the_stream_missed_is_counted_unless_it_may_be_late() {
    let mut world = streamless().await;
    converted(&world, "bob").await;
    let swept = swept_after(&world, 0).await;
    assert_eq!((&swept["advanced"], &swept["missed"]), (&json!(1), &json!(0)), "{swept}");
    converted(&world, "carol").await;
    let swept = swept_after(&world, 61).await;
    assert_eq!((&swept["advanced"], &swept["missed"]), (&json!(1), &json!(1)), "{swept}");
    world.allow_outstanding_work();
    world.end().await;
}

#[tokio::test]
async fn a_hold_that_ends_later_is_not_missed_by_the_stream() {
    let mut world = World::with(|options| {
        options.pace.stream = false;
        set(options, "HOLD_SECONDS", "30");
    })
    .await;
    converted(&world, "bob").await;
    let swept = swept_after(&world, 120).await;
    assert_eq!((&swept["advanced"], &swept["missed"]), (&json!(1), &json!(0)), "{swept}");
    world.allow_outstanding_work();
    world.end().await;
}

#[tokio::test]
async fn the_age_of_the_oldest_undelivered_reward_is_reported() {
    let mut world = streamless().await;
    converted(&world, "bob").await;
    assert_eq!(swept_after(&world, 0).await["undelivered_seconds"], 0);
    let swept = swept_after(&world, 7_200).await;
    assert_eq!(swept["announced"], 1, "{swept}");
    assert!((7_190..7_260).contains(&swept["undelivered_seconds"].as_u64().unwrap()), "{swept}");
    world.allow_outstanding_work();
    world.end().await;
}
