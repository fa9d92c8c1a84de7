//! A server that speaks the Redis protocol, shared by all instances of a function: which keys and values it holds, and
//! what is made of its answers. Whatever goes wrong with it costs a figure in the log, and the table is asked.
//!
//! A value that is read from the table before a change must not be written after it and stay. So a look-up only offers
//! (`NX`), and a change is told by writing, not by removing: where it has been told, what is older finds the place taken.

use std::time::Duration;

use redis::{Client, Cmd};
use serde::{Deserialize, Serialize};

use super::link::{Link, Trouble};
use crate::{
    code::{Code, OwnedCode},
    id::{ProgramId, UserId},
    runtime::{Call, Env, Misconfigured},
    store::{Store, StoreError},
    time::Timestamp,
};

/// How long a code is kept, more or less a tenth, so that codes that came together do not go together.
const TIME_TO_LIVE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long the one may wait who changed a code.
const PATIENCE: Duration = Duration::from_secs(1);
/// No value of ours is longer, and no more is read of anything else.
const LONGEST: isize = 1024;

/// The server of one stack; clones share its connection.
#[derive(Clone, Debug)]
pub struct Server {
    link: Link,
    /// Whose codes: stacks may share a server, and each has a table of its own.
    table: String,
    /// How long a look-up may wait for it.
    budget: Duration,
}

/// The server was not told of a change, which counts all the same.
#[derive(Debug, thiserror::Error)]
pub enum CacheUpdateFailed {
    /// It gave no answer, or said no.
    #[error("the code is changed, the cache server was not told: {0}")]
    Server(String),
    /// The table did not say whether this is the latest change.
    #[error(transparent)]
    Table(#[from] StoreError),
}

/// A code as it is kept. The key names the version of this format.
#[derive(Serialize, Deserialize)]
struct Value {
    code: Code,
    owner: UserId,
    program: ProgramId,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

impl Server {
    /// Reads `CACHE_URL` (`redis://HOST:PORT`, or `rediss://` for TLS; none: there is no server), `CACHE_TIMEOUT_MS` (10)
    /// and `TABLE_NAME`.
    ///
    /// # Errors
    /// When one of them cannot be read; it is named.
    pub fn from_env(env: &Env) -> Result<Option<Self>, Misconfigured> {
        let (url, budget) = (env.get("CACHE_URL"), env.parsed("CACHE_TIMEOUT_MS", 10)?);
        let table = env.required("TABLE_NAME")?.to_owned();
        let Some(url) = url else { return Ok(None) };
        // The URL may hold a password, so it is not repeated.
        let client = Client::open(url).map_err(|_| Misconfigured::new("CACHE_URL", "expected redis://HOST:PORT"))?;
        Ok(Some(Self { link: Link::new(client), table, budget: Duration::from_millis(budget) }))
    }

    /// The code, if the server has it and says so in time. What is there and is not this code is taken away.
    pub(super) async fn get(&self, code: &Code) -> Option<OwnedCode> {
        let look = Cmd::getrange(self.key(code), 0, LONGEST);
        let is_garbage = match self.link.ask::<Vec<u8>>(&look, self.budget).await {
            Ok(bytes) if bytes.is_empty() => false,
            Ok(bytes) => match read(&bytes, code) {
                Some(known) => {
                    tracing::debug!(outcome = "a code was on the cache server", cache_server_hits = 1);
                    return Some(known);
                }
                None => true,
            },
            Err(Trouble::Refused(why)) if why == "WRONGTYPE" => true,
            Err(trouble) => {
                tell(&trouble);
                false
            }
        };
        if is_garbage {
            tracing::warn!(outcome = "the cache server held something else", cache_failures = 1);
            self.forget(code).await;
        }
        None
    }

    /// Has the server keep a code that was just read from the table, unless it has it by now.
    pub(super) async fn offer(&self, known: &OwnedCode, call: &Call) {
        if let Err(trouble) = self.link.ask::<()>(self.set(known, call).arg("NX"), self.budget).await {
            tell(&trouble);
        }
    }

    pub(super) async fn forget(&self, code: &Code) {
        if let Err(trouble) = self.link.ask::<()>(&Cmd::del(self.key(code)), self.budget).await {
            tell(&trouble);
        }
    }

    /// Has the server keep what a code was changed to. Of two changes at once the later may be told first; so what was
    /// told is compared with the table, until they agree.
    ///
    /// # Errors
    /// When the server, or the table, does not answer, or others keep changing the code.
    pub async fn tell(&self, store: &Store, changed: OwnedCode, call: &Call) -> Result<(), CacheUpdateFailed> {
        let mut latest = changed;
        for _ in 0..Store::MAX_DECISIONS {
            let told = self.link.ask::<()>(&self.set(&latest, call), PATIENCE).await;
            told.inspect_err(tell).map_err(|trouble| CacheUpdateFailed::Server(trouble.to_string()))?;
            match store.code(&latest.code).await? {
                Some(found) if found != latest => latest = found,
                Some(_) | None => return Ok(()),
            }
        }
        Err(StoreError::Contended(format!("the code {}", latest.code.canonical())).into())
    }

