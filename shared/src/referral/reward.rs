//! Rewards: what each side gets, the instructions that deliver it, and the state of each delivery.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::program::benefit::{Benefit, InvalidRewardType, RewardType};
use crate::{
    domain::{
        id::{InvalidId, RefundId, UserId},
        money::{Amount, Currency},
        time::Timestamp,
    },
    program::benefit::InvalidBenefit,
};

/// One of the two users of a referral.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Referrer,
    Referee,
}

impl Side {
    /// Both sides, in the order of lists and events.
    pub const BOTH: [Self; 2] = [Self::Referrer, Self::Referee];

    /// The name in ids, in the table and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Referrer => "referrer",
            Self::Referee => "referee",
        }
    }
}

/// The id of an instruction to a subsystem. It is derived from the referral, so every delivery of one instruction carries
/// the same id. Subsystems use it as their idempotency key (`Idempotency-Key`).
///
/// A reward has the id of the instruction that grants it: `{referee_id}:{side}`. A reversal's id adds `:reversal` (full) or
/// `:refund:{refund_id}` (partial). All rewards are fixed amounts so far, so there are no partial reversals yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct InstructionId {
    pub referee: UserId,
    /// The side whose reward the instruction grants or reverses.
    pub side: Side,
    pub kind: InstructionKind,
}

/// What an instruction asks a subsystem to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InstructionKind {
    /// Give the reward.
    Grant,
    /// Take back the whole reward.
    FullReversal,
    /// Take back the part of the reward that this refund affects.
    PartialReversal(RefundId),
}

impl fmt::Display for InstructionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.referee, self.side.as_str())?;
        match &self.kind {
            InstructionKind::Grant => Ok(()),
            InstructionKind::FullReversal => f.write_str(":reversal"),
            InstructionKind::PartialReversal(refund) => write!(f, ":refund:{refund}"),
        }
    }
}

impl From<InstructionId> for String {
    fn from(id: InstructionId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for InstructionId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        // No part of the id contains a colon.
        let mut parts = text.split(':');
        let referee = parts.next().ok_or(InvalidId)?.parse()?;
        let side = parts.next().ok_or(InvalidId)?;
        let side = Side::BOTH.into_iter().find(|known| known.as_str() == side).ok_or(InvalidId)?;
        let kind = match (parts.next(), parts.next(), parts.next()) {
            (None, None, None) => InstructionKind::Grant,
            (Some("reversal"), None, None) => InstructionKind::FullReversal,
            (Some("refund"), Some(refund), None) => InstructionKind::PartialReversal(refund.parse()?),
            _ => return Err(InvalidId),
        };
        Ok(Self { referee, side, kind })
    }
}

/// An issued reward.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "StoredReward", try_from = "StoredReward")]
pub struct Reward {
    /// What the referral's terms promised to this side.
    pub benefit: Benefit,
    /// The delivery of the grant.
    pub delivery: Delivery,
    /// How much of it was taken back, if anything was.
    pub reversed: Option<Amount>,
}

impl Reward {
    /// A reward that was decided and has not been sent yet.
    pub fn issued(benefit: Benefit) -> Self {
        Self { benefit, delivery: Delivery::default(), reversed: None }
    }

    /// The status of the reward: reversed if all of it was taken back, else that of the grant.
    pub fn status(&self) -> RewardStatus {
        match self.reversed {
            Some(reversed) if reversed >= self.benefit.amount() => RewardStatus::Reversed,
            _ => self.delivery.status(),
        }
    }
}

/// How far the delivery of one instruction has progressed. Delivery and failure are separate facts, because a permanently
/// refused instruction can still be delivered when an operator sends it again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delivery {
    /// When the subsystem was called first. A call can have an effect even if its answer never arrived.
    pub called_at: Option<Timestamp>,
    /// When the subsystem answered 2xx.
    pub delivered_at: Option<Timestamp>,
    /// When the subsystem refused it permanently.
    pub failed_at: Option<Timestamp>,
    /// The subsystem's refusal: status and the beginning of the body.
    pub failure: Option<String>,
    /// How many times an operator sent it again. Each time may end in another refusal.
    pub resent: u32,
}

impl Delivery {
    /// The status that follows from the facts.
    pub fn status(&self) -> RewardStatus {
        match (self.delivered_at, self.failed_at) {
            (Some(_), _) => RewardStatus::Delivered,
            (None, Some(_)) => RewardStatus::Failed,
            (None, None) => RewardStatus::Issued,
        }
    }
}

