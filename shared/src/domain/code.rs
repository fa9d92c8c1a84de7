//! Referral codes: how they are generated, chosen, typed and compared.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::domain::{
    id::{ProgramId, UserId},
    time::Timestamp,
};

/// Crockford's base 32 has no I, L, O or U, so no two characters look similar.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A referral code: random (eight characters), or a vanity code of 3 to 32 letters, digits and hyphens.
///
/// Two codes are equal when their canonical forms are equal, so `summer-fun` equals `SUMMERFUN`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Code {
    display: String,
    canonical: String,
}

impl Code {
    /// The code for 40 random bits.
    pub fn drawn(entropy: [u8; 5]) -> Self {
        let bits = entropy.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let display: String =
            (0..8).rev().map(|place| char::from(ALPHABET[(bits >> (place * 5) & 31) as usize])).collect();
        Self { canonical: display.clone(), display }
    }

    /// The code in a text that a person typed or pasted: the code itself, or a text with a whole link. Characters around the
    /// code that no code contains are ignored, and so are invisible ones. Typographic dashes are hyphens.
    ///
    /// # Errors
    /// Returns an error when what remains is not a code.
    pub fn pasted(text: &str) -> Result<Self, InvalidCode> {
        // A chosen code may begin or end with a hyphen.
        if let Ok(code) = text.parse() {
            return Ok(code);
        }
        let text = match text.rsplit_once(LINK_PATH) {
            Some((_, rest)) => {
                let part = rest.split(|c: char| "/?#".contains(c) || c.is_whitespace()).next().unwrap_or_default();
                percent_decode_str(part).decode_utf8_lossy()
            }
            None => text.into(),
        };
        let shown: String =
            text.chars().filter(|c| !is_invisible(*c)).map(|c| if is_dash(c) { '-' } else { c }).collect();
        Self::try_from(shown.trim_matches(|c: char| !c.is_alphanumeric()).to_owned())
    }

    /// The form that is displayed: as it was generated or chosen.
    pub fn as_str(&self) -> &str {
        &self.display
    }

    /// The form that is looked up and must be unique: upper case, hyphens dropped, O read as 0, I and L as 1.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

/// The part of a link's path before its code.
const LINK_PATH: &str = "/r/";

/// What a request or an event says about the code of a sign-up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum NamedCode {
    /// No code, or a text without a visible character.
    #[default]
    None,
    Code(Code),
    /// A text or another value that no code can be.
    Invalid,
}

impl<'de> Deserialize<'de> for NamedCode {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(value)? {
            Value::Null => Self::None,
            Value::String(text) if text.chars().all(|c| c.is_whitespace() || is_invisible(c)) => Self::None,
            Value::String(text) => Code::pasted(&text).map_or(Self::Invalid, Self::Code),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Self::Invalid,
        })
    }
}

/// Characters without a glyph that chat and mail programs insert: soft hyphens, joiners, marks of direction, variation
/// selectors, byte order marks.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// The dashes that programs write instead of a hyphen.
fn is_dash(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}')
}

/// A code and its owner. A code never changes its owner, so this can stay in a cache for a long time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedCode {
    pub code: Code,
    /// The referrer of all users who sign up with the code.
    pub owner: UserId,
    pub program: ProgramId,
    pub created_at: Timestamp,
    /// The first moment at which the code is no longer valid; `None` if it never expires.
    pub expires_at: Option<Timestamp>,
}

impl OwnedCode {
    /// Whether the code is valid at this moment.
    pub fn is_live(&self, at: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| at < end)
    }
}

/// A change of a code's expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpiryChange {
    /// The code is live until this time, which is in the future; `None`: without an end.
    Live(Option<Timestamp>),
    /// The code ended at this time, which is not in the future.
    Ended(Timestamp),
    /// The code ends at this time, which is now, unless it has ended before.
    Disabled(Timestamp),
}

fn canonical(text: &str) -> String {
    let fold = |letter: char| match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    text.chars().filter(|&letter| letter != '-').map(fold).collect()
}

/// The text is not a code of 3 to 32 letters, digits and hyphens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a code of 3 to 32 letters, digits and hyphens")]
pub struct InvalidCode;

impl TryFrom<String> for Code {
    type Error = InvalidCode;

