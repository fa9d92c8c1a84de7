//! A server with the Redis protocol, shared by all instances of a function: its keys, its values, and the handling of its
//! answers. Each failure is counted in the log, and the table is read instead.
//!
//! A value that was read from the table before a change must not replace the changed value. So a lookup writes only if
//! the key is absent (`NX`), and a change overwrites the key instead of deleting it.

use std::time::Duration;

use redis::{Client, Cmd, TlsCertificates};
use serde::{Deserialize, Serialize};

use super::link::{Link, Trouble};
use crate::{
    domain::{
        code::{Code, OwnedCode},
        id::{ProgramId, UserId},
        time::Timestamp,
    },
    runtime::{Call, Env, Misconfigured, log_outcome::LogOutcome, secret::Values},
    store::{Store, StoreError},
};

/// How long a code stays on the server, plus or minus 10 %, so that codes that were cached together do not expire
/// together.
const TIME_TO_LIVE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Timeout for propagating a code change.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum length of our values. Of a longer value, which another program wrote, only this much is read.
const MAX_LENGTH: isize = 1024;

/// The cache server of one stack. Clones share its connection.
#[derive(Clone, Debug)]
pub struct Server {
    link: Link,
    /// The table's name is part of each key, because several stacks can share a server.
    table: String,
    /// The timeout of a lookup.
    timeout: Duration,
}

/// The code was changed, but the cache server was not updated.
#[derive(Debug, thiserror::Error)]
pub enum CacheUpdateFailed {
    /// The server gave no answer, or answered with an error.
    #[error("the code was changed, but the cache server was not updated: {0}")]
    Server(String),
    /// The table could not be read, so it is unknown whether this is the latest change.
    #[error(transparent)]
    Table(#[from] StoreError),
}

/// The stored form of a code. The key contains the version of this format.
#[derive(Serialize, Deserialize)]
struct Value {
    code: Code,
    owner: UserId,
    program: ProgramId,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

impl Server {
    /// Reads `CACHE_URL` (`redis://HOST:PORT`, or `rediss://` for TLS; unset: no server), `CACHE_PASSWORD` (unless it is
    /// in the URL), `CACHE_TIMEOUT_MS` (10) and `TABLE_NAME`.
    ///
    /// # Errors
    /// Returns an error that names the variable when one is invalid.
    pub fn from_env(env: &Env) -> Result<Option<Self>, Misconfigured> {
        let (url, timeout) = (env.get("CACHE_URL"), env.parsed("CACHE_TIMEOUT_MS", 10)?);
        let has_password = env.has_secret("CACHE_PASSWORD");
        let table = env.required("TABLE_NAME")?.to_owned();
        let Some(url) = url else { return Ok(None) };
        let client = client(env, url).map_err(|problem| Misconfigured::new("CACHE_URL", problem))?;
        let clients = if has_password {
            env.secret("CACHE_PASSWORD", move |values| with_passwords(&client, values))?
        } else {
            vec![with_own_password(client).map_err(|problem| Misconfigured::new("CACHE_URL", problem))?].into()
        };
        Ok(Some(Self { link: Link::new(clients), table, timeout: Duration::from_millis(timeout) }))
    }

    /// The code, if the server has it and answers in time. A value that is not this code is deleted.
    pub(super) async fn get(&self, code: &Code) -> Option<OwnedCode> {
        let look = Cmd::getrange(self.key(code), 0, MAX_LENGTH);
        let is_invalid = match self.link.ask::<Vec<u8>>(&look, self.timeout).await {
            Ok(bytes) if bytes.is_empty() => false,
            Ok(bytes) => match read(&bytes, code) {
                Some(known) => {
                    tracing::info!(outcome = LogOutcome::CacheServerHit.as_str(), cache_server_hits = 1);
                    return Some(known);
                }
                None => true,
            },
            Err(Trouble::Refused(why)) if why == "WRONGTYPE" => true,
            Err(trouble) => {
                log(&trouble);
                false
            }
        };
        if is_invalid {
            tracing::warn!(outcome = LogOutcome::CacheServerInvalid.as_str(), cache_failures = 1);
            self.forget(code).await;
        }
        None
    }

    /// Stores a code that was just read from the table, unless the server already has it.
    pub(super) async fn offer(&self, known: &OwnedCode, call: &Call) {
        if let Err(trouble) = self.link.ask::<()>(self.set(known, call).arg("NX"), self.timeout).await {
            log(&trouble);
        }
    }

    pub(super) async fn forget(&self, code: &Code) {
        if let Err(trouble) = self.link.ask::<()>(&Cmd::del(self.key(code)), self.timeout).await {
            log(&trouble);
        }
    }

