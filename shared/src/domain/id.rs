//! External ids. They are parsed once, at the boundary. A parsed id contains only safe characters.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The text is not an id of 1 to 128 characters of `A-Z a-z 0-9 _ . @ - + |`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected an id of 1 to 128 characters of A-Z a-z 0-9 _ . @ - + |")]
pub struct InvalidId;

/// `:` and `#` are not allowed, because they separate the parts of the service's own keys.
fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.@-+|".contains(&byte))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as it was received.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                is_id(&text).then_some(Self(text)).ok_or(InvalidId)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A user of the product: a referrer, a referee, or both. It is the product's id of the account.
    UserId
}
id! {
    /// A referral program.
    ProgramId
}
id! {
    /// The product's id of an order.
    OrderId
}
id! {
    /// The product's id of a refund.
    RefundId
}
id! {
    /// The payment provider's id of a dispute.
    DisputeId
}

impl UserId {
    /// The hash that version 0.1.0 logged and published instead of the id. It can be reversed by trying ids, so only
    /// referrals without a stored correlation id use it.
    pub fn hashed(&self) -> String {
        hashed(&self.0)
    }
}

/// The first 64 bits of an id's SHA-256.
pub(crate) fn hashed(id: &str) -> String {
    Sha256::digest(id.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_ids_are_accepted() {
        for text in [
            "a",
            "user_1",
            "7f9c24e5-2f0e-4f4b-8f2c-1f4a6d6c9b11",
            "auth0|5f7c",
            "bob+test@example.com",
            &"x".repeat(128),
        ] {
            assert_eq!(text.parse::<UserId>().map(String::from).as_deref(), Ok(text));
        }
    }

    #[test]
    fn ids_that_could_forge_a_key_are_refused() {
        for text in ["", "a b", "a#b", "a:b", "ä", "a/b", "a\n", &"x".repeat(129)] {
            assert_eq!(text.parse::<UserId>(), Err(InvalidId), "{text:?}");
        }
    }

    #[test]
    fn a_hashed_id_does_not_contain_the_id() {
        let alice: UserId = "alice".parse().unwrap();
        assert_eq!(alice.hashed().len(), 16);
        assert_eq!(alice.hashed(), alice.clone().hashed());
        assert!(!alice.hashed().contains("alice"));
    }
}
