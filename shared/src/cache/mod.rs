//! The cache of codes: the function's own memory, then a server with the Redis protocol, then the table. It only saves
//! round trips.
//!
//! A code's owner and program never change, so they can be cached. The expiry is cached only for the landing page; every
//! decision reads the code from the table. Flags, devices and unknown codes are not cached, so a new code is found at
//! once.

#[cfg(feature = "cache")]
mod link;
mod memory;
#[cfg(feature = "cache")]
mod server;
#[cfg(not(feature = "cache"))]
#[path = "none.rs"]
mod server;

#[cfg(feature = "cache")]
use crate::runtime::{Env, Misconfigured};
use crate::{
    domain::code::{Code, OwnedCode},
    runtime::{Call, log_outcome::LogOutcome},
    store::{Store, StoreError},
};

use memory::Memory;
#[cfg(feature = "cache")]
pub use server::CacheUpdateFailed;
pub use server::Server;

/// The codes in the memory of this process, and the cache server if there is one.
#[derive(Clone, Debug, Default)]
pub struct CodeCache {
    memory: Memory,
    server: Option<Server>,
}

impl CodeCache {
    /// A cache in memory, and on the server of `CACHE_URL` if it is set (see [`Server::from_env`]).
    ///
    /// # Errors
    /// Returns an error that names the variable when one is invalid.
    #[cfg(feature = "cache")]
    pub fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        Ok(Self { memory: Memory::default(), server: Server::from_env(env)? })
    }

    /// Looks up a code. Concurrent lookups of the same code share one result.
    ///
    /// # Errors
    /// Returns an error when the code is not cached and DynamoDB is unavailable.
    pub async fn get(&self, store: &Store, code: &Code, call: &Call) -> Result<Option<OwnedCode>, StoreError> {
        self.memory.get(code, || self.fetch(store, code, call)).await
    }

    async fn fetch(&self, store: &Store, code: &Code, call: &Call) -> Result<Option<OwnedCode>, StoreError> {
        if let Some(server) = &self.server
            && let Some(known) = server.get(code).await
        {
            return Ok(Some(known));
        }
        tracing::info!(outcome = LogOutcome::CacheMiss.as_str(), cache_misses = 1);
        let found = store.code(code).await?;
        if let (Some(server), Some(found)) = (&self.server, &found) {
            // Stored before the answer is sent, because Lambda can freeze the process afterwards. This takes no longer
            // than a lookup.
            server.offer(found, call).await;
        }
        Ok(found)
    }

    /// Removes a code that differs from the table.
    pub async fn forget(&self, code: &Code) {
        self.memory.forget(code).await;
        if let Some(server) = &self.server {
            server.forget(code).await;
        }
    }
}
