//! Mint: a member gets a code, one per member and program.

use super::Intake;
use crate::{
    code::{Code, OwnedCode},
    device::DeviceFingerprint,
    id::UserId,
    runtime::Call,
    store::{Minted, StoreError},
    time::Timestamp,
};

/// Who wants a code, and what kind.
#[derive(Clone, Debug)]
pub struct Mint {
    /// The member.
    pub user: UserId,
    /// A vanity code; none: one is drawn.
    pub code: Option<Code>,
    /// When it shall end; none: never.
    pub expires_at: Option<Timestamp>,
    /// The member's device.
    pub device_fingerprint: Option<DeviceFingerprint>,
}

impl Intake {
    /// Mints the code, or finds the one that the member has. Only a vanity code can be [`Minted::Taken`]: a drawn one
    /// is drawn again.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn mint(&self, wish: Mint, call: &Call) -> Result<Minted, StoreError> {
        let device = wish.device_fingerprint.as_ref().map(|fingerprint| self.devices.device(fingerprint));
        let candidates = match &wish.code {
            Some(code) => vec![code.clone()],
            None => call.codes(&wish.user).to_vec(),
        };
        for code in candidates {
            let code = OwnedCode {
                code,
                owner: wish.user.clone(),
                program: self.program.id.clone(),
                created_at: call.now,
                expires_at: wish.expires_at,
            };
            match self.store.mint(code, device.as_ref()).await? {
                Minted::Taken => {}
                minted @ (Minted::New(_) | Minted::Owned(_)) => return Ok(minted),
            }
        }
        match wish.code {
            Some(_) => Ok(Minted::Taken),
            None => Err(StoreError::Contended("the drawn codes".to_owned())),
        }
    }
}
