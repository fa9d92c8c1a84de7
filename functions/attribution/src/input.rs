//! Input: bodies and queries become types, or an answer that says what is wrong.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use lambda_http::{Body, Request, RequestExt};
use referrals::{
    code::Code,
    device::DeviceFingerprint,
    id::{ProgramId, UserId},
    life::attribute::Report,
    table,
    time::Timestamp,
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::problem::Problem;

/// No body of ours is anywhere near this large.
const BODY_LIMIT: usize = 64 * 1024;

/// The body of `PUT /v1/users/{user_id}/code`; every field may be left out, and so may the body.
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
    pub(crate) report: Report,
}

/// Which part of a list is asked for.
#[derive(Clone, Debug)]
pub(crate) struct PageQuery {
    pub(crate) limit: u32,
    pub(crate) cursor: Option<Cursor>,
}

/// Where a page begins: the last place of the page before, wrapped so that nobody builds upon it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cursor(String);

impl Cursor {
    pub(crate) fn new(place: String) -> Self {
        Self(place)
    }

    pub(crate) fn place(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    fn from_text(text: &str) -> Option<Self> {
        let place = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        table::referee_at(&place).map(|_| Self(place))
    }
}

/// The body's bytes, unless there are too many.
pub(crate) fn bounded(body: &Body) -> Result<&[u8], Problem> {
    let bytes: &[u8] = match body {
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        _ => &[],
    };
    if bytes.len() > BODY_LIMIT {
        return Err(Problem::PayloadTooLarge { limit: BODY_LIMIT });
    }
    Ok(bytes)
}

/// A JSON body as a `T`.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Left alone, serde takes a list of values for the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid("the body: expected a JSON object"));
    }
    serde_json::from_slice(body).map_err(|problem| Problem::invalid(format!("the body: {problem}")))
}

/// A parameter of the query; whatever is not asked for is ignored.
fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.query_string_parameters_ref().and_then(|parameters| parameters.first(name))
}

/// The program that a query names.
pub(crate) fn program(request: &Request) -> Result<Option<ProgramId>, Problem> {
    parameter(request, "program").map(|program| parse("program", program)).transpose()
}

/// The code that a query names.
pub(crate) fn code(request: &Request) -> Result<Option<Code>, Problem> {
    parameter(request, "code").map(|code| parse("code", code)).transpose()
}

/// The part of a list that a query names.
pub(crate) fn page(request: &Request) -> Result<PageQuery, Problem> {
    let limit = parameter(request, "limit").map_or(Some(50), |limit| limit.parse().ok());
    let limit = limit.filter(|limit| (1..=100).contains(limit));
    let cursor = parameter(request, "cursor").map(Cursor::from_text);
    Ok(PageQuery {
        limit: limit.ok_or_else(|| Problem::invalid("limit: expected a number from 1 to 100"))?,
        cursor: cursor.map(|cursor| cursor.ok_or_else(|| Problem::invalid("cursor: not one of ours"))).transpose()?,
    })
}

/// A part of the path or of the query as a `T`.
pub(crate) fn parse<T>(what: &str, text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|problem| Problem::invalid(format!("{what}: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_a_forged_one_does_not() {
        let cursor = Cursor::new("2026-01-31T09:30:00.000Z#bob".to_owned());
        assert_eq!(Cursor::from_text(&cursor.to_text()), Some(cursor));
        for text in ["", "!", "Ym9i", &URL_SAFE_NO_PAD.encode("2026-01-31#bob"), &URL_SAFE_NO_PAD.encode([0xff])] {
            assert_eq!(Cursor::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_type_is_named() {
        let problem = json::<AttributeBody>(br#"{"referee_id": 7}"#).unwrap_err().to_string();
        assert!(problem.contains("invalid type: integer"), "{problem}");
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
            assert!(json::<AttributeBody>(body).is_err());
        }
    }
}
