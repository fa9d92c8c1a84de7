//! The life cycle of a referral, one step per module: mint, attribute, convert or adjust, issue, announce. Module
//! [`operate`] has what operators do.
//!
//! Two steps are elsewhere: landing only looks up a code and is part of the attribution function, and delivery is the
//! delivery function.

pub mod announce;
pub mod attribute;
pub mod convert;
pub mod details;
pub mod issue;
pub mod mint;
pub mod operate;

use crate::{
    cache::CodeCache,
    domain::{correlation::CorrelationId, device::DeviceKeys, id::UserId},
    program::Program,
    runtime::{Env, Misconfigured, secret::Secret},
    store::Store,
};

/// Mints codes and attributes sign-ups.
#[derive(Clone)]
pub struct SignUps {
    pub store: Store,
    /// The program of new codes and referrals.
    pub program: Program,
    pub codes: CodeCache,
    devices: Secret<DeviceKeys>,
}

impl SignUps {
    /// The keyed hash of a user's id, for log lines: the correlation id that a new referral of this user gets.
    pub fn correlation_id(&self, user: &UserId) -> CorrelationId {
        self.devices.get().current().correlation_id(user)
    }

    /// Reads `TABLE_NAME`, `FINGERPRINT_KEY` (at least 32 bytes) and the program's settings. Codes are looked up through
    /// `codes`.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when a setting is missing or invalid.
    pub fn from_env(env: &Env, dynamodb: &aws_sdk_dynamodb::Client, codes: CodeCache) -> Result<Self, Misconfigured> {
        let devices = env.secret("FINGERPRINT_KEY", |values| {
            DeviceKeys::new(values.all()).ok_or_else(|| "is shorter than 32 bytes".to_owned())
        })?;
        Ok(Self {
            store: Store::new(dynamodb, env.required("TABLE_NAME")?),
            program: Program::from_env(env)?,
            codes,
            devices,
        })
    }
}
