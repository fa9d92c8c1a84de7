//! For operators, behind an API of its own: what was not delivered or refused for good, listed and sent again, the
//! dead-letter queues, drained back, codes, ended, and what the figures say, with a page that shows them.

mod analytics;
mod codes;
mod cohorts;
mod daily;
mod dashboard;
mod dead_letters;
mod liability;
mod place;
mod problem;
mod referrers;
mod resend;
mod rewards;
mod route;
mod sheet;
mod whole;

use std::time::Duration;

use lambda_http::{Body, Context, Error, Request, RequestExt, Response, request::RequestContext};
use referrals::{
    analytics::Metrics,
    aws::Lazy,
    bus::Bus,
    cache::Server,
    http::{self, input, problem::Problem},
    lifecycle::issue::LONGEST_PAUSE,
    runtime::{Call, Env, Misconfigured},
    store::Store,
    time::Timestamp,
};
use serde::Serialize;

use crate::{dead_letters::DeadLetters, route::Route};

/// The function's state.
pub struct App {
    store: Store,
    metrics: Metrics,
    bus: Bus,
    dead_letters: DeadLetters,
    /// Keeps codes for whoever lands, and must be told of changes.
    cache: Option<Server>,
    grace: Duration,
}

impl App {
    /// Reads `TABLE_NAME`, `METRICS_TABLE_NAME`, `BUS_NAME`, `GRACE_SECONDS` (600), `CACHE_URL`, `CACHE_TIMEOUT_MS`, and
    /// the dead-letter queues: `CREDIT_DEAD_LETTER_QUEUE_URL`, `COUPON_DEAD_LETTER_QUEUE_URL`,
    /// `POINTS_DEAD_LETTER_QUEUE_URL` and `CONVERSION_POISON_QUEUE_URL`.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        eventbridge: impl Into<Lazy<aws_sdk_eventbridge::Client>>,
        sqs: impl Into<Lazy<aws_sdk_sqs::Client>>,
    ) -> Result<Self, Misconfigured> {
        Ok(Self {
            store: Store::new(&dynamodb, env.required("TABLE_NAME")?),
            metrics: Metrics::from_env(env, &dynamodb)?,
            bus: Bus::from_env(env, eventbridge.into())?,
            dead_letters: DeadLetters::from_env(env, sqs.into())?,
            cache: Server::from_env(env)?,
            grace: env.grace()?,
        })
    }

    /// The latest time for which a reward that is on its way now can be due.
    fn horizon(&self, call: &Call) -> Timestamp {
        call.now.plus(LONGEST_PAUSE.max(self.grace))
    }
}

/// Answers one request as API Gateway sends it, with what it expects back.
///
/// # Errors
/// None: whatever goes wrong is an answer.
pub async fn invoke(app: &App, event: http::Event, context: Context, call: Call) -> Result<impl Serialize, Error> {
    http::invoke(event, context, move |request| handle(app, request, call)).await
}

/// Answers one request; whatever goes wrong is an answer too.
pub async fn handle(app: &App, request: Request, call: Call) -> Response<Body> {
    dispatch(app, &request, &call).await.unwrap_or_else(|problem| problem.respond())
}

async fn dispatch(app: &App, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let route = Route::of(request.method(), request.raw_http_path())?;
    let body = || input::bounded(request.body());
    if request.method() != "GET" {
        // Who did it, for the record; what came of it is another line.
        tracing::info!(outcome = "asked", route = route.name(), operator = operator(request));
    }
    match route {
        Route::Rewards => rewards::list(app, request, call).await,
        Route::Resend { reward } => resend::one(app, &reward, call).await,
        Route::ResendAll => resend::all(app, body()?, call).await,
        Route::DeadLetters => app.dead_letters.list().await,
        Route::Code { code } => codes::change(app, &code, body()?, call).await,
        Route::Redrive { queue } => app.dead_letters.redrive(&queue, body()?).await,
        Route::Daily { program } => daily::daily(app, &program, request, call).await,
        Route::Referrers { program } => referrers::referrers(app, &program, request, call).await,
        Route::Cohorts { program } => cohorts::cohorts(app, &program, request, call).await,
        Route::Liability => liability::liability(app, request).await,
        Route::Dashboard => Ok(dashboard::page()),
        Route::DashboardFile { file } => dashboard::file(&file),
    }
}

/// The caller, as the gateway made sure of.
fn operator(request: &Request) -> Option<String> {
    let RequestContext::ApiGatewayV2(context) = request.request_context_ref()? else { return None };
    let authorizer = context.authorizer.as_ref()?;
    let by_role = authorizer.iam.as_ref().and_then(|iam| iam.user_arn.clone());
    by_role.or_else(|| authorizer.jwt.as_ref().and_then(|token| token.claims.get("sub").cloned()))
}
