//! Rewards: what each side gets, and how far it got.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::program::benefit::{Benefit, InvalidRewardType, RewardType};
use crate::{
    id::{InvalidId, UserId},
    time::Timestamp,
};

/// The two people of a referral.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Who invited.
    Referrer,
    /// Who was invited.
    Referee,
}

impl Side {
    /// Both, in the order in which they are listed.
    pub const BOTH: [Self; 2] = [Self::Referrer, Self::Referee];

    /// The name used in ids and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Referrer => "referrer",
            Self::Referee => "referee",
        }
    }
}

/// A reward's name: `{referee_id}:{side}`. It follows from the referral, so every delivery of one reward carries the
/// same one, which is what the subsystems know it by (`Idempotency-Key`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RewardId {
    /// Whose referral it is.
    pub referee: UserId,
    /// For which of the two.
    pub side: Side,
}

impl fmt::Display for RewardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.referee, self.side.as_str())
    }
}

impl From<RewardId> for String {
    fn from(id: RewardId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for RewardId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        let (referee, side) = text.split_once(':').ok_or(InvalidId)?;
        let side = Side::BOTH.into_iter().find(|known| known.as_str() == side).ok_or(InvalidId)?;
        Ok(Self { referee: referee.parse()?, side })
    }
}

/// An issued reward. Delivered and failed are separate facts, each set once: what was refused for good can still be
/// delivered when an operator sends it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reward {
    /// What the referral's terms promised this side.
    #[serde(flatten)]
    pub benefit: Benefit,
    /// When the subsystem answered 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// When the subsystem refused it for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
    /// What the subsystem said when it refused: status and a short excerpt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How often an operator had it sent again: each may end in a refusal of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resent: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Reward {
    /// A reward that was decided and has not been sent yet.
    pub fn issued(benefit: Benefit) -> Self {
        Self { benefit, delivered_at: None, failed_at: None, failure: None, resent: 0 }
    }

    /// Where it stands, derived from the facts.
    pub fn status(&self) -> RewardStatus {
        match (self.delivered_at, self.failed_at) {
            (Some(_), _) => RewardStatus::Delivered,
            (None, Some(_)) => RewardStatus::Failed,
            (None, None) => RewardStatus::Issued,
        }
    }
}

/// What the API says of a reward.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RewardStatus {
    /// Decided and recorded; on its way.
    Issued,
    /// The subsystem said 2xx.
    Delivered,
    /// The subsystem refused it for good; it waits for an operator.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Amount;

    #[test]
    fn a_rewards_name_can_be_read_back() {
        let id = RewardId { referee: "bob".parse().unwrap(), side: Side::Referee };
        assert_eq!(id.to_string(), "bob:referee");
        assert_eq!(RewardId::try_from(id.to_string()), Ok(id));
        for text in ["bob", "bob:nobody", ":referee", "b b:referee", "a:b:referee"] {
            assert!(RewardId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    /// So that a reward that went well is no larger in the table than it was before there were resends.
    #[test]
    fn how_often_it_was_sent_again_is_written_once_it_was() {
        let mut reward = Reward::issued(Benefit::Points(Amount::ZERO));
        let written = |reward: &Reward| serde_json::to_value(reward).unwrap();
        assert_eq!(written(&reward).get("resent"), None);
        reward.resent = 2;
        assert_eq!(written(&reward)["resent"], 2);
        assert_eq!(serde_json::from_value(written(&reward)).ok(), Some(reward));
    }

    #[test]
    fn a_delivery_outweighs_an_earlier_refusal() {
        let at = Timestamp::from_millis(0);
        let mut reward = Reward::issued(Benefit::Points(Amount::ZERO));
        assert_eq!(reward.status(), RewardStatus::Issued);
        reward.failed_at = at;
        assert_eq!(reward.status(), RewardStatus::Failed);
        reward.delivered_at = at;
        assert_eq!(reward.status(), RewardStatus::Delivered);
    }
}
