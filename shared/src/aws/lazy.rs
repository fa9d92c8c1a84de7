//! A client that is created on first use.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

type Make<T> = Box<dyn FnOnce() -> T + Send>;

/// A client that most invocations do not need. Creating one takes a tenth of a cold start, because each client parses AWS's
/// list of regions.
pub struct Lazy<T>(Arc<LazyLock<T, Make<T>>>);

impl<T> Lazy<T> {
    /// A client that `make` creates on first use.
    pub fn new(make: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<T: Send + 'static> From<T> for Lazy<T> {
    fn from(client: T) -> Self {
        Self::new(|| client)
    }
}

impl<T> Clone for Lazy<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Lazy<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Lazy")
    }
}
