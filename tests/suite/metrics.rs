//! CloudWatch metrics and log lines: the metrics are exactly those that the template's alarms and dashboard show, and no log
//! line contains a user's id.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex},
};

use referrals::runtime::{
    Env,
    log::{METRICS, Settings},
};
use serde_json::{Value, json};
use tracing::{Dispatch, subscriber::NoSubscriber};

use crate::world::{Fault, World};

const STACK: &str = "a-stack";

/// With a single subscriber, `tracing` disables a log line for all threads if a thread without a subscriber reaches it first. With
/// two it asks both.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// The lines that a test logs.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Value>>>);

impl Log {
    /// Records what this thread logs from now on, at this level. A test's World logs only on the test's thread.
    pub(crate) fn start(&self, level: &str) -> tracing::subscriber::DefaultGuard {
        LazyLock::force(&SECOND);
        let env = Env::default().with("METRICS_NAMESPACE", STACK).with("LOG_LEVEL", level);
        let lines = Arc::clone(&self.0);
        let keep = move |line: &[u8]| lines.lock().unwrap().push(serde_json::from_slice(line).unwrap());
        tracing::subscriber::set_default(Settings::from_env(&env).unwrap().subscriber(keep))
    }

    /// The lines of the functions.
    pub(crate) fn ours(&self) -> Vec<Value> {
        let functions =
            ["referrals", "attribution", "conversion", "rewards", "sweep", "delivery", "analytics", "admin"];
        let of = |line: &Value| line["target"].as_str().unwrap_or_default().split("::").next().unwrap().to_owned();
        self.0.lock().unwrap().iter().filter(|line| functions.contains(&of(line).as_str())).cloned().collect()
    }

    /// Returns and removes the lines of the functions.
    pub(crate) fn take(&self) -> Vec<Value> {
        let lines = self.ours();
        self.0.lock().unwrap().clear();
        lines
    }

    /// The lines with this outcome.
    pub(crate) fn with<'a>(lines: &'a [Value], outcome: &str) -> Vec<&'a Value> {
        lines.iter().filter(|line| line["outcome"] == outcome).collect()
    }
}

/// The metrics in a line, as CloudWatch reads them.
fn metrics(line: &Value) -> BTreeMap<String, f64> {
    let directives = line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten();
    let named = directives.flat_map(|directive| {
        assert_eq!(directive["Namespace"], STACK, "{line}");
        directive["Metrics"].as_array().unwrap()
    });
    named
        .map(|metric| {
            let name = metric["Name"].as_str().unwrap();
            let known = METRICS.iter().find(|(known, _)| *known == name).unwrap();
            assert_eq!(metric["Unit"], known.1, "{line}");
            (name.to_owned(), line[name].as_f64().unwrap())
        })
        .collect()
}

pub(crate) fn sums(lines: &[Value]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (name, value) in lines.iter().flat_map(metrics) {
        *sums.entry(name).or_default() += value;
    }
    sums
}

#[tokio::test]
async fn a_referral_is_counted_and_logged_without_user_ids() {
    let log = Log::default();
    let _guard = log.start("INFO");
    let world = World::with_env([("REFEREE_REWARD_TYPE", "points")]).await;
    world.script("credit", json!({"answers": [500]})).await;
    world.script("points", json!({"answers": [400]})).await;
    world.refer("alice-the-referrer", "bob-the-referee").await;
    world.order("bob-the-referee", "o-1").await;
    world.until_status("bob-the-referee", "rewarded").await;
    world.until_idle().await;
    world.service().sweep_now().await.unwrap();

    let lines = log.ours();
    let sums = sums(&lines);
    let counted = |name: &str| sums.get(name).copied();
    assert_eq!(counted("issued"), Some(2.0));
    assert_eq!((counted("delivered"), counted("retried"), counted("failed")), (Some(1.0), Some(1.0), Some(1.0)));
    assert!((0.0..60.0).contains(&counted("delivery_age").unwrap()), "{sums:?}");
    assert_eq!((counted("sweep_backlog"), counted("sweep_lag"), counted("parked")), (Some(0.0), Some(0.0), Some(1.0)));
    assert_eq!((counted("sweep_advanced"), counted("stream_missed")), (Some(0.0), Some(0.0)));
    // The metrics of the cache have their own tests.
    let rest = |name: &&str| !name.starts_with("cache_");
    let all: BTreeSet<&str> = METRICS.iter().map(|(name, _)| *name).filter(rest).collect();
    assert_eq!(sums.keys().map(String::as_str).filter(rest).collect::<BTreeSet<_>>(), all);
    assert_eq!(counted("cache_misses"), Some(1.0));

    // These metrics also have the dimension `type`.
    for (outcome, kind) in [("delivered", "credit"), ("refused_permanently", "points")] {
        let [line] = Log::with(&lines, outcome)[..] else { panic!("{outcome}: {lines:#?}") };
        assert_eq!(
            (&line["type"], &line["_aws"]["CloudWatchMetrics"][0]["Dimensions"]),
            (&json!(kind), &json!([[], ["type"]]))
        );
    }

    // One correlation id per referral, from the API through bus, stream and queues, and no user ids.
    let correlation_id = world.stored("bob-the-referee").await["correlation_id"].clone();
    assert!(correlation_id.is_string(), "{correlation_id}");
    for outcome in ["attributed", "converted", "rewarded", "retry_scheduled", "delivered", "refused_permanently"] {
        let [line] = Log::with(&lines, outcome)[..] else { panic!("{outcome}: {lines:#?}") };
        assert_eq!(line["correlation_id"], correlation_id, "{line}");
    }
    for line in lines.iter().map(Value::to_string) {
        assert!(!line.contains("alice-the") && !line.contains("bob-the") && !line.contains("o-1"), "{line}");
    }
    assert!(
        world
            .events()
            .await
            .iter()
            .filter(|event| event["source"] == "referrals")
            .all(|event| { event["detail"]["correlation_id"] == correlation_id })
    );
    world.end().await;
}

