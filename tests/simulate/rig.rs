//! The rig: the real functions, started once per thread for each set of settings, on the simulator's wires.

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_dynamodb::config::{BehaviorVersion, IdentityCache, Region};
use aws_smithy_runtime_api::client::{
    http::{SharedHttpClient, SharedHttpConnector},
    interceptors::SharedInterceptor,
};
use aws_types::SdkConfig;
use referrals::{
    aws::timeouts,
    runtime::{Env, Misconfigured},
};

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

/// How the functions reach everybody else.
pub(crate) struct Lines {
    pub(crate) url: String,
    pub(crate) aws: SharedHttpClient,
    /// What calls to AWS are signed by. Signing is a fifth of a history's work, and nobody looks at it inside.
    pub(crate) credentials: Option<SharedCredentialsProvider>,
    pub(crate) subsystems: SharedHttpConnector,
    /// What looks at each call to the table before it is sent.
    pub(crate) before: Option<SharedInterceptor>,
    /// What retries a function begins with. The SDK bounds those of a process, and a function is a process of its own.
    pub(crate) retries: fn() -> TokenBucket,
}

impl Rig {
    /// Over wires inside the process.
    pub(crate) fn start() -> Result<Self, Misconfigured> {
        let shared = Shared::default();
        let (aws, subsystems) = (shared.aws(), shared.subsystems());
        let url = "http://simulated.example".to_owned();
        // A history must not depend on what those before it have spent.
        let retries = TokenBucket::unlimited;
        Self::over(shared, &Lines { url, aws, credentials: None, subsystems, before: None, retries })
    }

    /// Over other lines.
    pub(crate) fn over(shared: Shared, lines: &Lines) -> Result<Self, Misconfigured> {
        let variants = VARIANTS.iter().map(|settings| apps(lines, settings)).collect::<Result<_, _>>()?;
        Ok(Self { shared, variants })
    }
}

fn apps(lines: &Lines, settings: &[(&str, &str)]) -> Result<Apps, Misconfigured> {
    let mut aws = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        // The other one draws when it loads, which would make a rig's first histories differ from later ones.
        .identity_cache(IdentityCache::no_cache())
        .timeout_config(timeouts())
        .endpoint_url(&lines.url)
        .http_client(lines.aws.clone())
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()));
    aws.set_credentials_provider(lines.credentials.clone());
    let aws = aws.build();
    let dynamodb = || {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&aws).allow_no_auth().retry_partition(alone(lines));
        lines.before.iter().for_each(|before| _ = config.push_interceptor(before.clone()));
        aws_sdk_dynamodb::Client::from_conf(config.build())
    };
    let sqs = || {
        let config = aws_sdk_sqs::config::Builder::from(&aws).allow_no_auth().retry_partition(alone(lines));
        aws_sdk_sqs::Client::from_conf(config.build())
    };
    let bus = || {
        let config = aws_sdk_eventbridge::config::Builder::from(&aws).allow_no_auth().retry_partition(alone(lines));
        aws_sdk_eventbridge::Client::from_conf(config.build())
    };
    let env = env(&lines.url, settings);
    Ok(Apps {
        attribution: attribution::App::new(&env, dynamodb())?,
        conversion: conversion::App::new(&env, dynamodb(), sqs())?,
        rewards: rewards::App::new(&env, dynamodb(), bus(), sqs())?,
        sweep: sweep::App::new(&env, dynamodb(), bus())?,
        delivery: delivery::App::new(&env, dynamodb(), sqs(), lines.subsystems.clone())?,
        admin: admin::App::new(&env, dynamodb(), bus(), sqs())?,
    })
}

/// What others spend is not taken from it.
fn alone(lines: &Lines) -> RetryPartition {
    RetryPartition::custom("a function's own").token_bucket((lines.retries)()).build()
}

fn env(url: &str, settings: &[(&str, &str)]) -> Env {
    let queue = |name: &str| format!("{url}/000000000000/{name}");
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
            .with(&format!("{upper}_ENDPOINT"), format!("{url}/{kind}"))
            .with(&format!("{upper}_QUEUE_URL"), queue(name))
            .with(&format!("{upper}_DEAD_LETTER_QUEUE_URL"), queue(name));
    }
    settings.iter().fold(env, |env, (name, value)| env.with(name, *value))
}
