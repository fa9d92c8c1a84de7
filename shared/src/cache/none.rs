//! Replaces the cache server in functions without one, so that their binaries do not contain the Redis client.

use crate::{
    domain::code::{Code, OwnedCode},
    runtime::Call,
};

/// A server that does not exist.
#[derive(Clone, Debug)]
pub enum Server {}

impl Server {
    pub(super) async fn get(&self, _: &Code) -> Option<OwnedCode> {
        match *self {}
    }

    pub(super) async fn offer(&self, _: &OwnedCode, _: &Call) {
        match *self {}
    }

    pub(super) async fn forget(&self, _: &Code) {
        match *self {}
    }
}
