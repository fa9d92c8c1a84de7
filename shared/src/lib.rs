//! The referral model and its connections to AWS. Read it in the order of a referral's life:
//!
//! 1. **Types**: [`id`], [`time`], [`money`], [`code`], [`device`], [`account`], [`program`], [`order`], [`reward`].
//!    Input is parsed into these types where it enters, or refused with a message.
//! 2. **Machine**: [`referral`] defines the states of a referral, [`machine`] the transitions between them, as pure
//!    functions of the referral, a command and the time. [`fraud`] holds the rules of both gates.
//! 3. **Table**: [`store`] reads and writes items, each write under a condition that `store::guard` derives from the
//!    machine. [`store::keys`] holds all keys and attribute names, [`store::items`] the shapes of the items.
//! 4. **Lifecycle**: [`lifecycle`] runs the steps: mint, attribute, convert or adjust, issue, announce. Delivery, the last
//!    step, belongs to the delivery function.
//! 5. **Analytics**: [`analytics`] counts from the table's stream into a table of its own.
//! 6. **Connections**: [`runtime`] (clock, randomness, environment), [`aws`], [`log`] (and CloudWatch metrics), [`cache`],
//!    [`bus`], [`quarantine`], [`lambda`], and [`view`], which defines what clients see.
//!
//! [`mutant`] is used only by a build that tests the tests.
//!
//! Only [`runtime`] reads the clock or draws random numbers, so everything that happened can be replayed.

pub mod account;
pub mod analytics;
pub mod aws;
pub mod cache;
pub mod code;
pub mod device;
pub mod fraud;
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
