//! Attention: why an operator has to decide about a referral.

use serde::{Deserialize, Serialize};

use super::Conversion;
use crate::{
    domain::{adjustments::Adjustments, money::Money},
    mutant::{self, Mutant},
};

/// Why an operator has to decide about a referral. Until then its rewards are not issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// The order was refunded in another currency, so it is unknown how much of it is left.
    RefundInOtherCurrency,
    /// The order has more adjustments than are kept.
    TooManyAdjustments,
    /// The order stands again after the rewards were taken back. They are not granted again.
    OrderStandsAgain,
}

impl Attention {
    /// What is unclear about an order of this amount with these adjustments.
    pub fn of(adjustments: &Adjustments, paid: &Money) -> Option<Self> {
        if adjustments.foreign_refunds(paid).next().is_some() && !mutant::is(Mutant::ForeignRefundIgnored) {
            return Some(Self::RefundInOtherCurrency);
        }
        adjustments.has_excess.then_some(Self::TooManyAdjustments)
    }
}

impl Conversion {
    /// The conversion, when it includes these adjustments of its order.
    #[must_use]
    pub(super) fn including(self, adjustments: &Adjustments) -> Self {
        let attention = Attention::of(adjustments, &self.paid);
        Self { adjusted: adjustments.version, attention, ..self }
    }
}
