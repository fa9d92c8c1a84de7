//! The `local` command: killed and restarted on its data, interrupted, and started with invalid arguments.

use std::{
    collections::BTreeSet,
    io::Read,
    net::TcpListener,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{
    Folder,
    process::{LIMIT, Running, command, end},
};

/// Runs the command until it exits.
fn run(arguments: &[&str]) -> Output {
    let mut child = command().args(arguments).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("{arguments:?} does not exit");
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn keys(calls: &[Value]) -> BTreeSet<String> {
    calls.iter().map(|call| call["headers"]["idempotency-key"].as_str().unwrap().to_owned()).collect()
}

/// Kills the service between issue and delivery, with a stand-in that has this script, and restarts it.
async fn killed_while(stand_in: Value) {
    let data = Folder::new();
    let running = Running::start(data.path(), &[]);
    let cookie = running.attribute_bob().await;
    let (status, ..) = running.send(Method::PUT, "/_local/subsystems/credit/script", None, stand_in).await;
    assert_eq!(status, 204);
    running.order("bob", "o-1").await;
    running.until("both were sent", async || keys(&running.deliveries().await).len() == 2).await;
    assert_eq!(running.statuses("bob").await, json!(["rewarded", "issued", "issued"]));
    let before = running.deliveries().await;
    running.signal("KILL");
    let mut running = running;
    assert!(!end(&mut running.child).success());
    drop(running);

    let started = Instant::now();
    let running = Running::start(data.path(), &[]);
    let delivered = json!(["rewarded", "delivered", "delivered"]);
    running.until("both are delivered", async || running.statuses("bob").await == delivered).await;
    assert!(started.elapsed() < Duration::from_secs(60));
    let after = running.deliveries().await;
    assert_eq!(after[..before.len()], before[..], "calls received before the restart are kept");
    let new = &after[before.len()..];
    assert_eq!(keys(new), keys(&before));
    for call in new {
        let same = before.iter().find(|earlier| earlier["reward_id"] == call["reward_id"]).unwrap();
        assert_eq!(call["body"], same["body"]);
    }

    // Cookies and codes from before the restart are still valid.
    let body = json!({"referee_id": "carol"});
    let (status, body, _) = running.send(Method::POST, "/v1/referrals", Some(("cookie", &cookie)), body).await;
    assert_eq!((status, &body["code"]), (201, &json!("alice")), "{body}");
    let (status, ..) = running.send(Method::PUT, "/v1/users/mallory/code", None, json!({"code": "alice"})).await;
    assert_eq!(status, 409);
    running.order("carol", "o-2").await;
    running.until("carol's are delivered", async || running.statuses("carol").await == delivered).await;
    assert_eq!(keys(&running.deliveries().await).len(), 4);
}

#[tokio::test]
async fn after_a_kill_during_a_subsystem_outage_rewards_are_delivered() {
    killed_while(json!({"answers": vec![500; 40]})).await;
}

#[tokio::test]
async fn after_a_kill_during_calls_the_same_keys_are_used_again() {
    killed_while(json!({"delay_ms": 4500})).await;
}

/// Killed before the issue, during the hold; due after the restart.
#[tokio::test]
async fn after_a_kill_during_the_hold_rewards_are_issued() {
    let data = Folder::new();
    let hold = [("HOLD_SECONDS", "2")];
    let running = Running::start(data.path(), &hold);
    running.attribute_bob().await;
    running.order("bob", "o-1").await;
    running.until("bob converted", async || running.statuses("bob").await[0] == "converted").await;
    running.signal("KILL");
    drop(running);
    let running = Running::start(data.path(), &hold);
    let delivered = json!(["rewarded", "delivered", "delivered"]);
    running.until("both are delivered", async || running.statuses("bob").await == delivered).await;
    assert_eq!(running.deliveries().await.len(), 2);
}

#[tokio::test]
async fn a_signal_stops_the_service_cleanly_and_it_can_be_restarted() {
    let data = Folder::new();
    for signal in ["INT", "TERM"] {
        let mut running = Running::start(data.path(), &[]);
        let (status, ..) = running.send(Method::PUT, "/v1/users/alice/code", None, json!({"code": "alice"})).await;
        assert_eq!(status, if signal == "INT" { 201 } else { 200 });
        let asked = Instant::now();
        running.signal(signal);
        assert_eq!(end(&mut running.child).code(), Some(0), "{signal}");
        assert!(asked.elapsed() < Duration::from_secs(15), "{signal}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn start_up_output_says_when_it_is_ready_and_what_to_try() {
    let data = Folder::new();
    let running = Running::start(data.path(), &[]);
    // The first request after `ready` is answered.
    let (status, body, _) = running.send(Method::GET, "/v1/codes/unknown", None, Value::Null).await;
    assert_eq!((status, &body["reason"]), (404, &json!("code_not_found")));
    let mut said = Vec::new();
    while said.last().is_none_or(|line: &String| !line.contains("Ctrl-C")) {
        said.push(running.line());
    }
    assert!(said[0].starts_with("DynamoDB http://127.0.0.1:"), "{said:#?}");
    assert!(said.iter().any(|line| line.starts_with("curl ") && line.contains(&running.url)), "{said:#?}");
}

#[tokio::test]
async fn two_services_cannot_share_a_data_directory() {
    let data = Folder::new();
    let running = Running::start(data.path(), &[]);
    let path = data.path().to_str().unwrap();
    let second = run(&["--port", "0", "--dynamodb-port", "0", "--data", path]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another service is running on the data") && said.contains(path), "{said}");
    running.get("/_local/parked").await;
}

#[test]
fn a_port_in_use_is_reported() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (flag, other) in [("--port", "--dynamodb-port"), ("--dynamodb-port", "--port")] {
        let output = run(&[flag, &port, other, "0"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, format!("error: port {port} is in use; try {flag} 0\n"));
        assert!(output.stdout.is_empty(), "it was never ready");
    }
}

#[test]
fn help_names_flags_and_variables() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    for word in ["--port", "--dynamodb-port", "--data", "--host", "[env: PORT", "HOLD_SECONDS", "/_local/deliveries"] {
        assert!(said.contains(word), "{word} is missing in:\n{said}");
    }
}

#[test]
fn an_invalid_setting_or_flag_is_reported() {
    let mut child = command().args(["--port", "0", "--dynamodb-port", "0"]).env("CURRENCY", "dollars").spawn().unwrap();
    let status = end(&mut child);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!status.success());
    assert!(said.contains("CURRENCY"), "{said}");

    let output = run(&["--ports", "0"]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("--ports"));
}
