//! The integration tests. Each test starts its own service (see [`world`]), and tests run in parallel.

#![allow(clippy::disallowed_methods, reason = "tests use real time")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]

mod adjustments;
mod admin;
mod alarms;
mod analytics;
mod books;
mod budgets;
mod cache;
mod codes;
mod correlation;
mod crash;
mod deadline;
mod delivery;
mod deployment;
mod documents;
mod duplicates;
mod events;
mod explain;
mod faults;
mod flags;
mod gateway;
mod histories;
mod landing;
mod layers;
mod life;
mod lists;
mod machine;
mod malformed;
mod metric_levels;
mod metrics;
mod openapi;
mod operators;
mod orders;
mod races;
mod refusals;
mod replay;
mod restart;
mod restore;
mod reversals;
mod scale;
mod schemas;
mod secrets;
mod soak;
mod sources;
mod start;
mod subsystem;
mod sweep;
mod template;
mod tls;
mod uniqueness;
mod upgrade;
mod warehouse;
mod warm_up;
mod world;
