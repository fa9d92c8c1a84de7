//! Mint: a member gets a code, one per member and program.

use super::SignUps;
use crate::{
    domain::{
        code::{Code, OwnedCode},
        device::DeviceFingerprint,
        id::UserId,
        time::Timestamp,
    },
    runtime::Call,
    store::{Minted, StoreError},
};

/// A request for a code.
#[derive(Clone, Debug)]
pub struct Mint {
    pub user: UserId,
    /// A vanity code. `None`: a random code.
    pub code: Option<Code>,
    /// `None`: never.
    pub expires_at: Option<Timestamp>,
    pub device_fingerprint: Option<DeviceFingerprint>,
}

impl SignUps {
    /// Mints the code, or finds the one that the member already has. Only a vanity code can be [`Minted::Conflict`]; if a
    /// random code belongs to another member, the next one is tried.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable, or when all random codes belong to other members.
    pub async fn mint(&self, request: Mint, call: &Call) -> Result<Minted, StoreError> {
        let device =
            request.device_fingerprint.as_ref().map(|fingerprint| self.devices.get().current().device(fingerprint));
        let candidates = match &request.code {
            Some(code) => vec![code.clone()],
            None => random_codes(call, &request.user).to_vec(),
        };
        for code in candidates {
            let code = OwnedCode {
                code,
                owner: request.user.clone(),
                program: self.program.id.clone(),
                created_at: call.now,
                expires_at: request.expires_at,
            };
            match self.store.mint(code, device.as_ref()).await? {
                Minted::Conflict => {}
                minted @ (Minted::New(_) | Minted::Owned(_)) => return Ok(minted),
            }
        }
        match request.code {
            Some(_) => Ok(Minted::Conflict),
            None => Err(StoreError::Contended("the random codes".to_owned())),
        }
    }
}

/// Three random codes to try in turn. If a billion codes exist, the probability that the first one is not free is about
/// one in a thousand. The codes differ for each user, because one invocation may mint for several users.
fn random_codes(call: &Call, user: &UserId) -> [Code; 3] {
    let drawn = call.draw(user.as_str());
    [0, 1, 2].map(|attempt| Code::drawn(std::array::from_fn(|index| drawn[attempt * 5 + index])))
}
