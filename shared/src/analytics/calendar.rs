//! Days, ISO weeks, months and periods. The text form of each sorts by time.

use std::{fmt, str::FromStr};

use chrono::{Datelike, Days, NaiveDate, Weekday};

use crate::domain::time::Timestamp;

/// A day in UTC: `2026-01-31`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(NaiveDate);

impl Day {
    /// The day in UTC that contains this moment.
    pub fn of(moment: Timestamp) -> Self {
        Self(moment.date())
    }

    /// Adds days, or subtracts them if `days` is negative. The result is limited to the years 1970 to 9999.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        let count = Days::new(days.unsigned_abs());
        let moved = if days < 0 { self.0.checked_sub_days(count) } else { self.0.checked_add_days(count) };
        let end = if days < 0 { FIRST } else { LAST };
        Self(moved.filter(|day| is_in_range(day.year())).unwrap_or(end))
    }

    /// The number of days from `earlier` to this one; negative if `earlier` is the later day.
    pub fn since(self, earlier: Self) -> i64 {
        (self.0 - earlier.0).num_days()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

/// The text is not a day such as 2026-01-31.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a day of the years 1970 to 9999, such as 2026-01-31")]
pub struct InvalidDay;

impl FromStr for Day {
    type Err = InvalidDay;

    fn from_str(text: &str) -> Result<Self, InvalidDay> {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|day| is_in_range(day.year())).map(Self);
        // Each day has one text form, so lenient forms such as 2026-1-2 are refused.
        day.filter(|day| day.to_string() == text).ok_or(InvalidDay)
    }
}

/// An ISO 8601 week, which starts on Monday: `2026-W05`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Week {
    monday: NaiveDate,
}

impl Week {
    /// The week that contains this day.
    pub fn of(day: Day) -> Self {
        Self { monday: day.0.week(Weekday::Mon).checked_first_day().unwrap_or(day.0) }
    }

    /// The first day of the week.
    pub fn monday(self) -> Day {
        Day(self.monday)
    }

    /// The last day of the week.
    pub fn sunday(self) -> Day {
        self.monday().plus(6)
    }

    /// Adds weeks, or subtracts them if `weeks` is negative.
    #[must_use]
    pub fn plus(self, weeks: i64) -> Self {
        Self::of(self.monday().plus(weeks.saturating_mul(7)))
    }

    /// The number of weeks from `earlier` to this one; negative if `earlier` is the later week.
    pub fn since(self, earlier: Self) -> i64 {
        self.monday().since(earlier.monday()) / 7
    }
}

impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let week = self.monday.iso_week();
        write!(f, "{:04}-W{:02}", week.year(), week.week())
    }
}

/// The text is not an ISO week such as 2026-W05.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected an ISO week of the years 1970 to 9999, such as 2026-W05")]
pub struct InvalidWeek;

impl FromStr for Week {
    type Err = InvalidWeek;

    fn from_str(text: &str) -> Result<Self, InvalidWeek> {
        let (year, week) = text.split_once("-W").ok_or(InvalidWeek)?;
        let (year, week) = (year.parse().map_err(|_| InvalidWeek)?, week.parse().map_err(|_| InvalidWeek)?);
        let monday = NaiveDate::from_isoywd_opt(year, week, Weekday::Mon).filter(|_| is_in_range(year));
        monday.map(|monday| Self { monday }).filter(|week| week.to_string() == text).ok_or(InvalidWeek)
    }
}

/// A calendar month: `2026-01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Month {
    year: i32,
    month: u32,
}

impl Month {
    /// The month that contains this day.
    pub fn of(day: Day) -> Self {
        Self { year: day.0.year(), month: day.0.month() }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// The text is not a month such as 2026-01.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a month of the years 1970 to 9999, such as 2026-01")]
pub struct InvalidMonth;

impl FromStr for Month {
    type Err = InvalidMonth;

    fn from_str(text: &str) -> Result<Self, InvalidMonth> {
        let first: Day = format!("{text}-01").parse().map_err(|_| InvalidMonth)?;
        Ok(Self::of(first))
    }
}

/// The period over which a referrer's referrals are counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Period {
    /// All time, written as `all`.
    All,
    Month(Month),
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Month(month) => month.fmt(f),
        }
    }
}

/// The text is neither `all` nor a month such as 2026-01.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected all, or a month, such as 2026-01")]
pub struct InvalidPeriod;

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Month).map_err(|InvalidMonth| InvalidPeriod)
    }
}

const FIRST: NaiveDate = end(1970, 1, 1);
const LAST: NaiveDate = end(9999, 12, 31);

const fn end(year: i32, month: u32, day: u32) -> NaiveDate {
    match NaiveDate::from_ymd_opt(year, month, day) {
        Some(day) => day,
        None => NaiveDate::MIN,
    }
}

/// Only years with four digits are allowed, because the text forms must sort.
fn is_in_range(year: i32) -> bool {
    (1970..=9999).contains(&year)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn each_value_has_one_text_form() {
        for text in ["1970-01-01", "2024-02-29", "9999-12-31"] {
            assert_eq!(day(text).to_string(), text);
        }
        for text in ["", "2026-1-2", "2026-02-29", "10000-01-01", "1969-12-31", " 2026-01-01", "2026-01-01Z"] {
            assert_eq!(text.parse::<Day>(), Err(InvalidDay), "{text}");
        }
        for text in ["1970-W01", "2026-W53", "9999-W52"] {
            assert_eq!(text.parse::<Week>().unwrap().to_string(), text);
        }
        for text in ["", "2026-W1", "2025-W53", "2026-W00", "2026-05", "+2026-W01"] {
            assert_eq!(text.parse::<Week>(), Err(InvalidWeek), "{text}");
        }
        assert_eq!("2026-11".parse::<Month>().unwrap().to_string(), "2026-11");
        for text in ["", "2026-13", "2026-1", "2026-11-01", "all"] {
            assert_eq!(text.parse::<Month>(), Err(InvalidMonth), "{text}");
        }
    }

    #[test]
    fn a_year_begins_in_the_week_of_its_first_thursday() {
        let week = |text| Week::of(day(text));
        assert_eq!(week("2026-12-31").to_string(), "2026-W53");
        assert_eq!(week("2027-01-03"), week("2026-12-28"));
        assert_eq!(week("2027-01-04").to_string(), "2027-W01");
        assert_eq!(week("2027-01-04").since(week("2026-12-31")), 1);
        assert_eq!(week("2026-12-31").plus(-53).sunday(), day("2025-12-28"));
        assert_eq!((week("1970-01-01").plus(-1), week("9999-12-31").plus(1)), (week("1970-01-01"), week("9999-12-31")));
        assert_eq!((day("1970-01-01").plus(-1), day("9999-12-31").plus(1)), (day("1970-01-01"), day("9999-12-31")));
    }

    #[test]
    fn a_moment_belongs_to_its_day_in_utc() {
        let moment: Timestamp = "2026-01-31T23:30:00-01:00".parse().unwrap();
        assert_eq!(Day::of(moment), day("2026-02-01"));
        assert_eq!(Month::of(Day::of(moment)).to_string(), "2026-02");
        assert_eq!(day("2026-03-01").plus(-1), day("2026-02-28"));
        assert_eq!(day("2026-03-01").since(day("2026-02-28")), 1);
    }

    #[test]
    fn a_period_is_a_month_or_all_time() {
        for text in ["all", "2026-11"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["", "ALL", "2026", "2026-13"] {
            assert_eq!(text.parse::<Period>(), Err(InvalidPeriod), "{text}");
        }
    }
}
