//! Entry point of the `sweep` function.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use referrals::{
    aws::{self, Lazy, warm_up},
    runtime::{self, Allocator, Call},
};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = runtime::start()?;
    let aws = aws::config(&env)?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
    warm_up::dynamodb(&dynamodb).await;
    let app = sweep::App::new(&env, dynamodb, Lazy::new(move || aws_sdk_eventbridge::Client::new(&aws)))?;
    let app = &app;
    run(service_fn(|event: LambdaEvent<Value>| async move {
        sweep::handle(app, event.payload, Call::invoked(&event.context)?).await
    }))
    .await
}
