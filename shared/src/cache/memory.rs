//! The cache in the function's own memory. It keeps codes for a few minutes, and concurrent requests share one lookup.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use moka::future::Cache;

use crate::{
    domain::code::{Code, OwnedCode},
    runtime::log_outcome::LogOutcome,
    store::StoreError,
};

/// How long the landing page can use an outdated expiry after a change.
const TIME_TO_LIVE: Duration = Duration::from_secs(300);
const MAX_CODES: u64 = 10_000;

/// The codes that this process looked up recently.
#[derive(Clone, Debug)]
pub(super) struct Memory(Cache<Code, OwnedCode>);

impl Default for Memory {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_CODES).time_to_live(TIME_TO_LIVE).build())
    }
}

/// Why a lookup has no result to store.
#[derive(Debug)]
enum Nothing {
    Unknown,
    Failed(StoreError),
}

impl Memory {
    /// Returns the code from memory, or calls `fetch`. Of concurrent lookups of the same code only one calls `fetch`.
    ///
    /// Another request's lookup can have started before the code was minted. If it found nothing or failed, this
    /// request ignores its result and tries again. The last attempt is not shared with other requests.
    pub(super) async fn get<F>(&self, code: &Code, fetch: impl Fn() -> F) -> Result<Option<OwnedCode>, StoreError>
    where
        F: Future<Output = Result<Option<OwnedCode>, StoreError>>,
    {
        for _ in 0..2 {
            let looked = AtomicBool::new(false);
            let look = async {
                looked.store(true, Ordering::Relaxed);
                fetch().await.map_err(Nothing::Failed)?.ok_or(Nothing::Unknown)
            };
            let found = self.0.try_get_with_by_ref(code, look).await;
            let is_own = looked.load(Ordering::Relaxed);
            match found.as_ref().map_err(|nothing| &**nothing) {
                Ok(_) if !is_own => {
                    tracing::info!(outcome = LogOutcome::CacheMemoryHit.as_str(), cache_memory_hits = 1)
                }
                Err(Nothing::Unknown | Nothing::Failed(_)) if !is_own => continue,
                Err(Nothing::Failed(problem)) => return Err(problem.clone()),
                Ok(_) | Err(Nothing::Unknown) => {}
            }
            return Ok(found.ok());
        }
        fetch().await
    }

    pub(super) async fn forget(&self, code: &Code) {
        self.0.invalidate(code).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, pin::pin, task::Poll};

    use futures_util::{future::join_all, poll};
    use tokio::{sync::Semaphore, task::yield_now};

    use super::*;
    use crate::sample;

    fn owned() -> OwnedCode {
        OwnedCode {
            code: "ALICE".parse().unwrap(),
            owner: "alice".parse().unwrap(),
            program: "default".parse().unwrap(),
            created_at: sample::at(0),
            expires_at: None,
        }
    }

    #[tokio::test]
    async fn concurrent_misses_run_one_lookup() {
        let (memory, code, looks) = (Memory::default(), owned().code, Cell::new(0));
        let fetch = || async {
            looks.set(looks.get() + 1);
            yield_now().await;
            Ok(Some(owned()))
        };
        let found = join_all((0..100).map(|_| memory.get(&code, fetch))).await;
        assert!(found.into_iter().all(|found| found.unwrap() == Some(owned())));
        assert_eq!(looks.get(), 1);
    }

    #[tokio::test]
    async fn a_lookup_from_before_the_mint_does_not_answer_a_later_request() {
        let (memory, code) = (Memory::default(), owned().code);
        let (gate, is_minted) = (Semaphore::new(0), Cell::new(false));
        let fetch = || async {
            let seen = is_minted.get();
            gate.acquire().await.unwrap().forget();
            Ok(seen.then(owned))
        };
        let mut early = pin!(memory.get(&code, fetch));
        assert!(poll!(&mut early).is_pending());
        is_minted.set(true);
        let mut late = pin!(memory.get(&code, fetch));
        assert!(poll!(&mut late).is_pending());
        gate.add_permits(2);
        assert_eq!(early.await.unwrap(), None);
        assert_eq!(late.await.unwrap(), Some(owned()));
    }

    /// A failed lookup fails only the request that started it, and not the requests that wait for it.
    #[tokio::test]
    async fn a_request_that_waits_for_a_failed_lookup_tries_again() {
        let (memory, code, looks) = (Memory::default(), owned().code, Cell::new(0));
        let fetch = || async {
            looks.set(looks.get() + 1);
            let is_first = looks.get() == 1;
            yield_now().await;
            if is_first { Err(StoreError::Unavailable("down".to_owned())) } else { Ok(Some(owned())) }
        };
        let found = join_all((0..10).map(|_| memory.get(&code, fetch))).await;
        assert_eq!(found.iter().filter(|found| found.is_err()).count(), 1);
        assert!(found.into_iter().flatten().all(|found| found == Some(owned())));
        assert_eq!(looks.get(), 2);
    }

    #[tokio::test]
    async fn unknown_codes_and_failures_are_not_stored() {
        let (memory, code, looks) = (Memory::default(), owned().code, Cell::new(0));
        let fetch = || async {
            looks.set(looks.get() + 1);
            match looks.get() {
                1 => Ok(None),
                2 => Err(StoreError::Unavailable("down".to_owned())),
                _ => Ok(Some(owned())),
            }
        };
        assert_eq!(memory.get(&code, fetch).await.unwrap(), None);
        assert!(memory.get(&code, fetch).await.is_err());
        for _ in 0..2 {
            assert_eq!(memory.get(&code, fetch).await.unwrap(), Some(owned()));
        }
        assert_eq!(looks.get(), 3);
        memory.forget(&code).await;
        assert!(matches!(poll!(pin!(memory.get(&code, fetch))), Poll::Ready(Ok(Some(_)))));
        assert_eq!(looks.get(), 4);
    }
}
