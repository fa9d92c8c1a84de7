//! Secrets Manager: reads the secrets that the environment names, at the start and again while the process lives.
//!
//! Three versions of a secret can be valid. A rotation stores the next value as `AWSPENDING`, so that every instance
//! recognises it before any instance uses it. Then it becomes `AWSCURRENT`, and the former value `AWSPREVIOUS`. The start
//! reads only the current version, to stay short. The first invocation reads all versions before its work; until that has
//! succeeded, an invocation fails.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_secretsmanager::{Client, operation::get_secret_value::GetSecretValueError};
use aws_types::SdkConfig;
use futures_util::future::{join_all, try_join_all};
use tokio::time::timeout;

use super::Lazy;
use crate::{
    domain::time::Timestamp,
    runtime::{self, Env, Misconfigured, log_outcome::LogOutcome, secret::Values},
};

/// How long an invocation waits for a refresh beside its work.
const LIMIT: Duration = Duration::from_secs(1);
/// The pause after a failed refresh.
const PAUSE: Duration = Duration::from_secs(30);

/// When an invocation reads the values.
enum Due {
    Never,
    /// The first invocation needs the versions that the start did not read.
    BeforeWork,
    BesideWork,
}

/// The secrets of a function that are in Secrets Manager.
#[derive(Debug)]
pub struct Secrets {
    env: Env,
    client: Lazy<Client>,
    /// The variables, and the ARNs in them.
    arns: Vec<(String, String)>,
    lifetime: Duration,
    /// When the values are read again. `None` until all versions have been read once.
    next: Mutex<Option<Timestamp>>,
}

impl Secrets {
    /// Reads into `env` the current value of each secret whose ARN is in a variable that ends in `_SECRET_ARN`. Reads
    /// `SECRETS_REFRESH_SECONDS` (300): the age at which the values are read again. Without such a variable there is no call,
    /// and no client is created.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when a secret cannot be read.
    pub async fn read(env: &Env, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        let lifetime = Duration::from_secs(env.parsed("SECRETS_REFRESH_SECONDS", 300)?);
        let aws = aws.clone();
        let (env, client, arns) = (env.clone(), Lazy::new(move || Client::new(&aws)), env.secret_arns());
        let secrets = Self { env, client, arns, lifetime, next: Mutex::default() };
        try_join_all(secrets.arns.iter().map(|(variable, arn)| secrets.begin(variable, arn))).await?;
        Ok(secrets)
    }

    /// Runs the handler of an invocation at `now`. The first one reads all values before. If they are too old later, they
    /// are read again beside the handler. The invocation ends after both, because Lambda can freeze the process when it
    /// ends.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when the first invocation cannot read a value. The handler has not
    /// run then, because it would not recognise what another version has signed.
    pub async fn beside<T>(&self, now: Timestamp, handler: impl Future<Output = T>) -> Result<T, Misconfigured> {
        match self.due(now) {
            Due::Never => Ok(handler.await),
            Due::BeforeWork => {
                self.complete(now).await?;
                Ok(handler.await)
            }
            Due::BesideWork => Ok(tokio::join!(handler, self.refresh(now)).0),
        }
    }

    /// When this invocation has to read the values. After a refresh has begun, the next ones do not, until the pause has
    /// ended.
    fn due(&self, now: Timestamp) -> Due {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        match *next {
            _ if self.arns.is_empty() => Due::Never,
            None => Due::BeforeWork,
            Some(at) if at > now => Due::Never,
            Some(_) => {
                *next = Some(now.plus(PAUSE.min(self.lifetime)));
                Due::BesideWork
            }
        }
    }

    /// Reads all values for the first time. The current ones too: the process may have waited long for its first
    /// invocation.
    async fn complete(&self, now: Timestamp) -> Result<(), Misconfigured> {
        let read = try_join_all(self.arns.iter().map(|(variable, arn)| self.replace(variable, arn))).await;
        read.inspect_err(|problem| {
            tracing::error!(outcome = LogOutcome::SecretNotRefreshed.as_str(), %problem);
        })?;
        self.set_fresh(now);
        Ok(())
    }

    fn set_fresh(&self, now: Timestamp) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.plus(self.lifetime));
    }

    /// Reads the values again. A secret that cannot be read keeps its former values.
    async fn refresh(&self, now: Timestamp) {
        let refreshed = join_all(self.arns.iter().map(|(variable, arn)| async move {
            let replaced = timeout(LIMIT, self.replace(variable, arn)).await;
            match replaced
                .unwrap_or_else(|_elapsed| Err(Misconfigured::new(variable, "the secret was not read in time")))
            {
                Ok(true) => tracing::info!(outcome = LogOutcome::SecretChanged.as_str(), secret = variable),
                Ok(false) => {}
                Err(problem) => {
                    let outcome = LogOutcome::SecretNotRefreshed.as_str();
                    tracing::warn!(outcome, secret = variable, %problem);
                    return false;
                }
            }
            true
        }));
        if refreshed.await.into_iter().all(|is_fresh| is_fresh) {
            self.set_fresh(now);
        }
    }

    /// Reads the current value of one secret.
    async fn begin(&self, variable: &str, arn: &str) -> Result<(), Misconfigured> {
        let current = self.current(arn).await.map_err(|problem| Misconfigured::new(variable, problem))?;
        self.env.hold_secret(variable, Values::new(current, [])).map(drop)
    }

    /// Reads all values of one secret. Returns whether they differ from the former ones.
    async fn replace(&self, variable: &str, arn: &str) -> Result<bool, Misconfigured> {
        let values = self.values(arn).await.map_err(|problem| Misconfigured::new(variable, problem))?;
        self.env.hold_secret(variable, values)
    }

    /// The valid values. The calls follow each other, so that they share one connection: its TLS handshake takes longer
    /// than a call.
    async fn values(&self, arn: &str) -> Result<Values, String> {
        let current = self.current(arn).await?;
        let others = [self.value(arn, "AWSPREVIOUS").await?, self.value(arn, "AWSPENDING").await?];
        Ok(Values::new(current, others.into_iter().flatten()))
    }

    async fn current(&self, arn: &str) -> Result<String, String> {
        let current = self.value(arn, "AWSCURRENT").await?;
        current.ok_or_else(|| "the secret does not exist, or has no value (AWSCURRENT)".to_owned())
    }

    /// The value with this label; `None` if there is no secret, or no version with the label.
    async fn value(&self, arn: &str, stage: &str) -> Result<Option<String>, String> {
        match self.client.get_secret_value().secret_id(arn).version_stage(stage).send().await {
            Ok(found) => found.secret_string.map(Some).ok_or_else(|| format!("the value ({stage}) is not a text")),
            Err(problem) => match problem.as_service_error() {
                Some(GetSecretValueError::ResourceNotFoundException(_)) => Ok(None),
                _ => Err(format!("the secret cannot be read ({stage}): {}", runtime::explain(&problem))),
            },
        }
    }
}
