//! Analytics: counters of what happened to all referrals, in their own table. Analytics queries never read the
//! operational table.
//!
//! 1. [`Facts`] is the part of a referral that is counted, as of one revision.
//! 2. [`contributions()`] computes what these facts add to the counters. It is a pure function and the only place that
//!    decides what is counted. A new counter needs a line there and, if necessary, a new field of the facts.
//! 3. [`Analytics::record`] stores the facts of each referral in the same table as the counters. When newer facts
//!    arrive, one transaction replaces the stored facts and adds the difference between the two contributions.
//!    Therefore each counter is always the sum of the contributions of all stored facts. A duplicate or a late record
//!    has an old revision and changes nothing. A lost record is corrected by the next record of the same referral.
//! 4. `queries` reads counters and adds up their shards.
//!
//! Only `items` knows the keys, and only `expressions` writes expressions. Days, weeks and months are in UTC.

pub mod calendar;
mod contributions;
pub mod counters;
mod expressions;
mod facts;
pub mod items;
mod queries;
mod scan;
mod store;
mod subject;

pub use calendar::Period;
pub use contributions::{Contributions, LATEST_WEEK, TIME_TO_CONVERT, contributions};
pub use counters::Counters;
pub use facts::{Facts, Share, Shares};
pub use queries::{Rank, Ranked};
pub use store::{Analytics, CountOutcome};
pub use subject::Board;
