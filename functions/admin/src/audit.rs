//! Audit: who acts, and why. Every action that changes a referral or an account needs a reason.

use lambda_http::{Request, RequestExt, request::RequestContext};
use referrals::lambda::http::{problem::Problem, request};
use serde::Deserialize;

/// The part of a body that says why.
#[derive(Debug, Deserialize)]
pub(crate) struct Because {
    pub(crate) reason: String,
}

impl Because {
    /// The most characters of a reason, so that an audit entry stays small.
    const LONGEST: usize = 256;

    /// Reads the reason, without white space at its ends.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        let Self { reason } = request::json(body)?;
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > Self::LONGEST {
            return Err(Problem::invalid(format!("body: expected a reason of 1 to {} characters", Self::LONGEST)));
        }
        Ok(Self { reason: reason.to_owned() })
    }
}

/// The caller, as authenticated by the gateway.
pub(crate) fn operator(request: &Request) -> Option<String> {
    let RequestContext::ApiGatewayV2(context) = request.request_context_ref()? else { return None };
    let authorizer = context.authorizer.as_ref()?;
    let by_role = authorizer.iam.as_ref().and_then(|iam| iam.user_arn.clone());
    by_role.or_else(|| authorizer.jwt.as_ref().and_then(|token| token.claims.get("sub").cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_required_and_short() {
        let read = |reason: &str| Because::read(serde_json::json!({"reason": reason}).to_string().as_bytes());
        assert_eq!(
            read(" asked by the customer ").map(|because| because.reason).ok().as_deref(),
            Some("asked by the customer")
        );
        assert!(read(&"é".repeat(256)).is_ok());
        for invalid in ["", " \n", &"é".repeat(257)] {
            assert!(read(invalid).is_err(), "{invalid}");
        }
        assert!(Because::read(b"{}").is_err());
    }
}
