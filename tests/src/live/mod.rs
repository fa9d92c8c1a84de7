//! The live view: a page that acts out a referral's life by buttons, and tells what happens while it happens. It is
//! made of the product's API, the bus and the paths under `/_local/`, as anybody could call them.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header::CONTENT_SECURITY_POLICY},
};
use serde_json::json;

use crate::{
    problem::{answer, json_answer},
    service::Local,
};

/// What it is made of, by the rest of its path. It has its looks from the operators' page.
const FILES: [(&str, &str, &str); 4] = [
    ("", "text/html; charset=utf-8", include_str!("page.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("news.js", "text/javascript; charset=utf-8", include_str!("news.js")),
];

/// It runs this service's scripts alone and asks nobody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

/// Answers with one of the page's files, or with the settings that it has to know.
pub(crate) fn respond(local: &Local, file: &str) -> Option<Response<Body>> {
    if file == "settings" {
        return Some(settings(local));
    }
    let (_, kind, text) = FILES.iter().find(|(name, ..)| *name == file)?;
    let mut response = answer(StatusCode::OK, kind, (*text).to_owned());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Some(response)
}

/// What events need, so that they convert: `{bus, event, currency}`.
fn settings(local: &Local) -> Response<Body> {
    let setting = |name, usual| local.env.get(name).unwrap_or(usual);
    json_answer(
        StatusCode::OK,
        &json!({
            "bus": local.bus,
            "event": setting("QUALIFYING_EVENT", "order.completed"),
            "currency": setting("CURRENCY", "USD"),
        }),
    )
}
