//! The `Time` of an entry.

use referrals::domain::time::Timestamp;
use serde_json::Value;

use crate::{aws::AwsError, clock};

/// The entry's time in milliseconds since 1970; now, if it has none; `None` outside the years 1970 to 9999. SDKs send seconds,
/// with fractions or without. A text in RFC 3339 is also accepted.
///
/// # Errors
/// Returns an error that fails the whole request when the value is not a time.
pub(super) fn time(entry: &Value) -> Result<Option<i64>, AwsError> {
    match &entry["Time"] {
        Value::Null => Ok(Some(clock::now())),
        Value::Number(seconds) => Ok(seconds.as_f64().and_then(millis)),
        Value::String(text) => {
            text.parse().map(|at: Timestamp| Some(at.millis())).map_err(|_| not_a_time(&entry["Time"]))
        }
        other => Err(not_a_time(other)),
    }
}

/// Clients that send milliseconds as seconds name a time far behind the year 9999.
#[allow(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn millis(seconds: f64) -> Option<i64> {
    /// The start of the year 10000.
    const END: f64 = 253_402_300_800.0;
    (0.0..END).contains(&seconds).then_some((seconds * 1000.0) as i64)
}

fn not_a_time(value: &Value) -> AwsError {
    AwsError::new("SerializationException", format!("Time is neither seconds since 1970 nor RFC 3339: {value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn seconds_with_and_without_fractions_and_rfc_3339_are_times() {
        for (value, millis) in [
            (json!(1_769_851_800), 1_769_851_800_000),
            (json!(1_769_851_800.0), 1_769_851_800_000),
            (json!(1_769_851_800.123_456), 1_769_851_800_123),
            (json!("2026-01-31T09:30:00Z"), 1_769_851_800_000),
            (json!("2026-01-31T10:30:00.5+01:00"), 1_769_851_800_500),
            (json!(0), 0),
            (json!(253_402_300_799_u64), 253_402_300_799_000),
        ] {
            assert_eq!(time(&json!({ "Time": value })).unwrap(), Some(millis), "{value}");
        }
        assert!(time(&json!({})).unwrap().unwrap() > 1_769_851_800_000);
    }

    #[test]
    fn a_time_outside_the_range_is_refused_and_another_value_is_no_time() {
        // The first is what a client sends that takes JavaScript's milliseconds for seconds.
        for value in [json!(1_769_851_800_123_u64), json!(253_402_300_800_u64), json!(-1), json!(-0.5), json!(1e300)] {
            assert_eq!(time(&json!({ "Time": value })).unwrap(), None, "{value}");
        }
        for value in [json!(true), json!(false), json!(""), json!("now"), json!("1769851800"), json!([]), json!({})] {
            assert!(time(&json!({ "Time": value })).is_err(), "{value}");
        }
    }
}
