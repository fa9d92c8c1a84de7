//! Subjects: what one counter item is about, and the leaderboards that rank referrers.

use super::calendar::{Day, Period};
use crate::domain::id::{ProgramId, UserId};

/// What one counter item is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Subject {
    /// A program's day: everything that happened on that day, and when the referrals attributed on it converted.
    Day(ProgramId, Day),
    /// A referrer in a program: everything that happened to their referrals in a month, or for all time.
    Referrer(ProgramId, UserId, Period),
    /// A program's liability: the rewards that it owes now.
    Liability(ProgramId),
}

/// A leaderboard: the referrers of a program in a period, ranked by net conversions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Board {
    pub program: ProgramId,
    pub period: Period,
}
