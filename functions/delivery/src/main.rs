//! Entry point of the `delivery` function.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use referrals::{
    aws::{self, Lazy, secrets::Secrets, tls, warm_up},
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
    let (secrets, ()) = tokio::join!(Secrets::read(&env, &aws), warm_up::dynamodb(&dynamodb));
    let secrets = secrets?;
    let app = delivery::App::new(&env, dynamodb, Lazy::new(move || aws_sdk_sqs::Client::new(&aws)), tls::public())?;
    let (app, secrets) = (&app, &secrets);
    run(service_fn(|event: LambdaEvent<Value>| async move {
        let call = Call::invoked(&event.context)?;
        secrets.beside(call.now, delivery::handle(app, event.payload, call)).await?
    }))
    .await
}
