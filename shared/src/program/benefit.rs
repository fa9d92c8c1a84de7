//! Benefits: what a program promises each side, and what each side gets when the rewards are issued.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::money::{Amount, Currency, Money};

/// What a program promises one side. It is written with the terms of each referral; [`Promise::decide`] turns it into a
/// [`Benefit`] when the rewards are issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Benefit", into = "Benefit")]
pub enum Promise {
    /// The same benefit for every order.
    Fixed(Benefit),
}

impl Promise {
    /// What the side gets.
    pub fn decide(&self) -> Benefit {
        match self {
            Self::Fixed(benefit) => *benefit,
        }
    }
}

impl From<Benefit> for Promise {
    fn from(benefit: Benefit) -> Self {
        Self::Fixed(benefit)
    }
}

impl From<Promise> for Benefit {
    fn from(promise: Promise) -> Self {
        promise.decide()
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

/// What one side gets: money as credit or coupon, or points, which have no currency.
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

    /// The benefit with these stored fields.
    ///
    /// # Errors
    /// Returns an error when money has no currency, or points have one.
    pub(crate) fn from_fields(
        kind: RewardType,
        amount: Amount,
        currency: Option<Currency>,
    ) -> Result<Self, InvalidBenefit> {
        match (kind, currency) {
            (RewardType::Points, None) => Ok(Self::Points(amount)),
            (RewardType::Credit | RewardType::Coupon, Some(currency)) => Ok(Self::new(kind, amount, currency)),
            (RewardType::Points, Some(_)) | (_, None) => Err(InvalidBenefit),
        }
    }

    /// The same kind of benefit with another amount.
    pub(crate) fn of_amount(&self, amount: Amount) -> Self {
        match self {
            Self::Credit(money) => Self::Credit(Money { amount, ..*money }),
            Self::Coupon(money) => Self::Coupon(Money { amount, ..*money }),
            Self::Points(_) => Self::Points(amount),
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

/// The stored form of a benefit: the three fields that the API also shows.
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
pub(crate) struct InvalidBenefit;

impl TryFrom<WrittenBenefit> for Benefit {
    type Error = InvalidBenefit;

    fn try_from(written: WrittenBenefit) -> Result<Self, InvalidBenefit> {
        Self::from_fields(written.r#type, written.amount, written.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_promise_is_stored_like_its_benefit() {
        let text = r#"{"type":"credit","amount":5,"currency":"USD"}"#;
        let promise: Promise = serde_json::from_str(text).unwrap();
        assert_eq!(promise, Promise::Fixed(serde_json::from_str(text).unwrap()));
        assert_eq!(serde_json::to_string(&promise).unwrap(), text);
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
}
