//! Analytics for operators: queries of the analytics table, with answers as JSON or CSV.

mod cohorts;
mod csv;
mod daily;
mod liability;
mod query;
mod referrers;

pub(crate) use cohorts::cohorts;
pub(crate) use daily::daily;
pub(crate) use liability::liability;
pub(crate) use referrers::referrers;
