//! The AWS clients: their configuration from the environment, and the TLS connector that they share.
//!
//! Lambda sets region and credentials as environment variables. The configuration reads only these, because the SDK's
//! default provider chain (profiles, containers, instance metadata) is a tenth of the binary and of a cold start.

pub mod bus;
mod event;
mod lazy;
pub mod quarantine;
#[cfg(feature = "secrets")]
pub mod secrets;
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

/// The connect timeout for AWS.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The SDK configuration: region, credentials, `AWS_ENDPOINT_URL_*` and `AWS_USE_FIPS_ENDPOINT` from the environment, this
/// service's timeouts, and the trusted roots of [`tls`].
///
/// # Errors
/// Returns an error when region or credentials are missing, or when a variable is invalid.
pub fn config(env: &Env) -> Result<SdkConfig, Misconfigured> {
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region(env)?.to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(credentials(env)?))
        // The credentials are valid as long as the process, so a cache is not needed.
        .identity_cache(IdentityCache::no_cache())
        .use_fips(env.parsed("AWS_USE_FIPS_ENDPOINT", false)?)
        .retry_config(RetryConfig::standard())
        .timeout_config(timeouts())
        // The attempt timeout of one second expires before an answer would be treated as stalled.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .http_client(tls::aws(env))
        .service_config(Endpoints(env.clone()));
    config.set_endpoint_url(env.get("AWS_ENDPOINT_URL").map(str::to_owned));
    Ok(config.build())
}

/// Lambda sets the first variable. An operator's shell may set only the second.
fn region(env: &Env) -> Result<&str, Misconfigured> {
    env.get("AWS_REGION").map_or_else(|| env.required("AWS_DEFAULT_REGION"), Ok)
}

fn credentials(env: &Env) -> Result<Credentials, Misconfigured> {
    let (key, secret) = (env.required("AWS_ACCESS_KEY_ID")?, env.required("AWS_SECRET_ACCESS_KEY")?);
    let token = env.get("AWS_SESSION_TOKEN").map(str::to_owned);
    Ok(Credentials::new(key, secret, token, None, "environment"))
}

/// The SDK has no default timeout for an answer, and a function has ten seconds.
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_millis(2500))
        .build()
}

/// Endpoint overrides for single services, such as `AWS_ENDPOINT_URL_DYNAMODB`.
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
    fn one_service_can_have_its_own_endpoint() {
        let env =
            lambda().with("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1").with("AWS_ENDPOINT_URL", "http://[::1]");
        assert_eq!(endpoint(&env, "DynamoDB").as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(endpoint(&env, "EventBridge"), None);
        assert_eq!(config(&env).unwrap().endpoint_url(), Some("http://[::1]"));
        let env = lambda().with("AWS_ENDPOINT_URL_S3_OUTPOSTS", "http://127.0.0.1:2");
        assert_eq!(endpoint(&env, "S3 Outposts").as_deref(), Some("http://127.0.0.1:2"));
    }

    #[test]
    fn the_region_comes_from_either_variable() {
        let region = |env: &Env| config(env).map(|config| config.region().unwrap().to_string());
        assert_eq!(region(&lambda()).unwrap(), "eu-west-1");
        assert_eq!(region(&lambda().with("AWS_DEFAULT_REGION", "us-east-1")).unwrap(), "eu-west-1");
        assert_eq!(
            region(&lambda().with("AWS_REGION", "").with("AWS_DEFAULT_REGION", "us-east-1")).unwrap(),
            "us-east-1"
        );
    }

    #[test]
    fn errors_name_the_variable() {
        let message = |env: &Env| config(env).unwrap_err().to_string();
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            assert!(message(&lambda().with(name, "")).contains(name));
        }
        assert!(message(&lambda().with("AWS_REGION", "")).contains("AWS_DEFAULT_REGION"));
        assert!(message(&lambda().with("AWS_USE_FIPS_ENDPOINT", "perhaps")).contains("AWS_USE_FIPS_ENDPOINT"));
    }
}
