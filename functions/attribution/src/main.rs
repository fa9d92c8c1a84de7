//! The `attribution` function, behind API Gateway.

use aws_sdk_dynamodb::Client;
use lambda_http::{
    Error, LambdaEvent,
    lambda_runtime::{run, service_fn},
};
use referrals::{
    log,
    runtime::{self, Call, Env},
};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = Env::process();
    log::start(&env)?;
    let app = attribution::App::new(&env, Client::new(&runtime::aws(&env).await))?;
    let app = &app;
    run(service_fn(|event: LambdaEvent<Value>| async move {
        let call = Call::invoked(&event.context)?;
        attribution::invoke(app, event.payload, event.context, call).await
    }))
    .await
}
