//! Timestamps: UTC with milliseconds, in a text form that sorts by time.

use std::{fmt, time::Duration};

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

/// A time in UTC, truncated to the millisecond, written as RFC 3339 with three decimals (`2026-01-31T09:30:00.000Z`).
///
/// The width is fixed, so that the texts sort by time. The table's sort keys depend on that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The start of the year 1970, the earliest time that can be represented.
    pub const FIRST: Self = Self(DateTime::UNIX_EPOCH);

    /// The end of the year 9999, the latest time that can be represented.
    pub const LAST: Self = Self(LAST);

    /// The time `millis` milliseconds after the start of 1970; `None` outside the years 1970 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).and_then(Self::in_range)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.timestamp()
    }

    /// The day in UTC.
    pub(crate) fn date(self) -> NaiveDate {
        self.0.date_naive()
    }

    /// This time plus `pause`, but not later than [`Self::LAST`].
    #[must_use]
    pub fn plus(self, pause: Duration) -> Self {
        let millis = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.millis().saturating_add(millis)).unwrap_or(Self(LAST))
    }

    /// The time from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.millis() - earlier.millis()).unwrap_or(0))
    }

    /// A year of more than four digits would change the width and break the sorting.
    fn in_range(moment: DateTime<Utc>) -> Option<Self> {
        (1970..=9999).contains(&moment.year()).then(|| Self(moment.trunc_subsecs(3)))
    }
}

const LAST: DateTime<Utc> = match DateTime::from_timestamp_millis(253_402_300_799_999) {
    Some(moment) => moment,
    None => DateTime::UNIX_EPOCH,
};

impl From<DateTime<Utc>> for Timestamp {
    fn from(moment: DateTime<Utc>) -> Self {
        Self::in_range(moment).unwrap_or(Self(LAST))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = <Self as TryFrom<String>>::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<Timestamp> for String {
    fn from(moment: Timestamp) -> Self {
        moment.to_string()
    }
}

/// The text is not an RFC 3339 timestamp of the years 1970 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected an RFC 3339 timestamp, such as 2026-01-31T09:30:00Z")]
pub struct InvalidTimestamp;

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        DateTime::parse_from_rfc3339(&text)
            .ok()
            .and_then(|moment| Self::in_range(moment.to_utc()))
            .ok_or(InvalidTimestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Timestamp, InvalidTimestamp> {
        Timestamp::try_from(text.to_owned())
    }

    #[test]
    fn a_timestamp_is_written_in_utc_with_three_decimals() {
        let moment = parse("2026-01-31T10:30:00.1239+01:00").unwrap();
        assert_eq!(moment.to_string(), "2026-01-31T09:30:00.123Z");
        assert_eq!(parse("2026-01-31T09:30:00Z").unwrap().to_string(), "2026-01-31T09:30:00.000Z");
    }

    #[test]
    fn texts_that_do_not_sort_or_are_not_times_are_refused() {
        for text in
            ["", "yesterday", "2026-01-31", "1969-12-31T23:59:59Z", "+10000-01-01T00:00:00Z", "2026-13-01T00:00:00Z"]
        {
            assert_eq!(parse(text), Err(InvalidTimestamp), "{text}");
        }
    }

    #[test]
    fn arithmetic_does_not_overflow() {
        let moment = parse("2026-01-31T09:30:00Z").unwrap();
        assert_eq!(moment.plus(Duration::from_millis(1500)).since(moment), Duration::from_millis(1500));
        assert_eq!(moment.since(moment.plus(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(moment.plus(Duration::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
