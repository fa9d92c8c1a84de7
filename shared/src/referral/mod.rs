//! A referral: its states and the data that each state holds. [`machine`] has the transitions, `orders` decides which order
//! converts, `operator` what operators can change, [`reward`] has the rewards and their delivery, [`reversal`] takes rewards back,
//! [`Work`] is the unfinished work, [`Attention`] says why an operator has to decide, and [`note`] has what is kept as evidence.

mod attention;
pub mod machine;
pub mod note;
mod operator;
mod orders;
pub mod reversal;
pub mod reward;
mod void;
mod work;

use serde::{Deserialize, Serialize};

use self::reward::{Delivery, InstructionId, InstructionKind, Reward, RewardStatus, Side};
pub use self::{
    attention::Attention,
    void::{VoidReason, Voided},
    work::{Lane, Work},
};
use crate::{
    domain::{
        code::Code,
        correlation::CorrelationId,
        device::Device,
        id::{OrderId, ProgramId, UserId},
        money::Money,
        order::NotedAdjustment,
        time::Timestamp,
    },
    mutant::{self, Mutant},
    program::Terms,
};

/// A referral. There is at most one per referee, and it is never deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Referral {
    /// The invited user. The referral is stored under this id.
    pub referee: UserId,
    pub referrer: UserId,
    pub code: Code,
    pub program: ProgramId,
    /// The program's terms at the time of the attribution. Later changes of the program do not affect them.
    pub terms: Terms,
    /// The device used at sign-up, if it was reported.
    pub device: Option<Device>,
    /// Computed when the referral is created. Items written by version 0.1.0 have none.
    pub correlation_id: Option<CorrelationId>,
    /// The time of the attribution.
    pub created_at: Timestamp,
    /// The time of the sign-up, if it was reported as earlier than the attribution.
    pub signed_up_at: Option<Timestamp>,
    /// Random marker of the invocation that wrote the referral. A retry recognises its own write by it. Items written by
    /// older versions have none.
    pub mark: Option<u32>,
    /// Adjustments that an earlier version stored here, of orders that had not arrived yet.
    pub notes: Vec<NotedAdjustment>,
    /// Other qualifying orders that arrived before the issue, and orders that converted the referral and were undone. The first one
    /// that stands is the next to convert it. At most [`Candidate::MOST`].
    pub candidates: Vec<Candidate>,
    /// An order of this referee that has adjustments and is neither the converting order nor a candidate, or not yet.
    pub adjusted_order: Option<AdjustedOrder>,
    /// How often an operator reopened it.
    pub reopened: u32,
    /// Incremented by every write. A write that depends on a read requires the `rev` that was read.
    pub rev: u64,
    pub state: State,
}

/// The state of a referral, with the data that exists only in this state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Attributed, without a qualifying order.
    Pending,
    /// An order qualified. The rewards are issued when the hold ends.
    Converted {
        conversion: Conversion,
        /// The end of the hold.
        due_at: Timestamp,
    },
    /// Both rewards are decided.
    Rewarded {
        conversion: Conversion,
        rewards: Rewards,
        /// The time of the sweep's next check, while one of the rewards is undelivered.
        due_at: Timestamp,
    },
    /// Voided before the issue. No reward is paid.
    Voided {
        at: Timestamp,
        reason: VoidReason,
        /// Whether the conversion includes every adjustment of its order. An earlier version kept only the first one.
        is_exact: bool,
        /// The conversion, if the referral had one.
        conversion: Option<Conversion>,
    },
    /// Voided after the issue. The rewards are taken back, which is final.
    Reversed {
        at: Timestamp,
        reason: VoidReason,
        conversion: Conversion,
        rewards: Rewards,
        /// The time of the sweep's next check, while a call that grants one of the rewards has no answer.
        due_at: Timestamp,
    },
}

