//! Fraud rules: which sign-ups are refused, and which conversions are voided instead of rewarded.
//!
//! Each rule is a pure function of the [`Evidence`]. `RULES` lists them in the order in which they are checked. The same
//! list is checked at two gates: when a sign-up is attributed, and before rewards are issued.

mod evidence;

use std::str::FromStr;

pub use self::evidence::{Evidence, OwnReferral, Reported};
use crate::mutant::{self, Mutant};

/// A point in the life of a referral at which the rules are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// A sign-up is about to become a referral. A reason refuses it.
    Attribution,
    /// The hold is over and the rewards are about to be issued. A reason voids the referral.
    Issue,
}

/// The rule that a sign-up or a conversion broke. The same names are used in HTTP answers, in stored items and in events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FraudReason {
    SelfReferral,
    ReferrerFlagged,
    RefereeFlagged,
    /// The referee signed up with a device of the referrer.
    DeviceMatch,
    /// The referrer was referred by the referee.
    ReciprocalReferral,
}

impl FraudReason {
    /// The name in HTTP answers, items and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SelfReferral => "self_referral",
            Self::ReferrerFlagged => "referrer_flagged",
            Self::RefereeFlagged => "referee_flagged",
            Self::DeviceMatch => "device_match",
            Self::ReciprocalReferral => "reciprocal_referral",
        }
    }
}

/// The text does not name a fraud rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown fraud rule")]
pub struct UnknownReason;

impl FromStr for FraudReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        RULES.iter().map(|rule| rule.reason).find(|reason| reason.as_str() == text).ok_or(UnknownReason)
    }
}

struct Rule {
    reason: FraudReason,
    gates: &'static [Gate],
    is_broken: fn(&Evidence) -> bool,
}

/// All rules, in the order in which they are checked. The order is part of the API: the first broken rule is reported.
const RULES: [Rule; 5] = [
    Rule { reason: FraudReason::SelfReferral, gates: &[Gate::Attribution], is_broken: is_self_referral },
    Rule {
        reason: FraudReason::ReferrerFlagged,
        gates: &[Gate::Attribution, Gate::Issue],
        is_broken: |evidence| evidence.referrer_account.flagged,
    },
    Rule {
        reason: FraudReason::RefereeFlagged,
        gates: &[Gate::Issue],
        is_broken: |evidence| evidence.referee_account.flagged,
    },
    Rule { reason: FraudReason::DeviceMatch, gates: &[Gate::Attribution], is_broken: is_device_of_referrer },
    Rule {
        reason: FraudReason::ReciprocalReferral,
        gates: &[Gate::Attribution, Gate::Issue],
        is_broken: is_reciprocal,
    },
];

/// The first rule of this gate that the evidence breaks; `None` when it breaks none.
pub fn check(gate: Gate, evidence: &Evidence) -> Option<FraudReason> {
    let mut rules = RULES.iter().filter(|rule| rule.gates.contains(&gate) && !is_disabled(gate, rule.reason));
    rules.find(|rule| (rule.is_broken)(evidence)).map(|rule| rule.reason)
}

/// The reasons that this gate can give, in the order in which they are checked.
pub fn reasons_at(gate: Gate) -> impl Iterator<Item = FraudReason> {
    RULES.iter().filter(move |rule| rule.gates.contains(&gate)).map(|rule| rule.reason)
}

/// Whether a mutant turns this rule off at this gate.
fn is_disabled(gate: Gate, reason: FraudReason) -> bool {
    match (gate, reason) {
        (Gate::Attribution, FraudReason::ReferrerFlagged) => mutant::is(Mutant::FlaggedReferrerAccepted),
        (Gate::Attribution, FraudReason::ReciprocalReferral) => mutant::is(Mutant::ReciprocalAccepted),
        (Gate::Issue, FraudReason::ReferrerFlagged) => mutant::is(Mutant::FlaggedReferrerPaid),
        (Gate::Issue, FraudReason::RefereeFlagged) => mutant::is(Mutant::FlaggedRefereePaid),
        _ => false,
    }
}

fn is_self_referral(evidence: &Evidence) -> bool {
    evidence.referrer == evidence.referee
}

/// The referrer's devices are those reported when their codes were minted, and the one with which they signed up.
fn is_device_of_referrer(evidence: &Evidence) -> bool {
    let signed_up_with = evidence.referrers_own.as_ref().and_then(|own| own.device.as_ref());
    let is_known = |device| evidence.referrer_account.devices.contains(device) || signed_up_with == Some(device);
    evidence.device.iter().chain(&evidence.device_aliases).any(is_known)
}

fn is_reciprocal(evidence: &Evidence) -> bool {
    evidence.referrers_own.as_ref().is_some_and(|own| own.referrer == evidence.referee)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{account::Account, device::Device};

    fn device(digest: &str) -> Device {
        serde_json::from_value(digest.into()).unwrap()
    }

    /// Evidence that breaks every rule.
    fn worst() -> Evidence {
        Evidence {
            referrer: "alice".parse().unwrap(),
            referee: "alice".parse().unwrap(),
            referrer_account: Account { flagged: true, devices: vec![device("laptop")] },
            referee_account: Account { flagged: true, devices: Vec::new() },
            referrers_own: Some(OwnReferral { referrer: "bob".parse().unwrap(), device: None }),
            device: Some(device("laptop")),
            device_aliases: Vec::new(),
            reported: Reported::default(),
        }
    }

    /// Removes one reason after another and finds the next one in the order of the API.
    #[test]
    fn at_attribution_the_first_broken_rule_is_reported() {
        let found = |evidence: &Evidence| check(Gate::Attribution, evidence);
        let mut evidence = worst();
        assert_eq!(found(&evidence), Some(FraudReason::SelfReferral));
        evidence.referee = "bob".parse().unwrap();
        assert_eq!(found(&evidence), Some(FraudReason::ReferrerFlagged));
        evidence.referrer_account.flagged = false;
        assert_eq!(found(&evidence), Some(FraudReason::DeviceMatch));
        evidence.referrer_account.devices = vec![device("phone")];
        assert_eq!(found(&evidence), Some(FraudReason::ReciprocalReferral));
        evidence.referrers_own.as_mut().unwrap().device = Some(device("laptop"));
        assert_eq!(found(&evidence), Some(FraudReason::DeviceMatch));
        evidence.referrers_own = None;
        assert_eq!(found(&evidence), None);
    }

    #[test]
    fn at_issue_flags_and_reciprocal_referrals_are_reported() {
        let found = |evidence: &Evidence| check(Gate::Issue, evidence);
        let mut evidence = Evidence { referee: "bob".parse().unwrap(), ..worst() };
        assert_eq!(found(&evidence), Some(FraudReason::ReferrerFlagged));
        evidence.referrer_account.flagged = false;
        assert_eq!(found(&evidence), Some(FraudReason::RefereeFlagged));
        evidence.referee_account.flagged = false;
        assert_eq!(found(&evidence), Some(FraudReason::ReciprocalReferral));
        evidence.referrers_own.as_mut().unwrap().referrer = "carol".parse().unwrap();
        assert_eq!(found(&evidence), None);
        evidence.referrers_own = None;
        assert_eq!(found(&evidence), None);
    }

    #[test]
    fn a_reason_is_read_back_by_its_name() {
        for rule in RULES {
            assert_eq!(rule.reason.as_str().parse(), Ok(rule.reason));
        }
        assert!("order_refunded".parse::<FraudReason>().is_err());
    }
}
