//! The referral: every state it can be in, and what is known in each.

use serde::{Deserialize, Serialize};

use crate::{
    code::Code,
    device::Device,
    fraud::{FraudReason, UnknownReason},
    id::{OrderId, ProgramId, UserId},
    money::Money,
    mutant::{self, Mutant},
    order::{AdjustmentCause, NotedAdjustment},
    program::Terms,
    reward::{Benefit, Reward, RewardId, RewardStatus, Side},
    time::Timestamp,
};

/// Who invited whom, on which terms, and what came of it. There is one per referee, for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Referral {
    /// Who was invited; this is the referral's address.
    pub referee: UserId,
    /// Who invited.
    pub referrer: UserId,
    /// By which code.
    pub code: Code,
    /// In which program.
    pub program: ProgramId,
    /// What was promised when it was attributed.
    pub terms: Terms,
    /// The device that the referee signed up with, where it was reported.
    pub device: Option<Device>,
    /// When it was attributed.
    pub created_at: Timestamp,
    /// By whom: drawn by the invocation that wrote it. Older items have none.
    pub mark: Option<u32>,
    /// How many writes it has seen. A write decided from a read holds only if this has not moved since.
    pub rev: u64,
    /// How far it got.
    pub state: State,
}

/// How far a referral got, with all that is known only from there on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Attributed; no order yet.
    Pending {
        /// Orders that were withdrawn before they came, so that they convert nothing when they do.
        adjustments: Vec<NotedAdjustment>,
    },
    /// An order qualified; the rewards are due when the hold ends.
    Converted {
        /// By which order, and when.
        conversion: Conversion,
        /// When the hold ends.
        due_at: Timestamp,
    },
    /// Both rewards are decided.
    Rewarded {
        /// By which order, and when.
        conversion: Conversion,
        /// What each side gets, and how far that got.
        rewards: Rewards,
        /// When the sweep looks after them again, as long as one of them is on its way.
        due_at: Timestamp,
    },
    /// Called off; nothing is paid.
    Voided {
        /// When.
        at: Timestamp,
        /// Why.
        reason: VoidReason,
        /// The order that had converted it, if one had.
        conversion: Option<Conversion>,
    },
}

/// The order that converted a referral.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Conversion {
    /// The event type.
    pub event: String,
    /// The order's id.
    pub order: OrderId,
    /// What it was worth.
    #[serde(flatten)]
    pub paid: Money,
    /// When it was taken in.
    pub at: Timestamp,
}

/// Both rewards of a referral.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rewards {
    /// When they were decided.
    pub issued_at: Timestamp,
    /// The referrer's.
    pub referrer: Reward,
    /// The referee's.
    pub referee: Reward,
}

impl Rewards {
    pub(crate) fn issued(terms: &Terms, at: Timestamp) -> Self {
        let issued = |benefit: Benefit| Reward::issued(benefit);
        Self { issued_at: at, referrer: issued(terms.referrer.decide()), referee: issued(terms.referee.decide()) }
    }

    /// This side's.
    pub fn of(&self, side: Side) -> &Reward {
        match side {
            Side::Referrer => &self.referrer,
            Side::Referee => &self.referee,
        }
    }

    pub(crate) fn of_mut(&mut self, side: Side) -> &mut Reward {
        match side {
            Side::Referrer => &mut self.referrer,
            Side::Referee => &mut self.referee,
        }
    }

    /// The sides whose reward is on its way: issued, and neither delivered nor refused.
    pub fn on_their_way(&self) -> impl Iterator<Item = Side> {
        Side::BOTH.into_iter().filter(|side| self.of(*side).status() == RewardStatus::Issued)
    }
}

/// The states by name, as the API shows them and the table's conditions compare them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Attributed.
    Pending,
    /// An order qualified.
    Converted,
    /// Both rewards are decided.
    Rewarded,
    /// Called off. Final.
    Voided,
}

impl Status {
    /// All of them, in the order of a referral's life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Converted, Self::Rewarded, Self::Voided];

    /// The name in the table and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Converted => "converted",
            Self::Rewarded => "rewarded",
            Self::Voided => "voided",
        }
    }
}

/// Why a referral was voided: a fraud rule, or an adjustment of the order that had converted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum VoidReason {
    Fraud(FraudReason),
    OrderCancelled,
    /// The order was refunded in full.
    OrderRefunded,
    PaymentDisputed,
}

impl VoidReason {
    /// The name in HTTP answers, items, events and counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fraud(reason) => reason.as_str(),
            Self::OrderCancelled => "order_cancelled",
            Self::OrderRefunded => "order_refunded",
            Self::PaymentDisputed => "payment_disputed",
        }
    }
}

impl From<VoidReason> for &'static str {
    fn from(reason: VoidReason) -> Self {
        reason.as_str()
    }
}

impl TryFrom<String> for VoidReason {
    type Error = UnknownReason;

    fn try_from(text: String) -> Result<Self, UnknownReason> {
        match text.as_str() {
            "order_cancelled" => Ok(Self::OrderCancelled),
            "order_refunded" => Ok(Self::OrderRefunded),
            "payment_disputed" => Ok(Self::PaymentDisputed),
            other => other.parse().map(Self::Fraud),
        }
    }
}

impl From<FraudReason> for VoidReason {
    fn from(reason: FraudReason) -> Self {
        Self::Fraud(reason)
    }
}

