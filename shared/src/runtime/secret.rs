//! Secrets: settings whose value can change while the process lives.
//!
//! While a secret is rotated, several of its values are valid. The current one is used for new signatures and digests,
//! and the others are still recognised.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{Env, Misconfigured};

/// The values of a secret that are valid now.
#[derive(Clone, PartialEq, Eq)]
pub struct Values {
    current: String,
    others: Vec<String>,
}

impl Values {
    /// The current value, and others that are still recognised.
    pub fn new(current: impl Into<String>, others: impl IntoIterator<Item = String>) -> Self {
        let current = current.into();
        let others = others.into_iter().filter(|other| *other != current).collect();
        Self { current, others }
    }

    /// All values, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.others).map(String::as_str)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Values(.., {} others)", self.others.len())
    }
}

/// A secret in the form in which it is used. Clones share it.
pub struct Secret<T>(Arc<RwLock<Arc<T>>>);

impl<T> Secret<T> {
    /// The form of the values that are valid now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }
}

impl<T> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Parses new values for a part of the code that uses them. Returns a function that replaces the old values.
type Parse = Box<dyn Fn(&Values) -> Result<Box<dyn FnOnce()>, Misconfigured> + Send>;

/// The secrets that were read from Secrets Manager, by the variable with the ARN.
#[derive(Default)]
pub(super) struct Held(BTreeMap<String, (Values, Vec<Parse>)>);

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// The end of the names of variables that contain a secret's ARN.
const ARN: &str = "_SECRET_ARN";

/// The variable with the ARN of the secret setting `name`: `COOKIE_KEY_SECRET_ARN`, `WEBHOOK_SECRET_ARN`.
fn arn_variable(name: &str) -> String {
    format!("{}{ARN}", name.strip_suffix("_SECRET").unwrap_or(name))
}

impl Env {
    /// The secret setting `name`: the values of the secret whose ARN is in a second variable (`COOKIE_KEY_SECRET_ARN` for
    /// `COOKIE_KEY`), or the variable's own value. Its form changes when the secret has other values.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when the secret is missing or cannot be parsed.
    pub fn secret<T: Send + Sync + 'static>(
        &self,
        name: &str,
        parse: impl Fn(&Values) -> Result<T, String> + Send + 'static,
    ) -> Result<Secret<T>, Misconfigured> {
        let (arn, plain) = (arn_variable(name), self.get(name));
        let is_held = self.get(&arn).is_some();
        let variable = if is_held { arn } else { name.to_owned() };
        let reject = move |problem: String| Misconfigured::new(&variable, problem);
        if !is_held {
            let value = plain.ok_or_else(|| reject("is not set".to_owned()))?;
            return Ok(parse(&Values::new(value, [])).map_err(reject)?.into());
        }
        let mut held = self.held();
        let Some((values, users)) = held.0.get_mut(&arn_variable(name)) else {
            return Err(reject("was not read at the start".to_owned()));
        };
        let parse = move |values: &Values| parse(values).map_err(&reject);
        let secret = Secret::from(parse(values)?);
        let used = secret.clone();
        users.push(Box::new(move |values| {
            let (value, used) = (parse(values)?, used.clone());
            let replace: Box<dyn FnOnce()> = Box::new(move || used.set(value));
            Ok(replace)
        }));
        Ok(secret)
    }

    /// Whether the secret setting `name` is set, as a variable or in Secrets Manager.
    pub fn has_secret(&self, name: &str) -> bool {
        let (plain, arn) = (self.get(name).is_some(), self.get(&arn_variable(name)).is_some());
        plain || arn
    }

    /// The variables that contain a secret's ARN, with the ARN.
    pub fn secret_arns(&self) -> Vec<(String, String)> {
        let named = self.variables.iter().filter(|(name, arn)| name.ends_with(ARN) && !arn.is_empty());
        named.map(|(name, arn)| (name.clone(), arn.clone())).collect()
    }

    /// Replaces the values of the secret whose ARN is in `variable`, everywhere. Returns whether they differ from the
    /// former ones.
    ///
    /// # Errors
    /// Returns an error when one use of the secret cannot parse the values. All uses then keep the former values.
    pub fn hold_secret(&self, variable: &str, values: Values) -> Result<bool, Misconfigured> {
        let mut held = self.held();
        let (former, users) = held.0.entry(variable.to_owned()).or_insert_with(|| (values.clone(), Vec::new()));
        if *former == values {
            return Ok(false);
        }
        let parsed = users.iter().map(|parse| parse(&values)).collect::<Result<Vec<_>, _>>()?;
        parsed.into_iter().for_each(|replace| replace());
        *former = values;
        Ok(true)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared by all clones of an environment.
pub(super) type SharedHeld = Arc<Mutex<Held>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn long(values: &Values) -> Result<Vec<String>, String> {
        let values: Vec<_> = values.all().map(str::to_owned).collect();
        if values.iter().all(|value| value.len() > 2) { Ok(values) } else { Err("is short".to_owned()) }
    }

    #[test]
    fn a_plain_variable_is_a_secret_with_one_value() {
        let env = Env::default().with("KEY", "plain").with("OTHER", "x").with("OTHER_SECRET_ARN", "");
        assert_eq!(*env.secret("KEY", long).unwrap().get(), ["plain"]);
        let message = |name| env.secret(name, long).unwrap_err().to_string();
        assert_eq!(message("OTHER"), "environment variable OTHER: is short");
        assert_eq!(message("NONE"), "environment variable NONE: is not set");
        assert!(env.secret_arns().is_empty());
        assert_eq!(["KEY", "NONE"].map(|name| env.has_secret(name)), [true, false]);
    }

    #[test]
    fn a_held_secret_changes_everywhere_at_once_or_nowhere() {
        let env = Env::default().with("KEY", "plain").with("KEY_SECRET_ARN", "arn");
        assert_eq!(env.secret_arns(), [("KEY_SECRET_ARN".to_owned(), "arn".to_owned())]);
        let message = env.secret("KEY", long).unwrap_err().to_string();
        assert_eq!(message, "environment variable KEY_SECRET_ARN: was not read at the start");
        assert!(!env.hold_secret("KEY_SECRET_ARN", Values::new("one", [])).unwrap());
        let count = |values: &Values| Ok(values.all().count());
        let (texts, number) = (env.secret("KEY", long).unwrap(), env.clone().secret("KEY", count).unwrap());
        assert_eq!((&*texts.get(), *number.get()), (&vec!["one".to_owned()], 1));

        let next = Values::new("two", ["one".to_owned(), "two".to_owned()]);
        assert!(env.hold_secret("KEY_SECRET_ARN", next.clone()).unwrap());
        assert!(!env.hold_secret("KEY_SECRET_ARN", next).unwrap());
        assert_eq!((&*texts.get(), *number.get()), (&vec!["two".to_owned(), "one".to_owned()], 2));

        let message = env.hold_secret("KEY_SECRET_ARN", Values::new("x", [])).unwrap_err().to_string();
        assert_eq!(message, "environment variable KEY_SECRET_ARN: is short");
        assert_eq!((texts.get().len(), *number.get()), (2, 2));
        assert_eq!(format!("{:?}", Values::new("two", [])), "Values(.., 0 others)");
        assert_eq!(arn_variable("WEBHOOK_SECRET"), "WEBHOOK_SECRET_ARN");
    }
}