/// Work that is left after an error is retried. Only a refused reward needs an operator, so only it is counted as `failed`.
#[tokio::test]
async fn only_a_refused_reward_is_counted_as_failed() {
    let log = Log::default();
    let _guard = log.start("INFO");
    let world = World::start().await;
    world.refer("alice", "bob").await;
    world.wire().break_next("Query", [Fault::Throttled; 400]);
    world.service().sweep_now().await.unwrap_err();
    world.wire().mend();
    let sum = |lines: &[Value]| sums(lines).get("failed").copied();
    let lines = log.take();
    assert!(!Log::with(&lines, "work_page_not_read").is_empty(), "{lines:#?}");
    assert_eq!(sum(&lines), None, "{lines:#?}");

    world.script("credit", json!({"answers": [400]})).await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    world.service().sweep_now().await.unwrap();
    let lines = log.take();
    assert_eq!(sum(&lines), Some(1.0), "{lines:#?}");
    world.end().await;
}

#[tokio::test]
async fn metrics_are_logged_at_any_level() {
    let log = Log::default();
    let _guard = log.start("ERROR");
    let world = World::start().await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let lines = log.ours();
    assert_eq!(sums(&lines)["delivered"], 2.0);
    assert!(Log::with(&lines, "attributed").is_empty());
    world.end().await;
}

/// The metrics namespace in the template: the stack's name.
fn stack() -> Value {
    let template = local::template().unwrap();
    template["Resources"]["SweepFunction"]["Properties"]["Environment"]["Variables"]["METRICS_NAMESPACE"].clone()
}

#[test]
fn alarms_use_existing_metrics() {
    let (template, stack) = (local::monitoring().unwrap(), stack());
    let resources = template["Resources"].as_object().unwrap().values();
    let alarms = resources.filter(|resource| resource["Type"] == "AWS::CloudWatch::Alarm");
    // An alarm watches one metric, or an expression of several.
    let metrics = alarms.map(|alarm| &alarm["Properties"]).flat_map(|alarm| match alarm["Metrics"].as_array() {
        None => vec![alarm],
        Some(parts) => parts.iter().map(|part| &part["MetricStat"]["Metric"]).collect(),
    });
    let ours = metrics.filter(|metric| metric["Namespace"] == stack);
    let watched: BTreeSet<&str> = ours.map(|metric| metric["MetricName"].as_str().unwrap()).collect();
    assert_eq!(
        watched,
        BTreeSet::from(["oldest_undelivered", "parked", "stream_missed", "sweep_advanced", "sweep_lag"])
    );
    assert!(watched.iter().all(|name| METRICS.iter().any(|(known, _)| known == name)), "{watched:?}");
}

#[test]
fn the_dashboard_shows_exactly_the_metrics() {
    let (template, stack) = (local::monitoring().unwrap(), stack());
    let body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(body).unwrap();
    let widgets = dashboard["widgets"].as_array().unwrap().iter();
    let metrics = widgets.flat_map(|widget| widget["properties"]["metrics"].as_array().into_iter().flatten());
    let shown: BTreeSet<&str> =
        metrics.filter(|metric| metric[0] == stack).map(|metric| metric[1].as_str().unwrap()).collect();
    assert_eq!(shown, METRICS.iter().map(|(name, _)| *name).collect());
}

#[test]
fn every_function_uses_the_stacks_namespace() {
    let template = local::template().unwrap();
    let resources = template["Resources"].as_object().unwrap().values();
    for function in resources.filter(|resource| resource["Type"] == "AWS::Serverless::Function") {
        assert_eq!(function["Properties"]["Environment"]["Variables"]["METRICS_NAMESPACE"], stack());
    }
}
