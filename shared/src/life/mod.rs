//! A referral's life, step by step: mint, attribute, convert (or withdraw), advance, announce.
//!
//! Landing comes between the first two and needs no table ([`crate::touch`]); delivery comes last and is the delivery
//! function's own.

pub mod advance;
pub mod announce;
pub mod attribute;
pub mod convert;
pub mod mint;

use crate::{
    cache::CodeCache,
    device::DeviceKey,
    program::Program,
    runtime::{Env, Misconfigured},
    store::Store,
};

/// What it takes to let people in: to mint their codes and attribute their sign-ups.
#[derive(Clone)]
pub struct Intake {
    /// The table.
    pub store: Store,
    /// The program that sign-ups are attributed in.
    pub program: Program,
    /// Codes looked up lately.
    pub codes: CodeCache,
    devices: DeviceKey,
}

impl Intake {
    /// Reads `TABLE_NAME`, `FINGERPRINT_KEY` (at least 32 bytes) and the program's settings; looks codes up by `codes`.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn from_env(env: &Env, dynamodb: &aws_sdk_dynamodb::Client, codes: CodeCache) -> Result<Self, Misconfigured> {
        let devices = DeviceKey::new(env.required("FINGERPRINT_KEY")?.as_bytes())
            .ok_or_else(|| Misconfigured::new("FINGERPRINT_KEY", "is shorter than 32 bytes"))?;
        Ok(Self {
            store: Store::new(dynamodb, env.required("TABLE_NAME")?),
            program: Program::from_env(env)?,
            codes,
            devices,
        })
    }
}
