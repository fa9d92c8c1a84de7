//! Requests: bodies, paths and queries are parsed into types, or refused with a problem that says why.

use std::{fmt::Display, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use lambda_http::{Body, Request, RequestExt};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Every valid body is far smaller.
const BODY_LIMIT: usize = 64 * 1024;

/// The requested page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageQuery {
    /// The maximum number of items, from 1 to 100.
    pub limit: u32,
    /// Where the page starts.
    pub cursor: Option<Cursor>,
}

/// Where a page starts: the last position of the page before. Its encoding tells clients not to depend on its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor(String);

impl Cursor {
    /// The cursor at this position.
    pub fn new(place: String) -> Self {
        Self(place)
    }

    /// The position.
    pub fn place(&self) -> &str {
        &self.0
    }

    /// The cursor as clients see it.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// The cursor in this text, if `is_place` accepts the position in it.
    pub fn from_text(text: &str, is_place: impl Fn(&str) -> bool) -> Option<Self> {
        let place = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        is_place(&place).then_some(Self(place))
    }
}

/// The bytes of the body.
///
/// # Errors
/// Returns an error when there are too many.
pub fn bounded(body: &Body) -> Result<&[u8], Problem> {
    let bytes: &[u8] = match body {
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        _ => &[],
    };
    if bytes.len() > BODY_LIMIT {
        return Err(Problem::too_large(BODY_LIMIT));
    }
    Ok(bytes)
}

/// Parses a JSON body.
///
/// # Errors
/// Returns an error, which says why, when the body is invalid.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Serde would otherwise accept an array as the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid("body: expected a JSON object"));
    }
    serde_json::from_slice(body).map_err(|problem| Problem::invalid(format!("body: {problem}")))
}

/// Parses a parameter of the query, if it is present. Other parameters are ignored.
///
/// # Errors
/// Returns an error when the parameter is invalid.
pub fn parameter<T>(request: &Request, name: &str) -> Result<Option<T>, Problem>
where
    T: FromStr,
    T::Err: Display,
{
    let given = request.query_string_parameters_ref().and_then(|parameters| parameters.first(name));
    given.map(|text| parse(name, text)).transpose()
}

/// Parses `limit` and `cursor`. `is_place` says whether a position belongs to this list.
///
/// # Errors
/// Returns an error when `limit` or `cursor` is invalid.
pub fn page(request: &Request, is_place: impl Fn(&str) -> bool) -> Result<PageQuery, Problem> {
    let out_of_range = || Problem::invalid("limit: expected a number from 1 to 100");
    let limit = parameter::<u32>(request, "limit").map_err(|_| out_of_range())?.unwrap_or(50);
    let cursor = parameter::<String>(request, "cursor")?.map(|text| cursor(&text, is_place)).transpose()?;
    if !(1..=100).contains(&limit) {
        return Err(out_of_range());
    }
    Ok(PageQuery { limit, cursor })
}

/// Parses a cursor.
///
/// # Errors
/// Returns an error when this service did not make the cursor.
pub fn cursor(text: &str, is_place: impl Fn(&str) -> bool) -> Result<Cursor, Problem> {
    Cursor::from_text(text, is_place)
        .ok_or_else(|| Problem::invalid("cursor: expected the next_cursor of an earlier page"))
}

/// Parses a part of the path or of the query, which `what` names.
///
/// # Errors
/// Returns an error, which names the part, when it is invalid.
pub fn parse<T>(what: &str, text: &str) -> Result<T, Problem>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|problem| Problem::invalid(format!("{what}: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ListCursor;

    #[test]
    fn a_cursor_is_read_back_and_a_forged_one_is_refused() {
        let read = |text: &str| Cursor::from_text(text, |place| place.parse::<ListCursor>().is_ok());
        let cursor = Cursor::new("2026-01-31T09:30:00.000Z#bob".to_owned());
        assert_eq!(read(&cursor.to_text()), Some(cursor));
        for text in ["", "!", "Ym9i", &URL_SAFE_NO_PAD.encode("2026-01-31#bob"), &URL_SAFE_NO_PAD.encode([0xff])] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
