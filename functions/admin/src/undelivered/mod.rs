//! Undelivered rewards and reversals: what an operator selects, and how the index of work is searched for it.

mod request;
mod walk;

use std::str::FromStr;

use referrals::{domain::time::Timestamp, referral::reward::RewardType};
use serde::Deserialize;

pub(crate) use request::{ListRequest, ResendRequest, Resent};
pub(crate) use walk::{Found, Lanes, WalkCursor, collect};

/// The status of the rewards or reversals to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Undelivered {
    /// Not delivered yet. The sweep sends them again automatically.
    Issued,
    /// Permanently refused. They need an operator.
    #[default]
    Failed,
}

impl FromStr for Undelivered {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "issued" => Ok(Self::Issued),
            "failed" => Ok(Self::Failed),
            _ => Err("expected issued or failed"),
        }
    }
}

impl Undelivered {
    /// The lanes with rewards of this status.
    pub(crate) fn lanes(self) -> Lanes {
        match self {
            Self::Issued => Lanes::Due,
            Self::Failed => Lanes::AttentionAndDue,
        }
    }

    /// The lane with reversals of this status. Unlike a referral with two rewards, a refused reversal has no other work.
    pub(crate) fn lane(self) -> Lanes {
        match self {
            Self::Issued => Lanes::Due,
            Self::Failed => Lanes::Attention,
        }
    }
}

/// Selects rewards or reversals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection {
    status: Undelivered,
    r#type: Option<RewardType>,
    /// The earliest time of the issue (for a reversal: of the decision) or refusal.
    since: Option<Timestamp>,
    /// The latest one.
    until: Timestamp,
}

impl Selection {
    /// Whether a reward or reversal of this status and type, issued or refused at this time, is selected.
    pub(crate) fn contains(self, status: Option<Undelivered>, r#type: RewardType, at: Timestamp) -> bool {
        status == Some(self.status)
            && self.r#type.is_none_or(|wanted| r#type == wanted)
            && self.since.is_none_or(|since| at >= since)
            && at <= self.until
    }
}
