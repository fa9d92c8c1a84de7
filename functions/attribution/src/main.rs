//! Entry point of the `attribution` function.

use aws_sdk_dynamodb::Client;
use lambda_http::{
    Error, LambdaEvent,
    lambda_runtime::{run, service_fn},
};
use referrals::{
    aws::{self, secrets::Secrets, warm_up},
    lambda::http,
    runtime::{self, Allocator, Call},
};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = runtime::start()?;
    let aws = aws::config(&env)?;
    let dynamodb = Client::new(&aws);
    let (secrets, ()) = tokio::join!(Secrets::read(&env, &aws), warm_up::dynamodb(&dynamodb));
    let secrets = secrets?;
    let app = attribution::App::new(&env, dynamodb)?;
    let (app, secrets) = (&app, &secrets);
    run(service_fn(|event: LambdaEvent<http::Event>| async move {
        let call = Call::invoked(&event.context)?;
        secrets.beside(call.now, attribution::invoke(app, event.payload, event.context, call)).await?
    }))
    .await
}
