//! Attribute: a sign-up becomes a referral or is refused with a reason.

use std::net::IpAddr;

use serde::Deserialize;

use super::SignUps;
use crate::{
    domain::{
        code::{Code, OwnedCode},
        device::DeviceFingerprint,
        id::UserId,
        time::Timestamp,
    },
    fraud::{self, FraudReason, Gate, Reported},
    referral::{Referral, State},
    runtime::Call,
    store::{Attributed, SignUpEvidence, StoreError},
};

/// What a product can report about a sign-up, in a request or in an event. Every field is optional.
#[derive(Clone, Debug, Deserialize)]
pub struct SignUpDetails {
    pub code: Option<Code>,
    pub device_fingerprint: Option<DeviceFingerprint>,
    signed_up_at: Option<Timestamp>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
    email: Option<String>,
}

impl SignUpDetails {
    /// The time of the sign-up. It is at most `reported_at`, because a sign-up cannot be later than its report.
    pub fn signed_up_at(&self, reported_at: Timestamp) -> Timestamp {
        self.signed_up_at.map_or(reported_at, |at| at.min(reported_at))
    }

    /// The sign-up of `referee` by `code`, which must have been live at `judged_at`.
    pub fn sign_up(self, referee: UserId, code: Code, judged_at: Timestamp) -> SignUp {
        let Self { device_fingerprint, ip, user_agent, email, .. } = self;
        SignUp { referee, code, judged_at, device_fingerprint, reported: Reported { ip, user_agent, email } }
    }
}

/// A sign-up that names a code.
#[derive(Clone, Debug)]
pub struct SignUp {
    pub referee: UserId,
    pub code: Code,
    /// When the code must have been live: at the visit through the link if there was one, else at the sign-up.
    pub judged_at: Timestamp,
    pub device_fingerprint: Option<DeviceFingerprint>,
    /// Never stored, because it is personal data.
    pub reported: Reported,
}

/// The result of a sign-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attribution {
    New(Referral),
    /// The referee was already referred by this code.
    Existing(Referral),
    Refused(AttributionRefusal),
}

/// Why a sign-up is refused, in the order in which the reasons are checked. The fraud rules come last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttributionRefusal {
    /// The code belongs to a program that this stack does not run.
    ProgramNotFound,
    CodeNotFound,
    /// The referee was already referred by another code.
    AlreadyReferred,
    CodeExpired,
    Fraud(FraudReason),
}

impl AttributionRefusal {
    /// The name in HTTP answers and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProgramNotFound => "program_not_found",
            Self::CodeNotFound => "code_not_found",
            Self::AlreadyReferred => "already_referred",
            Self::CodeExpired => "code_expired",
            Self::Fraud(reason) => reason.as_str(),
        }
    }
}

impl SignUps {
    /// Attributes a sign-up.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn attribute(&self, sign_up: SignUp, call: &Call) -> Result<Attribution, StoreError> {
        let Some(known) = self.codes.get(&self.store, &sign_up.code, call).await? else {
            return Ok(Attribution::Refused(AttributionRefusal::CodeNotFound));
        };
        let (owned, SignUpEvidence { code: current, existing, mut evidence }) =
            self.evidence(known, &sign_up.referee).await?;
        if owned.program != self.program.id {
            return Ok(Attribution::Refused(AttributionRefusal::ProgramNotFound));
        }
        if let Some(existing) = existing {
            return Ok(repeated(existing, &sign_up.code));
        }
        evidence.device = sign_up.device_fingerprint.as_ref().map(|fingerprint| self.devices.device(fingerprint));
        evidence.reported = sign_up.reported;
        if let Some(refusal) = code_refusal(current.as_ref(), sign_up.judged_at) {
            return Ok(Attribution::Refused(refusal));
        }
        if let Some(reason) = fraud::check(Gate::Attribution, &evidence) {
            return Ok(Attribution::Refused(AttributionRefusal::Fraud(reason)));
        }
        let referral = Referral {
            mark: Some(mark(call, &sign_up.referee)),
            referee: sign_up.referee,
            referrer: owned.owner,
            code: owned.code,
            program: owned.program,
            terms: self.program.terms.clone(),
            device: evidence.device,
            created_at: call.now,
            rev: 1,
            state: State::Pending { adjustments: Vec::new() },
        };
        Ok(match self.store.attribute(referral).await? {
            Attributed::New(referral) => Attribution::New(referral),
            Attributed::Existing(existing) => repeated(existing, &sign_up.code),
        })
    }

    /// The code as the table has it now, and the evidence. The cached code only selects which account to read. If it is
    /// stale, its cache entry is removed, and the evidence is read again with the current owner.
    async fn evidence(&self, cached: OwnedCode, referee: &UserId) -> Result<(OwnedCode, SignUpEvidence), StoreError> {
        let found = self.store.sign_up_evidence(&cached.code, &cached.owner, referee).await?;
        if found.code.as_ref() == Some(&cached) {
            return Ok((cached, found));
        }
        self.codes.forget(&cached.code).await;
        match found.code.clone() {
            Some(current) if current.owner != cached.owner => {
                let found = self.store.sign_up_evidence(&current.code, &current.owner, referee).await?;
                Ok((current, found))
            }
            Some(current) => Ok((current, found)),
            None => Ok((cached, found)),
        }
    }
}

/// The referee already has a referral: a sign-up by the same code returns it, and a sign-up by another code is refused.
fn repeated(existing: Referral, code: &Code) -> Attribution {
    if existing.code == *code {
        Attribution::Existing(existing)
    } else {
        Attribution::Refused(AttributionRefusal::AlreadyReferred)
    }
}

/// Why this code cannot be used. `None`: it exists and was live at `judged_at`.
fn code_refusal(code: Option<&OwnedCode>, judged_at: Timestamp) -> Option<AttributionRefusal> {
    match code {
        None => Some(AttributionRefusal::CodeNotFound),
        Some(code) if !code.is_live(judged_at) => Some(AttributionRefusal::CodeExpired),
        Some(_) => None,
    }
}

/// The marker stored on a new referral, so that a retry recognises its own write. It differs for each invocation and
/// referee. Its bytes are not used by the random codes of `mint`.
fn mark(call: &Call, referee: &UserId) -> u32 {
    let drawn = call.draw(referee.as_str());
    u32::from_le_bytes(std::array::from_fn(|index| drawn[28 + index]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_code_must_exist_and_be_live() {
        let code = OwnedCode {
            code: "ALICE".parse().unwrap(),
            owner: "alice".parse().unwrap(),
            program: "default".parse().unwrap(),
            created_at: sample::at(0),
            expires_at: Some(sample::at(1_000)),
        };
        let live = OwnedCode { expires_at: Some(sample::at(1_001)), ..code.clone() };
        assert_eq!(code_refusal(None, sample::at(1_000)), Some(AttributionRefusal::CodeNotFound));
        assert_eq!(code_refusal(Some(&code), sample::at(1_000)), Some(AttributionRefusal::CodeExpired));
        assert_eq!(code_refusal(Some(&live), sample::at(1_000)), None);
    }

    #[test]
    fn a_repeated_sign_up_by_the_same_code_finds_the_referral() {
        let (existing, other) = (sample::pending(), "OTHER".parse().unwrap());
        assert_eq!(repeated(existing.clone(), &"a-l-i-c-e".parse().unwrap()), Attribution::Existing(existing.clone()));
        assert_eq!(repeated(existing, &other), Attribution::Refused(AttributionRefusal::AlreadyReferred));
    }
}
