//! Problems: every error is an `application/problem+json` document (RFC 9457) with a reason that programs can read.

use std::fmt::Display;

use lambda_http::{
    Body, Response,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{ALLOW, CONTENT_TYPE, RETRY_AFTER},
    },
};
use serde_json::json;

/// What is wrong with a request, or with us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    status: StatusCode,
    reason: &'static str,
    detail: String,
    header: Option<(HeaderName, &'static str)>,
    /// What the log is told, and nobody else.
    cause: Option<String>,
}

impl Problem {
    /// A refusal; the reason is part of the contract, the detail is for people.
    pub fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { status, reason, detail: detail.into(), header: None, cause: None }
    }

    /// Nothing is at this path.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    }

    /// Something is, but it takes only these methods.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("this path takes {allowed}"));
        Self { header: Some((ALLOW, allowed)), ..problem }
    }

    /// The body has more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    }

    /// A request that cannot be read, and why.
    pub fn invalid(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail.to_string())
    }

    /// We cannot answer right now, and why.
    pub fn unavailable(cause: impl Display) -> Self {
        let problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the service cannot answer right now; try again");
        Self { header: Some((RETRY_AFTER, "1")), cause: Some(cause.to_string()), ..problem }
    }

    /// The reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// What it says to people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer.
    pub fn respond(&self) -> Response<Body> {
        let Self { status, reason, detail, header, cause } = self;
        match cause {
            Some(problem) => tracing::error!(outcome = reason, problem),
            None => tracing::info!(outcome = reason, status = status.as_u16()),
        }
        let document = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": detail,
            "reason": reason,
        });
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = *status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Whatever kept us from knowing may be over in a moment.
impl From<crate::store::StoreError> for Problem {
    fn from(problem: crate::store::StoreError) -> Self {
        Self::unavailable(problem)
    }
}
