//! The operators' API, behind its own API Gateway: list undelivered rewards and send them again, decide about referrals, flag
//! accounts, redrive dead-letter queues, change the expiry of codes, query the analytics and show all that on a dashboard.

mod accounts;
mod analytics;
mod audit;
mod codes;
mod dashboard;
mod dead_letters;
mod number;
mod problem;
mod referral;
mod reversals;
mod rewards;
mod route;
mod undelivered;

use std::time::Duration;

use lambda_http::{Body, Context, Error, Request, RequestExt, Response};
use referrals::{
    analytics::Analytics,
    aws::{Lazy, bus::Bus},
    cache::Server,
    domain::time::Timestamp,
    lambda::http::{self, problem::Problem, request},
    lifecycle::issue::{LONGEST_PAUSE, grace_period},
    program::Program,
    runtime::{Call, Env, Misconfigured, log_outcome::LogOutcome},
    store::Store,
};
use serde::Serialize;

use crate::{audit::operator, dead_letters::DeadLetters, route::Route};

/// The function's state.
pub struct App {
    store: Store,
    analytics: Analytics,
    bus: Bus,
    dead_letters: DeadLetters,
    /// The configured program.
    program: Program,
    /// The cache server that landing uses. Changes of codes are written to it, too.
    cache: Option<Server>,
    grace: Duration,
}

impl App {
    /// Reads `TABLE_NAME`, `METRICS_TABLE_NAME`, `BUS_NAME`, `GRACE_SECONDS` (600), `CACHE_URL`, `CACHE_TIMEOUT_MS`, the
    /// settings of the [`Program`], and the dead-letter queues: `CREDIT_DEAD_LETTER_QUEUE_URL`, `COUPON_DEAD_LETTER_QUEUE_URL`,
    /// `POINTS_DEAD_LETTER_QUEUE_URL` and `CONVERSION_POISON_QUEUE_URL`.
    ///
    /// # Errors
    /// Returns an error that names the variable when one is missing or invalid.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        eventbridge: impl Into<Lazy<aws_sdk_eventbridge::Client>>,
        sqs: impl Into<Lazy<aws_sdk_sqs::Client>>,
    ) -> Result<Self, Misconfigured> {
        Ok(Self {
            store: Store::new(&dynamodb, env.required("TABLE_NAME")?),
            analytics: Analytics::from_env(env, &dynamodb)?,
            bus: Bus::from_env(env, eventbridge.into())?,
            dead_letters: DeadLetters::from_env(env, sqs.into())?,
            program: Program::from_env(env)?,
            cache: Server::from_env(env)?,
            grace: grace_period(env)?,
        })
    }

    /// The latest time at which a currently undelivered reward can be due.
    fn horizon(&self, call: &Call) -> Timestamp {
        call.now.plus(LONGEST_PAUSE.max(self.grace))
    }
}

/// Handles one API Gateway request.
///
/// # Errors
/// Never returns an error: every failure is an HTTP answer.
pub async fn invoke(app: &App, event: http::Event, context: Context, call: Call) -> Result<impl Serialize, Error> {
    http::invoke(event, context, move |request| handle(app, request, call)).await
}

/// Handles one request. Every failure is an HTTP answer.
pub async fn handle(app: &App, request: Request, call: Call) -> Response<Body> {
    dispatch(app, &request, &call).await.unwrap_or_else(|problem| problem.respond())
}

async fn dispatch(app: &App, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let route = Route::of(request.method(), request.raw_http_path())?;
    let body = || request::bounded(request.body());
    if request.method() != "GET" {
        // The audit record. The result of the request is logged separately.
        tracing::info!(outcome = LogOutcome::AdminRequest.as_str(), route = route.name(), operator = operator(request));
    }
    match route {
        Route::Rewards => rewards::list(app, request, call).await,
        Route::Resend { reward } => rewards::resend_one(app, &reward, call).await,
        Route::ResendAll => rewards::resend_all(app, body()?, call).await,
        Route::Reversals => reversals::list(app, request, call).await,
        Route::ResendReversal { reversal } => reversals::resend_one(app, &reversal, call).await,
        Route::ResendAllReversals => reversals::resend_all(app, body()?, call).await,
        Route::Referrals => referral::list(app, request, call).await,
        Route::Referral { referee } => referral::one(app, &referee).await,
        Route::Void { referee } => referral::void(app, &referee, request, call).await,
        Route::Reopen { referee } => referral::reopen(app, &referee, request, call).await,
        Route::Convert { referee } => referral::convert(app, &referee, request, call).await,
        Route::Approve { referee } => referral::approve(app, &referee, request, call).await,
        Route::Flag { user } => accounts::set_flag(app, &user, request, call).await,
        Route::DeadLetters => app.dead_letters.list().await,
        Route::Code { code } => codes::change(app, &code, body()?, call).await,
        Route::Redrive { queue } => app.dead_letters.redrive(&queue, body()?).await,
        Route::Daily { program } => analytics::daily(app, &program, request, call).await,
        Route::Referrers { program } => analytics::referrers(app, &program, request, call).await,
        Route::Cohorts { program } => analytics::cohorts(app, &program, request, call).await,
        Route::Liability => analytics::liability(app, request).await,
        Route::Dashboard => Ok(dashboard::page()),
        Route::DashboardFile { file } => dashboard::file(&file),
    }
}
