//! Facts: what counts of one referral, as of one of its revisions.

use serde::{Deserialize, Serialize};

use super::counters::Stage;
use crate::{
    id::{ProgramId, UserId},
    referral::{Referral, State, VoidReason},
    reward::{Benefit, Reward, RewardStatus, Side},
    time::Timestamp,
};

/// What counts of one referral.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Whose referral it is.
    pub referee: UserId,
    /// Who invited.
    pub referrer: UserId,
    /// In which program.
    pub program: ProgramId,
    /// As of which of its revisions.
    pub rev: u64,
    /// When it was attributed.
    pub attributed_at: Timestamp,
    /// When an order converted it, whatever came of it later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted_at: Option<Timestamp>,
    /// When its rewards were decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewarded_at: Option<Timestamp>,
    /// When and why it was called off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voided: Option<Voided>,
    /// What each side is owed or has got, from the conversion on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
}

/// When and why a referral was called off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Voided {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: VoidReason,
}

/// What both sides are owed or have got.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shares {
    /// The referrer's share.
    pub referrer: Share,
    /// The referee's.
    pub referee: Share,
}

/// What one side is owed or has got.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Share {
    /// What it is.
    #[serde(flatten)]
    pub benefit: Benefit,
    /// When the subsystem took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// When the subsystem refused it for good, if it has not taken it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
}

impl Facts {
    /// How far this share has got.
    pub(super) fn stage(&self, share: &Share) -> Stage {
        match (self.rewarded_at, share.delivered_at, share.failed_at) {
            (None, ..) => Stage::Held,
            (Some(_), Some(_), _) => Stage::Delivered,
            (Some(_), None, Some(_)) => Stage::Failed,
            (Some(_), None, None) => Stage::Issued,
        }
    }
}

impl Shares {
    /// Both, each with whose it is.
    pub(super) fn both(&self) -> [(Side, &Share); 2] {
        [(Side::Referrer, &self.referrer), (Side::Referee, &self.referee)]
    }
}

impl From<&Referral> for Facts {
    fn from(referral: &Referral) -> Self {
        let voided = match &referral.state {
            State::Voided { at, reason, .. } => Some(Voided { at: *at, reason: *reason }),
            State::Pending { .. } | State::Converted { .. } | State::Rewarded { .. } => None,
        };
        Self {
            referee: referral.referee.clone(),
            referrer: referral.referrer.clone(),
            program: referral.program.clone(),
            rev: referral.rev,
            attributed_at: referral.created_at,
            converted_at: referral.conversion().map(|conversion| conversion.at),
            rewarded_at: referral.rewards().map(|rewards| rewards.issued_at),
            voided,
            shares: shares(referral),
        }
    }
}

fn shares(referral: &Referral) -> Option<Shares> {
    match &referral.state {
        State::Pending { .. } | State::Voided { .. } => None,
        State::Converted { .. } => {
            let held = |benefit| Share { benefit, delivered_at: None, failed_at: None };
            Some(Shares {
                referrer: held(referral.terms.referrer.decide()),
                referee: held(referral.terms.referee.decide()),
            })
        }
        State::Rewarded { rewards, .. } => {
            Some(Shares { referrer: (&rewards.referrer).into(), referee: (&rewards.referee).into() })
        }
    }
}

impl From<&Reward> for Share {
    fn from(reward: &Reward) -> Self {
        let is = |status| reward.status() == status;
        Self {
            benefit: reward.benefit,
            delivered_at: reward.delivery.delivered_at.filter(|_| is(RewardStatus::Delivered)),
            failed_at: reward.delivery.failed_at.filter(|_| is(RewardStatus::Failed)),
        }
    }
}
