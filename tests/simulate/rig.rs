//! The rig: the real functions, started once per thread for each set of settings, on the simulator's wires.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use referrals::runtime::{Env, Misconfigured, timeouts};

use crate::{state::REWARDS, wires::Shared};

/// The settings that a history may have, one after another. Those of the first need no sweep.
pub(crate) const VARIANTS: [&[(&str, &str)]; 3] = [
    &[],
    &[("HOLD_SECONDS", "30")],
    &[("HOLD_SECONDS", "2"), ("REFEREE_REWARD_TYPE", "points"), ("REFERRER_REWARD_AMOUNT", "2500")],
];

/// The functions, as a clock that is ahead names them.
pub(crate) const FUNCTIONS: [&str; 5] = ["attribution", "conversion", "rewards", "sweep", "delivery"];

/// Every function, started.
pub(crate) struct Apps {
    pub(crate) attribution: attribution::App,
    pub(crate) conversion: conversion::App,
    pub(crate) rewards: rewards::App,
    pub(crate) sweep: sweep::App,
    pub(crate) delivery: delivery::App,
    pub(crate) admin: admin::App,
}

/// The functions with each set of settings.
pub(crate) struct Rig {
    pub(crate) shared: Shared,
    pub(crate) variants: Vec<Apps>,
}

impl Rig {
    pub(crate) fn start() -> Result<Self, Misconfigured> {
        let shared = Shared::default();
        let variants = VARIANTS.iter().map(|settings| apps(&shared, settings)).collect::<Result<_, _>>()?;
        Ok(Self { shared, variants })
    }
}

fn apps(shared: &Shared, settings: &[(&str, &str)]) -> Result<Apps, Misconfigured> {
    let aws = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("k", "s", None, None, "simulator")))
        .timeout_config(timeouts())
        .endpoint_url("http://simulated.example")
        .http_client(shared.aws())
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()))
        .build();
    let dynamodb = || aws_sdk_dynamodb::Client::new(&aws);
    let sqs = || aws_sdk_sqs::Client::new(&aws);
    let bus = || aws_sdk_eventbridge::Client::new(&aws);
    let env = env(settings);
    Ok(Apps {
        attribution: attribution::App::new(&env, dynamodb())?,
        conversion: conversion::App::new(&env, dynamodb(), sqs())?,
        rewards: rewards::App::new(&env, dynamodb(), bus(), sqs())?,
        sweep: sweep::App::new(&env, dynamodb(), bus())?,
        delivery: delivery::App::new(&env, dynamodb(), sqs(), shared.subsystems())?,
        admin: admin::App::new(&env, dynamodb(), bus(), sqs())?,
    })
}

fn env(settings: &[(&str, &str)]) -> Env {
    let queue = |name: &str| format!("http://simulated.example/000000000000/{name}");
    let mut env = Env::default()
        .with("TABLE_NAME", "referrals")
        .with("METRICS_TABLE_NAME", "metrics")
        .with("BUS_NAME", "referrals")
        .with("COOKIE_KEY", "a key of no consequence, long enough to sign with")
        .with("FINGERPRINT_KEY", "a key of no consequence, long enough to hash with")
        .with("WEBHOOK_SECRET", "whsec_c2ltdWxhdGVkIHNlY3JldCBmb3Igbm8gdXNl")
        .with("QUARANTINE_QUEUE_URL", queue("QuarantineQueue"))
        .with("DELAY_QUEUE_URL", queue("ConversionDelayQueue"))
        .with("CONVERSION_POISON_QUEUE_URL", queue("ConversionPoisonQueue"));
    for (kind, name) in REWARDS {
        let upper = kind.to_uppercase();
        env = env
            .with(&format!("{upper}_ENDPOINT"), format!("http://simulated.example/{kind}"))
            .with(&format!("{upper}_QUEUE_URL"), queue(name))
            .with(&format!("{upper}_DEAD_LETTER_QUEUE_URL"), queue(name));
    }
    settings.iter().fold(env, |env, (name, value)| env.with(name, *value))
}
