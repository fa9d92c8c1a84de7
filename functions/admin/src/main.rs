//! Entry point of the `admin` function.

use lambda_http::{
    Error, LambdaEvent,
    lambda_runtime::{run, service_fn},
};
use referrals::{
    aws::{self, Lazy, secrets::Secrets, warm_up},
    lambda::http,
    runtime::{self, Allocator, Call},
};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = runtime::start()?;
    let aws = aws::config(&env)?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
    let (secrets, ()) = tokio::join!(Secrets::read(&env, &aws), warm_up::dynamodb(&dynamodb));
    let secrets = secrets?;
    let queues = aws.clone();
    let queues = Lazy::new(move || aws_sdk_sqs::Client::new(&queues));
    let app = admin::App::new(&env, dynamodb, Lazy::new(move || aws_sdk_eventbridge::Client::new(&aws)), queues)?;
    let (app, secrets) = (&app, &secrets);
    run(service_fn(|event: LambdaEvent<http::Event>| async move {
        let call = Call::invoked(&event.context)?;
        secrets.beside(call.now, admin::invoke(app, event.payload, event.context, call)).await?
    }))
    .await
}
