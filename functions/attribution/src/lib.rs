//! Behind API Gateway: mint, land, attribute, and reads.
//!
//! A request is parsed into a `route::Route` and its input, decided on by the shared crate, and answered.

mod answer;
mod body;
mod problem;
mod read;
mod route;
mod sign_up;

use lambda_http::{Body, Context, Error, Request, RequestExt, Response, http::header};
use referrals::{
    cache::CodeCache,
    code::Code,
    http::{self, input, problem::Problem},
    id::ProgramId,
    life::Intake,
    runtime::{Call, Env, Misconfigured},
    table,
    touch::TouchCookie,
};
use serde::Serialize;

use crate::{answer::Links, route::Route};

/// The function's state.
pub struct App {
    intake: Intake,
    cookie: TouchCookie,
    links: Links,
}

impl App {
    /// Reads `TABLE_NAME`, `FINGERPRINT_KEY`, `COOKIE_KEY`, `COOKIE_DOMAIN`, `PUBLIC_URL`, `LANDING_URL`, `CACHE_URL`,
    /// `CACHE_TIMEOUT_MS` and the program's settings.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn new(env: &Env, dynamodb: aws_sdk_dynamodb::Client) -> Result<Self, Misconfigured> {
        let intake = Intake::from_env(env, &dynamodb, CodeCache::from_env(env)?)?;
        let cookie = TouchCookie::from_env(env, intake.program.window)?;
        Ok(Self { intake, cookie, links: Links::from_env(env)? })
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
    let path = request.raw_http_path();
    let body = request.body();
    match Route::of(request.method(), path)? {
        Route::Mint { user } => sign_up::mint(app, &user, input::bounded(body)?, call).await,
        Route::Attribute => sign_up::attribute(app, cookies(request).as_deref(), input::bounded(body)?, call).await,
        Route::Land { code } => Ok(sign_up::land(app, &code, call).await),
        Route::CodeOf { user } => read::code_of(app, &user, input::parameter::<ProgramId>(request, "program")?).await,
        Route::Code { code } => read::code(app, &code).await,
        Route::Referral { referee } => read::referral(app, &referee).await,
        Route::ReferralsOf { user } => {
            let code = input::parameter::<Code>(request, "code")?;
            read::referrals_of(app, &user, code, &input::page(request, is_place)?).await
        }
        Route::RewardsOf { user } => read::rewards_of(app, &user, &input::page(request, is_place)?).await,
    }
}

/// Whether a cursor names a place in the index of a referrer's referrals.
fn is_place(place: &str) -> bool {
    table::referee_at(place).is_some()
}

/// All `Cookie` headers as one: a proxy may split them.
fn cookies(request: &Request) -> Option<String> {
    let headers = request.headers().get_all(header::COOKIE);
    // Lossy, for a strange letter in somebody else's cookie must not cost us ours.
    let parts: Vec<_> = headers.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
