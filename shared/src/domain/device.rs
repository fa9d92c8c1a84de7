//! Device fingerprints: compared, but never stored in plain form.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{correlation::CorrelationId, id::UserId};

/// A device fingerprint as the product reports it, 1 to 512 bytes. It is personal data and therefore neither stored nor
/// logged.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DeviceFingerprint(String);

/// The text is not a fingerprint of 1 to 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a device fingerprint of 1 to 512 bytes")]
pub struct InvalidFingerprint;

impl TryFrom<String> for DeviceFingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, InvalidFingerprint> {
        (1..=512).contains(&text.len()).then_some(Self(text)).ok_or(InvalidFingerprint)
    }
}

impl std::fmt::Debug for DeviceFingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceFingerprint(..)")
    }
}

/// A device, identified by the first 128 bits of a keyed HMAC-SHA-256 of its fingerprint (base64url, 22 characters).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Device(String);

impl Device {
    /// The text that is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of the HMAC. After a change of the key, no stored device is recognised.
#[derive(Clone)]
pub struct DeviceKey {
    devices: Hmac<Sha256>,
    /// A key that is derived from the secret, so that no second secret is needed.
    correlation: Hmac<Sha256>,
}

impl DeviceKey {
    /// HMAC accepts a key of any length, but a shorter one could be guessed.
    const MIN_BYTES: usize = 32;
    /// From what the second key is derived. It is not valid UTF-8, so no fingerprint has it, and no stored device is a
    /// part of the derived key.
    const CORRELATION: &[u8] = b"\xffcorrelation_id";

    /// A key of at least 32 bytes, without counting white space at its ends; `None` when the secret is shorter.
    pub fn new(secret: &[u8]) -> Option<Self> {
        if secret.trim_ascii().len() < Self::MIN_BYTES {
            return None;
        }
        let devices = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        let derived = devices.clone().chain_update(Self::CORRELATION).finalize().into_bytes();
        Some(Self { devices, correlation: Hmac::new_from_slice(&derived).ok()? })
    }

    /// The device with this fingerprint, as this key computes it.
    pub fn device(&self, fingerprint: &DeviceFingerprint) -> Device {
        let digest = self.devices.clone().chain_update(fingerprint.0.as_bytes()).finalize().into_bytes();
        Device(URL_SAFE_NO_PAD.encode(&digest[..16]))
    }

    /// The correlation id of this referee's referral.
    pub fn correlation_id(&self, referee: &UserId) -> CorrelationId {
        CorrelationId::of(&self.correlation.clone().chain_update(referee.as_str()).finalize().into_bytes())
    }
}

/// The keys that are valid now. Devices are stored under the current key and recognised under each key.
#[derive(Clone)]
pub struct DeviceKeys {
    current: DeviceKey,
    others: Vec<DeviceKey>,
}

impl DeviceKeys {
    /// Keys of at least 32 bytes each, the current one first; `None` when one is shorter, or there is none.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut keys = secrets.into_iter().map(|secret| DeviceKey::new(secret.as_bytes()));
        Some(Self { current: keys.next()??, others: keys.collect::<Option<_>>()? })
    }

    /// The current key, for what is stored.
    pub fn current(&self) -> &DeviceKey {
        &self.current
    }

    /// The device under each of the other keys, which an earlier or another instance may have stored.
    pub fn aliases(&self, fingerprint: &DeviceFingerprint) -> Vec<Device> {
        self.others.iter().map(|key| key.device(fingerprint)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(text: &str) -> DeviceFingerprint {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn a_device_has_one_digest_per_key() {
        let (key, other) = (DeviceKey::new(&[1; 32]).unwrap(), DeviceKey::new(&[2; 32]).unwrap());
        assert_eq!(key.device(&fingerprint("laptop")), key.device(&fingerprint("laptop")));
        assert_ne!(key.device(&fingerprint("laptop")), key.device(&fingerprint("phone")));
        assert_ne!(key.device(&fingerprint("laptop")), other.device(&fingerprint("laptop")));
        assert_eq!(key.device(&fingerprint("laptop")).as_str().len(), 22);
    }

    /// The ids of referrals that were created by different versions with one key must be equal.
    #[test]
    fn a_correlation_id_is_keyed_and_does_not_change() {
        let (key, other) = (DeviceKey::new(&[1; 32]).unwrap(), DeviceKey::new(&[2; 32]).unwrap());
        let [bob, carol] = ["bob", "carol"].map(|user| user.parse::<UserId>().unwrap());
        assert_eq!(key.correlation_id(&bob).as_str(), "96503211658b1380");
        assert_ne!(key.correlation_id(&bob), key.correlation_id(&carol));
        assert_ne!(key.correlation_id(&bob), other.correlation_id(&bob));
        assert_ne!(key.correlation_id(&bob).as_str(), bob.hashed());
    }

    #[test]
    fn a_device_is_recognised_under_every_key() {
        let (old, new) = ("o".repeat(32), "n".repeat(32));
        let (before, during) = (DeviceKeys::new([&*old]).unwrap(), DeviceKeys::new([&*new, &*old]).unwrap());
        let laptop = fingerprint("laptop");
        let stored = before.current().device(&laptop);
        assert_ne!(during.current().device(&laptop), stored);
        assert_eq!(during.aliases(&laptop), [stored]);
        assert!(before.aliases(&laptop).is_empty());
        assert!(DeviceKeys::new([&*new, "short"]).is_none() && DeviceKeys::new([]).is_none());
    }

    #[test]
    fn weak_keys_and_invalid_fingerprints_are_refused() {
        assert!(DeviceKey::new(&[1; 31]).is_none());
        assert!(DeviceKey::new(&[b' '; 64]).is_none());
        assert!(DeviceKey::new(format!("\n{}\n", "k".repeat(31)).as_bytes()).is_none());
        assert!(DeviceFingerprint::try_from(String::new()).is_err());
        assert!(DeviceFingerprint::try_from("x".repeat(513)).is_err());
        assert_eq!(format!("{:?}", fingerprint("laptop")), "DeviceFingerprint(..)");
    }
}
