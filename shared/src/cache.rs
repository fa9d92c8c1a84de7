//! Codes in memory: saves a round trip, never the truth.
//!
//! A code's owner and program never change, so they may be kept. Expiry and flags are read anew wherever something is
//! decided. Unknown codes are not kept: one minted a moment ago is found at once.

use std::time::Duration;

use moka::sync::Cache;

use crate::{
    code::{Code, OwnedCode},
    store::{Store, StoreError},
};

/// The codes that this process has looked up lately.
#[derive(Clone, Debug)]
pub struct CodeCache(Cache<Code, OwnedCode>);

impl Default for CodeCache {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(300)).build())
    }
}

impl CodeCache {
    /// The code, from memory or from the table.
    ///
    /// # Errors
    /// When it is not in memory and the table does not answer.
    pub async fn get(&self, store: &Store, code: &Code) -> Result<Option<OwnedCode>, StoreError> {
        if let Some(known) = self.0.get(code) {
            return Ok(Some(known));
        }
        let found = store.code(code).await?;
        if let Some(found) = &found {
            self.0.insert(code.clone(), found.clone());
        }
        Ok(found)
    }
}
