//! Facts: the part of a referral that is counted, as of one revision.

use serde::{Deserialize, Serialize};

use super::counters::Stage;
use crate::{
    domain::{
        id::{ProgramId, UserId},
        time::Timestamp,
    },
    referral::{
        Referral, Rewards, State, Voided,
        reward::{Benefit, Reward, RewardStatus, Side},
    },
};

/// The part of a referral that is counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Facts {
    pub referee: UserId,
    pub referrer: UserId,
    pub program: ProgramId,
    /// The referral's revision that these facts describe.
    pub rev: u64,
    pub attributed_at: Timestamp,
    /// Stays set when the referral is voided later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted_at: Option<Timestamp>,
    /// When the rewards were issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewarded_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voided: Option<Voided>,
    /// Each side's reward: expected while the hold runs, then issued. `None` before the conversion, and if the referral was voided
    /// before the issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
}

/// Both sides' rewards.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shares {
    pub referrer: Share,
    pub referee: Share,
}

/// One side's reward, expected or issued.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Share {
    #[serde(flatten)]
    pub benefit: Benefit,
    /// When the subsystem accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// When the subsystem refused it permanently, unless it was delivered later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversed_at: Option<Timestamp>,
}

impl Facts {
    /// The stage that this reward has reached.
    pub(super) fn stage(&self, share: &Share) -> Stage {
        match (self.rewarded_at, share.reversed_at, share.delivered_at, share.failed_at) {
            (None, ..) => Stage::Held,
            (Some(_), Some(_), ..) => Stage::Reversed,
            (Some(_), None, Some(_), _) => Stage::Delivered,
            (Some(_), None, None, Some(_)) => Stage::Failed,
            (Some(_), None, None, None) => Stage::Issued,
        }
    }
}

impl Shares {
    /// Both rewards, each with its side.
    pub(super) fn both(&self) -> [(Side, &Share); 2] {
        [(Side::Referrer, &self.referrer), (Side::Referee, &self.referee)]
    }
}

impl From<&Referral> for Facts {
    fn from(referral: &Referral) -> Self {
        Self {
            referee: referral.referee.clone(),
            referrer: referral.referrer.clone(),
            program: referral.program.clone(),
            rev: referral.rev,
            attributed_at: referral.created_at,
            converted_at: referral.conversion().map(|conversion| conversion.at),
            rewarded_at: referral.rewards().map(|rewards| rewards.issued_at),
            voided: referral.voided(),
            shares: shares(referral),
        }
    }
}

fn shares(referral: &Referral) -> Option<Shares> {
    match &referral.state {
        State::Pending | State::Voided { .. } => None,
        State::Converted { .. } => {
            let held = |benefit| Share { benefit, delivered_at: None, failed_at: None, reversed_at: None };
            Some(Shares {
                referrer: held(referral.terms.referrer.decide()),
                referee: held(referral.terms.referee.decide()),
            })
        }
        State::Rewarded { rewards, .. } => Some(issued(rewards, None)),
        State::Reversed { rewards, at, .. } => Some(issued(rewards, Some(*at))),
    }
}

fn issued(rewards: &Rewards, reversed_at: Option<Timestamp>) -> Shares {
    let share = |reward: &Reward| {
        let is = |status| reward.delivery.status() == status;
        Share {
            benefit: reward.benefit,
            delivered_at: reward.delivery.delivered_at.filter(|_| is(RewardStatus::Delivered)),
            failed_at: reward.delivery.failed_at.filter(|_| is(RewardStatus::Failed)),
            reversed_at: reversed_at.filter(|_| reward.status() == RewardStatus::Reversed),
        }
    };
    Shares { referrer: share(&rewards.referrer), referee: share(&rewards.referee) }
}
