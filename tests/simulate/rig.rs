//! The rig: the real functions, started once per thread for each set of settings and connected to the models.

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

use crate::{state::REWARDS, transport::Shared};

/// The sets of settings that a history can use. The first one needs no sweep.
pub(crate) const VARIANTS: [&[(&str, &str)]; 3] = [
    &[],
    &[("HOLD_SECONDS", "30")],
    &[("HOLD_SECONDS", "2"), ("REFEREE_REWARD_TYPE", "points"), ("REFERRER_REWARD_AMOUNT", "2500")],
];

/// The minimum amount of an order, in every variant.
pub(crate) const MINIMUM: u64 = 2000;

/// The names of the functions, by the index that [`crate::plan::Plan::skew`] uses.
pub(crate) const FUNCTIONS: [&str; 5] = ["attribution", "conversion", "rewards", "sweep", "delivery"];

/// Every function, initialised.
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

/// How the functions reach AWS and the reward endpoints.
pub(crate) struct Connections {
    pub(crate) url: String,
    pub(crate) aws: SharedHttpClient,
    /// The credentials of AWS calls. `None` skips signing, which takes a fifth of a history's run time.
    pub(crate) credentials: Option<SharedCredentialsProvider>,
    pub(crate) subsystems: SharedHttpConnector,
    /// Intercepts each call to the table interceptor it is sent.
    pub(crate) interceptor: Option<SharedInterceptor>,
    /// A function's initial retry budget. The SDK shares it within a process, but on Lambda each function has its own
    /// process.
    pub(crate) retries: fn() -> TokenBucket,
}

impl Rig {
    /// A rig with in-process connections.
    pub(crate) fn start() -> Result<Self, Misconfigured> {
        let shared = Shared::default();
        let (aws, subsystems) = (shared.aws(), shared.subsystems());
        let url = "http://simulated.example".to_owned();
        // A history must not depend on the retries that earlier ones used.
        let retries = TokenBucket::unlimited;
        Self::with_connections(
            shared,
            &Connections { url, aws, credentials: None, subsystems, interceptor: None, retries },
        )
    }

    /// A rig with other connections.
    pub(crate) fn with_connections(shared: Shared, connections: &Connections) -> Result<Self, Misconfigured> {
        let variants = VARIANTS.iter().map(|settings| apps(connections, settings)).collect::<Result<_, _>>()?;
        Ok(Self { shared, variants })
    }
}

fn apps(connections: &Connections, settings: &[(&str, &str)]) -> Result<Apps, Misconfigured> {
    let mut aws = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        // The default cache uses random numbers when it loads, so a rig's first histories would differ from later ones.
        .identity_cache(IdentityCache::no_cache())
        .timeout_config(timeouts())
        .endpoint_url(&connections.url)
        .http_client(connections.aws.clone())
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()));
    aws.set_credentials_provider(connections.credentials.clone());
    let aws = aws.build();
    let dynamodb = || {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&aws)
            .allow_no_auth()
            .retry_partition(own_retry_budget(connections));
        connections.interceptor.iter().for_each(|interceptor| _ = config.push_interceptor(interceptor.clone()));
        aws_sdk_dynamodb::Client::from_conf(config.build())
    };
    let sqs = || {
        let config =
            aws_sdk_sqs::config::Builder::from(&aws).allow_no_auth().retry_partition(own_retry_budget(connections));
        aws_sdk_sqs::Client::from_conf(config.build())
    };
    let bus = || {
        let config = aws_sdk_eventbridge::config::Builder::from(&aws)
            .allow_no_auth()
            .retry_partition(own_retry_budget(connections));
        aws_sdk_eventbridge::Client::from_conf(config.build())
    };
    let env = env(&connections.url, settings);
    Ok(Apps {
        attribution: attribution::App::new(&env, dynamodb())?,
        conversion: conversion::App::new(&env, dynamodb(), sqs())?,
        rewards: rewards::App::new(&env, dynamodb(), bus(), sqs())?,
        sweep: sweep::App::new(&env, dynamodb(), bus())?,
        delivery: delivery::App::new(&env, dynamodb(), sqs(), connections.subsystems.clone())?,
        admin: admin::App::new(&env, dynamodb(), bus(), sqs())?,
    })
}

/// A retry budget that is not shared with other functions.
fn own_retry_budget(connections: &Connections) -> RetryPartition {
    RetryPartition::custom("a function's own").token_bucket((connections.retries)()).build()
}

fn env(url: &str, settings: &[(&str, &str)]) -> Env {
    let queue = |name: &str| format!("{url}/000000000000/{name}");
    let mut env = Env::default()
        .with("TABLE_NAME", "referrals")
        .with("METRICS_TABLE_NAME", "metrics")
        .with("BUS_NAME", "referrals")
        .with("MINIMUM_AMOUNT", MINIMUM.to_string())
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
