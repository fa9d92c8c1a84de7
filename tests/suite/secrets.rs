//! Secrets in Secrets Manager: a rotation while the service runs loses nothing, and a secret that cannot be read changes
//! nothing.

use std::time::Duration;

use local::{Options, Service};
use referrals::{
    aws::secrets::Secrets,
    domain::time::Timestamp,
    runtime::{Env, Misconfigured, secret::Values},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    metrics::Log,
    world::{self, Wire, World},
};

/// How long the functions keep the values that they read.
const LIFETIME: &str = "1";
const NEW_WEBHOOK_SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Adds settings: the functions read all secrets from Secrets Manager.
fn from_secrets_manager(options: &mut Options) {
    let env = std::mem::take(&mut options.env).with("SECRETS_REFRESH_SECONDS", LIFETIME);
    let env = env.with("COOKIE_KEY_SECRET_ARN", "COOKIE_KEY").with("FINGERPRINT_KEY_SECRET_ARN", "FINGERPRINT_KEY");
    options.env = env.with("WEBHOOK_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:000000000000:secret:WEBHOOK_SECRET");
}

/// Calls Secrets Manager.
async fn ask(world: &World, operation: &str, body: Value) -> Value {
    let target = format!("secretsmanager.{operation}");
    let headers = [("x-amz-target", &*target), ("content-type", "application/x-amz-json-1.1")];
    world.send(Method::POST, "/", &headers, body.to_string()).await.with(200)
}

/// Stores a value with this label.
async fn put(world: &World, secret: &str, value: &str, stage: &str) -> Value {
    let body = json!({"SecretId": secret, "SecretString": value, "VersionStages": [stage]});
    ask(world, "PutSecretValue", body).await["VersionId"].clone()
}

/// The version with this label.
async fn version(world: &World, secret: &str, stage: &str) -> Value {
    ask(world, "GetSecretValue", json!({"SecretId": secret, "VersionStage": stage})).await["VersionId"].clone()
}

/// The steps of a rotation, as `docs/operations.md` describes them. `check` runs after each step and the pause.
async fn rotate(world: &World, secret: &str, value: &str, check: impl AsyncFn(&str)) {
    let next = put(world, secret, value, "AWSPENDING").await;
    settle(world).await;
    check("recognised").await;
    let (to, from) = (next, version(world, secret, "AWSCURRENT").await);
    let current =
        json!({"SecretId": secret, "VersionStage": "AWSCURRENT", "MoveToVersionId": to, "RemoveFromVersionId": from});
    ask(world, "UpdateSecretVersionStage", current).await;
    let pending = json!({"SecretId": secret, "VersionStage": "AWSPENDING", "RemoveFromVersionId": to});
    ask(world, "UpdateSecretVersionStage", pending).await;
    settle(world).await;
    check("used").await;
    let previous = json!({"SecretId": secret, "VersionStage": "AWSPREVIOUS", "RemoveFromVersionId": from});
    ask(world, "UpdateSecretVersionStage", previous).await;
    settle(world).await;
    check("alone").await;
}

/// Waits until the values are too old, and causes two invocations: the first one refreshes them beside its work.
async fn settle(world: &World) {
    sleep(Duration::from_millis(1100)).await;
    for _ in 0..2 {
        world.get("/r/nothing").await;
    }
}

