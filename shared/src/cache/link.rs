//! The connection to the cache server. All lookups share one connection. It is opened in the background, dropped after
//! the first error, and opened again no earlier than a second later.

use std::{sync::Arc, time::Duration};

use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::runtime::{log_outcome::LogOutcome, secret::Secret};

/// The timeout for opening a connection. It runs in the background.
const CONNECT: Duration = Duration::from_secs(1);
/// The pause after an error, in which no connection is opened and lookups skip the cache server.
const REST: Duration = Duration::from_secs(1);

/// Why there is no answer from the server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The server was not asked: the connection is being opened, or the pause after an error has not ended.
    #[error("there is no connection yet")]
    Unasked,
    /// The answer, or the connection, took too long.
    #[error("the timeout expired")]
    Timeout,
    /// The connection could not be opened, broke, or received data that violates the protocol.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// The server did not accept the password.
    #[error("the connection failed: {0}")]
    Login(&'static str),
    /// The connection could not be opened in time.
    #[error("the connection failed: the timeout expired")]
    Silent,
    /// The server answered with an error.
    #[error("the server refused: {0}")]
    Refused(String),
}

impl Trouble {
    /// The library's description of the error, without the answer itself, which can contain any data.
    fn of(problem: &RedisError) -> Self {
        match (problem.kind(), problem.code()) {
            (ErrorKind::Server(_) | ErrorKind::Extension, Some(code)) => Self::Refused(code.to_owned()),
            _ => Self::Broken(problem.category().to_owned()),
        }
    }

    /// Why a connection could not be opened. A server does not say whether the user or the password is wrong.
    fn of_connection(problem: &RedisError, login: &RedisConnectionInfo) -> Self {
        let cause = problem.to_string();
        Self::Broken(match problem.kind() {
            ErrorKind::AuthenticationFailed if login.username().is_some() => {
                return Self::Login("wrong user or password");
            }
            ErrorKind::AuthenticationFailed => return Self::Login("wrong password"),
            // The library keeps only the text of the server's answer to `SELECT`.
            _ if cause.contains("Authentication required") => return Self::Refused("NOAUTH".to_owned()),
            _ if cause.contains("switch database") => format!("missing database {}", login.db()),
            _ if problem.is_connection_refusal() => "connection refused".to_owned(),
            // The resolver's errors have no kind of their own.
            ErrorKind::Io if cause.contains("lookup address") => "unknown host".to_owned(),
            ErrorKind::Io if cause.contains("certificate") => "TLS: the certificate is not trusted".to_owned(),
            _ if problem.is_timeout() => return Self::Silent,
            _ => return Self::of(problem),
        })
    }
}

#[derive(Debug)]
enum State {
    Idle,
    Connecting,
    Up(MultiplexedConnection),
    /// With the reason, if no connection could be opened.
    Resting(Option<Trouble>),
}

/// The connection to the server. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The client with each valid password, the current one first.
    clients: Secret<Vec<Client>>,
    state: Arc<watch::Sender<State>>,
}

impl Link {
    pub(super) fn new(clients: Secret<Vec<Client>>) -> Self {
        Self { clients, state: Arc::new(watch::Sender::new(State::Idle)) }
    }

    /// Sends a command and waits up to `limit` for the answer. The limit includes the wait for the connection.
    ///
    /// # Errors
    /// Returns an error when there is no answer, or the server answered with an error.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd, limit: Duration) -> Result<T, Trouble> {
        let asked = async {
            let mut connection = self.connection().await?;
            command.query_async(&mut connection).await.map_err(|problem| Trouble::of(&problem))
        };
        let answer = timeout(limit, asked).await.unwrap_or(Err(Trouble::Timeout));
        if matches!(answer, Err(Trouble::Timeout | Trouble::Broken(_))) {
            self.give_up();
        }
        answer
    }

    /// The connection. The first lookup without a connection opens one and waits for it; concurrent lookups skip the
    /// cache server.
    async fn connection(&self) -> Result<MultiplexedConnection, Trouble> {
        if let State::Up(connection) = &*self.state.borrow() {
            return Ok(connection.clone());
        }
        let is_first = self.state.send_if_modified(|state| {
            let is_idle = matches!(state, State::Idle);
            if is_idle {
                *state = State::Connecting;
            }
            is_idle
        });
        if !is_first {
            return Err(Trouble::Unasked);
        }
        let mut changes = self.state.subscribe();
        tokio::spawn(connect(self.clients.get(), Arc::clone(&self.state)));
        let state = changes.wait_for(|state| !matches!(state, State::Connecting)).await;
        match state.as_deref() {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            Ok(State::Resting(Some(trouble))) => Err(trouble.clone()),
            Ok(_) | Err(_) => Err(Trouble::Broken("no connection".to_owned())),
        }
    }

    /// Drops the connection after an error. A call that used an earlier connection can drop the current one, which
    /// costs only another pause. A connection that is being opened is not affected.
    fn give_up(&self) {
        let is_last = self.state.send_if_modified(|state| {
            let is_up = matches!(state, State::Up(_));
            if is_up {
                *state = State::Resting(None);
            }
            is_up
        });
        if is_last {
            tokio::spawn(rest(Arc::clone(&self.state), None));
        }
    }
}

/// Opens a connection with the first password that the server accepts.
async fn connect(clients: Arc<Vec<Client>>, state: Arc<watch::Sender<State>>) {
    let mut trouble = Trouble::Unasked;
    for client in &*clients {
        trouble = match timeout(CONNECT, client.get_multiplexed_async_connection()).await {
            Ok(Ok(connection)) => return drop(state.send_replace(State::Up(connection))),
            Ok(Err(problem)) => Trouble::of_connection(&problem, client.get_connection_info().redis_settings()),
            Err(_elapsed) => Trouble::Silent,
        };
        if !matches!(trouble, Trouble::Login(_)) {
            break;
        }
    }
    if state.receiver_count() == 0 {
        // The lookup that waited for the connection was counted as a failure when its own time was over.
        tracing::warn!(outcome = LogOutcome::CacheServerFailed.as_str(), %trouble);
    }
    rest(state, Some(trouble)).await;
}

/// The pause after an error.
async fn rest(state: Arc<watch::Sender<State>>, trouble: Option<Trouble>) {
    state.send_replace(State::Resting(trouble));
    sleep(REST).await;
    state.send_replace(State::Idle);
}
