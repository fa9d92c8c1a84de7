//! Upgrade: a `--data` folder that version 0.1.0 wrote is opened by this version.
//!
//! `v0.1.0/` was written by the command of version 0.1.0: ada's code, and one referral per state (the referee's id names
//! the state). Its secrets are for this test only.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Folder, process::Running};

/// The day on which the folder was written.
const DAY: &str = "2026-11-29";

/// A copy of the folder, because the service writes to it.
fn copy() -> Folder {
    let data = Folder::new();
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("suite/upgrade/v0.1.0");
    for file in fs::read_dir(written).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), data.path().join(file.file_name())).unwrap();
    }
    data
}

async fn post(running: &Running, path: &str) -> u16 {
    running.send(Method::POST, path, None, Value::Null).await.0
}

/// The counters of the day, of all referrals.
async fn day(running: &Running) -> Value {
    let answer = running.get(&format!("/admin/programs/default/daily?from={DAY}&to={DAY}")).await;
    answer["days"][0]["figures"].clone()
}

async fn referrer(running: &Running) -> Value {
    running.get("/admin/programs/default/referrers?period=all").await["items"][0].clone()
}

/// This version shows everything that version 0.1.0 wrote.
#[tokio::test]
async fn data_of_the_previous_version_is_shown() {
    let data = copy();
    let running = Running::start(data.path(), &[]);
    let statuses = async |referee| running.statuses(referee).await;

    assert_eq!(running.get("/v1/users/ada/code").await["code"], "ada-invites");
    let referrals = running.get("/v1/users/ada/referrals").await;
    assert_eq!(referrals["items"].as_array().unwrap().len(), 7, "{referrals}");
    assert_eq!(statuses("delivered").await, json!(["rewarded", "delivered", "delivered"]));
    assert_eq!(statuses("refused").await, json!(["rewarded", "failed", "failed"]));
    assert_eq!(statuses("pending").await[0], "pending");
    assert_eq!(statuses("held").await[0], "converted");
    let cancelled = running.get("/v1/referrals/cancelled").await;
    assert_eq!((&cancelled["status"], &cancelled["void_reason"]), (&json!("voided"), &json!("order_cancelled")));

    let failed = running.get("/admin/rewards?status=failed").await;
    let ids: Vec<_> = failed["items"].as_array().unwrap().iter().map(|reward| &reward["reward_id"]).collect();
    assert_eq!(ids, ["refused:referrer", "refused:referee"], "{failed}");
    assert_eq!(failed["items"][0]["failure"], "400: {\"received\":true}");

    // The event itself, and its copy from the delay queue.
    let quarantined = running.get("/_local/parked").await;
    assert_eq!(quarantined["count"], 2, "{quarantined}");
    for item in quarantined["items"].as_array().unwrap() {
        assert_eq!(item["queue"], "QuarantineQueue");
        assert_eq!(item["body"]["payload"]["detail"]["order_id"], "o-broken");
    }

    let counted = day(&running).await;
    assert_eq!((&counted["attributed"], &counted["converted"]), (&json!(7), &json!(6)), "{counted}");
    assert_eq!(counted["time_to_convert"][0], json!({"below": "1m", "count": 6}), "{counted}");
    let ada = referrer(&running).await;
    assert_eq!((&ada["referrer_id"], &ada["net_conversions"]), (&json!("ada"), &json!(5)), "{ada}");
    assert_eq!(ada["voided"], json!({"order_cancelled": 1}));
}

/// This version finishes everything that version 0.1.0 had not finished, under the same keys.
#[tokio::test]
async fn work_of_the_previous_version_continues() {
    let data = copy();
    let running = Running::start(data.path(), &[]);
    let delivered = json!(["rewarded", "delivered", "delivered"]);
    let is_delivered = async |referee: &str| running.statuses(referee).await == delivered;

    running.until("the hold that has ended is issued", async || is_delivered("due").await).await;
    running.until("the rewards in the queue are delivered", async || is_delivered("undelivered").await).await;
    let calls = running.deliveries().await;
    let of_reward = |id: &str| calls.iter().filter(|call| call["reward_id"] == id).cloned().collect::<Vec<_>>();
    let repeated = of_reward("undelivered:referee");
    assert!(repeated.len() > 1, "version 0.1.0 sent it, and so does this one: {repeated:?}");
    assert!(repeated.iter().all(|call| call["body"] == repeated[0]["body"]), "{repeated:?}");

    assert_eq!(post(&running, "/admin/rewards/refused:referrer/resend").await, 202);
    assert_eq!(post(&running, "/admin/rewards/refused:referee/resend").await, 202);
    running.until("the refused rewards are delivered", async || is_delivered("refused").await).await;

    // A conversion on hold can still be voided.
    running.publish("order.cancelled", json!({"order_id": "o-held", "user_id": "held"})).await;
    running.until("the hold ends with the order", async || running.statuses("held").await[0] == "voided").await;
    // Version 0.1.0 noted a cancellation before its order.
    running.order("pending", "o-pending").await;
    running.until("the noted cancellation counts", async || running.statuses("pending").await[0] == "voided").await;
    // The account that version 0.1.0 flagged cannot refer.
    let (status, code, _) = running.send(Method::PUT, "/v1/users/mallory/code", None, json!({})).await;
    assert_eq!(status, 201, "{code}");
    let body = json!({"referee_id": "erin", "code": code["code"]});
    let (status, problem, _) = running.send(Method::POST, "/v1/referrals", None, body).await;
    assert_eq!((status, &problem["reason"]), (422, &json!("referrer_flagged")));

    running
        .until("the counters follow", async || {
            let ada = referrer(&running).await;
            ada["rewarded"] == 4 && ada["voided"] == json!({"order_cancelled": 3}) && ada["net_conversions"] == 4
        })
        .await;
}

/// This version accepts the cookie and the device digests of version 0.1.0, because it reads the secrets from the
/// folder.
#[tokio::test]
async fn secrets_of_the_previous_version_are_kept() {
    let data = copy();
    let running = Running::start(data.path(), &[]);
    let body = json!({"referee_id": "frank", "code": "ada-invites", "device_fingerprint": "device-of-ada"});
    let (status, problem, _) = running.send(Method::POST, "/v1/referrals", None, body).await;
    assert_eq!((status, &problem["reason"]), (422, &json!("device_match")));
}
