//! Rewards: what each side gets, and how far it got.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::{InvalidId, UserId},
    money::{Amount, Currency, Money},
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

/// The subsystem that a reward goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RewardType {
    /// Money on the account.
    Credit,
    /// A voucher worth money.
    Coupon,
    /// A plain count.
    Points,
}

impl RewardType {
    /// The name in settings, in the table and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Coupon => "coupon",
            Self::Points => "points",
        }
    }
}

/// The text is not `credit`, `coupon` or `points`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected credit, coupon or points")]
pub struct InvalidRewardType;

impl FromStr for RewardType {
    type Err = InvalidRewardType;

    fn from_str(text: &str) -> Result<Self, InvalidRewardType> {
        match text {
            "credit" => Ok(Self::Credit),
            "coupon" => Ok(Self::Coupon),
            "points" => Ok(Self::Points),
            _ => Err(InvalidRewardType),
        }
    }
}

/// What is promised: money as credit or coupon, or points, which have no currency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "WrittenBenefit", try_from = "WrittenBenefit")]
pub enum Benefit {
    /// Money on the account.
    Credit(Money),
    /// A voucher worth money.
    Coupon(Money),
    /// A plain count.
    Points(Amount),
}

impl Benefit {
    /// `amount` of `kind`, in `currency` where the kind has one.
    pub fn new(kind: RewardType, amount: Amount, currency: Currency) -> Self {
        match kind {
            RewardType::Credit => Self::Credit(Money { amount, currency }),
            RewardType::Coupon => Self::Coupon(Money { amount, currency }),
            RewardType::Points => Self::Points(amount),
        }
    }

    /// The subsystem that gives it.
    pub fn kind(&self) -> RewardType {
        match self {
            Self::Credit(_) => RewardType::Credit,
            Self::Coupon(_) => RewardType::Coupon,
            Self::Points(_) => RewardType::Points,
        }
    }

    /// Minor units, or points.
    pub fn amount(&self) -> Amount {
        match self {
            Self::Credit(money) | Self::Coupon(money) => money.amount,
            Self::Points(amount) => *amount,
        }
    }

    /// The currency; points have none.
    pub fn currency(&self) -> Option<Currency> {
        match self {
            Self::Credit(money) | Self::Coupon(money) => Some(money.currency),
            Self::Points(_) => None,
        }
    }
}

/// A benefit as it is written down: the three fields that the API shows too.
#[derive(Serialize, Deserialize)]
struct WrittenBenefit {
    r#type: RewardType,
    amount: Amount,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
}

impl From<Benefit> for WrittenBenefit {
    fn from(benefit: Benefit) -> Self {
        Self { r#type: benefit.kind(), amount: benefit.amount(), currency: benefit.currency() }
    }
}

/// Money without a currency, or points with one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("credit and coupon need a currency, points have none")]
struct InvalidBenefit;

impl TryFrom<WrittenBenefit> for Benefit {
    type Error = InvalidBenefit;

    fn try_from(written: WrittenBenefit) -> Result<Self, InvalidBenefit> {
        match (written.r#type, written.currency) {
            (RewardType::Points, None) => Ok(Self::Points(written.amount)),
            (RewardType::Credit | RewardType::Coupon, Some(currency)) => {
                Ok(Self::new(written.r#type, written.amount, currency))
            }
            (RewardType::Points, Some(_)) | (_, None) => Err(InvalidBenefit),
        }
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

    #[test]
    fn a_rewards_name_can_be_read_back() {
        let id = RewardId { referee: "bob".parse().unwrap(), side: Side::Referee };
        assert_eq!(id.to_string(), "bob:referee");
        assert_eq!(RewardId::try_from(id.to_string()), Ok(id));
        for text in ["bob", "bob:nobody", ":referee", "b b:referee", "a:b:referee"] {
            assert!(RewardId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn points_have_no_currency_and_money_has_one() {
        let read = |json| serde_json::from_str::<Benefit>(json);
        assert!(read(r#"{"type":"points","amount":5}"#).is_ok());
        assert!(read(r#"{"type":"credit","amount":5,"currency":"USD"}"#).is_ok());
        assert!(read(r#"{"type":"points","amount":5,"currency":"USD"}"#).is_err());
        assert!(read(r#"{"type":"coupon","amount":5}"#).is_err());
        assert!(read(r#"{"type":"credit","amount":-5,"currency":"USD"}"#).is_err());
    }

    #[test]
    fn a_types_name_can_be_read_back() {
        for (name, kind) in
            [("credit", RewardType::Credit), ("coupon", RewardType::Coupon), ("points", RewardType::Points)]
        {
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
        }
        assert_eq!("Credit".parse::<RewardType>(), Err(InvalidRewardType));
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
