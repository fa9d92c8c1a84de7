//! Attribute: a sign-up becomes a referral, or is refused with a reason.

use std::net::IpAddr;

use serde::Deserialize;

use super::Intake;
use crate::{
    code::{Code, OwnedCode},
    device::{Device, DeviceFingerprint},
    id::UserId,
    mutant::{self, Mutant},
    referral::{Referral, State},
    runtime::Call,
    store::{Attributed, AttributionFacts, StoreError},
    time::Timestamp,
};

/// What a product may say of a sign-up, in a request or in an event; all of it may be left out.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// The code that the product was given.
    pub code: Option<Code>,
    /// The device that signed up.
    pub device_fingerprint: Option<DeviceFingerprint>,
    signed_up_at: Option<Timestamp>,
    /// These three are checked for their form and not kept.
    #[serde(rename = "ip")]
    _ip: Option<IpAddr>,
    #[serde(rename = "user_agent")]
    _user_agent: Option<String>,
    #[serde(rename = "email")]
    _email: Option<String>,
}

impl Report {
    /// When they signed up, which was not after the report was made.
    pub fn signed_up_at(&self, reported_at: Timestamp) -> Timestamp {
        self.signed_up_at.map_or(reported_at, |at| at.min(reported_at))
    }
}

/// A sign-up that names a code.
#[derive(Clone, Debug)]
pub struct SignUp {
    /// Who signed up.
    pub referee: UserId,
    /// By which code.
    pub code: Code,
    /// The moment at which the code must have been live: of the touch when there was one, else of the sign-up.
    pub judged_at: Timestamp,
    /// The device that signed up.
    pub device_fingerprint: Option<DeviceFingerprint>,
}

/// What a sign-up came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A new referral.
    New(Referral),
    /// The referee came by this code before.
    Existing(Referral),
    /// No referral, for this reason.
    Refused(Reason),
}

/// Why a sign-up is no referral, in the order in which the reasons are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The code is for a program that this stack does not run.
    ProgramNotFound,
    /// Nobody has this code.
    CodeNotFound,
    /// The referee came by another code before.
    AlreadyReferred,
    /// The code had ended.
    CodeExpired,
    /// Nobody refers themselves.
    SelfReferral,
    /// The referrer's account is flagged.
    ReferrerFlagged,
    /// The referee's device is one of the referrer's.
    DeviceMatch,
    /// The referrer once came by the referee's code.
    ReciprocalReferral,
}

impl Intake {
    /// Attributes a sign-up.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn attribute(&self, sign_up: SignUp, call: &Call) -> Result<Outcome, StoreError> {
        let Some(known) = self.codes.get(&self.store, &sign_up.code, call).await? else {
            return Ok(Outcome::Refused(Reason::CodeNotFound));
        };
        let (owned, facts) = self.facts(known, &sign_up.referee).await?;
        if owned.program != self.program.id {
            return Ok(Outcome::Refused(Reason::ProgramNotFound));
        }
        let device = sign_up.device_fingerprint.as_ref().map(|fingerprint| self.devices.device(fingerprint));
        if let Some(existing) = &facts.existing {
            return Ok(repeated(existing.clone(), &sign_up.code));
        }
        if let Some(reason) = refusal(&sign_up, &owned.owner, device.as_ref(), &facts) {
            return Ok(Outcome::Refused(reason));
        }
        let referral = Referral {
            mark: Some(call.mark(&sign_up.referee)),
            referee: sign_up.referee,
            referrer: owned.owner,
            code: owned.code,
            program: owned.program,
            terms: self.program.terms.clone(),
            device,
            created_at: call.now,
            rev: 1,
            state: State::Pending { adjustments: Vec::new() },
        };
        Ok(match self.store.attribute(referral).await? {
            Attributed::New(referral) => Outcome::New(referral),
            Attributed::Existing(existing) => repeated(existing, &sign_up.code),
        })
    }

    /// The code as the table has it, and all else that decides. What is known of it only says whose account to read; where
    /// that is wrong, the right one's is read, and where anything is, it is known no longer.
    async fn facts(&self, known: OwnedCode, referee: &UserId) -> Result<(OwnedCode, AttributionFacts), StoreError> {
        let facts = self.store.attribution_facts(&known.code, &known.owner, referee).await?;
        if facts.code.as_ref() == Some(&known) {
            return Ok((known, facts));
        }
        self.codes.forget(&known.code).await;
        match facts.code.clone() {
            Some(found) if found.owner != known.owner => {
                let facts = self.store.attribution_facts(&found.code, &found.owner, referee).await?;
                Ok((found, facts))
            }
            Some(found) => Ok((found, facts)),
            None => Ok((known, facts)),
        }
    }
}

