//! The request bodies of this API.

use referrals::{
    domain::{
        code::Code,
        device::DeviceFingerprint,
        id::{ProgramId, UserId},
        time::Timestamp,
    },
    lambda::http::{problem::Problem, request},
    lifecycle::details::SignUpDetails,
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
#[derive(Clone, Debug)]
pub(crate) struct AttributeBody {
    pub(crate) referee_id: UserId,
    pub(crate) details: SignUpDetails,
}

impl AttributeBody {
    /// Reads the required field and the optional ones separately, because serde cannot skip an unreadable value in a
    /// flattened struct.
    ///
    /// # Errors
    /// Returns an error when the body is not a JSON object, or when `referee_id` is missing or invalid.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        let Required { referee_id } = request::json(body)?;
        Ok(Self { referee_id, details: request::json(body)? })
    }
}

#[derive(Deserialize)]
struct Required {
    referee_id: UserId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_body_is_explained() {
        let problem = AttributeBody::read(br#"{"referee_id": 7}"#).unwrap_err();
        assert!(problem.detail().contains("invalid type: integer"), "{problem:?}");
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"{}",
            b"\xff",
            br#"{"referee_id":"a b"}"#,
            br#"["a",null,null,null,null,null,null]"#,
        ] {
            assert!(AttributeBody::read(body).is_err());
        }
    }
}