/// The delivery status of a reward, as the API shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RewardStatus {
    /// Decided and recorded, not yet delivered.
    Issued,
    /// The subsystem answered 2xx.
    Delivered,
    /// The subsystem refused it permanently. An operator has to act.
    Failed,
    /// All of it was taken back.
    Reversed,
}

/// The stored form of a reward: the fields of its benefit and of its delivery, side by side. With `#[serde(flatten)]`, serde
/// would copy every field into a buffer at each read.
#[derive(Serialize, Deserialize)]
struct StoredReward {
    r#type: RewardType,
    amount: Amount,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    called_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    resent: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reversed: Option<Amount>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde requires this signature")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl From<Reward> for StoredReward {
    fn from(Reward { benefit, delivery, reversed }: Reward) -> Self {
        Self {
            r#type: benefit.kind(),
            amount: benefit.amount(),
            currency: benefit.currency(),
            called_at: delivery.called_at,
            delivered_at: delivery.delivered_at,
            failed_at: delivery.failed_at,
            failure: delivery.failure,
            resent: delivery.resent,
            reversed,
        }
    }
}

impl TryFrom<StoredReward> for Reward {
    type Error = InvalidBenefit;

    fn try_from(stored: StoredReward) -> Result<Self, InvalidBenefit> {
        let StoredReward { r#type, amount, currency, called_at, delivered_at, failed_at, failure, resent, reversed } =
            stored;
        Ok(Self {
            benefit: Benefit::from_fields(r#type, amount, currency)?,
            delivery: Delivery { called_at, delivered_at, failed_at, failure, resent },
            reversed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Money;

    fn grant() -> InstructionId {
        InstructionId { referee: "bob".parse().unwrap(), side: Side::Referee, kind: InstructionKind::Grant }
    }

    #[test]
    fn instruction_ids_are_parsed_and_displayed() {
        let partial = InstructionKind::PartialReversal("r-1".parse().unwrap());
        for (text, kind) in [
            ("bob:referee", InstructionKind::Grant),
            ("bob:referee:reversal", InstructionKind::FullReversal),
            ("bob:referee:refund:r-1", partial),
        ] {
            let id = InstructionId { kind, ..grant() };
            assert_eq!(id.to_string(), text);
            assert_eq!(InstructionId::try_from(text.to_owned()), Ok(id));
        }
        for text in [
            "bob",
            "bob:friend",
            ":referee",
            "b b:referee",
            "a:b:referee",
            "bob:referee:",
            "bob:referee:grant",
            "bob:referee:reversal:r-1",
            "bob:referee:refund",
            "bob:referee:refund:",
            "bob:referee:refund:r-1:x",
        ] {
            assert!(InstructionId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    /// Items of older versions and of this one have the same form. A delivered reward has no `resent`, which keeps it small.
    #[test]
    fn a_stored_reward_keeps_its_form() {
        let credit = || Benefit::Credit(Money { amount: 500.try_into().unwrap(), currency: "USD".parse().unwrap() });
        let at = Timestamp::from_millis(0);
        let failed = Delivery { failed_at: at, failure: Some("400: no".to_owned()), resent: 2, ..Delivery::default() };
        for (delivery, stored) in [
            (Delivery::default(), r#"{"type":"credit","amount":500,"currency":"USD"}"#),
            (
                Delivery { delivered_at: at, ..Delivery::default() },
                r#"{"type":"credit","amount":500,"currency":"USD","delivered_at":"1970-01-01T00:00:00.000Z"}"#,
            ),
            (
                failed,
                r#"{"type":"credit","amount":500,"currency":"USD","failed_at":"1970-01-01T00:00:00.000Z","failure":"400: no","resent":2}"#,
            ),
        ] {
            let reward = Reward { delivery, ..Reward::issued(credit()) };
            assert_eq!(serde_json::to_string(&reward).unwrap(), stored);
            assert_eq!(serde_json::from_str::<Reward>(stored).unwrap(), reward);
            let item: serde_dynamo::Item = serde_dynamo::to_item(&reward).unwrap();
            assert_eq!(serde_dynamo::from_item::<_, Reward>(item).unwrap(), reward);
        }
    }

    #[test]
    fn a_delivery_takes_precedence_over_an_earlier_refusal() {
        let at = Timestamp::from_millis(0);
        let mut delivery = Delivery::default();
        assert_eq!(delivery.status(), RewardStatus::Issued);
        delivery.failed_at = at;
        assert_eq!(delivery.status(), RewardStatus::Failed);
        delivery.delivered_at = at;
        assert_eq!(delivery.status(), RewardStatus::Delivered);
    }
}
