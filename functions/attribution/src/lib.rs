//! Behind API Gateway: mint, land, attribute, and reads.
//!
//! A request is parsed into a `route::Route` and its input, decided on by the shared crate, and answered.

mod answer;
mod input;
mod problem;
mod read;
mod route;
mod sign_up;

use lambda_http::{
    Adapter, Body, Context, Error, LambdaEvent, Request, RequestExt, Response, Service, http::header,
    request::LambdaRequest, service_fn,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use referrals::{
    life::Intake,
    runtime::{Call, Env, Misconfigured},
    touch::TouchCookie,
};

use serde_json::Value;

use crate::{answer::Links, problem::Problem, route::Route};

/// The function's state.
pub struct App {
    intake: Intake,
    cookie: TouchCookie,
    links: Links,
}

impl App {
    /// Reads `TABLE_NAME`, `FINGERPRINT_KEY`, `COOKIE_KEY`, `COOKIE_DOMAIN`, `PUBLIC_URL`, `LANDING_URL` and the
    /// program's settings.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn new(env: &Env, dynamodb: aws_sdk_dynamodb::Client) -> Result<Self, Misconfigured> {
        let intake = Intake::from_env(env, &dynamodb)?;
        let cookie = TouchCookie::from_env(env, intake.program.window)?;
        Ok(Self { intake, cookie, links: Links::from_env(env)? })
    }
}

/// Answers one request as API Gateway sends it, with what it expects back.
///
/// # Errors
/// When it is no request of an HTTP API.
pub async fn invoke(app: &App, mut event: Value, context: Context, call: Call) -> Result<Value, Error> {
    if let Some(Value::String(query)) = event.get_mut("rawQueryString") {
        *query = utf8_percent_encode(query, UNFIT_FOR_A_QUERY).to_string();
    }
    let request: LambdaRequest = serde_json::from_str(&event.to_string())?;
    let handler = service_fn(move |request| async move { Ok::<_, Error>(handle(app, request, call).await) });
    Ok(serde_json::to_value(Adapter::from(handler).call(LambdaEvent::new(request, context)).await?)?)
}

/// What a client may send in a query, and `lambda_http` would panic at when it makes a URI of it.
const UNFIT_FOR_A_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Answers one request; whatever goes wrong is an answer too.
pub async fn handle(app: &App, request: Request, call: Call) -> Response<Body> {
    match dispatch(app, &request, &call).await {
        Ok(response) => response,
        Err(problem) => problem.respond(),
    }
}

async fn dispatch(app: &App, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let path = request.raw_http_path();
    let body = request.body();
    match Route::of(request.method(), path)? {
        Route::Mint { user } => sign_up::mint(app, &user, input::bounded(body)?, call).await,
        Route::Attribute => sign_up::attribute(app, cookies(request).as_deref(), input::bounded(body)?, call).await,
        Route::Land { code } => Ok(sign_up::land(app, &code, call).await),
        Route::CodeOf { user } => read::code_of(app, &user, input::program(request)?).await,
        Route::Code { code } => read::code(app, &code).await,
        Route::Referral { referee } => read::referral(app, &referee).await,
        Route::ReferralsOf { user } => {
            read::referrals_of(app, &user, input::code(request)?, &input::page(request)?).await
        }
        Route::RewardsOf { user } => read::rewards_of(app, &user, &input::page(request)?).await,
    }
}

/// All `Cookie` headers as one: a proxy may split them.
fn cookies(request: &Request) -> Option<String> {
    let headers = request.headers().get_all(header::COOKIE);
    // Lossy, for a strange letter in somebody else's cookie must not cost us ours.
    let parts: Vec<_> = headers.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
