//! Views: referrals, rewards and reversals as the API and the published events show them.

use serde::Serialize;

use crate::{
    domain::{
        id::UserId,
        money::{Amount, Currency},
        time::Timestamp,
    },
    referral::{
        Referral, VoidReason,
        reversal::Reversal,
        reward::{InstructionId, RewardStatus, RewardType, Side},
    },
};

/// A referral. Times and reasons are `null` until their step has happened, and `rewards` is empty until both are
/// decided.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReferralView<'a, R = RewardView<'a>> {
    referee_id: &'a str,
    referrer_id: &'a str,
    code: &'a str,
    program: &'a str,
    status: &'static str,
    created_at: Timestamp,
    conversion_event: Option<&'a str>,
    order_id: Option<&'a str>,
    converted_at: Option<Timestamp>,
    rewarded_at: Option<Timestamp>,
    voided_at: Option<Timestamp>,
    void_reason: Option<VoidReason>,
    rewards: Vec<R>,
}

impl<'a> ReferralView<'a> {
    /// The view of this referral.
    pub fn of(referral: &'a Referral) -> Self {
        Self::with_rewards(referral, |side| RewardView::of(referral, side))
    }
}

impl<'a, R> ReferralView<'a, R> {
    /// The same, with another view of the rewards.
    pub fn with_rewards(referral: &'a Referral, reward: impl Fn(Side) -> Option<R>) -> Self {
        let conversion = referral.conversion();
        let voided = referral.voided();
        Self {
            referee_id: referral.referee.as_str(),
            referrer_id: referral.referrer.as_str(),
            code: referral.code.as_str(),
            program: referral.program.as_str(),
            status: referral.status().as_str(),
            created_at: referral.created_at,
            conversion_event: conversion.map(|conversion| conversion.event.as_str()),
            order_id: conversion.map(|conversion| conversion.order.as_str()),
            converted_at: conversion.map(|conversion| conversion.at),
            rewarded_at: referral.rewards().map(|rewards| rewards.issued_at),
            voided_at: voided.map(|voided| voided.at),
            void_reason: voided.map(|voided| voided.reason),
            rewards: Side::BOTH.into_iter().filter_map(reward).collect(),
        }
    }
}

/// A reward. The amount is in minor units of the currency. Points have no currency.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RewardView<'a> {
    /// Also the idempotency key of the delivery.
    pub reward_id: InstructionId,
    pub side: Side,
    pub user_id: &'a UserId,
    pub r#type: RewardType,
    pub amount: Amount,
    /// How much of the amount was taken back.
    pub reversed_amount: Amount,
    pub currency: Option<Currency>,
    pub status: RewardStatus,
    pub issued_at: Timestamp,
    /// When the subsystem answered 2xx.
    pub delivered_at: Option<Timestamp>,
}

impl<'a> RewardView<'a> {
    /// The view of this side's reward, or `None` until the rewards are decided.
    pub fn of(referral: &'a Referral, side: Side) -> Option<Self> {
        let rewards = referral.rewards()?;
        let reward = rewards.of(side);
        Some(Self {
            reward_id: referral.reward_id(side),
            side,
            user_id: referral.user_id(side),
            r#type: reward.benefit.kind(),
            amount: reward.benefit.amount(),
            reversed_amount: reward.reversed.unwrap_or(Amount::ZERO),
            currency: reward.benefit.currency(),
            status: reward.status(),
            issued_at: rewards.issued_at,
            delivered_at: reward.delivery.delivered_at,
        })
    }
}

/// A reversal: an instruction that takes back a reward. The amount is in minor units of the currency.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReversalView<'a> {
    /// Also the idempotency key of the delivery.
    pub reversal_id: &'a InstructionId,
    /// The id of the reward that it takes back.
    pub reverses: InstructionId,
    pub referee_id: &'a UserId,
    pub side: Side,
    pub user_id: &'a UserId,
    pub r#type: RewardType,
    pub amount: Amount,
    pub currency: Option<Currency>,
    pub status: &'static str,
    pub issued_at: Timestamp,
    /// When the subsystem answered 2xx.
    pub delivered_at: Option<Timestamp>,
}

impl<'a> ReversalView<'a> {
    /// The view of this reversal.
    pub fn of(reversal: &'a Reversal) -> Self {
        Self {
            reversal_id: &reversal.id,
            reverses: reversal.reward_id(),
            referee_id: &reversal.id.referee,
            side: reversal.id.side,
            user_id: &reversal.user,
            r#type: reversal.benefit.kind(),
            amount: reversal.benefit.amount(),
            currency: reversal.benefit.currency(),
            status: reversal.status().as_str(),
            issued_at: reversal.issued_at,
            delivered_at: reversal.delivery.delivered_at,
        }
    }
}