#[tokio::test]
async fn a_rotation_of_the_cookie_key_loses_no_visit() {
    let world = World::with(from_secrets_manager).await;
    world.mint("alice", "ALICE").await;
    let before = world.land("ALICE").await.unwrap();
    rotate(&world, "COOKIE_KEY", &"n".repeat(32), async |step| {
        let now = world.land("ALICE").await.unwrap();
        let (of_before, of_now) = (format!("before-{step}"), format!("now-{step}"));
        let status = world.attribute_by_cookie(&of_before, &before).await.status;
        assert_eq!(status == 201, step != "alone", "{step}: {status}");
        world.attribute_by_cookie(&of_now, &now).await.with(201);
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_rotation_of_the_fingerprint_key_forgets_no_device() {
    let world = World::with(from_secrets_manager).await;
    world.put("/v1/users/alice/code", json!({"code": "ALICE", "device_fingerprint": "laptop"})).await.with(201);
    rotate(&world, "FINGERPRINT_KEY", &"n".repeat(32), async |step| {
        let owner = format!("owner-{step}");
        let body = json!({"code": format!("OWN-{step}"), "device_fingerprint": step});
        world.put(&format!("/v1/users/{owner}/code"), body).await.with(201);
        for (code, device, is_known) in [("ALICE", "laptop", step != "alone"), (&*format!("OWN-{step}"), step, true)] {
            let body = json!({"referee_id": format!("bob-{code}-{step}"), "code": code, "device_fingerprint": device});
            let answer = world.post("/v1/referrals", body).await;
            assert_eq!(answer.status.as_u16(), if is_known { 422 } else { 201 }, "{step} {code}: {answer:?}");
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn during_a_rotation_calls_have_a_signature_of_each_webhook_secret() {
    let world = World::with(from_secrets_manager).await;
    world.mint("alice", "ALICE").await;
    rotate(&world, "WEBHOOK_SECRET", NEW_WEBHOOK_SECRET, async |step| {
        let referee = format!("bob-{step}");
        world.attribute(&referee, "ALICE").await.with(201);
        world.order(&referee, &format!("o-{step}")).await;
        world.until_status(&referee, "rewarded").await;
        world.until_idle().await;
        let calls = world.deliveries().await;
        let (id, referrer) = (format!("{referee}:referee"), format!("{referee}:referrer"));
        for call in calls.iter().filter(|call| [&*id, &*referrer].contains(&call["reward_id"].as_str().unwrap())) {
            let signatures = call["headers"]["webhook-signature"].as_str().unwrap().split(' ').count();
            assert_eq!(signatures, if step == "alone" { 1 } else { 2 }, "{step}: {call}");
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_keeps_its_value() {
    let log = Log::default();
    let _lines = log.start("INFO");
    let world = World::with(from_secrets_manager).await;
    world.mint("alice", "ALICE").await;
    let cookie = world.land("ALICE").await.unwrap();
    let said = |outcome: &str| {
        let lines = log.take();
        let of = |line: &&Value| line["outcome"] == outcome;
        lines.iter().find(of).map(|line| (line["secret"].clone(), line["problem"].to_string()))
    };
    put(&world, "COOKIE_KEY", "short", "AWSCURRENT").await;
    settle(&world).await;
    let (secret, problem) = said("secret_not_refreshed").unwrap();
    assert_eq!(secret, "COOKIE_KEY_SECRET_ARN");
    assert!(problem.contains("shorter than 32 bytes"), "{problem}");
    world.attribute_by_cookie("bob", &cookie).await.with(201);

    ask(&world, "DeleteSecret", json!({"SecretId": "COOKIE_KEY"})).await;
    settle(&world).await;
    let (_, problem) = said("secret_not_refreshed").unwrap();
    assert!(problem.contains("does not exist"), "{problem}");
    let again = world.land("ALICE").await.unwrap();
    world.attribute_by_cookie("carol", &again).await.with(201);

    ask(&world, "CreateSecret", json!({"Name": "COOKIE_KEY", "SecretString": "n".repeat(32)})).await;
    settle(&world).await;
    assert_eq!(said("secret_changed").unwrap().0, "COOKIE_KEY_SECRET_ARN");
    let new = world.land("ALICE").await.unwrap();
    world.attribute_by_cookie("dave", &new).await.with(201);
    assert_ne!(world.attribute_by_cookie("erin", &cookie).await.status, 201);
    world.end().await;
}

/// An instance that starts during a rotation recognises the other versions in its first invocation, although its start reads only
/// the current one. Until it has read them, an invocation fails.
#[tokio::test]
async fn the_first_invocation_knows_all_versions() {
    let world = World::with(from_secrets_manager).await;
    let values = ["previous", "current", "pending"].map(|value| value.repeat(8));
    for (value, stage) in values.iter().zip(["AWSCURRENT", "AWSCURRENT", "AWSPENDING"]) {
        put(&world, "COOKIE_KEY", value, stage).await;
    }
    let env = Env::default().with("COOKIE_KEY_SECRET_ARN", "COOKIE_KEY");
    let aws = world::aws(world.service().url(), Wire::default().connector());
    let secrets = Secrets::read(&env, &aws).await.unwrap();
    let read = |values: &Values| {
        let values: Vec<_> = values.all().map(str::to_owned).collect();
        if values.iter().any(|value| value.len() < 2) { Err("is short".to_owned()) } else { Ok(values) }
    };
    let known = env.secret("COOKIE_KEY", read).unwrap();
    let [previous, current, pending] = values;
    assert_eq!(*known.get(), std::slice::from_ref(&current));
    let now = Timestamp::from_millis(0).unwrap();
    put(&world, "COOKIE_KEY", "x", "AWSPENDING").await;
    let failed = secrets.beside(now, async { panic!("the handler ran") }).await;
    assert!(failed.is_err_and(|problem: Misconfigured| problem.to_string().contains("COOKIE_KEY_SECRET_ARN")));

    put(&world, "COOKIE_KEY", &pending, "AWSPENDING").await;
    let in_work = secrets.beside(now, async { known.get() }).await.unwrap();
    assert_eq!(*in_work, [current, previous, pending]);

    put(&world, "COOKIE_KEY", "a later value", "AWSCURRENT").await;
    secrets.beside(now, async {}).await.unwrap();
    assert_eq!(*known.get(), *in_work);
    world.end().await;
}

#[tokio::test]
async fn a_start_without_a_secret_names_the_variable() {
    for (arn, secret) in [("COOKIE_KEY_SECRET_ARN", "NO_SUCH_SECRET"), ("WEBHOOK_SECRET_ARN", "COOKIE_KEY")] {
        let mut options = Options::default();
        options.env = options.env.with("COOKIE_KEY", "!".repeat(32)).with(arn, secret);
        let problem = Service::start(options).await.err().map(|problem| problem.to_string()).unwrap_or_default();
        assert!(problem.contains(arn), "{problem}");
        assert!(!problem.contains("!!"), "{problem}");
    }
}