    /// Stores a changed code. Concurrent changes can reach the server out of order, so the stored value is compared with
    /// the table until the two agree.
    ///
    /// # Errors
    /// Returns an error when the server or DynamoDB is unavailable, or the code keeps changing.
    pub async fn update(&self, store: &Store, changed: OwnedCode, call: &Call) -> Result<(), CacheUpdateFailed> {
        let mut latest = changed;
        for _ in 0..Store::MAX_DECISIONS {
            let stored = self.link.ask::<()>(&self.set(&latest, call), UPDATE_TIMEOUT).await;
            stored.inspect_err(log).map_err(|trouble| CacheUpdateFailed::Server(trouble.to_string()))?;
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

/// A client of the server with this URL. Its TLS trusts Mozilla's roots, or those in the file named by `SSL_CERT_FILE`
/// instead. The URL can contain a password, so an error does not repeat it.
fn client(env: &Env, url: &str) -> Result<Client, &'static str> {
    if has_empty_password(url) {
        return Err("has an empty password: expected redis://USER:PASSWORD@HOST:PORT");
    }
    let tls = TlsCertificates { client_tls: None, root_cert: roots(env)? };
    let is_tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
    let client = if is_tls { Client::build_with_tls(url, tls) } else { Client::open(url) };
    client.map_err(|_| "expected redis://USER:PASSWORD@HOST:PORT, with special characters as %40")
}

/// Whether a password is announced (`USER:@HOST`) and missing. The client's parser drops the colon.
fn has_empty_password(url: &str) -> bool {
    let server = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
    let login = server.and_then(|server| server.rsplit_once('@')).and_then(|(login, _)| login.split_once(':'));
    login.is_some_and(|(_, password)| password.is_empty())
}

/// Refuses a user without a password: the client would send neither.
fn with_own_password(client: Client) -> Result<Client, &'static str> {
    let login = client.get_connection_info().redis_settings();
    let has_password = login.password().is_some_and(|password| !password.trim().is_empty());
    if has_password || (login.password().is_none() && login.username().is_none()) {
        Ok(client)
    } else {
        Err("has no password, or a blank one: expected redis://USER:PASSWORD@HOST:PORT")
    }
}

/// The same client with each valid password.
fn with_passwords(client: &Client, passwords: &Values) -> Result<Vec<Client>, String> {
    let server = client.get_connection_info();
    if server.redis_settings().password().is_some() {
        return Err("is set, and CACHE_URL contains a password, too".to_owned());
    }
    let client = |password: &str| {
        if password.trim().is_empty() {
            return Err("is empty".to_owned());
        }
        let login = server.redis_settings().clone().set_password(password);
        Client::open(server.clone().set_redis_settings(login)).map_err(|problem| problem.category().to_owned())
    };
    passwords.all().map(client).collect()
}

fn roots(env: &Env) -> Result<Option<Vec<u8>>, &'static str> {
    let file = env.get("SSL_CERT_FILE").map(std::fs::read).transpose();
    file.map_err(|_| "cannot be used, because the file named by SSL_CERT_FILE cannot be read")
}

/// Logs and counts a failure. A lookup that did not ask the server is not a failure.
fn log(trouble: &Trouble) {
    if *trouble != Trouble::Unasked {
        tracing::warn!(outcome = LogOutcome::CacheServerFailed.as_str(), %trouble, cache_failures = 1);
    }
}

fn write(known: &OwnedCode) -> Vec<u8> {
    let OwnedCode { code, owner, program, created_at, expires_at } = known.clone();
    serde_json::to_vec(&Value { code, owner, program, created_at, expires_at }).unwrap_or_default()
}

/// Reads a stored value, if it is this code.
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

    /// Instances of two versions share the server. A change of this format must change the version in the key.
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
    fn the_longest_value_fits_the_limit() {
        let longest = OwnedCode {
            code: "x".repeat(32).parse().unwrap(),
            owner: "o".repeat(128).parse().unwrap(),
            program: "p".repeat(128).parse().unwrap_or_else(|_| owned().program),
            ..owned()
        };
        assert!(write(&longest).len() < usize::try_from(MAX_LENGTH).unwrap());
    }

    #[test]
    fn a_value_that_is_not_this_code_is_ignored() {
        let other = OwnedCode { code: "OTHER".parse().unwrap(), ..owned() };
        for bytes in [&b""[..], b"{", b"null", b"[]", b"\xff\xfe", b"{\"code\":\"ada-invites\"}", &write(&other)] {
            assert_eq!(read(bytes, &owned().code), None, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test]
    async fn lifetimes_vary_by_ten_percent() {
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
    fn an_invalid_url_is_refused_without_its_password() {
        let env = |url| Env::default().with("TABLE_NAME", "t").with("CACHE_URL", url);
        let problem = Server::from_env(&env("http://user:secret@host")).unwrap_err().to_string();
        assert!(problem.contains("CACHE_URL") && !problem.contains("secret"), "{problem}");
        assert!(Server::from_env(&env("")).unwrap().is_none());
        for url in ["rediss://:secret@host:6379", "redis://user:p%40ss@host", "redis://:p@ss@host", "redis://host/2"] {
            assert!(Server::from_env(&env(url)).unwrap().is_some(), "{url}");
        }
    }

    /// The client would connect without authentication.
    #[test]
    fn a_user_without_a_password_is_refused() {
        let env = |url| Env::default().with("TABLE_NAME", "t").with("CACHE_URL", url);
        for url in ["redis://user@host", "redis://user:@host", "redis://:@host", "rediss://:%20@host"] {
            let problem = Server::from_env(&env(url)).err().map(|problem| problem.to_string()).unwrap_or_default();
            assert!(problem.contains("CACHE_URL") && problem.contains("password"), "{url}: {problem}");
        }
    }
}
