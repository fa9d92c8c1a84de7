//! Kills the service at each point between issue and mark and restarts it on the same data: every reward is delivered
//! exactly once. If its order is cancelled then, every reward that was booked is taken back exactly once, also after a kill at each
//! point of the reversal.
//!
//! The service that is killed runs in a separate process: this test binary, started with only the test [`child`]. The
//! subsystem is part of the parent test and survives.

use std::{
    io::Read,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use local::{Options, Service};
use referrals::runtime::Env;
use serde_json::json;
use tokio::time::sleep;

use crate::world::{
    Folder, Halt, Wire,
    process::{Running, clean, end},
    stand_in::{Received, Reply, SECRET, StandIn},
};

/// Where the process is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Point {
    /// Both rewards are issued, but not yet announced.
    Issued,
    BeforeAnnounce,
    AfterAnnounce,
    BeforeCall,
    /// The subsystem has booked the reward, but its answer was not received.
    AfterCall,
    /// The subsystem answered 2xx, but that is not stored yet.
    BeforeMark,
    AfterMark,
    /// The rewards are taken back, which is not announced yet.
    Reversed,
    BeforeReversalAnnounce,
    AfterReversalAnnounce,
    BeforeTakeBack,
    /// The subsystem has taken both rewards back, but its answer was not received.
    AfterTakeBack,
    BeforeReversalMark,
    AfterReversalMark,
}

impl Point {
    /// The points of a reversal.
    const REVERSAL: [Self; 7] = [
        Self::Reversed,
        Self::BeforeReversalAnnounce,
        Self::AfterReversalAnnounce,
        Self::BeforeTakeBack,
        Self::AfterTakeBack,
        Self::BeforeReversalMark,
        Self::AfterReversalMark,
    ];

    /// The points of a reward.
    const ALL: [Self; 7] = [
        Self::Issued,
        Self::BeforeAnnounce,
        Self::AfterAnnounce,
        Self::BeforeCall,
        Self::AfterCall,
        Self::BeforeMark,
        Self::AfterMark,
    ];

