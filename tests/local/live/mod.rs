//! The live view: a page with buttons that play a referral's life cycle. It shows each effect immediately. It uses only
//! the product's API, the bus and the paths under `/_local/`, which any client can call.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header::CONTENT_SECURITY_POLICY},
};
use referrals::domain::money::Currency;
use serde_json::json;

use crate::{
    problem::{answer, json_answer},
    service::Local,
};

/// The page's files, by the last part of their path. Some styles and scripts are those of the operators' dashboard.
const FILES: [(&str, &str, &str); 4] = [
    ("", "text/html; charset=utf-8", include_str!("page.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("events.js", "text/javascript; charset=utf-8", include_str!("events.js")),
];

/// The page may run and call only this service.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

/// Answers with one of the page's files, or with the settings that the page needs.
pub(crate) fn respond(local: &Local, file: &str) -> Option<Response<Body>> {
    if file == "settings" {
        return Some(settings(local));
    }
    let (_, kind, text) = FILES.iter().find(|(name, ..)| *name == file)?;
    let mut response = answer(StatusCode::OK, kind, (*text).to_owned());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Some(response)
}

/// The settings with which the page publishes events that convert: `{bus, event, currency}`, and the currency's exponent,
/// with which it shows money.
fn settings(local: &Local) -> Response<Body> {
    let setting = |name, usual| local.env.get(name).unwrap_or(usual);
    let currency = setting("CURRENCY", "USD");
    let exponent = currency.parse().ok().and_then(Currency::exponent);
    json_answer(
        StatusCode::OK,
        &json!({
            "bus": local.bus,
            "event": setting("QUALIFYING_EVENT", "order.completed"),
            "currency": currency,
            "currency_exponent": exponent,
        }),
    )
}
