//! The `attribution` function, behind API Gateway.

use aws_sdk_dynamodb::Client;
use lambda_http::{Error, Request, RequestExt, run, service_fn};
use referrals::runtime::{self, Call, Env};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = Env::process();
    runtime::start_log(&env)?;
    let app = attribution::App::new(&env, Client::new(&runtime::aws().await))?;
    let app = &app;
    run(service_fn(|request: Request| async move {
        let call = Call::invoked(&request.lambda_context())?;
        Ok::<_, Error>(attribution::handle(app, request, call).await)
    }))
    .await
}