    fn try_from(display: String) -> Result<Self, InvalidCode> {
        let is_code = (3..=32).contains(&display.len())
            && display.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && display.bytes().any(|byte| byte != b'-');
        if !is_code {
            return Err(InvalidCode);
        }
        Ok(Self { canonical: canonical(&display), display })
    }
}

impl std::str::FromStr for Code {
    type Err = InvalidCode;

    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        Self::try_from(text.to_owned())
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.display
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for Code {}

impl Hash for Code {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use super::*;

    fn code(text: &str) -> Code {
        text.parse().unwrap()
    }

    #[test]
    fn a_random_code_is_its_own_canonical_form() {
        assert_eq!(Code::drawn([0; 5]).as_str(), "00000000");
        assert_eq!(Code::drawn([255; 5]).as_str(), "ZZZZZZZZ");
        let drawn = Code::drawn([0x12, 0x34, 0x56, 0x78, 0x9a]);
        assert_eq!(drawn.as_str(), "28T5CY4T");
        assert_eq!(canonical(drawn.as_str()), drawn.canonical());
    }

    #[test]
    fn codes_that_look_alike_are_equal() {
        assert_eq!(code("Lil-Oil"), code("1110 11".replace(' ', "").as_str()));
        assert_eq!(code("summer-fun"), code("SUMMERFUN"));
        assert_ne!(code("summer-fun"), code("summer-sun"));
        assert_eq!(code("summer-fun").as_str(), "summer-fun");
    }

    #[test]
    fn a_code_is_written_as_chosen_and_found_as_typed() {
        assert_eq!(serde_json::to_string(&code("summer-fun")).unwrap(), "\"summer-fun\"");
        let hash = |text: &str| BuildHasherDefault::<DefaultHasher>::default().hash_one(code(text));
        assert_eq!(hash("summer-fun"), hash("SUMMERFUN"));
        assert_ne!(hash("summer-fun"), hash("summer-sun"));
    }

    #[test]
    fn a_pasted_code_is_understood() {
        for text in [
            "summer-fun",
            "  Summer-Fun\r\n",
            "\u{a0}summer\u{2011}fun\u{3000}",
            "\u{2014} SUMMER\u{2013}FUN \u{2014}",
            "\u{201c}summer\u{2212}fun\u{201d}.",
            "*summer-fun*,",
            "\u{feff}sum\u{ad}mer\u{200b}-fun\u{200e}",
            "https://go.example.com/r/summer-fun",
            "HTTPS://GO.EXAMPLE.COM/r/SUMMER-FUN/",
            "go.example.com/r/summer-fun.",
            "http://127.0.0.1:9000/base/r/summer-fun?utm_source=mail&x=/y",
            "<https://go.example.com/r/%73ummer-fun%20>",
            "(see https://go.example.com/r/summer-fun#top)",
            "Use my link https://go.example.com/r/summer\u{2011}fun to sign up.",
        ] {
            assert_eq!(Code::pasted(text), Ok(code("summer-fun")), "{text:?}");
        }
        assert_eq!(Code::pasted("-fun-").map(|code| code.as_str().to_owned()), Ok("-fun-".to_owned()));
        for text in ["", "---", "!", "SAVE 10%", "summer_fun", "\u{e7}ode", "https://go.example.com/r/", "a\0b"] {
            assert_eq!(Code::pasted(text), Err(InvalidCode), "{text:?}");
        }
    }

    #[test]
    fn an_empty_code_is_none_and_any_other_value_is_a_code_or_invalid() {
        let read = |json: &str| serde_json::from_str::<NamedCode>(json).unwrap();
        for json in ["null", r#""""#, r#"" \n\t""#, r#""\u200b\u00a0""#] {
            assert_eq!(read(json), NamedCode::None, "{json}");
        }
        assert_eq!(read(r#"" summer-fun ""#), NamedCode::Code(code("summer-fun")));
        for json in [r#""!""#, r#""-""#, "7", "true", "[]", r#"{"code": "summer-fun"}"#] {
            assert_eq!(read(json), NamedCode::Invalid, "{json}");
        }
    }

    #[test]
    fn invalid_codes_are_refused() {
        for text in ["", "ab", "---", "a_b", "a b c", "çode", &"x".repeat(33), &"x".repeat(10_240)] {
            assert_eq!(text.parse::<Code>().err(), Some(InvalidCode), "{text}");
        }
        for text in ["abc", "a-b", &"x".repeat(32)] {
            assert!(text.parse::<Code>().is_ok(), "{text}");
        }
    }
}
