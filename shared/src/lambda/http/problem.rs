//! Problems: every error is an `application/problem+json` document (RFC 9457) with a machine-readable reason.

use std::fmt::Display;

use lambda_http::{
    Body, Response,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{ALLOW, CONTENT_TYPE, RETRY_AFTER},
    },
};
use serde_json::json;

use crate::{fraud::FraudReason, runtime::log_outcome::LogOutcome};

/// The `reason` of a problem document. It is part of the API; `docs/api.md` describes each one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// There is no such path.
    NotFound,
    MethodNotAllowed,
    PayloadTooLarge,
    InvalidRequest,
    ProgramNotFound,
    CodeNotFound,
    AlreadyReferred,
    CodeExpired,
    /// The user signed up before the visit or before the code existed, or too long ago.
    NotNew,
    Fraud(FraudReason),
    CodeTaken,
    ReferralNotFound,
    RewardNotFound,
    ReversalNotFound,
    /// There is no dead-letter queue of this name.
    QueueNotFound,
    /// The dashboard has no such file.
    FileNotFound,
    /// A code cannot be revived while another code of its owner is live.
    OtherCodeLive,
    AlreadyDelivered,
    /// The reward was taken back.
    RewardReversed,
    /// The referral's state does not allow the action.
    WrongState,
    /// A fraud rule would void the referral again.
    RuleBroken,
    /// The order belongs to another user.
    OrderClaimed,
    /// The order no longer stands.
    OrderUndone,
    /// The order does not meet the referral's terms.
    OrderNotQualifying,
    /// The dead-letter queue is already being redriven.
    UnderWay,
    /// The only reason for which a client should repeat the request unchanged.
    Unavailable,
}

impl Reason {
    /// All reasons, in the order of the documentation.
    pub const ALL: [Self; 29] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::PayloadTooLarge,
        Self::InvalidRequest,
        Self::ProgramNotFound,
        Self::CodeNotFound,
        Self::AlreadyReferred,
        Self::CodeExpired,
        Self::NotNew,
        Self::Fraud(FraudReason::SelfReferral),
        Self::Fraud(FraudReason::ReferrerFlagged),
        Self::Fraud(FraudReason::DeviceMatch),
        Self::Fraud(FraudReason::ReciprocalReferral),
        Self::CodeTaken,
        Self::ReferralNotFound,
        Self::Unavailable,
        Self::RewardNotFound,
        Self::ReversalNotFound,
        Self::AlreadyDelivered,
        Self::RewardReversed,
        Self::WrongState,
        Self::RuleBroken,
        Self::OrderClaimed,
        Self::OrderUndone,
        Self::OrderNotQualifying,
        Self::OtherCodeLive,
        Self::QueueNotFound,
        Self::UnderWay,
        Self::FileNotFound,
    ];

    /// The name in the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::PayloadTooLarge => "payload_too_large",
            Self::InvalidRequest => "invalid_request",
            Self::ProgramNotFound => "program_not_found",
            Self::CodeNotFound => "code_not_found",
            Self::AlreadyReferred => "already_referred",
            Self::CodeExpired => "code_expired",
            Self::NotNew => "not_new",
            Self::Fraud(reason) => reason.as_str(),
            Self::CodeTaken => "code_taken",
            Self::ReferralNotFound => "referral_not_found",
            Self::RewardNotFound => "reward_not_found",
            Self::ReversalNotFound => "reversal_not_found",
            Self::QueueNotFound => "queue_not_found",
            Self::FileNotFound => "file_not_found",
            Self::AlreadyDelivered => "already_delivered",
            Self::RewardReversed => "reward_reversed",
            Self::WrongState => "wrong_state",
            Self::RuleBroken => "rule_broken",
            Self::OrderClaimed => "order_claimed",
            Self::OrderUndone => "order_undone",
            Self::OrderNotQualifying => "order_not_qualifying",
            Self::OtherCodeLive => "other_code_live",
            Self::UnderWay => "under_way",
            Self::Unavailable => "unavailable",
        }
    }

    /// The status code that always goes with this reason.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotFound
            | Self::ProgramNotFound
            | Self::CodeNotFound
            | Self::ReferralNotFound
            | Self::RewardNotFound
            | Self::ReversalNotFound
            | Self::QueueNotFound
            | Self::FileNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::AlreadyReferred
            | Self::CodeTaken
            | Self::AlreadyDelivered
            | Self::RewardReversed
            | Self::WrongState
            | Self::RuleBroken
            | Self::OrderClaimed
            | Self::OrderUndone
            | Self::OtherCodeLive
            | Self::UnderWay => StatusCode::CONFLICT,
            Self::CodeExpired => StatusCode::GONE,
            Self::NotNew | Self::OrderNotQualifying | Self::Fraud(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An error answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    reason: Reason,
    detail: String,
    header: Option<(HeaderName, &'static str)>,
    /// The cause of a failure. It is logged and never sent to the client.
    cause: Option<String>,
}

impl Problem {
    /// A refused request. The reason is for programs, the detail for people.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), header: None, cause: None }
    }

    /// There is no such path.
    pub fn not_found() -> Self {
        Self::new(Reason::NotFound, "This path does not exist.")
    }

    /// The path exists, but accepts only the methods in `allowed`.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let problem = Self::new(Reason::MethodNotAllowed, format!("This path accepts only {allowed}."));
        Self { header: Some((ALLOW, allowed)), ..problem }
    }

    /// The body has more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(Reason::PayloadTooLarge, format!("The body is larger than {limit} bytes."))
    }

    /// The request is invalid; `detail` says where and why.
    pub fn invalid(detail: impl ToString) -> Self {
        Self::new(Reason::InvalidRequest, detail.to_string())
    }

    /// The service cannot answer now; `cause` is for the log.
    pub fn unavailable(cause: impl Display) -> Self {
        let problem = Self::new(Reason::Unavailable, "The service is temporarily unavailable. Try again.");
        Self { header: Some((RETRY_AFTER, "1")), cause: Some(cause.to_string()), ..problem }
    }

    /// The text for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Logs the problem and makes the HTTP answer.
    pub fn respond(&self) -> Response<Body> {
        let Self { reason, detail, header, cause } = self;
        let (status, reason) = (reason.status(), reason.as_str());
        match cause {
            Some(problem) => {
                tracing::error!(outcome = LogOutcome::RequestFailed.as_str(), reason, problem);
            }
            None => {
                tracing::info!(outcome = LogOutcome::RequestRefused.as_str(), reason, status = status.as_u16());
            }
        }
        let document = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": detail,
            "reason": reason,
        });
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// The result is unknown, and a retry can succeed.
impl From<crate::store::StoreError> for Problem {
    fn from(problem: crate::store::StoreError) -> Self {
        Self::unavailable(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fraud::{Gate, reasons_at};

    #[test]
    fn every_rule_that_can_refuse_a_sign_up_is_a_reason() {
        let listed = Reason::ALL.into_iter().filter_map(|reason| match reason {
            Reason::Fraud(reason) => Some(reason),
            _ => None,
        });
        assert!(listed.eq(reasons_at(Gate::Attribution)));
    }
}
