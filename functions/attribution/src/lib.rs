//! The product's HTTP API, behind API Gateway: mint, land, attribute, and reads.
//!
//! A request is parsed into a `route::Route` and its input. The shared crate makes the decision, and this crate turns
//! it into an HTTP answer.

mod answer;
mod body;
mod cookie;
mod explain;
mod land;
mod landing_page;
mod problem;
mod read;
mod route;
mod sign_up;

use lambda_http::{Body, Context, Error, Request, RequestExt, Response, http::header};
use referrals::{
    cache::CodeCache,
    domain::{code::Code, id::ProgramId},
    lambda::http::{self, problem::Problem, request},
    lifecycle::SignUps,
    runtime::{Call, Env, Misconfigured},
    store::ListCursor,
};
use serde::Serialize;

use crate::{answer::Links, cookie::TouchCookie, landing_page::LandingPage, route::Route};

/// The function's state.
pub struct App {
    sign_ups: SignUps,
    cookie: TouchCookie,
    links: Links,
    landing_page: LandingPage,
}

impl App {
    /// Reads `TABLE_NAME`, `FINGERPRINT_KEY`, `COOKIE_KEY`, `COOKIE_DOMAIN`, `PUBLIC_URL`, `LANDING_URL`,
    /// `LANDING_CODE_PARAMETER`, `CACHE_URL`, `CACHE_TIMEOUT_MS` and the program's settings.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when a setting is missing or invalid.
    pub fn new(env: &Env, dynamodb: aws_sdk_dynamodb::Client) -> Result<Self, Misconfigured> {
        let sign_ups = SignUps::from_env(env, &dynamodb, CodeCache::from_env(env)?)?;
        let cookie = TouchCookie::from_env(env, sign_ups.program.window)?;
        Ok(Self { sign_ups, cookie, links: Links::from_env(env), landing_page: LandingPage::from_env(env)? })
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
    let path = request.raw_http_path();
    let body = request.body();
    match Route::of(request.method(), path)? {
        Route::Mint { user } => sign_up::mint(app, &user, request::bounded(body)?, call).await,
        Route::Attribute => sign_up::attribute(app, cookies(request).as_deref(), request::bounded(body)?, call).await,
        Route::Land { code } => Ok(land::land(app, request, &code, call).await),
        Route::CodeOf { user } => read::code_of(app, &user, request::parameter::<ProgramId>(request, "program")?).await,
        Route::Code { code } => read::code(app, &code).await,
        Route::Referral { referee } => read::referral(app, &referee).await,
        Route::Explain { referee } => explain::explain(app, &referee).await,
        Route::ReferralsOf { user } => {
            let code = request::parameter::<Code>(request, "code")?;
            read::referrals_of(app, &user, code, &request::page(request, is_place)?).await
        }
        Route::RewardsOf { user } => read::rewards_of(app, &user, &request::page(request, is_place)?).await,
    }
}

/// Whether the text of a cursor is a position in the index of a referrer's referrals.
fn is_place(place: &str) -> bool {
    place.parse::<ListCursor>().is_ok()
}

/// All `Cookie` headers as one, because a proxy can split them.
fn cookies(request: &Request) -> Option<String> {
    let headers = request.headers().get_all(header::COOKIE);
    // Lossy: an invalid character in another cookie must not hide the referral cookie.
    let parts: Vec<_> = headers.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
