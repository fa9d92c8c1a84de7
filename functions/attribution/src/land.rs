//! Landing: a visitor opens a link and is redirected to the landing page.

use lambda_http::{
    Body, Request, Response,
    http::{
        HeaderValue, Method, StatusCode,
        header::{CACHE_CONTROL, LOCATION, SET_COOKIE},
    },
};
use referrals::{
    domain::code::Code,
    runtime::{Call, log_outcome::LogOutcome},
    store::StoreError,
};

use crate::{App, cookie::Touch};

/// Always redirects to the landing page. Only `GET` of a live code sets the cookie: `HEAD` is a program that checks a link,
/// not a visit.
pub(crate) async fn land(app: &App, request: &Request, code: &str, call: &Call) -> Response<Body> {
    let touch = match touch(app, code, call).await {
        Ok(touch) => touch,
        Err(problem) => {
            tracing::error!(outcome = LogOutcome::LandedWithoutLookup.as_str(), %problem);
            return redirect(app, request, None);
        }
    };
    let mut response = redirect(app, request, touch.as_ref().map(|touch| &touch.code));
    match touch {
        Some(_) if request.method() == Method::HEAD => tracing::info!(outcome = LogOutcome::LinkChecked.as_str()),
        Some(touch) => {
            tracing::info!(outcome = LogOutcome::Landed.as_str(), code = touch.code.canonical());
            if let Ok(cookie) = HeaderValue::from_str(&app.cookie.set(&touch)) {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
        }
        None => tracing::info!(outcome = LogOutcome::LandedWithoutCode.as_str()),
    }
    response
}

fn redirect(app: &App, request: &Request, code: Option<&Code>) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, app.landing_page.location(request.uri().query().unwrap_or_default(), code));
    // A cached redirect would hide later visits from this service, and a shared cache would share the cookie.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn touch(app: &App, code: &str, call: &Call) -> Result<Option<Touch>, StoreError> {
    // Chat and mail programs append characters to links.
    let Ok(code) = Code::pasted(code) else { return Ok(None) };
    let known = app.sign_ups.codes.get(&app.sign_ups.store, &code, call).await?;
    let live = known.filter(|owned| owned.is_live(call.now) && owned.program == app.sign_ups.program.id);
    Ok(live.map(|owned| Touch { code: owned.code, at: call.now }))
}
