//! Sign-ups: a member mints a code, a visitor opens its link, and the visitor's sign-up is attributed.

use lambda_http::{
    Body, Response,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, LOCATION, SET_COOKIE},
    },
};
use referrals::{
    domain::{code::Code, id::UserId},
    lambda::http::{
        problem::Problem,
        request::{self, parse},
        response::json,
    },
    lifecycle::{
        attribute::{Attribution, AttributionRefusal, SignUp},
        mint::Mint,
    },
    runtime::{Call, log_outcome::LogOutcome},
    store::{Minted, StoreError},
    view::ReferralView,
};

use crate::{
    App,
    body::{AttributeBody, MintBody},
    cookie::Touch,
    problem::{code_taken, refused},
};

pub(crate) async fn mint(app: &App, user: &str, body: &[u8], call: &Call) -> Result<Response<Body>, Problem> {
    let user: UserId = parse("user_id", user)?;
    let body: MintBody = if body.is_empty() { MintBody::default() } else { request::json(body)? };
    let is_over = body.expires_at.is_some_and(|end| end <= call.now);
    // A repeated call finds the existing code, even if `expires_at` has passed since the first call.
    if is_over && app.sign_ups.store.code_of(&user, &app.sign_ups.program.id).await?.is_none() {
        return Err(Problem::invalid("expires_at: must be in the future"));
    }
    if body.program.is_some_and(|program| program != app.sign_ups.program.id) {
        return Err(refused(AttributionRefusal::ProgramNotFound));
    }
    let MintBody { code, expires_at, device_fingerprint, .. } = body;
    let user_hash = user.hashed();
    let (status, outcome, owned) =
        match app.sign_ups.mint(Mint { user, code, expires_at, device_fingerprint }, call).await? {
            Minted::New(owned) => (StatusCode::CREATED, LogOutcome::Minted, owned),
            Minted::Owned(owned) => (StatusCode::OK, LogOutcome::AlreadyMinted, owned),
            Minted::Conflict => return Err(code_taken()),
        };
    tracing::info!(outcome = outcome.as_str(), user = user_hash);
    Ok(json(status, &app.links.show(&owned)))
}

/// Always redirects to the landing page. Only a live code sets the cookie.
pub(crate) async fn land(app: &App, code: &str, call: &Call) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, app.links.landing.clone());
    // A cached redirect would hide later visits from this service, and a shared cache would share the cookie.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match touch(app, code, call).await {
        Ok(Some(touch)) => {
            tracing::info!(outcome = LogOutcome::Landed.as_str(), code = touch.code.canonical());
            if let Ok(cookie) = HeaderValue::from_str(&app.cookie.set(&touch)) {
                headers.insert(SET_COOKIE, cookie);
            }
        }
        Ok(None) => tracing::info!(outcome = LogOutcome::LandedWithoutCode.as_str()),
        Err(problem) => tracing::error!(outcome = LogOutcome::LandedWithoutLookup.as_str(), %problem),
    }
    response
}

async fn touch(app: &App, code: &str, call: &Call) -> Result<Option<Touch>, StoreError> {
    let Ok(code) = code.parse::<Code>() else { return Ok(None) };
    let known = app.sign_ups.codes.get(&app.sign_ups.store, &code, call).await?;
    let live = known.filter(|owned| owned.is_live(call.now) && owned.program == app.sign_ups.program.id);
    Ok(live.map(|owned| Touch { code: owned.code, at: call.now }))
}

pub(crate) async fn attribute(
    app: &App,
    cookies: Option<&str>,
    body: &[u8],
    call: &Call,
) -> Result<Response<Body>, Problem> {
    let body: AttributeBody = request::json(body)?;
    let correlation_id = body.referee_id.hashed();
    let (status, outcome, referral) = match app.sign_ups.attribute(sign_up(app, cookies, body, call)?, call).await? {
        Attribution::New(referral) => (StatusCode::CREATED, LogOutcome::Attributed, referral),
        Attribution::Existing(referral) => (StatusCode::OK, LogOutcome::AlreadyAttributed, referral),
        Attribution::Refused(reason) => return Err(refused(reason)),
    };
    tracing::info!(outcome = outcome.as_str(), correlation_id);
    Ok(json(status, &ReferralView::of(&referral)))
}

/// The code in the body takes precedence over the cookie. If both have the same code, it must have been live at the visit.
fn sign_up(app: &App, cookies: Option<&str>, body: AttributeBody, call: &Call) -> Result<SignUp, Problem> {
    let AttributeBody { referee_id: referee, details } = body;
    let signed_up_at = details.signed_up_at(call.now);
    let touch = cookies.and_then(|header| app.cookie.latest(header, signed_up_at));
    let (code, judged_at) = match (details.code.clone(), touch) {
        (Some(code), Some(touch)) if touch.code == code => (code, touch.at),
        (Some(code), _) => (code, signed_up_at),
        (None, Some(touch)) => (touch.code, touch.at),
        (None, None) => {
            return Err(Problem::invalid("expected a code, or the cookie of a visit in the attribution window"));
        }
    };
    Ok(details.sign_up(referee, code, judged_at))
}
