//! The metrics: what came of all referrals, counted in a table of their own, so that a question about them costs the
//! operational table nothing.
//!
//! 1. [`Facts`] is what counts of one referral, as of one of its revisions.
//! 2. [`contributions`] says what these facts add to which counters. It is pure, and the only place that decides what
//!    is counted; whatever else there is to count is a line there and a field of the facts.
//! 3. [`Metrics::take`] keeps the facts of each referral beside the counters. When newer facts come, one transaction
//!    replaces them and adds the difference of the two contributions. So at any time each counter is the sum of what
//!    the facts beside it contribute: whatever comes twice or late is older than what is kept and changes nothing, and
//!    what got lost on the way is made good by the next record of the same referral.
//! 4. `questions` sums shards and answers.
//!
//! `table` alone knows the keys, `guard` alone writes expressions. Days, weeks and months are those of UTC.

pub mod calendar;
mod contributions;
pub mod counters;
mod expressions;
mod facts;
pub mod items;
mod queries;
mod scan;
mod store;

pub use contributions::{Counts, LATEST_WEEK, TOOK, contributions};
pub use counters::Figures;
pub use facts::Facts;
pub use queries::{Board, Period, Rank, Ranked};
pub use store::{Metrics, Taken};
