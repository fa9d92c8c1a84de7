//! The deployed functions, in process: invoked with the JSON that Lambda would pass, within their timeouts.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use lambda_http::Context;
use referrals::{
    aws::{secrets::Secrets, tls},
    runtime::{Call, Env, Misconfigured},
};
use serde_json::Value;
use tokio::{sync::watch, time::timeout};

use crate::deployment::Deployment;

/// A deployed function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Function {
    Attribution,
    Conversion,
    Rewards,
    Sweep,
    Delivery,
    Admin,
    Analytics,
}

impl Function {
    const ALL: [Self; 7] =
        [Self::Attribution, Self::Conversion, Self::Rewards, Self::Sweep, Self::Delivery, Self::Admin, Self::Analytics];

    /// The function with this logical id in the template.
    pub(crate) fn named(logical_id: &str) -> Option<Self> {
        match logical_id {
            "AttributionFunction" => Some(Self::Attribution),
            "ConversionFunction" => Some(Self::Conversion),
            "RewardsFunction" => Some(Self::Rewards),
            "SweepFunction" => Some(Self::Sweep),
            "DeliveryFunction" => Some(Self::Delivery),
            "AdminFunction" => Some(Self::Admin),
            "AnalyticsFunction" => Some(Self::Analytics),
            _ => None,
        }
    }
}

/// A failed invocation, as Lambda sees it: an error, a panic or a timeout.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The function returned an error.
    #[error("{0}")]
    Error(String),
    /// The function panicked.
    #[error("the function panicked")]
    Panic,
    /// The function exceeded its timeout.
    #[error("the function did not finish within {0:?}")]
    Timeout(Duration),
}

/// The AWS clients that the functions use.
pub(crate) struct Clients {
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) eventbridge: aws_sdk_eventbridge::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
}

/// Every function, initialised once like a warm Lambda instance.
pub(crate) struct Functions {
    attribution: Arc<attribution::App>,
    conversion: Arc<conversion::App>,
    rewards: Arc<rewards::App>,
    sweep: Arc<sweep::App>,
    delivery: Arc<delivery::App>,
    admin: Arc<admin::App>,
    analytics: Arc<analytics::App>,
    /// One for all functions, because they share this process.
    secrets: Arc<Secrets>,
    timeouts: BTreeMap<Function, Duration>,
    /// Notified after every invocation, because the function may have written to the table.
    pub(crate) invoked: watch::Sender<()>,
}

impl Functions {
    /// Initialises the functions with their settings. Their timeouts are `slack` times those of the deployment.
    pub(crate) fn start(
        env: &Env,
        clients: &Clients,
        secrets: Secrets,
        deployment: &Deployment,
        slack: u32,
    ) -> Result<Self, Misconfigured> {
        let Clients { dynamodb, eventbridge, sqs } = clients;
        let (bus, queues) = (|| eventbridge.clone(), || sqs.clone());
        Ok(Self {
            attribution: Arc::new(attribution::App::new(env, dynamodb.clone())?),
            conversion: Arc::new(conversion::App::new(env, dynamodb.clone(), queues())?),
            rewards: Arc::new(rewards::App::new(env, dynamodb.clone(), bus(), queues())?),
            sweep: Arc::new(sweep::App::new(env, dynamodb.clone(), bus())?),
            delivery: Arc::new(delivery::App::new(env, dynamodb.clone(), queues(), tls::public())?),
            admin: Arc::new(admin::App::new(env, dynamodb.clone(), bus(), queues())?),
            analytics: Arc::new(analytics::App::new(env, dynamodb)?),
            secrets: Arc::new(secrets),
            timeouts: Function::ALL.map(|function| (function, deployment.timeout(function) * slack)).into(),
            invoked: watch::Sender::new(()),
        })
    }

    /// Invokes `function` with `payload` and returns its answer.
    pub(crate) async fn invoke(&self, function: Function, payload: Value) -> Result<Value, Failure> {
        let limit = self.timeouts.get(&function).copied().unwrap_or_default();
        let call = Call::begin(limit).map_err(|problem| Failure::Error(problem.to_string()))?;
        let answer = match function {
            Function::Attribution => {
                let app = Arc::clone(&self.attribution);
                let answer = async move {
                    let request = serde_json::from_value(payload)?;
                    Ok(serde_json::to_value(attribution::invoke(&app, request, Context::default(), call).await?)?)
                };
                bounded(limit, self.with_secrets(call, answer)).await
            }
            Function::Conversion => {
                let app = Arc::clone(&self.conversion);
                let answer = async move { conversion::handle(&app, payload, call).await };
                bounded(limit, self.with_secrets(call, answer)).await
            }
            Function::Rewards => {
                let app = Arc::clone(&self.rewards);
                bounded(limit, async move { rewards::handle(&app, payload, call).await }).await
            }
            Function::Sweep => {
                let app = Arc::clone(&self.sweep);
                bounded(limit, async move { sweep::handle(&app, payload, call).await }).await
            }
            Function::Delivery => {
                let app = Arc::clone(&self.delivery);
                let answer = async move { delivery::handle(&app, payload, call).await };
                bounded(limit, self.with_secrets(call, answer)).await
            }
            Function::Admin => {
                let app = Arc::clone(&self.admin);
                let answer = async move {
                    let request = serde_json::from_value(payload)?;
                    Ok(serde_json::to_value(admin::invoke(&app, request, Context::default(), call).await?)?)
                };
                bounded(limit, self.with_secrets(call, answer)).await
            }
            Function::Analytics => {
                let app = Arc::clone(&self.analytics);
                bounded(limit, async move { analytics::handle(&app, payload, call).await }).await
            }
        };
        self.invoked.send_replace(());
        answer
    }

    /// Runs the handler of a function that uses secrets, as its `main` does.
    fn with_secrets<F>(&self, call: Call, handler: F) -> impl Future<Output = F::Output> + use<F>
    where
        F: Future<Output = Result<Value, lambda_runtime::Error>>,
    {
        let secrets = Arc::clone(&self.secrets);
        async move { secrets.beside(call.now, handler).await? }
    }
}

/// Runs a handler in its own task, so that a panic fails only this call, and aborts it after its timeout.
async fn bounded<F>(limit: Duration, handler: F) -> Result<Value, Failure>
where
    F: Future<Output = Result<Value, lambda_runtime::Error>> + Send + 'static,
{
    let mut task = tokio::spawn(handler);
    match timeout(limit, &mut task).await {
        Ok(Ok(answer)) => answer.map_err(|problem| Failure::Error(problem.to_string())),
        Ok(Err(_panicked)) => Err(Failure::Panic),
        Err(_elapsed) => {
            task.abort();
            Err(Failure::Timeout(limit))
        }
    }
}
