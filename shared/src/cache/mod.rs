//! Codes close at hand: in the function's own memory, else on a server that speaks the Redis protocol, else in the
//! table. Saves round trips, never the truth.
//!
//! A code's owner and program never change, so they may be kept. Expiry is kept too, for the landing page alone:
//! wherever something is decided, the code is in the batch read. Flags and devices are not kept, and neither are unknown
//! codes: one minted a moment ago is found at once.

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
    code::{Code, OwnedCode},
    runtime::Call,
    store::{Store, StoreError},
};

use memory::Memory;
#[cfg(feature = "cache")]
pub use server::CacheUpdateFailed;
pub use server::Server;

/// What this process knows of codes, and whom it asks.
#[derive(Clone, Debug, Default)]
pub struct CodeCache {
    memory: Memory,
    server: Option<Server>,
}

impl CodeCache {
    /// Memory, and the server that `CACHE_URL` names, if it names one (see [`Server::from_env`]).
    ///
    /// # Errors
    /// When a setting cannot be read; it is named.
    #[cfg(feature = "cache")]
    pub fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        Ok(Self { memory: Memory::default(), server: Server::from_env(env)? })
    }

    /// The code. Whoever looks for it while somebody is looking shares what comes of it.
    ///
    /// # Errors
    /// When only the table can tell, and it does not answer.
    pub async fn get(&self, store: &Store, code: &Code, call: &Call) -> Result<Option<OwnedCode>, StoreError> {
        self.memory.get(code, || self.fetch(store, code, call)).await
    }

    async fn fetch(&self, store: &Store, code: &Code, call: &Call) -> Result<Option<OwnedCode>, StoreError> {
        if let Some(server) = &self.server
            && let Some(known) = server.get(code).await
        {
            return Ok(Some(known));
        }
        tracing::debug!(outcome = "a code was not at hand", cache_misses = 1);
        let found = store.code(code).await?;
        if let (Some(server), Some(found)) = (&self.server, &found) {
            // Before the answer, for after it Lambda may freeze us; it takes no longer than a look-up may.
            server.offer(found, call).await;
        }
        Ok(found)
    }

    /// Forgets a code of which the table says something else.
    pub async fn forget(&self, code: &Code) {
        self.memory.forget(code).await;
        if let Some(server) = &self.server {
            server.forget(code).await;
        }
    }
}
