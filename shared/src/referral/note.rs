//! Notes: what is kept beside a referral or an account. Who decided what and why, and which orders were refused.

use serde::{Deserialize, Serialize};

use super::{Candidate, Referral, Status, machine::Refusal};
use crate::domain::{
    id::{OrderId, UserId},
    money::Money,
    order::Order,
    time::Timestamp,
};

/// A note about a referral or an account. It never changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Note {
    Operator(AuditEntry),
    Order(RefusedOrder),
}

/// An action of an operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub action: Action,
    /// As authenticated by the gateway, which does not always know it.
    #[serde(default)]
    pub operator: Option<String>,
    pub reason: String,
}

/// What an operator can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Void,
    Reopen,
    Convert,
    Approve,
    /// Flags an account; below, clears it.
    Flag,
    Clear,
}

impl Action {
    /// The name in keys and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Reopen => "reopen",
            Self::Convert => "convert",
            Self::Approve => "approve",
            Self::Flag => "flag",
            Self::Clear => "clear",
        }
    }
}

/// An order that could have converted a referral, and did not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedOrder {
    pub at: Timestamp,
    pub order_id: OrderId,
    pub event: String,
    #[serde(flatten)]
    pub paid: Money,
    pub placed_at: Timestamp,
    pub reason: OrderRefusal,
}

/// Why an order was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderRefusal {
    /// It does not meet the terms.
    NotQualifying,
    OrderBeforeSignUp,
    OrderOfAnotherUser,
    /// It no longer stands, and is not kept: there is no room for it, or another order was rewarded.
    OrderUndone,
    TooManyCandidates,
    /// The rewards were issued for another order.
    OtherOrderRewarded,
    /// A fraud rule or an operator had voided the referral.
    ReferralVoided,
}

impl OrderRefusal {
    /// The reason in a note; `None` if the order could never convert this referral, or its rewards are decided.
    pub fn of(refusal: Refusal, referral: &Referral, order: &Order) -> Option<Self> {
        if referral.rewards().is_some() {
            return None;
        }
        match refusal {
            Refusal::Unqualified if order.event != referral.terms.qualifying_event => None,
            Refusal::Unqualified => Some(Self::NotQualifying),
            Refusal::Status(Status::Voided) => Some(Self::ReferralVoided),
            Refusal::BeforeSignUp => Some(Self::OrderBeforeSignUp),
            Refusal::OtherUser => Some(Self::OrderOfAnotherUser),
            Refusal::OrderUndone => Some(Self::OrderUndone),
            Refusal::OtherOrder => Some(Self::TooManyCandidates),
            Refusal::Status(_) | Refusal::NotDue | Refusal::NeedsAttention => None,
        }
    }
}

impl RefusedOrder {
    /// The orders that the issue at this time passes over. The referral does not keep them any longer. Only the time of their arrival
    /// is known.
    pub fn passed_over(referral: &Referral, at: Timestamp) -> impl Iterator<Item = Self> {
        referral.candidates.iter().map(move |Candidate { conversion, is_undone }| Self {
            at,
            order_id: conversion.order.clone(),
            event: conversion.event.clone(),
            paid: conversion.paid,
            placed_at: conversion.at,
            reason: if *is_undone { OrderRefusal::OrderUndone } else { OrderRefusal::OtherOrderRewarded },
        })
    }

    /// The note of this order.
    pub fn of(order: &Order, reason: OrderRefusal, at: Timestamp) -> Self {
        let Order { id, event, paid, placed_at, .. } = order.clone();
        Self { at, order_id: id, event, paid, placed_at, reason }
    }
}

/// Whom a note is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    Referral(UserId),
    Account(UserId),
}
