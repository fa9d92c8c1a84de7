//! What others see: referrals and rewards as the API and the bus show them.

use serde::Serialize;

use crate::{
    id::UserId,
    money::{Amount, Currency},
    referral::{Referral, State, VoidReason},
    reward::{RewardId, RewardStatus, RewardType, Side},
    time::Timestamp,
};

/// A referral. What has not happened is `null`; without rewards the list is empty.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReferralView<'a> {
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
    rewards: Vec<RewardView<'a>>,
}

impl<'a> ReferralView<'a> {
    /// Shows this referral.
    pub fn of(referral: &'a Referral) -> Self {
        let conversion = referral.conversion();
        let (voided_at, void_reason) = match &referral.state {
            State::Voided { at, reason, .. } => (Some(*at), Some(*reason)),
            State::Pending { .. } | State::Converted { .. } | State::Rewarded { .. } => (None, None),
        };
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
            voided_at,
            void_reason,
            rewards: Side::BOTH.into_iter().filter_map(|side| RewardView::of(referral, side)).collect(),
        }
    }
}

/// A reward. The amount is in minor units; points are a plain count without a currency.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RewardView<'a> {
    /// Its name, and the idempotency key of its delivery.
    pub reward_id: RewardId,
    /// For which of the two.
    pub side: Side,
    /// Whose it is.
    pub user_id: &'a UserId,
    /// Which subsystem gives it.
    pub r#type: RewardType,
    /// Minor units, or points.
    pub amount: Amount,
    /// Of this currency.
    pub currency: Option<Currency>,
    /// Where it stands.
    pub status: RewardStatus,
    /// When it was decided.
    pub issued_at: Timestamp,
    /// When the subsystem took it.
    pub delivered_at: Option<Timestamp>,
}

impl<'a> RewardView<'a> {
    /// Shows this side's reward, once there is one.
    pub fn of(referral: &'a Referral, side: Side) -> Option<Self> {
        let rewards = referral.rewards()?;
        let reward = rewards.of(side);
        Some(Self {
            reward_id: referral.reward_id(side),
            side,
            user_id: referral.person(side),
            r#type: reward.benefit.kind(),
            amount: reward.benefit.amount(),
            currency: reward.benefit.currency(),
            status: reward.status(),
            issued_at: rewards.issued_at,
            delivered_at: reward.delivered_at,
        })
    }
}
