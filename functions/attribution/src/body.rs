//! The request bodies of this API.

use referrals::{
    domain::{
        code::Code,
        device::DeviceFingerprint,
        id::{ProgramId, UserId},
        time::Timestamp,
    },
    lifecycle::attribute::SignUpDetails,
};
use serde::Deserialize;

/// The body of `PUT /v1/users/{user_id}/code`; every field is optional, and so is the body.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct MintBody {
    pub(crate) program: Option<ProgramId>,
    pub(crate) code: Option<Code>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) device_fingerprint: Option<DeviceFingerprint>,
}

/// The body of `POST /v1/referrals`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AttributeBody {
    pub(crate) referee_id: UserId,
    #[serde(flatten)]
    pub(crate) details: SignUpDetails,
}

#[cfg(test)]
mod tests {
    use referrals::lambda::http::request;

    use super::*;

    #[test]
    fn an_invalid_body_is_explained() {
        let problem = request::json::<AttributeBody>(br#"{"referee_id": 7}"#).unwrap_err();
        assert!(problem.detail().contains("invalid type: integer"), "{problem:?}");
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"{}",
            b"\xff",
            br#"{"referee_id":"a b"}"#,
            br#"{"referee_id":"a","ip":"x"}"#,
            br#"["a",null,null,null,null,null,null]"#,
        ] {
            assert!(request::json::<AttributeBody>(body).is_err());
        }
    }
}
