//! Timestamps: UTC with milliseconds, in a text form that sorts by time.

use std::{fmt, time::Duration};

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, SubsecRound, Timelike, Utc};
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

    /// The clocks of two systems can differ by this much.
    pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

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

    /// A year of more than four digits would change the width and break the sorting. Most languages cannot read a second of
    /// 60, so a leap second becomes the last millisecond before it.
    fn in_range(moment: DateTime<Utc>) -> Option<Self> {
        let moment = if is_leap(&moment) { moment.with_nanosecond(999_000_000)? } else { moment };
        (1970..=9999).contains(&moment.year()).then(|| Self(moment.trunc_subsecs(3)))
    }

    fn read(text: &str, accepts: impl Fn(&DateTime<Utc>) -> bool) -> Result<Self, InvalidTimestamp> {
        let moment = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp)?.to_utc();
        Some(moment).filter(accepts).and_then(Self::in_range).ok_or(InvalidTimestamp)
    }
}

const LAST: DateTime<Utc> = match DateTime::from_timestamp_millis(253_402_300_799_999) {
    Some(moment) => moment,
    None => DateTime::UNIX_EPOCH,
};

/// The years in which a second of 60 was inserted at the end of June, and at the end of December (IERS Bulletin C). None has
/// been announced since.
const LEAP_JUNES: [i32; 11] = [1972, 1981, 1982, 1983, 1985, 1992, 1993, 1994, 1997, 2012, 2015];
const LEAP_DECEMBERS: [i32; 16] =
    [1972, 1973, 1974, 1975, 1976, 1977, 1978, 1979, 1987, 1989, 1990, 1995, 1998, 2005, 2008, 2016];

/// Whether the second is 60. Chrono reads it in every minute.
fn is_leap(moment: &DateTime<Utc>) -> bool {
    moment.nanosecond() >= 1_000_000_000
}

/// Whether a second of 60 was inserted at this time.
fn was_inserted(moment: &DateTime<Utc>) -> bool {
    let is_last_minute = (moment.hour(), moment.minute()) == (23, 59);
    is_last_minute
        && match (moment.month(), moment.day()) {
            (6, 30) => LEAP_JUNES.contains(&moment.year()),
            (12, 31) => LEAP_DECEMBERS.contains(&moment.year()),
            _ => false,
        }
}

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
        Self::read(&text, |moment| !is_leap(moment) || was_inserted(moment))
    }
}

/// A time in the table. Version 0.1 stored a second of 60 where there was none, and its items stay readable.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct StoredTimestamp(pub Timestamp);

impl TryFrom<String> for StoredTimestamp {
    type Error = InvalidTimestamp;

    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        Timestamp::read(&text, |_| true).map(Self)
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
    fn a_second_of_60_is_read_only_where_there_was_one() {
        for (text, expected) in [
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"),
            ("2017-01-01T08:59:60.25+09:00", "2016-12-31T23:59:59.999Z"),
            ("2015-06-30T19:59:60.999999999-04:00", "2015-06-30T23:59:59.999Z"),
        ] {
            assert_eq!(parse(text).map(|moment| moment.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "2027-06-15T12:34:60Z",
            "2027-06-15T12:34:60.5Z",
            "2016-12-31T23:58:60Z",
            "2016-12-31T22:59:60Z",
            "2016-12-31T23:59:60+01:00",
            "2016-12-30T23:59:60Z",
            "2016-06-30T23:59:60Z",
            "2026-12-31T23:59:60Z",
            "2016-12-31T23:59:61Z",
        ] {
            assert_eq!(parse(text), Err(InvalidTimestamp), "{text}");
        }
        let leap = DateTime::parse_from_rfc3339("2027-06-15T12:34:60Z").unwrap().to_utc();
        assert_eq!(Timestamp::from(leap).to_string(), "2027-06-15T12:34:59.999Z");
    }

    #[test]
    fn a_stored_second_of_60_stays_readable() {
        let StoredTimestamp(moment) = serde_json::from_str(r#""2027-06-15T12:34:60.250Z""#).unwrap();
        assert_eq!(moment.to_string(), "2027-06-15T12:34:59.999Z");
        assert!(serde_json::from_str::<StoredTimestamp>(r#""2027-06-15""#).is_err());
    }

    #[test]
    fn arithmetic_does_not_overflow() {
        let moment = parse("2026-01-31T09:30:00Z").unwrap();
        assert_eq!(moment.plus(Duration::from_millis(1500)).since(moment), Duration::from_millis(1500));
        assert_eq!(moment.since(moment.plus(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(moment.plus(Duration::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
