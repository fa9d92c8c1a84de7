//! Attribute: a sign-up becomes a referral or is refused with a reason.

use std::time::Duration;

use super::SignUps;
use crate::{
    domain::{
        code::{Code, OwnedCode},
        device::DeviceFingerprint,
        id::UserId,
        time::Timestamp,
    },
    fraud::{self, FraudReason, Gate, Reported},
    mutant::{self, Mutant},
    referral::{Referral, State},
    runtime::Call,
    store::{Attributed, SignUpEvidence, StoreError},
};

/// A sign-up that names a code.
#[derive(Clone, Debug)]
pub struct SignUp {
    pub referee: UserId,
    pub code: Code,
    pub signed_up_at: Timestamp,
    /// When the visitor opened the link, if that is known.
    pub touched_at: Option<Timestamp>,
    pub device_fingerprint: Option<DeviceFingerprint>,
    /// Never stored, because it is personal data.
    pub reported: Reported,
}

impl SignUp {
    /// When the code must have been live: at the visit through the link if there was one, else at the sign-up.
    fn judged_at(&self) -> Timestamp {
        self.touched_at.unwrap_or(self.signed_up_at)
    }

    /// Whether the user signed up before the visit or before the code existed, or longer ago than the program accepts.
    fn is_of_member(&self, code: &OwnedCode, new_within: Option<Duration>, now: Timestamp) -> bool {
        let latest = self.signed_up_at.plus(Timestamp::TOLERANCE);
        let is_older = self.touched_at.unwrap_or(code.created_at).max(code.created_at) > latest;
        is_older || new_within.is_some_and(|limit| now.since(self.signed_up_at) > limit)
    }
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
    /// The user is not new: they signed up before the visit or before the code existed, or too long ago.
    NotNew,
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
            Self::NotNew => "not_new",
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
        if let Some(refusal) = code_refusal(current.as_ref(), sign_up.judged_at()) {
            return Ok(Attribution::Refused(refusal));
        }
        let is_of_member = sign_up.is_of_member(&owned, self.program.new_within, call.now);
        if is_of_member && !mutant::is(Mutant::MemberTakenForNew) {
            return Ok(Attribution::Refused(AttributionRefusal::NotNew));
        }
        if let Some(fingerprint) = &sign_up.device_fingerprint {
            let keys = self.devices.get();
            evidence.device = Some(keys.current().device(fingerprint));
            evidence.device_aliases = keys.aliases(fingerprint);
        }
        evidence.reported = sign_up.reported;
        if let Some(reason) = fraud::check(Gate::Attribution, &evidence) {
            return Ok(Attribution::Refused(AttributionRefusal::Fraud(reason)));
        }
        let referral = Referral {
            correlation_id: Some(self.correlation_id(&sign_up.referee)),
            mark: Some(mark(call, &sign_up.referee)),
            referee: sign_up.referee,
            referrer: owned.owner,
            code: owned.code,
            program: owned.program,
            terms: self.program.terms.clone(),
            device: evidence.device,
            created_at: call.now,
            signed_up_at: Some(sign_up.signed_up_at)
                .filter(|at| *at < call.now && !mutant::is(Mutant::SignUpTimeForgotten)),
            notes: Vec::new(),
            candidates: Vec::new(),
            adjusted_order: None,
            reopened: 0,
            rev: 1,
            state: State::Pending,
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

    /// A code that was created and expires at these times.
    fn code(created_at: i64, expires_at: i64) -> OwnedCode {
        OwnedCode {
            code: "ALICE".parse().unwrap(),
            owner: "alice".parse().unwrap(),
            program: "default".parse().unwrap(),
            created_at: sample::at(created_at),
            expires_at: Some(sample::at(expires_at)),
        }
    }

    #[test]
    fn a_member_is_not_new() {
        const MINUTES: i64 = 60_000;
        let is_of_member = |signed_up: i64, touched: Option<i64>, created: i64, days: Option<u64>, now: i64| {
            let sign_up = SignUp {
                referee: "bob".parse().unwrap(),
                code: "ALICE".parse().unwrap(),
                signed_up_at: sample::at(signed_up),
                touched_at: touched.map(sample::at),
                device_fingerprint: None,
                reported: Reported::default(),
            };
            let limit = days.map(|days| Duration::from_secs(days * 24 * 60 * 60));
            sign_up.is_of_member(&code(created, i64::MAX >> 22), limit, sample::at(now))
        };
        let day = 24 * 60 * MINUTES;
        for (signed_up, touched, created, days, now, expected) in [
            (0, None, 0, None, 0, false),
            (0, None, 5 * MINUTES, None, 5 * MINUTES, false),
            (0, None, 5 * MINUTES + 1, None, 6 * MINUTES, true),
            (0, Some(5 * MINUTES), 0, None, 5 * MINUTES, false),
            (0, Some(5 * MINUTES + 1), 0, None, 6 * MINUTES, true),
            (6 * MINUTES, Some(0), 12 * MINUTES, None, 12 * MINUTES, true),
            (9 * MINUTES, Some(0), 4 * MINUTES, None, 400 * day, false),
            (0, None, 0, Some(7), 7 * day, false),
            (0, None, 0, Some(7), 7 * day + 1, true),
        ] {
            let found = is_of_member(signed_up, touched, created, days, now);
            assert_eq!(found, expected, "{signed_up} {touched:?} {created} {days:?} {now}");
        }
    }

    #[test]
    fn a_code_must_exist_and_be_live() {
        let code = code(0, 1_000);
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
