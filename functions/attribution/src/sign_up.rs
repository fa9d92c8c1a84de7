//! The way in: a member mints a code, a visitor lands by its link, and their sign-up is attributed.

use lambda_http::{
    Body, Response,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, LOCATION, SET_COOKIE},
    },
};
use referrals::{
    code::Code,
    http::{
        answer::json,
        input::{self, parse},
        problem::Problem,
    },
    id::UserId,
    life::{
        attribute::{AttributionRefusal, Outcome, SignUp},
        mint::Mint,
    },
    runtime::Call,
    store::{Minted, StoreError},
    touch::Touch,
    view::ReferralView,
};

use crate::{
    App,
    body::{AttributeBody, MintBody},
    problem::{code_taken, refused},
};

pub(crate) async fn mint(app: &App, user: &str, body: &[u8], call: &Call) -> Result<Response<Body>, Problem> {
    let user: UserId = parse("user_id", user)?;
    let body: MintBody = if body.is_empty() { MintBody::default() } else { input::json(body)? };
    let is_over = body.expires_at.is_some_and(|end| end <= call.now);
    // A call that is repeated late is answered as it was: the code is there already.
    if is_over && app.intake.store.code_of(&user, &app.intake.program.id).await?.is_none() {
        return Err(Problem::invalid("expires_at: is in the past"));
    }
    if body.program.is_some_and(|program| program != app.intake.program.id) {
        return Err(refused(AttributionRefusal::ProgramNotFound));
    }
    let MintBody { code, expires_at, device_fingerprint, .. } = body;
    let who = user.hashed();
    let (status, outcome, owned) =
        match app.intake.mint(Mint { user, code, expires_at, device_fingerprint }, call).await? {
            Minted::New(owned) => (StatusCode::CREATED, "minted", owned),
            Minted::Owned(owned) => (StatusCode::OK, "minted before", owned),
            Minted::Taken => return Err(code_taken()),
        };
    tracing::info!(outcome, user = who);
    Ok(json(status, &app.links.show(&owned)))
}

/// Always leads on; only a live code leaves a cookie.
pub(crate) async fn land(app: &App, code: &str, call: &Call) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, app.links.landing.clone());
    // A remembered redirect would never come by here again, and a shared one would share the cookie.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match touch(app, code, call).await {
        Ok(Some(touch)) => {
            tracing::info!(outcome = "landed", code = touch.code.canonical());
            if let Ok(cookie) = HeaderValue::from_str(&app.cookie.set(&touch)) {
                headers.insert(SET_COOKIE, cookie);
            }
        }
        Ok(None) => tracing::info!(outcome = "landed without a code"),
        Err(problem) => tracing::error!(outcome = "landed without a look at the code", %problem),
    }
    response
}

async fn touch(app: &App, code: &str, call: &Call) -> Result<Option<Touch>, StoreError> {
    let Ok(code) = code.parse::<Code>() else { return Ok(None) };
    let known = app.intake.codes.get(&app.intake.store, &code, call).await?;
    let live = known.filter(|owned| owned.is_live(call.now) && owned.program == app.intake.program.id);
    Ok(live.map(|owned| Touch { code: owned.code, at: call.now }))
}

pub(crate) async fn attribute(
    app: &App,
    cookies: Option<&str>,
    body: &[u8],
    call: &Call,
) -> Result<Response<Body>, Problem> {
    let body: AttributeBody = input::json(body)?;
    let who = body.referee_id.hashed();
    let (status, outcome, referral) = match app.intake.attribute(sign_up(app, cookies, body, call)?, call).await? {
        Outcome::New(referral) => (StatusCode::CREATED, "attributed", referral),
        Outcome::Existing(referral) => (StatusCode::OK, "attributed before", referral),
        Outcome::Refused(reason) => return Err(refused(reason)),
    };
    tracing::info!(outcome, correlation_id = who);
    Ok(json(status, &ReferralView::of(&referral)))
}

/// The body's code beats the cookie's. A touch by the same code says when the code must have been live.
fn sign_up(app: &App, cookies: Option<&str>, body: AttributeBody, call: &Call) -> Result<SignUp, Problem> {
    let AttributeBody { referee_id: referee, report } = body;
    let signed_up_at = report.signed_up_at(call.now);
    let touch = cookies.and_then(|header| app.cookie.latest(header, signed_up_at));
    let (code, judged_at) = match (report.code.clone(), touch) {
        (Some(code), Some(touch)) if touch.code == code => (code, touch.at),
        (Some(code), _) => (code, signed_up_at),
        (None, Some(touch)) => (touch.code, touch.at),
        (None, None) => return Err(Problem::invalid("no code, and no cookie of ours that still counts")),
    };
    Ok(report.sign_up(referee, code, judged_at))
}
