//! The test binary: every test has a whole service of its own (see [`world`]), and they run side by side.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

mod budgets;
mod delivery;
mod duplicates;
mod events;
mod faults;
mod landing;
mod life;
mod lists;
mod machine;
mod malformed;
mod refusals;
mod restart;
mod sweep;
mod template;
mod uniqueness;
mod world;