impl From<AdjustmentCause> for VoidReason {
    fn from(cause: AdjustmentCause) -> Self {
        match cause {
            AdjustmentCause::Cancelled => Self::OrderCancelled,
            AdjustmentCause::Refunded(_) => Self::OrderRefunded,
            AdjustmentCause::Disputed => Self::PaymentDisputed,
        }
    }
}

impl Referral {
    /// The state by name.
    pub fn status(&self) -> Status {
        match self.state {
            State::Pending { .. } => Status::Pending,
            State::Converted { .. } => Status::Converted,
            State::Rewarded { .. } => Status::Rewarded,
            State::Voided { .. } => Status::Voided,
        }
    }

    /// The order that converted it.
    pub fn conversion(&self) -> Option<&Conversion> {
        match &self.state {
            State::Pending { .. } => None,
            State::Converted { conversion, .. } | State::Rewarded { conversion, .. } => Some(conversion),
            State::Voided { conversion, .. } => conversion.as_ref(),
        }
    }

    /// Both rewards, once they are decided.
    pub fn rewards(&self) -> Option<&Rewards> {
        match &self.state {
            State::Rewarded { rewards, .. } => Some(rewards),
            State::Pending { .. } | State::Converted { .. } | State::Voided { .. } => None,
        }
    }

    /// Whose this side is.
    pub fn person(&self, side: Side) -> &UserId {
        match side {
            Side::Referrer => &self.referrer,
            Side::Referee => &self.referee,
        }
    }

    /// The name of this side's reward.
    pub fn reward_id(&self, side: Side) -> RewardId {
        RewardId { referee: self.referee.clone(), side }
    }

    /// What it still owes, and since or until when: its place in the table's index of work.
    pub fn work(&self) -> Option<Work> {
        match &self.state {
            State::Pending { .. } | State::Voided { .. } => None,
            State::Converted { due_at, .. } => Some(Work { lane: Lane::Due, at: *due_at }),
            State::Rewarded { rewards, due_at, .. } => match rewards.on_their_way().next() {
                Some(_) if mutant::is(Mutant::WorkDroppedAtIssue) => None,
                Some(Side::Referee) if mutant::is(Mutant::WorkDroppedAtFirstDelivery) => None,
                None if mutant::is(Mutant::WorkKeptAtLastDelivery) => Some(Work { lane: Lane::Due, at: *due_at }),
                None if mutant::is(Mutant::WorkDroppedAtRefusal) => None,
                Some(_) => Some(Work { lane: Lane::Due, at: *due_at }),
                None => attention(rewards),
            },
        }
    }
}

/// A referral's place in the index of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    /// For whom it waits.
    pub lane: Lane,
    /// Since when, or until when.
    pub at: Timestamp,
}

/// Who does what is owed. Two lanes, so that what waits for a person never stands in front of the sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// The sweep, from this time on.
    Due,
    /// An operator, since this time.
    Attention,
}

/// Nothing is on its way any more; what was refused for good waits for an operator.
fn attention(rewards: &Rewards) -> Option<Work> {
    Side::BOTH
        .into_iter()
        .map(|side| rewards.of(side))
        .filter(|reward| reward.status() == RewardStatus::Failed)
        .filter_map(|reward| reward.failed_at)
        .max()
        .map(|at| Work { lane: if mutant::is(Mutant::AttentionAsDue) { Lane::Due } else { Lane::Attention }, at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::Command,
        sample::{at, converted, pending, rewarded, taken},
    };

    #[test]
    fn what_is_owed_is_in_the_index_and_nothing_else_is() {
        let due = |millis| Some(Work { lane: Lane::Due, at: at(millis) });
        assert_eq!(pending().work(), None);
        assert_eq!(converted().work(), due(1010));
        assert_eq!(rewarded().work(), due(1010));
        let voided = taken(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20)));
        assert_eq!(voided.work(), None);

        let claimed = taken(rewarded().decide(&Command::Claim(at(9000)), at(30)));
        assert_eq!(claimed.work(), due(9000));
        let one_failed = taken(claimed.decide(&Command::MarkFailed(Side::Referrer, "400", 0), at(40)));
        assert_eq!(one_failed.work(), due(9000));
        let settled = taken(one_failed.decide(&Command::MarkDelivered(Side::Referee), at(50)));
        assert_eq!(settled.work(), Some(Work { lane: Lane::Attention, at: at(40) }));
        let delivered = taken(settled.decide(&Command::MarkDelivered(Side::Referrer), at(60)));
        assert_eq!(delivered.work(), None);
    }

    #[test]
    fn a_void_reason_is_read_back_by_its_name() {
        let fraud = [FraudReason::ReferrerFlagged, FraudReason::RefereeFlagged, FraudReason::ReciprocalReferral];
        let order = [VoidReason::OrderCancelled, VoidReason::OrderRefunded, VoidReason::PaymentDisputed];
        for reason in fraud.map(VoidReason::from).into_iter().chain(order) {
            let written = serde_json::to_value(reason).unwrap();
            assert_eq!(written, reason.as_str());
            assert_eq!(serde_json::from_value::<VoidReason>(written).ok(), Some(reason));
        }
        assert!(serde_json::from_value::<VoidReason>("other".into()).is_err());
    }
}
