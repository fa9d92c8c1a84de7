//! Amounts of money and points: integers in minor units, never floats.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

/// A number of minor units (cents, pence, yen) or of points. It is at most 2^53 - 1, so that every JSON parser reads it
/// exactly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(into = "u64")]
pub struct Amount(u64);

impl Amount {
    const MAX: u64 = (1 << 53) - 1;

    /// The amount 0.
    pub const ZERO: Self = Self(0);

    /// The amount `count`. A `u32` is always below the limit.
    pub const fn small(count: u32) -> Self {
        Self(count as u64)
    }
}

/// The number is not a whole number from 0 to 2^53 - 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a whole number from 0 to 9007199254740991")]
pub struct InvalidAmount;

impl TryFrom<u64> for Amount {
    type Error = InvalidAmount;

    fn try_from(count: u64) -> Result<Self, InvalidAmount> {
        (count <= Self::MAX).then_some(Self(count)).ok_or(InvalidAmount)
    }
}

/// JSON Schema counts `4200.0` as an integer from draft 6 on, and some programs write it, such as pandas for a column with an
/// empty cell. So a number without a fraction is read, whatever its form.
impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Amount, E> {
                count.try_into().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Amount, E> {
                u64::try_from(count).map_err(|_| E::custom(InvalidAmount)).and_then(|count| self.visit_u64(count))
            }

            fn visit_f64<E: de::Error>(self, count: f64) -> Result<Amount, E> {
                // The shortest text of a number without a fraction has only digits.
                count.to_string().parse().map_err(E::custom)
            }
        }

        // Not `deserialize_u64`: inside a flattened struct it refuses every number with a fraction.
        deserializer.deserialize_any(Visitor)
    }
}

impl From<Amount> for u64 {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        text.parse::<u64>().map_err(|_| InvalidAmount)?.try_into()
    }
}

/// An ISO 4217 currency: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// The United States dollar.
    pub const USD: Self = Self(*b"USD");

    /// How many digits of an amount are behind the decimal point: 2 for cents. `None` if ISO 4217 does not list the
    /// currency, or it has no minor unit (gold).
    #[cfg(feature = "iso-currency")]
    pub fn exponent(self) -> Option<u16> {
        iso_currency::Currency::from_code(&self.to_string())?.exponent()
    }
}

/// The text is not a currency of three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected an ISO 4217 currency, such as USD")]
pub struct InvalidCurrency;

impl FromStr for Currency {
    type Err = InvalidCurrency;

    fn from_str(text: &str) -> Result<Self, InvalidCurrency> {
        let letters: [u8; 3] = text.as_bytes().try_into().map_err(|_| InvalidCurrency)?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters)).ok_or(InvalidCurrency)
    }
}

impl TryFrom<String> for Currency {
    type Error = InvalidCurrency;

    fn try_from(text: String) -> Result<Self, InvalidCurrency> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.to_string()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

/// An amount of money.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Money {
    /// In minor units.
    pub amount: Amount,
    pub currency: Currency,
}

impl Money {
    /// Whether this is at least `other`, in the same currency.
    pub fn covers(&self, other: &Self) -> bool {
        self.currency == other.currency && self.amount >= other.amount
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(amount: u64, currency: &str) -> Money {
        Money { amount: amount.try_into().unwrap(), currency: currency.parse().unwrap() }
    }

    #[test]
    fn amounts_are_whole_numbers_up_to_the_limit() {
        assert!("0".parse::<Amount>().is_ok());
        assert!("9007199254740991".parse::<Amount>().is_ok());
        for text in ["-1", "1.5", "9007199254740992", "", "ten"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_fraction_is_whole_in_every_form() {
        let read = |text: &str| serde_json::from_str::<Amount>(text).map(u64::from).ok();
        for text in ["4200", "4200.0", "4.2e3", "42E2", "4200.000"] {
            assert_eq!(read(text), Some(4200), "{text}");
        }
        assert_eq!(
            (read("0"), read("0.0"), read("9007199254740991.0")),
            (Some(0), Some(0), Some(9_007_199_254_740_991))
        );
        for text in ["1.5", "-1", "-1.0", "1e-3", "9007199254740992.0", "1e300", "\"4200\"", "null", "true", "[1]"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn currencies_are_three_capital_letters() {
        assert_eq!("EUR".parse::<Currency>().unwrap().to_string(), "EUR");
        for text in ["eur", "EU", "EURO", "", "E1R"] {
            assert!(text.parse::<Currency>().is_err(), "{text}");
        }
    }

    #[cfg(feature = "iso-currency")]
    #[test]
    fn exponents_are_those_of_iso_4217() {
        // JavaScript engines do not agree with ISO 4217 on the first line, and other lists not on the second.
        let first = [("HUF", 2), ("IQD", 3), ("IDR", 2), ("COP", 2), ("ALL", 2), ("RSD", 2), ("LBP", 2), ("PKR", 2)];
        let second = [("MGA", 2), ("MRU", 2), ("JPY", 0), ("KWD", 3), ("ISK", 0), ("UGX", 0), ("CLF", 4), ("TND", 3)];
        // Currencies since 2024.
        let recent = [("XCG", 2), ("ZWG", 2), ("XAD", 2), ("EUR", 2), ("BGN", 2)];
        for (currency, exponent) in first.into_iter().chain(second).chain(recent) {
            assert_eq!(currency.parse::<Currency>().unwrap().exponent(), Some(exponent), "{currency}");
        }
        for currency in ["XAU", "XXX", "XYZ"] {
            assert_eq!(currency.parse::<Currency>().unwrap().exponent(), None, "{currency}");
        }
    }

    #[test]
    fn amounts_of_other_currencies_are_not_compared() {
        assert!(money(1000, "USD").covers(&money(1000, "USD")));
        assert!(!money(999, "USD").covers(&money(1000, "USD")));
        assert!(!money(5000, "EUR").covers(&money(1000, "USD")));
    }
}
