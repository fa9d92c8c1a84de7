//! The process environment: the only module that reads the clock, the environment variables and the random source.
//!
//! All other code gets these values as arguments ([`Call`], [`Env`]), so every invocation can be repeated with the same
//! values.

mod deadline;
pub mod log;
pub mod log_outcome;
pub mod secret;

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

pub use self::deadline::Deadline;
use crate::domain::time::Timestamp;

/// The allocator of the functions, set in each `main`. A call allocates about a thousand times. With glibc's allocator
/// that is a fifth of its instructions, with this one a twelfth. It does not request huge pages, because each start
/// would touch three of them.
pub use mimalloc::MiMalloc as Allocator;

/// Starts a function: reads its environment and starts the log.
///
/// # Errors
/// Returns an error when a setting of the log is invalid, or when Lambda would send several invocations to this process at once.
pub fn start() -> Result<Env, Misconfigured> {
    let env = Env::process();
    one_at_a_time(&env)?;
    log::start(&env)?;
    Ok(env)
}

/// Checks the number of invocations that Lambda sends to a process at once. Only Lambda Managed Instances set it.
fn one_at_a_time(env: &Env) -> Result<(), Misconfigured> {
    const NAME: &str = "AWS_LAMBDA_MAX_CONCURRENCY";
    match env.parsed::<u32>(NAME, 1)? {
        0 | 1 => Ok(()),
        more => Err(Misconfigured::new(
            NAME,
            format!(
                "is {more}, but a function handles one invocation at a time; on Lambda Managed Instances, set \
                 PerExecutionEnvironmentMaxConcurrency to 1"
            ),
        )),
    }
}

/// The time, randomness and deadline of one invocation, read once at its start.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The time for every decision of this invocation.
    pub now: Timestamp,
    /// Bytes from the operating system's random source.
    pub entropy: [u8; 16],
    pub deadline: Deadline,
}

impl Call {
    /// Reads the clock and the random source for an invocation with `remaining` time.
    ///
    /// # Errors
    /// Returns an error when the operating system provides no random bytes.
    #[allow(clippy::disallowed_methods, reason = "the runtime reads the random source")]
    pub fn begin(remaining: Duration) -> Result<Self, getrandom::Error> {
        let mut entropy = [0; 16];
        getrandom::fill(&mut entropy)?;
        Ok(Self { now: now(), entropy, deadline: Deadline::after(remaining) })
    }

    /// The same for an invocation by Lambda, whose context contains the deadline.
    ///
    /// # Errors
    /// Returns an error when the operating system provides no random bytes.
    #[allow(clippy::disallowed_methods, reason = "the runtime reads the clock")]
    pub fn invoked(context: &lambda_runtime::Context) -> Result<Self, getrandom::Error> {
        let remaining = context.deadline().duration_since(std::time::SystemTime::now());
        Self::begin(remaining.unwrap_or_default())
    }

    /// A random number from 0 up to 1, different for each `purpose`.
    pub fn fraction(&self, purpose: &str) -> f64 {
        let drawn = self.draw(purpose);
        f64::from(u32::from_le_bytes(std::array::from_fn(|index| drawn[index]))) / (f64::from(u32::MAX) + 1.0)
    }

    /// Random bytes, different for each `purpose`.
    pub fn draw(&self, purpose: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.entropy).chain_update(purpose).finalize().into()
    }
}

/// The current time: for the start of an invocation and for log lines.
#[allow(clippy::disallowed_methods, reason = "the runtime reads the clock")]
pub(crate) fn now() -> Timestamp {
    Utc::now().into()
}

/// The environment variables of the process.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: HashMap<String, String>,
    read: Arc<Mutex<BTreeSet<String>>>,
    /// The secrets that were read from Secrets Manager.
    held: secret::SharedHeld,
}

/// An environment variable is missing or invalid. The message names it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("environment variable {name}: {problem}")]
pub struct Misconfigured {
    name: String,
    problem: String,
}

impl Misconfigured {
    /// An error about the variable `name`.
    pub fn new(name: &str, problem: impl Display) -> Self {
        Self { name: name.to_owned(), problem: problem.to_string() }
    }
}

impl Env {
    /// Reads the variables of the process.
    #[allow(clippy::disallowed_methods, reason = "the runtime reads the environment")]
    pub fn process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// This environment with one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// This environment with `value` for a variable that is not set.
    #[must_use]
    pub fn with_default(self, name: &str, value: impl Into<String>) -> Self {
        let given = self.variables.get(name).is_some_and(|given| !given.is_empty());
        if given { self } else { self.with(name, value) }
    }

    /// The variable, or `None` if it is missing or empty. CloudFormation sets an unused parameter to an empty string.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names of all variables that were read from this environment or a clone of it. Tests compare them with the
    /// template.
    pub fn read_names(&self) -> BTreeSet<String> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The variable, which must be set.
    ///
    /// # Errors
    /// Returns an error when it is missing or empty.
    pub fn required(&self, name: &str) -> Result<&str, Misconfigured> {
        self.get(name).ok_or_else(|| Misconfigured::new(name, "is not set"))
    }

    /// The variable parsed as a `T`, or `default` if it is missing.
    ///
    /// # Errors
    /// Returns an error when it is invalid.
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

/// An error and its causes as one line for the log. It contains their messages but not the answers that they carry, because
/// those contain personal data.
pub fn explain(problem: &dyn Error) -> String {
    let (mut line, mut cause) = (problem.to_string(), problem.source());
    while let Some(deeper) = cause {
        line = format!("{line}: {deeper}");
        cause = deeper.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_invocations_at_once_are_refused() {
        let with = |value: &str| one_at_a_time(&Env::default().with("AWS_LAMBDA_MAX_CONCURRENCY", value));
        for value in ["", "0", "1"] {
            assert_eq!(with(value), Ok(()), "{value}");
        }
        assert_eq!(one_at_a_time(&Env::default()), Ok(()));
        for value in ["2", "1600", "x"] {
            let problem = with(value).unwrap_err().to_string();
            assert!(problem.contains("AWS_LAMBDA_MAX_CONCURRENCY"), "{problem}");
        }
    }
}
