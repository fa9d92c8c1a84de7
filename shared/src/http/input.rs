//! Input: bodies and queries become types, or an answer that says what is wrong.

use std::{fmt::Display, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use lambda_http::{Body, Request, RequestExt};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// No body of ours is anywhere near this large.
const BODY_LIMIT: usize = 64 * 1024;

/// Which part of a list is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageQuery {
    /// At most so many items: 1 to 100.
    pub limit: u32,
    /// Where the page begins.
    pub cursor: Option<Cursor>,
}

/// Where a page begins: the last place of the page before, wrapped so that nobody builds upon it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor(String);

impl Cursor {
    /// Wraps a place.
    pub fn new(place: String) -> Self {
        Self(place)
    }

    /// The place.
    pub fn place(&self) -> &str {
        &self.0
    }

    /// The cursor as clients see it.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// A cursor that came back, if `is_place` knows the place in it.
    pub fn from_text(text: &str, is_place: impl Fn(&str) -> bool) -> Option<Self> {
        let place = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        is_place(&place).then_some(Self(place))
    }
}

/// The body's bytes.
///
/// # Errors
/// When there are too many.
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

/// A JSON body as a `T`.
///
/// # Errors
/// When it is not one, with what is wrong.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Left alone, serde takes a list of values for the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid("the body: expected a JSON object"));
    }
    serde_json::from_slice(body).map_err(|problem| Problem::invalid(format!("the body: {problem}")))
}

/// A parameter of the query as a `T`, if it is given; whatever is not asked for is ignored.
///
/// # Errors
/// When it cannot be read.
pub fn parameter<T>(request: &Request, name: &str) -> Result<Option<T>, Problem>
where
    T: FromStr,
    T::Err: Display,
{
    let given = request.query_string_parameters_ref().and_then(|parameters| parameters.first(name));
    given.map(|text| parse(name, text)).transpose()
}

/// The part of a list that a query names; `is_place` knows the places of this list.
///
/// # Errors
/// When `limit` or `cursor` cannot be read.
pub fn page(request: &Request, is_place: impl Fn(&str) -> bool) -> Result<PageQuery, Problem> {
    let out_of_range = || Problem::invalid("limit: expected a number from 1 to 100");
    let limit = parameter::<u32>(request, "limit").map_err(|_| out_of_range())?.unwrap_or(50);
    let cursor = parameter::<String>(request, "cursor")?.map(|text| cursor(&text, is_place)).transpose()?;
    if !(1..=100).contains(&limit) {
        return Err(out_of_range());
    }
    Ok(PageQuery { limit, cursor })
}

/// A cursor of ours.
///
/// # Errors
/// When it is not one.
pub fn cursor(text: &str, is_place: impl Fn(&str) -> bool) -> Result<Cursor, Problem> {
    Cursor::from_text(text, is_place).ok_or_else(|| Problem::invalid("cursor: not one of ours"))
}

/// A part of the path or of the query as a `T`.
///
/// # Errors
/// When it cannot be read, with what it is.
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
    fn a_cursor_comes_back_and_a_forged_one_does_not() {
        let read = |text: &str| Cursor::from_text(text, |place| place.parse::<ListCursor>().is_ok());
        let cursor = Cursor::new("2026-01-31T09:30:00.000Z#bob".to_owned());
        assert_eq!(read(&cursor.to_text()), Some(cursor));
        for text in ["", "!", "Ym9i", &URL_SAFE_NO_PAD.encode("2026-01-31#bob"), &URL_SAFE_NO_PAD.encode([0xff])] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
