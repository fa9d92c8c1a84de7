//! Entry point of the `analytics` function.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use referrals::{
    aws::{self, warm_up},
    runtime::{self, Allocator, Call},
};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = runtime::start()?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws::config(&env)?);
    warm_up::dynamodb(&dynamodb).await;
    let app = analytics::App::new(&env, &dynamodb)?;
    let app = &app;
    run(service_fn(|event: LambdaEvent<Value>| async move {
        analytics::handle(app, event.payload, Call::invoked(&event.context)?).await
    }))
    .await
}
