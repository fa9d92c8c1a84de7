//! The referral model and its connections to AWS. The layers, from the lowest to the highest:
//!
//! 1. [`domain`]: values. Input is parsed into these types at the boundary, or refused with a message. [`runtime`]:
//!    clock, randomness, environment, log. Only `runtime` reads the clock or draws random numbers, so everything can be
//!    replayed.
//! 2. [`aws`]: clients, the event bus, the quarantine queue.
//! 3. [`program`], [`referral`], [`fraud`]: the rules, as pure functions. [`referral::machine`] has every transition between
//!    the states of a referral.
//! 4. [`store`]: reads and writes items, each write under a condition that is derived from the machine. [`analytics`]:
//!    counts from the table's stream into a separate table. [`cache`]: codes.
//! 5. [`lifecycle`]: the steps: mint, attribute, convert or adjust, issue, announce. Delivery, the last step, belongs to the
//!    delivery function. [`lambda`]: HTTP requests, batches of messages, batches of stream records.
//!
//! [`view`] defines the JSON that clients see. [`mutant`] contains deliberate mistakes. Only test builds can enable
//! them, to check that the tests detect them.

pub mod analytics;
pub mod aws;
pub mod cache;
pub mod domain;
pub mod fraud;
pub mod lambda;
pub mod lifecycle;
pub mod mutant;
pub mod program;
pub mod referral;
pub mod runtime;
#[cfg(test)]
mod sample;
pub mod store;
pub mod view;
