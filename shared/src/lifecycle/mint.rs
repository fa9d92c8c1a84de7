//! Mint: a member gets a code. A member has at most one live code per program.

use super::SignUps;
use crate::{
    domain::{
        code::{Code, OwnedCode},
        device::DeviceFingerprint,
        id::UserId,
        time::Timestamp,
    },
    mutant::{self, Mutant},
    runtime::Call,
    store::{Minted, Store, StoreError},
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
    /// Whether a member whose code has ended gets another one. A repeated event must not give one to a member whose code
    /// an operator has disabled.
    pub replaces_ended: bool,
}

impl SignUps {
    /// Mints the code, or finds the one that the member already has. A code that has ended is replaced, if the request
    /// says so. Only a vanity code can be [`Minted::Conflict`]; if a random code exists already, the next one is tried.
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
            let minted = self.store.mint(code.clone(), device.as_ref()).await?;
            let minted = if request.replaces_ended { self.replaced(minted, &code, call).await? } else { minted };
            if minted != Minted::Conflict {
                return Ok(minted);
            }
        }
        match request.code {
            Some(_) => Ok(Minted::Conflict),
            None => Err(StoreError::Contended("the random codes".to_owned())),
        }
    }

    /// Replaces the member's code if it has ended. Decides again if a concurrent request changed it.
    async fn replaced(&self, mut minted: Minted, code: &OwnedCode, call: &Call) -> Result<Minted, StoreError> {
        for _ in 0..Store::MAX_DECISIONS {
            match &minted {
                Minted::Owned(ended) if !ended.is_live(call.now) && !mutant::is(Mutant::EndedCodeHandedOut) => {
                    minted = self.store.replace(code.clone(), &ended.code).await?;
                }
                Minted::New(_) | Minted::Owned(_) | Minted::Conflict => return Ok(minted),
            }
        }
        Err(StoreError::Contended(format!("the code {}", code.code.canonical())))
    }
}

/// Three random codes to try in turn. If a billion codes exist, the probability that the first one is not free is about
/// one in a thousand. The codes differ for each user, because one invocation may mint for several users.
fn random_codes(call: &Call, user: &UserId) -> [Code; 3] {
    let drawn = call.draw(user.as_str());
    [0, 1, 2].map(|attempt| Code::drawn(std::array::from_fn(|index| drawn[attempt * 5 + index])))
}
