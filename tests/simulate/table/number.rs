//! DynamoDB numbers: decimal, up to 38 digits, with one canonical text per value.

use std::{cmp::Ordering, fmt};

/// A decimal number: `digits` times ten to the power of `exponent`, without trailing zeros in `digits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Number {
    digits: i128,
    exponent: i32,
}

impl Number {
    const MOST_DIGITS: i32 = 38;

    /// Parses a number; `None` if DynamoDB would not accept the text.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (plain, power) = match text.split_once(['e', 'E']) {
            Some((plain, power)) => (plain, power.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, plain) = match plain.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, plain.strip_prefix('+').unwrap_or(plain)),
        };
        let (whole, part) = plain.split_once('.').unwrap_or((plain, ""));
        let is_number = !(whole.is_empty() && part.is_empty())
            && whole.bytes().chain(part.bytes()).all(|digit| digit.is_ascii_digit());
        if !is_number {
            return None;
        }
        let all = format!("{whole}{part}");
        let significant = all.trim_matches('0');
        if significant.is_empty() {
            return Some(Self { digits: 0, exponent: 0 });
        }
        let trailing = all.len() - all.trim_end_matches('0').len();
        let exponent =
            power.checked_sub(i32::try_from(part.len()).ok()?)?.checked_add(i32::try_from(trailing).ok()?)?;
        let count = i32::try_from(significant.len()).ok()?;
        if count > Self::MOST_DIGITS || !(-130..=125).contains(&exponent.checked_add(count - 1)?) {
            return None;
        }
        let digits: i128 = significant.parse().ok()?;
        Some(Self { digits: if negative { -digits } else { digits }, exponent })
    }

    /// The sum; `None` if it has more digits than DynamoDB allows or than this type can hold.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        if self.digits == 0 {
            return Some(other);
        }
        if other.digits == 0 {
            return Some(self);
        }
        let exponent = self.exponent.min(other.exponent);
        let aligned = |number: Self| -> Option<i128> {
            let shift = u32::try_from(number.exponent - exponent).ok()?;
            number.digits.checked_mul(10_i128.checked_pow(shift)?)
        };
        let sum = aligned(self)?.checked_add(aligned(other)?)?;
        Self::read(&format!("{sum}e{exponent}"))
    }

    /// The number of digits before the decimal point or, for a value below one, minus the number of zeros after it.
    fn magnitude(self) -> i32 {
        i32::try_from(self.digits.unsigned_abs().to_string().len()).unwrap_or(i32::MAX) + self.exponent
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.digits.signum().cmp(&other.digits.signum());
        if signs != Ordering::Equal || self.digits == 0 {
            return signs;
        }
        let magnitudes = self.magnitude().cmp(&other.magnitude());
        if magnitudes != Ordering::Equal {
            return if self.digits > 0 { magnitudes } else { magnitudes.reverse() };
        }
        // With the same magnitude, both fit when written with the same exponent.
        let exponent = self.exponent.min(other.exponent);
        let aligned = |number: &Self| number.digits * 10_i128.pow((number.exponent - exponent).unsigned_abs());
        aligned(self).cmp(&aligned(other))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Formats without an exponent, like DynamoDB.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits.unsigned_abs().to_string();
        let sign = if self.digits < 0 { "-" } else { "" };
        let places = usize::try_from(self.exponent.unsigned_abs()).unwrap_or_default();
        if self.exponent >= 0 {
            return write!(f, "{sign}{digits}{}", "0".repeat(places));
        }
        let digits = format!("{digits:0>width$}", width = places + 1);
        let (whole, part) = digits.split_at(digits.len() - places);
        write!(f, "{sign}{whole}.{part}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::read(text).unwrap()
    }

    #[test]
    fn each_value_has_one_text() {
        for (text, kept) in [
            ("1", "1"),
            ("1.0", "1"),
            ("+01.50", "1.5"),
            ("1e2", "100"),
            ("1.5E-3", "0.0015"),
            ("-0", "0"),
            ("-.5", "-0.5"),
            ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ] {
            assert_eq!(number(text).to_string(), kept, "{text}");
        }
    }

    #[test]
    fn compares_by_value_and_exactly() {
        for (less, more) in [
            ("-2", "-1"),
            ("-1", "0"),
            ("0", "0.001"),
            ("9", "10"),
            ("-10", "-9"),
            ("1.5", "1.50001"),
            ("12345678901234567890123456789012345677", "12345678901234567890123456789012345678"),
            ("1e-100", "1e100"),
        ] {
            assert!(number(less) < number(more), "{less} {more}");
        }
        assert_eq!(number("100"), number("1e2"));
    }

    #[test]
    fn refuses_text_that_is_not_a_number() {
        for text in ["", "-", ".", "e1", "1e", "0x1", "NaN", "1 ", "1e126", "1e-131", &"1".repeat(39)] {
            assert!(Number::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn adds_exactly() {
        let sum = |one: &str, other: &str| number(one).plus(number(other)).map(|sum| sum.to_string());
        assert_eq!(sum("0.1", "0.2").as_deref(), Some("0.3"));
        assert_eq!(sum("99", "1").as_deref(), Some("100"));
        assert_eq!(sum("5", "-5").as_deref(), Some("0"));
        assert_eq!(sum("1e30", "1e-30"), None);
    }
}
