//! What a product reports about a sign-up, in a request or in an event.
//!
//! Every field is optional, and none of them costs a sign-up: a value that cannot be read is dropped.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::attribute::SignUp;
use crate::{
    domain::{
        code::{Code, NamedCode},
        device::DeviceFingerprint,
        id::UserId,
        time::Timestamp,
    },
    fraud::Reported,
    runtime::log_outcome::LogOutcome,
};

/// The optional fields of a sign-up.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SignUpDetails {
    pub code: NamedCode,
    device_fingerprint: Field<DeviceFingerprint>,
    signed_up_at: Field<Timestamp>,
    ip: Field<IpAddr>,
    user_agent: Field<Text>,
    email: Field<Text>,
}

impl SignUpDetails {
    /// The device of the sign-up.
    pub fn device_fingerprint(&self) -> Option<&DeviceFingerprint> {
        self.device_fingerprint.value()
    }

    /// The time of the sign-up. It is at most `reported_at`, because a sign-up cannot be later than its report.
    pub fn signed_up_at(&self, reported_at: Timestamp) -> Timestamp {
        self.signed_up_at.value().map_or(reported_at, |at| reported_at.min(*at))
    }

    /// The sign-up of `referee` by `code`, at `signed_up_at`. The visitor opened a link with this code at `touched_at`.
    pub fn sign_up(
        self,
        referee: UserId,
        code: Code,
        signed_up_at: Timestamp,
        touched_at: Option<Timestamp>,
    ) -> SignUp {
        let text = |field: Field<Text>| field.into_value().map(|Text(text)| text);
        let reported =
            Reported { ip: self.ip.into_value(), user_agent: text(self.user_agent), email: text(self.email) };
        let device_fingerprint = self.device_fingerprint.into_value();
        SignUp { referee, code, signed_up_at, touched_at, device_fingerprint, reported }
    }

    /// Logs the names of the dropped fields. Their values are personal data.
    pub fn log_dropped(&self) {
        for field in self.dropped() {
            tracing::warn!(outcome = LogOutcome::FieldDropped.as_str(), field);
        }
    }

    fn dropped(&self) -> impl Iterator<Item = &'static str> {
        let fields = [
            ("device_fingerprint", self.device_fingerprint.is_unreadable()),
            ("signed_up_at", self.signed_up_at.is_unreadable()),
            ("ip", self.ip.is_unreadable()),
            ("user_agent", self.user_agent.is_unreadable()),
            ("email", self.email.is_unreadable()),
        ];
        fields.into_iter().filter_map(|(name, is_unreadable)| is_unreadable.then_some(name))
    }
}

/// The value of an optional field.
#[derive(Clone, Debug, Default)]
enum Field<T> {
    /// Missing or `null`.
    #[default]
    Absent,
    Given(T),
    Unreadable,
}

impl<T> Field<T> {
    fn value(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }

    fn into_value(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }

    fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Field<T> {
    /// Reads the value in two steps, because an error inside a text, such as half of a surrogate pair in a user agent that
    /// was cut, ends the reading of the whole document.
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(value)?;
        Ok(match serde_json::from_str::<Option<T>>(raw.get()) {
            Ok(Some(value)) => Self::Given(value),
            Ok(None) => Self::Absent,
            Err(_) => Self::Unreadable,
        })
    }
}

/// A text with at least one character.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Text(String);

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.is_empty() { Err("expected a text") } else { Ok(Self(text)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sample;

    fn read(json: &str) -> SignUpDetails {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_unreadable_field_is_dropped_and_the_others_are_kept() {
        let rest = r#""code": "ALICE", "signed_up_at": "1970-01-01T00:00:01Z""#;
        for (field, value) in [
            ("ip", r#""203.0.113.7, 10.0.0.1""#),
            ("ip", r#""203.0.113.7:8080""#),
            ("ip", r#""[::1]:8080""#),
            ("ip", r#""""#),
            ("ip", "7"),
            ("email", r#""""#),
            ("email", "[]"),
            ("email", r#""\ud83d""#),
            ("user_agent", r#""""#),
            ("user_agent", r#""Phone \ud83d""#),
            ("user_agent", "{}"),
            ("device_fingerprint", r#""""#),
            ("device_fingerprint", "true"),
        ] {
            let details = read(&format!(r#"{{"{field}": {value}, {rest}}}"#));
            assert_eq!(details.dropped().collect::<Vec<_>>(), [field], "{value}");
            assert_eq!(details.code, NamedCode::Code("ALICE".parse().unwrap()), "{value}");
            assert_eq!(details.signed_up_at(sample::at(5_000)), sample::at(1_000), "{value}");
        }
        for value in [r#""""#, "7", r#""yesterday""#, r#""2026-02-30T00:00:00Z""#] {
            let details = read(&format!(r#"{{"signed_up_at": {value}}}"#));
            assert_eq!(details.dropped().collect::<Vec<_>>(), ["signed_up_at"], "{value}");
            assert_eq!(details.signed_up_at(sample::at(5_000)), sample::at(5_000), "{value}");
        }
    }

    #[test]
    fn readable_fields_are_reported() {
        let given = json!({
            "ip": "::1", "email": "bob@example.com", "user_agent": "x", "device_fingerprint": "laptop", "more": {},
        });
        let details: SignUpDetails = serde_json::from_value(given).unwrap();
        assert_eq!(details.dropped().count(), 0);
        let sign_up = details.sign_up("bob".parse().unwrap(), "ALICE".parse().unwrap(), sample::at(0), None);
        let (ip, user_agent) = (Some("::1".parse().unwrap()), Some("x".to_owned()));
        assert_eq!(sign_up.reported, Reported { ip, user_agent, email: Some("bob@example.com".to_owned()) });
        assert!(sign_up.device_fingerprint.is_some());
        let nothing = read(r#"{"ip": null, "email": null, "code": null, "signed_up_at": null}"#);
        assert_eq!((nothing.dropped().count(), nothing.code), (0, NamedCode::None));
    }
}
