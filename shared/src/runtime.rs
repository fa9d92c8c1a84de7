//! The edge to the machine: the only file that reads the clock, the environment and the random source.
//!
//! What it reads is handed on as arguments ([`Call`], [`Env`]), so everything else can be run again with the same
//! values.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    fmt::Display,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{code::Code, id::UserId, time::Timestamp};

/// The functions' allocator, for each `main` to name: a call allocates some thousand times, and with glibc's own that is a
/// fifth of its instructions, with this one a twelfth. It asks for no huge pages, of which each start would touch three.
pub use mimalloc::MiMalloc as Allocator;

/// What one invocation may know of time and chance, read once when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The time for every decision of this invocation.
    pub now: Timestamp,
    /// Bytes from the operating system's random source.
    pub entropy: [u8; 16],
    /// When the invocation will be stopped.
    pub deadline: Deadline,
}

impl Call {
    /// Reads clock and random source for an invocation that may take `remaining`.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    #[allow(clippy::disallowed_methods, reason = "the one place that draws")]
    pub fn begin(remaining: Duration) -> Result<Self, getrandom::Error> {
        let mut entropy = [0; 16];
        getrandom::fill(&mut entropy)?;
        Ok(Self { now: now(), entropy, deadline: Deadline::after(remaining) })
    }

    /// The same for an invocation by the Lambda service, which names its own deadline.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn invoked(context: &lambda_runtime::Context) -> Result<Self, getrandom::Error> {
        let remaining = context.deadline().duration_since(std::time::SystemTime::now());
        Self::begin(remaining.unwrap_or_default())
    }

    /// Three codes for this user to try in turn: with a thousand million codes minted, the first is free all but once in
    /// a thousand. One invocation may mint for many users, who must not get in each other's way.
    pub fn codes(&self, user: &UserId) -> [Code; 3] {
        let drawn = self.draw(user.as_str());
        [0, 1, 2].map(|try_| Code::drawn(std::array::from_fn(|place| drawn[try_ * 5 + place])))
    }

    /// By what this invocation knows a referral of this referee for its own work, whatever else was asked for in the same
    /// millisecond.
    pub fn mark(&self, referee: &UserId) -> u32 {
        let drawn = self.draw(referee.as_str());
        u32::from_le_bytes(std::array::from_fn(|place| drawn[28 + place]))
    }

    /// A number from 0 up to 1, another one for each `purpose`.
    pub fn fraction(&self, purpose: &str) -> f64 {
        let drawn = self.draw(purpose);
        f64::from(u32::from_le_bytes(std::array::from_fn(|place| drawn[place]))) / (f64::from(u32::MAX) + 1.0)
    }

    fn draw(&self, purpose: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.entropy).chain_update(purpose).finalize().into()
    }
}

/// The time by the clock: for an invocation when it begins, and for its lines in the log.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Timestamp {
    Utc::now().into()
}

/// The moment at which an invocation will be stopped from outside.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// What is left undone is given back while there is still this much time to say so.
    const RESERVE: Duration = Duration::from_secs(1);

    /// The deadline `remaining` from now.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn after(remaining: Duration) -> Self {
        Self(Instant::now() + remaining)
    }

    /// Whether it is time to stop beginning new work.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn is_near(self) -> bool {
        Instant::now() + Self::RESERVE >= self.0
    }

    /// When work under way must be given up so that its failure can still be reported.
    pub fn last_call(self) -> Instant {
        self.0 - Self::RESERVE
    }
}

/// The environment variables that a function was started with.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: HashMap<String, String>,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

/// An environment variable is missing or cannot be read; the text names it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("environment variable {name}: {problem}")]
pub struct Misconfigured {
    name: String,
    problem: String,
}

impl Misconfigured {
    /// Says what is wrong with the variable `name`.
    pub fn new(name: &str, problem: impl Display) -> Self {
        Self { name: name.to_owned(), problem: problem.to_string() }
    }
}

impl Env {
    /// The process's own.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The same environment with one more variable, for whoever composes one.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// The same environment with `value` for a variable that is not set.
    #[must_use]
    pub fn with_default(self, name: &str, value: impl Into<String>) -> Self {
        let given = self.variables.get(name).is_some_and(|given| !given.is_empty());
        if given { self } else { self.with(name, value) }
    }

    /// The variable, unless it is absent or empty (CloudFormation writes an unused parameter as an empty string).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names that were asked for so far, here and on every clone: what a function reads, and so what its template
    /// has to set.
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The variable, which must be there.
    ///
    /// # Errors
    /// When it is absent or empty.
    pub fn required(&self, name: &str) -> Result<&str, Misconfigured> {
        self.get(name).ok_or_else(|| Misconfigured::new(name, "is not set"))
    }

    /// `GRACE_SECONDS` (600): how long a reward may be on its way before it is announced again. After ten minutes the
    /// queues have long tried again.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn grace(&self) -> Result<Duration, Misconfigured> {
        Ok(Duration::from_secs(self.parsed::<u32>("GRACE_SECONDS", 600)?.into()))
    }

    /// The variable read as a `T`, or `default` when it is absent.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn parsed<T>(&self, name: &str, default: T) -> Result<T, Misconfigured>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.get(name).map_or(Ok(default), |value| value.parse().map_err(|problem| Misconfigured::new(name, problem)))
    }
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().collect(), ..Self::default() }
    }
}

/// An error and what caused it, as one line for the log: what each says of itself, and not the answers they carry, which
/// hold people's data.
pub fn explain(problem: &dyn Error) -> String {
    let (mut line, mut cause) = (problem.to_string(), problem.source());
    while let Some(deeper) = cause {
        line = format!("{line}: {deeper}");
        cause = deeper.source();
    }
    line
}
