//! Problems: every error is an `application/problem+json` document (RFC 9457) with a reason that programs can read.

use lambda_http::{
    Body, Response,
    http::{
        HeaderValue, StatusCode,
        header::{ALLOW, CONTENT_TYPE, RETRY_AFTER},
    },
};
use referrals::{life::attribute::Reason, store::StoreError};
use serde_json::json;

/// What is wrong with a request, or with us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("there is nothing at this path")]
    NotFound,
    #[error("this path takes {allowed}")]
    MethodNotAllowed { allowed: &'static str },
    #[error("the body is larger than {limit} bytes")]
    PayloadTooLarge { limit: usize },
    #[error("{detail}")]
    InvalidRequest { detail: String },
    #[error("this code belongs to somebody else")]
    CodeTaken,
    #[error("{}", explain(*.0))]
    Refused(Reason),
    #[error("this user was not referred")]
    ReferralNotFound,
    #[error("the service cannot answer right now; try again")]
    Unavailable(#[from] StoreError),
}

impl Problem {
    /// A request that cannot be read, and why.
    pub(crate) fn invalid(detail: impl ToString) -> Self {
        Self::InvalidRequest { detail: detail.to_string() }
    }

    /// Status and reason; the reason is part of the contract.
    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::PayloadTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::InvalidRequest { .. } => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::Refused(Reason::ProgramNotFound) => (StatusCode::NOT_FOUND, "program_not_found"),
            Self::Refused(Reason::CodeNotFound) => (StatusCode::NOT_FOUND, "code_not_found"),
            Self::CodeTaken => (StatusCode::CONFLICT, "code_taken"),
            Self::Refused(Reason::AlreadyReferred) => (StatusCode::CONFLICT, "already_referred"),
            Self::Refused(Reason::CodeExpired) => (StatusCode::GONE, "code_expired"),
            Self::Refused(Reason::SelfReferral) => (StatusCode::UNPROCESSABLE_ENTITY, "self_referral"),
            Self::Refused(Reason::ReferrerFlagged) => (StatusCode::UNPROCESSABLE_ENTITY, "referrer_flagged"),
            Self::Refused(Reason::DeviceMatch) => (StatusCode::UNPROCESSABLE_ENTITY, "device_match"),
            Self::Refused(Reason::ReciprocalReferral) => (StatusCode::UNPROCESSABLE_ENTITY, "reciprocal_referral"),
            Self::ReferralNotFound => (StatusCode::NOT_FOUND, "referral_not_found"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }

    /// The answer.
    pub(crate) fn respond(&self) -> Response<Body> {
        let (status, reason) = self.parts();
        if let Self::Unavailable(problem) = self {
            tracing::error!(outcome = reason, %problem);
        } else {
            tracing::info!(outcome = reason, status = status.as_u16());
        }
        let document = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
            "reason": reason,
        });
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::MethodNotAllowed { allowed } => drop(headers.insert(ALLOW, HeaderValue::from_static(allowed))),
            Self::Unavailable(_) => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => {}
        }
        response
    }
}

/// What to tell the product's people of a refusal.
fn explain(reason: Reason) -> &'static str {
    match reason {
        Reason::ProgramNotFound => "there is no such program here",
        Reason::CodeNotFound => "nobody has this code",
        Reason::AlreadyReferred => "this user was referred by another code before",
        Reason::CodeExpired => "the code had expired",
        Reason::SelfReferral => "nobody can refer themselves",
        Reason::ReferrerFlagged => "the referrer's account is flagged",
        Reason::DeviceMatch => "the device is one of the referrer's",
        Reason::ReciprocalReferral => "the referrer was referred by this user",
    }
}
