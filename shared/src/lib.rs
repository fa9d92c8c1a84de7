//! The referral model, and the wires that it needs. Read in the order of a referral's life:
//!
//! 1. **The words**: [`id`], [`time`], [`money`], [`code`], [`device`], [`account`], [`program`], [`order`],
//!    [`reward`]. Text from outside becomes one of these types at the edge, or an answer that says what is wrong.
//! 2. **The machine**: [`referral`] holds every state that a referral can be in, [`machine`] every way from one to the
//!    next, as pure functions of what is known and of the time.
//! 3. **The table**: [`store`] reads and writes items, each write under a condition that `store::guard` derives from the
//!    machine. [`store::keys`] holds all keys and attribute names, [`store::items`] the shapes of the items.
//! 4. **The life**: [`lifecycle`]: mint, attribute, convert or adjust, issue, announce. The last
//!    step, delivery, is the delivery function's own.
//! 5. **The figures**: [`analytics`], counted from the table's stream in a table of their own.
//! 6. **The wires**: [`runtime`] (clock, chance, environment), [`aws`] (how it is reached), [`log`] (and metrics),
//!    [`cache`], [`bus`], [`quarantine`], [`batch`], `http`, and [`view`], which is what others see.
//!
//! [`mutant`] is for a build of its own, that tests the tests.
//!
//! Nothing here reads a clock or draws a number but [`runtime`]: whatever happened can be run again.

pub mod account;
pub mod analytics;
pub mod aws;
pub mod batch;
pub mod cache;
pub mod code;
pub mod device;
pub mod fraud;
#[cfg(feature = "http")]
pub mod http;
pub mod id;
pub mod lambda;
pub mod lifecycle;
pub mod money;
pub mod mutant;
pub mod order;
pub mod program;
pub mod referral;
pub mod runtime;
#[cfg(test)]
mod sample;
pub mod store;
pub mod time;
pub mod view;

pub use aws::{bus, quarantine};
pub use referral::{machine, reward};
pub use runtime::{log, log_outcome};
