//! The connection to the cache server. All lookups share one connection. It is opened in the background, dropped after
//! the first error, and opened again no earlier than a second later.

use std::{sync::Arc, time::Duration};

use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

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
}

#[derive(Debug)]
enum State {
    Idle,
    Connecting,
    Up(MultiplexedConnection),
    Resting,
}

/// The connection to the server. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    client: Client,
    state: Arc<watch::Sender<State>>,
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        Self { client, state: Arc::new(watch::Sender::new(State::Idle)) }
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
        tokio::spawn(connect(self.client.clone(), Arc::clone(&self.state)));
        let state = changes.wait_for(|state| !matches!(state, State::Connecting)).await;
        match state.as_deref() {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            Ok(_) | Err(_) => Err(Trouble::Broken("no connection".to_owned())),
        }
    }

    /// Drops the connection after an error. A call that used an earlier connection can drop the current one, which
    /// costs only another pause. A connection that is being opened is not affected.
    fn give_up(&self) {
        let is_last = self.state.send_if_modified(|state| {
            let is_up = matches!(state, State::Up(_));
            if is_up {
                *state = State::Resting;
            }
            is_up
        });
        if is_last {
            tokio::spawn(rest(Arc::clone(&self.state)));
        }
    }
}

async fn connect(client: Client, state: Arc<watch::Sender<State>>) {
    match timeout(CONNECT, client.get_multiplexed_async_connection()).await {
        Ok(Ok(connection)) => drop(state.send_replace(State::Up(connection))),
        Ok(Err(_)) | Err(_) => rest(state).await,
    }
}

async fn rest(state: Arc<watch::Sender<State>>) {
    state.send_replace(State::Resting);
    sleep(REST).await;
    state.send_replace(State::Idle);
}
