//! A start makes the connections that the first call would otherwise wait for, name, TLS and all.
//!
//! Each endpoint of AWS answers a bare `GET /` to anybody, for nothing. It is sent as any call is, so that it takes the
//! same path and leaves its connection where the next one looks. Who does not answer keeps a start waiting for as long as
//! one attempt may take.

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut, retry::RetryConfig,
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

/// Connects to DynamoDB. Whatever goes wrong is for the first call to find out.
pub async fn dynamodb(client: &aws_sdk_dynamodb::Client) {
    let once = aws_sdk_dynamodb::Config::builder().retry_config(RetryConfig::disabled());
    // The SDK wants a name before it looks for the endpoint.
    let greeting = client.get_item().table_name("any").customize().config_override(once).interceptor(Greeting);
    drop(greeting.send().await);
}

/// Connects to the event bus. Whatever goes wrong is for the first call to find out.
pub async fn bus(client: &aws_sdk_eventbridge::Client) {
    let once = aws_sdk_eventbridge::Config::builder().retry_config(RetryConfig::disabled());
    drop(client.put_events().customize().config_override(once).interceptor(Greeting).send().await);
}

/// Sends a greeting in the place of a call: to the same endpoint, without its body, its name and its signature.
#[derive(Debug)]
struct Greeting;

impl Intercept for Greeting {
    fn name(&self) -> &'static str {
        "greeting"
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