    fn key(&self, code: &Code) -> String {
        format!("referrals:{}:code:1:{}", self.table, code.canonical())
    }

    fn set(&self, known: &OwnedCode, call: &Call) -> Cmd {
        let key = self.key(&known.code);
        let seconds = TIME_TO_LIVE.mul_f64(0.9 + 0.2 * call.fraction(&key)).as_secs();
        let mut set = Cmd::set(key, write(known));
        set.arg("EX").arg(seconds);
        set
    }
}

/// What goes wrong is counted; that nobody asked is not.
fn tell(trouble: &Trouble) {
    if *trouble != Trouble::Unasked {
        tracing::warn!(outcome = "the cache server failed", %trouble, cache_failures = 1);
    }
}

fn write(known: &OwnedCode) -> Vec<u8> {
    let OwnedCode { code, owner, program, created_at, expires_at } = known.clone();
    serde_json::to_vec(&Value { code, owner, program, created_at, expires_at }).unwrap_or_default()
}

/// The code that is kept there, if it is this one.
fn read(bytes: &[u8], wanted: &Code) -> Option<OwnedCode> {
    let Value { code, owner, program, created_at, expires_at } = serde_json::from_slice(bytes).ok()?;
    (code == *wanted).then_some(OwnedCode { code, owner, program, created_at, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn owned() -> OwnedCode {
        OwnedCode {
            code: "Ada-Invites".parse().unwrap(),
            owner: "ada".parse().unwrap(),
            program: "default".parse().unwrap(),
            created_at: sample::at(0),
            expires_at: Some(sample::at(5)),
        }
    }

    fn server() -> Server {
        let env = Env::default().with("TABLE_NAME", "t").with("CACHE_URL", "redis://127.0.0.1:1");
        Server::from_env(&env).unwrap().unwrap()
    }

    /// Instances of two versions share the server: whoever changes this changes the version in the key.
    #[test]
    fn keys_and_values_are_those_of_version_1() {
        assert_eq!(server().key(&owned().code), "referrals:t:code:1:ADA1NV1TES");
        let text = String::from_utf8(write(&owned())).unwrap();
        let at = [sample::at(0), sample::at(5)];
        let expected = format!(
            r#"{{"code":"Ada-Invites","owner":"ada","program":"default","created_at":"{}","expires_at":"{}"}}"#,
            at[0], at[1]
        );
        assert_eq!(text, expected);
        assert_eq!(read(text.as_bytes(), &owned().code), Some(owned()));
    }

    #[test]
    fn the_longest_value_is_read_whole() {
        let longest = OwnedCode {
            code: "x".repeat(32).parse().unwrap(),
            owner: "o".repeat(128).parse().unwrap(),
            program: "p".repeat(128).parse().unwrap_or_else(|_| owned().program),
            ..owned()
        };
        assert!(write(&longest).len() < usize::try_from(LONGEST).unwrap());
    }

    #[test]
    fn what_is_not_this_code_is_not_read() {
        let other = OwnedCode { code: "OTHER".parse().unwrap(), ..owned() };
        for bytes in [&b""[..], b"{", b"null", b"[]", b"\xff\xfe", b"{\"code\":\"ada-invites\"}", &write(&other)] {
            assert_eq!(read(bytes, &owned().code), None, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test]
    async fn codes_go_at_different_times_within_a_tenth() {
        let seconds = |entropy: u8| {
            let call = Call { entropy: [entropy; 16], ..Call::begin(Duration::from_secs(1)).unwrap() };
            let words = server().set(&owned(), &call);
            let text = String::from_utf8_lossy(&words.get_packed_command()).into_owned();
            let words: Vec<_> = text.split("\r\n").collect();
            words[words.iter().position(|word| *word == "EX").unwrap() + 2].parse::<u64>().unwrap()
        };
        let day = 24 * 60 * 60;
        let drawn: std::collections::BTreeSet<_> = (0..50).map(seconds).collect();
        assert!(drawn.iter().all(|seconds| (27 * day..=33 * day).contains(seconds)), "{drawn:?}");
        assert!(drawn.len() > 40, "{drawn:?}");
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_its_password() {
        let env = |url| Env::default().with("TABLE_NAME", "t").with("CACHE_URL", url);
        let problem = Server::from_env(&env("http://user:secret@host")).unwrap_err().to_string();
        assert!(problem.contains("CACHE_URL") && !problem.contains("secret"), "{problem}");
        assert!(Server::from_env(&env("")).unwrap().is_none());
        assert!(Server::from_env(&env("rediss://:secret@host:6379")).unwrap().is_some());
    }
}
