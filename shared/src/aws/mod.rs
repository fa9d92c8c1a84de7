//! How the functions reach AWS: as their environment says, through one connector.
//!
//! A Lambda function is told its region and its credentials by environment variables, so nobody looks for them anywhere
//! else: the SDK's own search through profiles, containers and the instance is a tenth of a binary, and of a start.

mod event;
mod lazy;
pub mod tls;
pub mod warm_up;

use std::time::Duration;

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::config::{
    BehaviorVersion, IdentityCache, Region, SharedAsyncSleep, StalledStreamProtectionConfig, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_types::{
    SdkConfig,
    service_config::{LoadServiceConfig, ServiceConfigKey},
};

pub use self::{event::Announcement, lazy::Lazy};
use crate::runtime::{Env, Misconfigured};

/// How long a function waits for a connection to AWS.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Region, credentials, `AWS_ENDPOINT_URL_*` and `AWS_USE_FIPS_ENDPOINT` of the environment, our timeouts, and those whom
/// [`tls`] believes.
///
/// # Errors
/// When region or credentials are missing, or one of these cannot be read.
pub fn config(env: &Env) -> Result<SdkConfig, Misconfigured> {
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region(env)?.to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(credentials(env)?))
        // They last as long as the process, so there is nothing to keep.
        .identity_cache(IdentityCache::no_cache())
        .use_fips(env.parsed("AWS_USE_FIPS_ENDPOINT", false)?)
        .retry_config(RetryConfig::standard())
        .timeout_config(timeouts())
        // An attempt's second is over before an answer counts as stalled.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .http_client(tls::aws(env))
        .service_config(Endpoints(env.clone()));
    config.set_endpoint_url(env.get("AWS_ENDPOINT_URL").map(str::to_owned));
    Ok(config.build())
}

/// Lambda sets the first, an operator's shell perhaps only the second.
fn region(env: &Env) -> Result<&str, Misconfigured> {
    env.get("AWS_REGION").map_or_else(|| env.required("AWS_DEFAULT_REGION"), Ok)
}

fn credentials(env: &Env) -> Result<Credentials, Misconfigured> {
    let (key, secret) = (env.required("AWS_ACCESS_KEY_ID")?, env.required("AWS_SECRET_ACCESS_KEY")?);
    let token = env.get("AWS_SESSION_TOKEN").map(str::to_owned);
    Ok(Credentials::new(key, secret, token, None, "environment"))
}

/// The SDK by itself waits for ever for an answer; a Lambda function has ten seconds.
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_millis(2500))
        .build()
}

/// What the environment says of one service: `AWS_ENDPOINT_URL_DYNAMODB`.
#[derive(Debug)]
struct Endpoints(Env);

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        self.0.get(&format!("{}_{service}", key.env())).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lambda() -> Env {
        [("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect()
    }

    fn endpoint(env: &Env, service: &str) -> Option<String> {
        let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        config(env).unwrap().service_config().unwrap().load_config(key.build().unwrap())
    }

    #[test]
    fn one_service_may_be_elsewhere() {
        let env =
            lambda().with("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1").with("AWS_ENDPOINT_URL", "http://[::1]");
        assert_eq!(endpoint(&env, "DynamoDB").as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(endpoint(&env, "EventBridge"), None);
        assert_eq!(config(&env).unwrap().endpoint_url(), Some("http://[::1]"));
        let env = lambda().with("AWS_ENDPOINT_URL_S3_OUTPOSTS", "http://127.0.0.1:2");
        assert_eq!(endpoint(&env, "S3 Outposts").as_deref(), Some("http://127.0.0.1:2"));
    }

    #[test]
    fn the_region_is_lambdas_or_the_shells() {
        let region = |env: &Env| config(env).map(|config| config.region().unwrap().to_string());
        assert_eq!(region(&lambda()).unwrap(), "eu-west-1");
        assert_eq!(region(&lambda().with("AWS_DEFAULT_REGION", "us-east-1")).unwrap(), "eu-west-1");
        assert_eq!(
            region(&lambda().with("AWS_REGION", "").with("AWS_DEFAULT_REGION", "us-east-1")).unwrap(),
            "us-east-1"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let said = |env: &Env| config(env).unwrap_err().to_string();
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            assert!(said(&lambda().with(name, "")).contains(name));
        }
        assert!(said(&lambda().with("AWS_REGION", "")).contains("AWS_DEFAULT_REGION"));
        assert!(said(&lambda().with("AWS_USE_FIPS_ENDPOINT", "perhaps")).contains("AWS_USE_FIPS_ENDPOINT"));
    }
}
