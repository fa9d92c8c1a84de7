//! Referral codes: how they are generated, chosen, typed and compared.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use serde::{Deserialize, Serialize};

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

    /// The form that is displayed: as it was generated or chosen.
    pub fn as_str(&self) -> &str {
        &self.display
    }

    /// The form that is looked up and must be unique: upper case, hyphens dropped, O read as 0, I and L as 1.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
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
    /// The code expires at this time, which can be in the past.
    At(Timestamp),
    Never,
    /// The code expires at this time, which is now, unless it has expired before.
    Now(Timestamp),
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
    fn invalid_codes_are_refused() {
        for text in ["", "ab", "---", "a_b", "a b c", "çode", &"x".repeat(33), &"x".repeat(10_240)] {
            assert_eq!(text.parse::<Code>().err(), Some(InvalidCode), "{text}");
        }
        for text in ["abc", "a-b", &"x".repeat(32)] {
            assert!(text.parse::<Code>().is_ok(), "{text}");
        }
    }
}