/// The order that converted a referral, or can convert it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Conversion {
    /// The type of the event that reported the order.
    pub event: String,
    pub order: OrderId,
    #[serde(flatten)]
    pub paid: Money,
    /// When the event was processed. The hold begins then.
    pub at: Timestamp,
    /// The end of the hold, if it is not that of the terms. See [`Order::hold_until`](crate::domain::order::Order::hold_until).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<Timestamp>,
    /// The number of this conversion of the referral. It is higher than 1 if an earlier conversion was undone.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub number: u32,
    /// The version of the order's adjustments that this conversion includes.
    #[serde(default, skip_serializing_if = "is_none")]
    pub adjusted: u32,
    /// Why the rewards are not issued before an operator has decided, or, after a reversal, what an operator has to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<Attention>,
}

impl Conversion {
    /// The end of the hold.
    pub fn hold_ends_at(&self, terms: &Terms) -> Timestamp {
        self.hold_until.unwrap_or_else(|| self.at.plus(terms.hold()))
    }

    /// The same, with a hold that does not end before this time.
    #[must_use]
    pub fn held_until(self, until: Option<Timestamp>, terms: &Terms) -> Self {
        let later = until.filter(|until| *until > self.hold_ends_at(terms));
        Self { hold_until: later.or(self.hold_until), ..self }
    }
}

fn first() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_first(number: &u32) -> bool {
    *number == first()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_none(version: &u32) -> bool {
    *version == 0
}

/// An order that converts the referral if the converting order is undone before the issue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    #[serde(flatten)]
    pub conversion: Conversion,
    /// Whether this order was undone, too. It may stand again.
    #[serde(rename = "undone", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_undone: bool,
}

impl Candidate {
    /// The most candidates of a referral.
    pub const MOST: usize = 8;
}

/// An order and the version of its adjustments that the referral knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AdjustedOrder {
    pub order: OrderId,
    pub version: u32,
}

/// Both rewards of a referral.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rewards {
    pub issued_at: Timestamp,
    /// Whether every call of a subsystem was recorded ([`Delivery::called_at`]). Earlier versions did not record calls.
    #[serde(rename = "calls", default, skip_serializing_if = "std::ops::Not::not")]
    pub records_calls: bool,
    pub referrer: Reward,
    pub referee: Reward,
}

impl Rewards {
    pub(crate) fn issued(terms: &Terms, at: Timestamp) -> Self {
        let (referrer, referee) = (terms.referrer.decide(), terms.referee.decide());
        let (referrer, referee) = (Reward::issued(referrer), Reward::issued(referee));
        Self { issued_at: at, records_calls: true, referrer, referee }
    }

    /// The reward of this side.
    pub fn of(&self, side: Side) -> &Reward {
        match side {
            Side::Referrer => &self.referrer,
            Side::Referee => &self.referee,
        }
    }

    fn of_mut(&mut self, side: Side) -> &mut Reward {
        match side {
            Side::Referrer => &mut self.referrer,
            Side::Referee => &mut self.referee,
        }
    }

    /// The sides whose grant is neither delivered nor permanently refused.
    pub fn undelivered(&self) -> impl Iterator<Item = Side> {
        Side::BOTH.into_iter().filter(|side| self.of(*side).delivery.status() == RewardStatus::Issued)
    }

    /// The sides whose grant may have been called and has no final answer.
    pub fn unanswered(&self) -> impl Iterator<Item = Side> {
        self.undelivered().filter(|side| {
            let is_called = self.of(*side).delivery.called_at.is_some() || !self.records_calls;
            is_called && !mutant::is(Mutant::CalledRewardClosed)
        })
    }
}

/// The name of a [`State`], as the API shows it and as write conditions compare it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pending,
    Converted,
    Rewarded,
    /// Final, unless an order was undone and no reward was issued. If rewards were issued, they are taken back.
    Voided,
}

impl Status {
    /// All statuses, in the order of a referral's life.
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

impl Referral {
    /// The name of the state.
    pub fn status(&self) -> Status {
        match self.state {
            State::Pending => Status::Pending,
            State::Converted { .. } => Status::Converted,
            State::Rewarded { .. } => Status::Rewarded,
            State::Voided { .. } | State::Reversed { .. } => Status::Voided,
        }
    }

    /// The time of the sign-up.
    pub fn signed_up_at(&self) -> Timestamp {
        self.signed_up_at.unwrap_or(self.created_at)
    }

