//! Voids: why a referral was voided, and how that is stored.

use serde::{Deserialize, Serialize};

use crate::{
    domain::{adjustments::Undone, time::Timestamp},
    fraud::{self, FraudReason, Gate, UnknownReason},
};

/// Why a referral was voided: a fraud rule, an operator, or an adjustment of the order that had converted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum VoidReason {
    Fraud(FraudReason),
    OrderCancelled,
    /// The order was refunded in full.
    OrderRefunded,
    PaymentDisputed,
    Operator,
}

impl VoidReason {
    /// Every reason that a void can have.
    pub fn all() -> impl Iterator<Item = Self> {
        let orders = [Self::OrderCancelled, Self::OrderRefunded, Self::PaymentDisputed];
        fraud::reasons_at(Gate::Issue).map(Self::Fraud).chain(orders).chain([Self::Operator])
    }

    /// Whether the reason is that the order no longer stands.
    pub const fn is_of_order(self) -> bool {
        matches!(self, Self::OrderCancelled | Self::OrderRefunded | Self::PaymentDisputed)
    }

    /// The name in HTTP answers, items, events and counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fraud(reason) => reason.as_str(),
            Self::OrderCancelled => "order_cancelled",
            Self::OrderRefunded => "order_refunded",
            Self::PaymentDisputed => "payment_disputed",
            Self::Operator => "operator",
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
            "operator" => Ok(Self::Operator),
            other => other.parse().map(Self::Fraud),
        }
    }
}

impl From<FraudReason> for VoidReason {
    fn from(reason: FraudReason) -> Self {
        Self::Fraud(reason)
    }
}

impl From<Undone> for VoidReason {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Cancelled => Self::OrderCancelled,
            Undone::Refunded => Self::OrderRefunded,
            Undone::Disputed => Self::PaymentDisputed,
        }
    }
}

/// When and why a referral was voided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "StoredVoid", from = "StoredVoid")]
pub struct Voided {
    pub at: Timestamp,
    pub reason: VoidReason,
}

/// The stored form. Version 0.1.0 does not know operators as a reason, and must be able to read the item after a rollback.
#[derive(Serialize, Deserialize)]
struct StoredVoid {
    at: Timestamp,
    reason: VoidReason,
    #[serde(rename = "operator", default, skip_serializing_if = "std::ops::Not::not")]
    is_by_operator: bool,
}

impl From<Voided> for StoredVoid {
    fn from(voided: Voided) -> Self {
        let is_by_operator = voided.reason == VoidReason::Operator;
        let reason = if is_by_operator { FraudReason::RefereeFlagged.into() } else { voided.reason };
        Self { at: voided.at, reason, is_by_operator }
    }
}

impl From<StoredVoid> for Voided {
    fn from(stored: StoredVoid) -> Self {
        Self { at: stored.at, reason: if stored.is_by_operator { VoidReason::Operator } else { stored.reason } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_void_reason_is_read_back_by_its_name() {
        let fraud = [FraudReason::ReferrerFlagged, FraudReason::RefereeFlagged, FraudReason::ReciprocalReferral];
        let others =
            [VoidReason::OrderCancelled, VoidReason::OrderRefunded, VoidReason::PaymentDisputed, VoidReason::Operator];
        for reason in fraud.map(VoidReason::from).into_iter().chain(others) {
            let written = serde_json::to_value(reason).unwrap();
            assert_eq!(written, reason.as_str());
            assert_eq!(serde_json::from_value::<VoidReason>(written).ok(), Some(reason));
        }
        assert!(serde_json::from_value::<VoidReason>("other".into()).is_err());
    }
    #[test]
    fn an_earlier_version_can_read_a_void_by_an_operator() {
        let voided = Voided { at: crate::sample::at(5), reason: VoidReason::Operator };
        let stored = serde_json::to_value(voided).unwrap();
        assert_eq!(stored["reason"], "referee_flagged");
        assert_eq!(serde_json::from_value::<Voided>(stored).ok(), Some(voided));
        let old = serde_json::json!({"at": "2026-01-01T00:00:00.000Z", "reason": "referee_flagged"});
        let fraud = VoidReason::Fraud(FraudReason::RefereeFlagged);
        assert_eq!(serde_json::from_value::<Voided>(old).map(|voided| voided.reason).ok(), Some(fraud));
    }
}