/// The referee's own item decides: who came by this code before is told so, and nobody comes twice.
fn repeated(existing: Referral, code: &Code) -> Outcome {
    if existing.code == *code { Outcome::Existing(existing) } else { Outcome::Refused(Reason::AlreadyReferred) }
}

/// The first reason against the sign-up.
fn refusal(sign_up: &SignUp, referrer: &UserId, device: Option<&Device>, facts: &AttributionFacts) -> Option<Reason> {
    let Some(code) = &facts.code else { return Some(Reason::CodeNotFound) };
    let own = facts.referrers_own.as_ref().filter(|_| !mutant::is(Mutant::ReciprocalAccepted));
    let is_referrers = |device: &Device| {
        facts.referrer.devices.contains(device) || own.is_some_and(|own| own.device.as_ref() == Some(device))
    };
    let reasons = [
        (!code.is_live(sign_up.judged_at), Reason::CodeExpired),
        (*referrer == sign_up.referee, Reason::SelfReferral),
        (facts.referrer.flagged && !mutant::is(Mutant::FlaggedReferrerAccepted), Reason::ReferrerFlagged),
        (device.is_some_and(is_referrers), Reason::DeviceMatch),
        (own.is_some_and(|own| own.referrer == sign_up.referee), Reason::ReciprocalReferral),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{account::Account, sample};

    fn sign_up(referee: &str) -> SignUp {
        SignUp {
            referee: referee.parse().unwrap(),
            code: "ALICE".parse().unwrap(),
            judged_at: sample::at(1_000),
            device_fingerprint: None,
        }
    }

    fn device(digest: &str) -> Device {
        serde_json::from_value(digest.into()).unwrap()
    }

    /// Facts with every reason against an attribution of `alice` by `alice`.
    fn worst() -> AttributionFacts {
        AttributionFacts {
            code: Some(OwnedCode {
                code: "ALICE".parse().unwrap(),
                owner: "alice".parse().unwrap(),
                program: "default".parse().unwrap(),
                created_at: sample::at(0),
                expires_at: Some(sample::at(1_000)),
            }),
            referrer: Account { flagged: true, devices: vec![device("laptop")] },
            referrers_own: Some(Referral {
                referee: "alice".parse().unwrap(),
                referrer: "bob".parse().unwrap(),
                ..sample::pending()
            }),
            existing: None,
        }
    }

    /// Takes one reason away after the other, and finds the next in the order of the contract.
    #[test]
    fn reasons_are_looked_for_in_order() {
        let (alice, laptop) = ("alice".parse().unwrap(), device("laptop"));
        let found = |sign_up: &SignUp, facts: &AttributionFacts| refusal(sign_up, &alice, Some(&laptop), facts);
        let mut facts = worst();
        assert_eq!(found(&sign_up("alice"), &facts), Some(Reason::CodeExpired));
        facts.code.as_mut().unwrap().expires_at = Some(sample::at(1_001));
        assert_eq!(found(&sign_up("alice"), &facts), Some(Reason::SelfReferral));
        assert_eq!(found(&sign_up("bob"), &facts), Some(Reason::ReferrerFlagged));
        facts.referrer.flagged = false;
        assert_eq!(found(&sign_up("bob"), &facts), Some(Reason::DeviceMatch));
        facts.referrer.devices = vec![device("phone")];
        assert_eq!(found(&sign_up("bob"), &facts), Some(Reason::ReciprocalReferral));
        facts.referrers_own.as_mut().unwrap().device = Some(laptop.clone());
        assert_eq!(found(&sign_up("bob"), &facts), Some(Reason::DeviceMatch));
        facts.referrers_own = None;
        assert_eq!(found(&sign_up("bob"), &facts), None);
        facts.code = None;
        assert_eq!(found(&sign_up("bob"), &facts), Some(Reason::CodeNotFound));
    }

    #[test]
    fn who_came_by_this_code_before_is_told_so() {
        let (existing, other) = (sample::pending(), "OTHER".parse().unwrap());
        assert_eq!(repeated(existing.clone(), &"a-l-i-c-e".parse().unwrap()), Outcome::Existing(existing.clone()));
        assert_eq!(repeated(existing, &other), Outcome::Refused(Reason::AlreadyReferred));
    }
}
