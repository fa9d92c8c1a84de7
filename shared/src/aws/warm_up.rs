//! Warm-up: opens connections at the start of a function, so that the first call does not wait for DNS and TLS.
//!
//! Every AWS endpoint answers a plain `GET /` without authentication and without cost. The request is sent through the SDK
//! like any call, so its connection stays in the pool for the next call. An endpoint that does not answer delays the start
//! by the timeout of one attempt.

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut, retry::RetryConfig,
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

/// Connects to DynamoDB. Failures are ignored; the first call will report them.
pub async fn dynamodb(client: &aws_sdk_dynamodb::Client) {
    let once = aws_sdk_dynamodb::Config::builder().retry_config(RetryConfig::disabled());
    // The SDK requires a table name before it resolves the endpoint.
    let request = client.get_item().table_name("any").customize().config_override(once).interceptor(WarmUp);
    drop(request.send().await);
}

/// Connects to the event bus. Failures are ignored; the first call will report them.
pub async fn bus(client: &aws_sdk_eventbridge::Client) {
    let once = aws_sdk_eventbridge::Config::builder().retry_config(RetryConfig::disabled());
    drop(client.put_events().customize().config_override(once).interceptor(WarmUp).send().await);
}

/// Replaces the request of a call by `GET /` to the same endpoint, without body, operation name and signature.
#[derive(Debug)]
struct WarmUp;

impl Intercept for WarmUp {
    fn name(&self) -> &'static str {
        "warm_up"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let call = context.request_mut();
        *call = HttpRequest::get(call.uri())?;
        Ok(())
    }
}
