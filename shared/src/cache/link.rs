//! The link to the server: one connection that all share, made in the background, given up at the first sign of trouble
//! and not tried again for a moment.

use std::{sync::Arc, time::Duration};

use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// How long a connection may take, which nobody waits for.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a server in trouble is left alone: whoever looks a code up meanwhile loses no time on it.
const REST: Duration = Duration::from_secs(1);

/// Why the server gave no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Nobody asked it: it is being connected to, or left alone.
    #[error("there is no connection yet")]
    Unasked,
    /// It, or a connection to it, did not come in time.
    #[error("it did not answer in time")]
    Late,
    /// The connection failed, or broke, or carried what is not of the protocol.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// It answered that it will not.
    #[error("it refused: {0}")]
    Refused(String),
}

impl Trouble {
    /// What the library says, without the answer itself, which may hold anything.
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

/// A way to the server; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    client: Client,
    state: Arc<watch::Sender<State>>,
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        Self { client, state: Arc::new(watch::Sender::new(State::Idle)) }
    }

    /// What the server answers within `patience`, in which a connection must be found, too.
    ///
    /// # Errors
    /// When there is no answer, or one that says no.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd, patience: Duration) -> Result<T, Trouble> {
        let asked = async {
            let mut connection = self.connection().await?;
            command.query_async(&mut connection).await.map_err(|problem| Trouble::of(&problem))
        };
        let answer = timeout(patience, asked).await.unwrap_or(Err(Trouble::Late));
        if matches!(answer, Err(Trouble::Late | Trouble::Broken(_))) {
            self.give_up();
        }
        answer
    }

    /// The connection. Whoever finds none begins one and waits for it; others go by without meanwhile.
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

    /// Drops a connection that failed somebody. Whoever comes here late may drop its successor, which costs no more than
    /// another rest. A connection that is being made is left to it.
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
