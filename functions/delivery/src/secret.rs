//! The secrets that sign the calls to the subsystems, as Standard Webhooks defines them.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use standardwebhooks::Webhook;

/// The minimum length of a key in the specification of Standard Webhooks.
const MIN_BYTES: usize = 24;

/// Base64 as the libraries for npm and PyPI decode it: with any padding, and with any bits behind the last byte. The crate
/// requires exact padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// The text is not a list of secrets. The message does not repeat it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum InvalidSecret {
    #[error("is empty: expected whsec_ and base64 of at least {MIN_BYTES} bytes")]
    Empty,
    #[error("is not base64, with or without the prefix whsec_")]
    NotBase64,
    #[error("is shorter than {MIN_BYTES} bytes (32 characters of base64), the minimum of Standard Webhooks")]
    Short,
}

/// Parses secrets that are separated by white space. Each is base64, with or without the prefix `whsec_`.
pub(crate) fn webhooks(text: &str) -> Result<Vec<Webhook>, InvalidSecret> {
    let webhooks = text.split_whitespace().map(webhook).collect::<Result<Vec<_>, _>>()?;
    if webhooks.is_empty() { Err(InvalidSecret::Empty) } else { Ok(webhooks) }
}

fn webhook(secret: &str) -> Result<Webhook, InvalidSecret> {
    let digits = secret.strip_prefix("whsec_").unwrap_or(secret).trim_end_matches('=');
    let key = BASE64.decode(digits).map_err(|_| InvalidSecret::NotBase64)?;
    match key.len() {
        0 => Err(InvalidSecret::Empty),
        length if length < MIN_BYTES => Err(InvalidSecret::Short),
        _ => Webhook::from_bytes(key).map_err(|_| InvalidSecret::NotBase64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 24 bytes, which need no padding, and 25, which need two characters.
    const SHORTEST: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const PADDED: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA==";

    #[test]
    fn a_webhook_secret_is_accepted_with_and_without_prefix_and_padding() {
        let signature = |secret: &str| webhooks(secret).unwrap()[0].sign("id", 0, b"{}").unwrap();
        let expected = Webhook::new(PADDED).unwrap().sign("id", 0, b"{}").unwrap();
        let bare = PADDED.trim_end_matches('=');
        for padding in ["", "=", "==", "==="] {
            assert_eq!(signature(&format!("{bare}{padding}")), expected, "{padding}");
            assert_eq!(signature(&format!("whsec_{bare}{padding}")), expected, "{padding}");
        }
        // The bits behind the last byte do not count in npm and PyPI. A text of letters and digits can have some.
        assert_eq!(signature(&format!("{SHORTEST}AB")), expected);
        assert_eq!(webhooks(&format!("{PADDED} \n\twhsec_{SHORTEST}\n")).unwrap().len(), 2);
    }

    #[test]
    fn a_weak_or_broken_webhook_secret_is_refused_without_showing_it() {
        let short = &SHORTEST[..31];
        for (secrets, problem) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("whsec_", "is empty"),
            ("whsec_====", "is empty"),
            ("c2VjcmV0", "shorter than 24 bytes"),
            (short, "shorter than 24 bytes"),
            (&format!("whsec_{SHORTEST} whsec_"), "is empty"),
            (&format!("{SHORTEST} c2VjcmV0"), "shorter than 24 bytes"),
            (&format!("{SHORTEST}!"), "not base64"),
            (&format!("{SHORTEST}A"), "not base64"),
            (&format!("whpk_{SHORTEST}"), "not base64"),
            // The alphabet of URLs: PyPI ignores these characters and signs with another key.
            (&format!("-_{}", &SHORTEST[2..]), "not base64"),
        ] {
            let message = webhooks(secrets).err().map(|problem| problem.to_string()).unwrap_or_default();
            assert!(message.contains(problem), "{secrets:?}: {message}");
            assert!(!message.contains("MfKQ") && !message.contains("c2Vj"), "{message}");
        }
    }
}