    /// The number of this life of the referral: conversions and voids carry it in their events. It is higher than 1 if the referral
    /// converted again or was reopened.
    pub fn life(&self) -> u32 {
        self.conversion().map_or(1 + self.reopened, |conversion| conversion.number)
    }

    /// Why an operator has to decide about this referral.
    pub fn attention(&self) -> Option<Attention> {
        match &self.state {
            State::Converted { conversion, .. }
            | State::Rewarded { conversion, .. }
            | State::Reversed { conversion, .. } => conversion.attention,
            State::Pending | State::Voided { .. } => None,
        }
    }

    /// The conversion, also after the referral was voided.
    pub fn conversion(&self) -> Option<&Conversion> {
        match &self.state {
            State::Pending => None,
            State::Converted { conversion, .. }
            | State::Rewarded { conversion, .. }
            | State::Reversed { conversion, .. } => Some(conversion),
            State::Voided { conversion, .. } => conversion.as_ref(),
        }
    }

    /// The order that converted the referral, and its candidates.
    pub fn orders(&self) -> impl Iterator<Item = &Conversion> {
        self.conversion().into_iter().chain(self.candidates.iter().map(|candidate| &candidate.conversion))
    }

    /// When and why the referral was voided.
    pub fn voided(&self) -> Option<Voided> {
        match &self.state {
            State::Voided { at, reason, .. } | State::Reversed { at, reason, .. } => {
                Some(Voided { at: *at, reason: *reason })
            }
            State::Pending | State::Converted { .. } | State::Rewarded { .. } => None,
        }
    }

    /// Both rewards, or `None` if they were not decided.
    pub fn rewards(&self) -> Option<&Rewards> {
        match &self.state {
            State::Rewarded { rewards, .. } | State::Reversed { rewards, .. } => Some(rewards),
            State::Pending | State::Converted { .. } | State::Voided { .. } => None,
        }
    }

    /// Identifies this referral in log lines and events. Only the stored value is independent of the key.
    pub fn correlation_id(&self) -> String {
        match &self.correlation_id {
            Some(stored) if !mutant::is(Mutant::CorrelationIdNotRead) => stored.as_str().to_owned(),
            Some(_) | None => self.referee.hashed(),
        }
    }

    /// The user on this side of the referral.
    pub fn user_id(&self, side: Side) -> &UserId {
        match side {
            Side::Referrer => &self.referrer,
            Side::Referee => &self.referee,
        }
    }

    /// The id of this side's reward, which is the id of the instruction that grants it.
    pub fn reward_id(&self, side: Side) -> InstructionId {
        InstructionId { referee: self.referee.clone(), side, kind: InstructionKind::Grant }
    }

    /// The delivery of this grant, or `None` if the referral has no such grant.
    pub fn delivery(&self, id: &InstructionId) -> Option<&Delivery> {
        match id.kind {
            InstructionKind::Grant if id.referee == self.referee => Some(&self.rewards()?.of(id.side).delivery),
            InstructionKind::Grant | InstructionKind::FullReversal | InstructionKind::PartialReversal(_) => None,
        }
    }

    /// The delivery of this instruction in `state`, which is a copy of this referral's state.
    pub(crate) fn delivery_in<'a>(&self, state: &'a mut State, id: &InstructionId) -> Option<&'a mut Delivery> {
        self.delivery(id)?;
        let (State::Rewarded { rewards, .. } | State::Reversed { rewards, .. }) = state else { return None };
        Some(&mut rewards.of_mut(id.side).delivery)
    }

    /// The grants that have to be sent. After a reversal only those whose call may have had an effect, because their answer
    /// decides whether there is something to take back.
    pub fn undelivered(&self) -> Vec<InstructionId> {
        let sides: Vec<Side> = match &self.state {
            State::Rewarded { rewards, .. } => rewards.undelivered().collect(),
            State::Reversed { rewards, .. } => rewards.unanswered().collect(),
            State::Pending | State::Converted { .. } | State::Voided { .. } => Vec::new(),
        };
        sides.into_iter().map(|side| self.reward_id(side)).collect()
    }
}