    /// The AWS call that stops at this point; `None` after a call to the subsystem, where the subsystem stops.
    fn halt(self) -> Option<Halt> {
        let (operation, about, is_done) = match self {
            Self::Issued => ("UpdateItem", "issued_at", true),
            Self::BeforeAnnounce => ("PutEvents", "reward.issued", false),
            Self::AfterAnnounce => ("PutEvents", "reward.issued", true),
            Self::BeforeCall => ("GetItem", r#""rewarded""#, true),
            Self::AfterCall | Self::AfterTakeBack => return None,
            Self::BeforeMark => ("UpdateItem", "delivered_at", false),
            Self::AfterMark => ("UpdateItem", "delivered_at", true),
            Self::Reversed => ("TransactWriteItems", "bob:referrer:reversal", true),
            Self::BeforeReversalAnnounce => ("PutEvents", "reward.reversed", false),
            Self::AfterReversalAnnounce => ("PutEvents", "reward.reversed", true),
            Self::BeforeTakeBack => ("BatchGetItem", "REVERSAL#", true),
            Self::BeforeReversalMark => ("UpdateItem", "REVERSAL#", false),
            Self::AfterReversalMark => ("UpdateItem", "REVERSAL#", true),
        };
        Some(Halt { operation, about, is_done })
    }

    /// Whether the subsystem has been called by then; `None` if it may or may not have been.
    fn is_called(self) -> Option<bool> {
        match self {
            Self::Issued | Self::BeforeAnnounce | Self::BeforeCall => Some(false),
            Self::AfterAnnounce => None,
            Self::AfterCall | Self::BeforeMark | Self::AfterMark => Some(true),
            Self::Reversed
            | Self::BeforeReversalAnnounce
            | Self::AfterReversalAnnounce
            | Self::BeforeTakeBack
            | Self::AfterTakeBack
            | Self::BeforeReversalMark
            | Self::AfterReversalMark => None,
        }
    }
}

/// Environment variables for the child process.
const DATA: &str = "CRASH_DATA";
const POINT: &str = "CRASH_POINT";
const STREAM: &str = "CRASH_STREAM";
/// The line that the child prints when it has reached the point.
const REACHED: &str = "there";

/// Starts a service on this data that stops at this point, or runs on if there is none.
fn start(data: &Folder, credit: &StandIn, point: Option<Point>, stream: bool) -> Running {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let mut command = clean(command);
    command.stdin(Stdio::piped());
    command.env(DATA, data.path()).env(STREAM, stream.to_string());
    command.env(POINT, point.map(|point| format!("{point:?}")).unwrap_or_default());
    command.envs([("CREDIT_ENDPOINT", credit.url()), ("WEBHOOK_SECRET", SECRET)]);
    command.envs([("GRACE_SECONDS", "1"), ("RETRY_SECONDS", "0")]);
    Running::spawn(command).0
}

/// The process that is killed. Without its environment variables it does nothing.
#[tokio::test]
#[ignore = "started by the other tests of this file, as the process that they kill"]
async fn child() {
    let Some(data) = std::env::var_os(DATA) else { return };
    // The parent holds the other end of standard input, so this process ends with it.
    thread::spawn(|| {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(1)
    });
    let wire = Wire::default();
    let named = std::env::var(POINT).unwrap();
    let all = Point::ALL.into_iter().chain(Point::REVERSAL);
    let point = all.into_iter().find(|point| format!("{point:?}") == named);
    if let Some(halt) = point.and_then(Point::halt) {
        wire.halt(halt);
    }
    let mut options = Options {
        data: Some(PathBuf::from(data)),
        env: Env::process(),
        connector: Some(wire.connector()),
        ..Options::default()
    };
    options.pace.first_retry = Duration::from_millis(100);
    options.pace.sweep = Duration::from_millis(250);
    // Without the schedule there is only one way to reach the point.
    options.pace.schedule = point.is_none();
    options.pace.stream = std::env::var(STREAM).unwrap() == "true";
    let service = Service::start(options).await.unwrap();
    // The test harness leaves its line unfinished.
    println!("\nready {}", service.url());
    while !wire.has_halted() {
        sleep(Duration::from_millis(5)).await;
    }
    println!("{REACHED}");
    std::future::pending().await
}

async fn kill(mut running: Running) {
    running.signal("KILL");
    assert!(!end(&mut running.child).success());
}

/// Starts the service, lets bob order, and kills it at this point of his rewards.
async fn kill_at(point: Point, data: &Folder, credit: &StandIn) {
    if point == Point::AfterCall {
        credit.set_default_reply(Reply::Silence);
    }
    let running = start(data, credit, Some(point), true);
    running.attribute_bob().await;
    running.order("bob", "o-1").await;
    let is_there = async || match point {
        Point::AfterCall => credit.booked().len() == 2,
        _ => running.has_said(REACHED),
    };
    running.until(&format!("it is at {point:?}"), is_there).await;
    kill(running).await;
    credit.set_default_reply(Reply::Status(200));
}

/// Kills the service at this point, restarts it with or without the stream, and checks the bookings.
async fn killed_at(point: Point, stream: bool) {
    let (data, credit) = (Folder::new(), StandIn::start().await);
    kill_at(point, &data, &credit).await;
    let before = credit.calls();
    assert!(point.is_called().is_none_or(|is_called| is_called != before.is_empty()), "{point:?}: {credit:?}");

    let running = start(&data, &credit, None, stream);
    let delivered = json!(["rewarded", "delivered", "delivered"]);
    running.until(&format!("recovery from {point:?}"), async || running.statuses("bob").await == delivered).await;
    let keys: Vec<_> = credit.booked().into_keys().collect();
    assert_eq!(keys, ["bob:referee", "bob:referrer"], "{point:?}");
    for call in credit.calls() {
        assert_eq!(call.body, credit.booked()[&call.key], "{point:?}: one key with different bodies");
    }
    let of = |key: &str| before.iter().filter(|call| call.key == key).count();
    let again = |call: &Received| credit.calls_of(&call.key).len() > of(&call.key);
    match point {
        Point::AfterCall | Point::BeforeMark => assert!(before.iter().all(again), "{point:?}: not called again"),
        Point::AfterMark => assert!(!before.iter().all(again), "{point:?}: called again although it was marked"),
        _ => {}
    }
    // The service's own stand-ins were not called, and no message was quarantined or dead-lettered.
    assert!(running.deliveries().await.is_empty());
    assert_eq!(running.get("/_local/parked").await["count"], 0, "{point:?}");
}

#[tokio::test]
async fn after_a_kill_at_any_point_every_reward_is_booked_once() {
    join_all(Point::ALL.map(|point| killed_at(point, true))).await;
}

/// The restarted service never reads the rest of the stream: the sweep does the work.
#[tokio::test]
async fn after_a_kill_at_any_point_rewards_are_delivered_without_the_stream() {
    join_all(Point::ALL.map(|point| killed_at(point, false))).await;
}

/// Waits until bob's order is undone and no reversal is open, and checks the books: each reward that was booked is taken back.
async fn taken_back(running: &Running, credit: &StandIn, point: Point) {
    let is_done = async || {
        let open = running.get("/admin/reversals?status=issued").await;
        running.statuses("bob").await == json!(["voided", "reversed", "reversed"]) && open["items"] == json!([])
    };
    running.until(&format!("recovery from {point:?}"), is_done).await;
    let booked = credit.booked();
    let (reversals, grants): (Vec<_>, Vec<_>) = booked.keys().partition(|key| key.ends_with(":reversal"));
    let expected: Vec<_> = grants.iter().map(|grant| format!("{grant}:reversal")).collect();
    assert_eq!(reversals.into_iter().cloned().collect::<Vec<_>>(), expected, "{point:?}");
    for call in credit.calls() {
        assert!(
            call.body["amount"] == 1000 && booked.get(&call.key).is_none_or(|body| *body == call.body),
            "{point:?}"
        );
    }
    assert_eq!(running.get("/_local/parked").await["count"], 0, "{point:?}");
}

/// Kills the service at this point of a reward, restarts it with or without the stream, and cancels the order at once.
async fn cancelled_after(point: Point, stream: bool) {
    let (data, credit) = (Folder::new(), StandIn::start().await);
    kill_at(point, &data, &credit).await;
    let running = start(&data, &credit, None, stream);
    running.publish("order.cancelled", json!({"order_id": "o-1"})).await;
    taken_back(&running, &credit, point).await;
}

/// Delivers both rewards, kills the service at this point of their reversal, and restarts it with or without the stream.
async fn taken_back_after(point: Point, stream: bool) {
    let (data, credit) = (Folder::new(), StandIn::start().await);
    let running = start(&data, &credit, None, true);
    running.attribute_bob().await;
    running.order("bob", "o-1").await;
    let delivered = json!(["rewarded", "delivered", "delivered"]);
    running.until("both are delivered", async || running.statuses("bob").await == delivered).await;
    kill(running).await;
    if point == Point::AfterTakeBack {
        credit.set_default_reply(Reply::Silence);
    }
    let running = start(&data, &credit, Some(point), true);
    running.publish("order.cancelled", json!({"order_id": "o-1"})).await;
    let is_there = async || match point {
        Point::AfterTakeBack => credit.booked().len() == 4,
        _ => running.has_said(REACHED),
    };
    running.until(&format!("it is at {point:?}"), is_there).await;
    kill(running).await;
    credit.set_default_reply(Reply::Status(200));
    let running = start(&data, &credit, None, stream);
    taken_back(&running, &credit, point).await;
    assert_eq!(credit.booked().len(), 4, "{point:?}");
}

#[tokio::test]
async fn a_cancellation_after_a_kill_takes_back_what_was_booked() {
    join_all(Point::ALL.map(|point| cancelled_after(point, true))).await;
}

#[tokio::test]
async fn a_cancellation_after_a_kill_takes_back_what_was_booked_without_the_stream() {
    join_all(Point::ALL.map(|point| cancelled_after(point, false))).await;
}

#[tokio::test]
async fn after_a_kill_at_any_point_of_a_reversal_every_reward_is_taken_back_once() {
    join_all(Point::REVERSAL.map(|point| taken_back_after(point, true))).await;
}

#[tokio::test]
async fn after_a_kill_at_any_point_of_a_reversal_rewards_are_taken_back_without_the_stream() {
    join_all(Point::REVERSAL.map(|point| taken_back_after(point, false))).await;
}
