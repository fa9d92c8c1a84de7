//! Sign-ups: a member mints a code, and a visitor's sign-up is attributed.

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    domain::{code::NamedCode, id::UserId},
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
    store::Minted,
    view::ReferralView,
};

use crate::{
    App,
    body::{AttributeBody, MintBody},
    problem::{code_taken, refused},
};

pub(crate) async fn mint(app: &App, user: &str, body: &[u8], call: &Call) -> Result<Response<Body>, Problem> {
    let user: UserId = parse("user_id", user)?;
    let body: MintBody = if body.is_empty() { MintBody::default() } else { request::json(body)? };
    let is_over = body.expires_at.is_some_and(|end| end <= call.now);
    // A member with a live code gets it, whatever the body asks for.
    if is_over {
        let owned = app.sign_ups.store.code_of(&user, &app.sign_ups.program.id).await?;
        if owned.is_none_or(|owned| !owned.is_live(call.now)) {
            return Err(Problem::invalid("expires_at: must be in the future"));
        }
    }
    if body.program.is_some_and(|program| program != app.sign_ups.program.id) {
        return Err(refused(AttributionRefusal::ProgramNotFound));
    }
    let MintBody { code, expires_at, device_fingerprint, .. } = body;
    let user_hash = app.sign_ups.correlation_id(&user);
    let mint = Mint { user, code, expires_at, device_fingerprint, replaces_ended: true };
    let (status, outcome, owned) = match app.sign_ups.mint(mint, call).await? {
        Minted::New(owned) => (StatusCode::CREATED, LogOutcome::Minted, owned),
        Minted::Owned(owned) => (StatusCode::OK, LogOutcome::AlreadyMinted, owned),
        Minted::Conflict => return Err(code_taken()),
    };
    tracing::info!(outcome = outcome.as_str(), user = user_hash.as_str());
    Ok(json(status, &app.links.show(&owned)))
}

pub(crate) async fn attribute(
    app: &App,
    cookies: Option<&str>,
    body: &[u8],
    call: &Call,
) -> Result<Response<Body>, Problem> {
    let body = AttributeBody::read(body)?;
    body.details.log_dropped();
    let (status, outcome, referral) = match app.sign_ups.attribute(sign_up(app, cookies, body, call)?, call).await? {
        Attribution::New(referral) => (StatusCode::CREATED, LogOutcome::Attributed, referral),
        Attribution::Existing(referral) => (StatusCode::OK, LogOutcome::AlreadyAttributed, referral),
        Attribution::Refused(reason) => return Err(refused(reason)),
    };
    tracing::info!(outcome = outcome.as_str(), correlation_id = referral.correlation_id());
    Ok(json(status, &ReferralView::of(&referral)))
}

/// The code in the body takes precedence over the cookie. The touch counts if it has the same code.
fn sign_up(app: &App, cookies: Option<&str>, body: AttributeBody, call: &Call) -> Result<SignUp, Problem> {
    let AttributeBody { referee_id: referee, details } = body;
    let signed_up_at = details.signed_up_at(call.now);
    let touch = cookies.and_then(|header| app.cookie.latest(header, signed_up_at));
    let (code, touched_at) = match (details.code.clone(), touch) {
        (NamedCode::Code(code), touch) => {
            let touched_at = touch.filter(|touch| touch.code == code).map(|touch| touch.at);
            (code, touched_at)
        }
        (NamedCode::Invalid, _) => return Err(refused(AttributionRefusal::CodeNotFound)),
        (NamedCode::None, Some(touch)) => (touch.code, Some(touch.at)),
        (NamedCode::None, None) => {
            return Err(Problem::invalid("expected a code, or the cookie of a visit in the attribution window"));
        }
    };
    Ok(details.sign_up(referee, code, signed_up_at, touched_at))
}
