//! Responses: JSON, and pages of a list.

use lambda_http::{
    Body, Response,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
};
use serde::Serialize;

use super::request::Cursor;

/// A page of a list. It can be short: only `next_cursor` says whether it is the last one.
#[derive(Serialize)]
pub struct PageView<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<T> PageView<T> {
    /// A page of these items. The next page starts at `next`.
    pub fn new(items: Vec<T>, next: Option<String>) -> Self {
        Self { items, next_cursor: next.map(|place| Cursor::new(place).to_text()) }
    }
}

/// A response with a JSON body.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(Body::from(serde_json::to_string(body).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
