//! The test binary: every test has a whole service of its own (see [`world`]), and they run side by side.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

mod life;
mod world;
