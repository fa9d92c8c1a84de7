//! A real Redis for one test: Debian's `redis-server` on a free port, killed at the end of the test.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{Client, Cmd, FromRedisValue, RedisError, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep};

use super::{Folder, LIMIT, not_tested, process};

/// A running server; killed when dropped.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    settings: &'static [&'static str],
    password: &'static str,
    _folder: Folder,
}

impl Redis {
    /// Starts a server with these settings. Returns `None`, with a message, if `redis-server` is not installed. With
    /// `REQUIRE_REDIS`, as in CI, this is a failure.
    pub(crate) async fn start(test: &str, settings: &'static [&'static str]) -> Option<Self> {
        Self::start_locked(test, settings, "").await
    }

    /// The same for a server whose settings require this password.
    pub(crate) async fn start_locked(
        test: &str,
        settings: &'static [&'static str],
        password: &'static str,
    ) -> Option<Self> {
        if !is_installed() {
            not_tested(test, "redis-server is not installed (package redis-server)", "REQUIRE_REDIS");
            return None;
        }
        let folder = Folder::new();
        let end = Instant::now() + LIMIT;
        loop {
            let port = free_port();
            let child = spawn(port, settings, &folder);
            let mut server = Self { child, port, settings, password, _folder: Folder::new() };
            if server.is_ready().await {
                server._folder = folder;
                return Some(server);
            }
            assert!(Instant::now() < end, "redis-server does not start");
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the server. Its data is lost.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        process::end(&mut self.child);
    }

    /// Starts it again at the same address, without data.
    pub(crate) async fn restart(&mut self) {
        let end = Instant::now() + LIMIT;
        loop {
            self.child = spawn(self.port, self.settings, &self._folder);
            if self.is_ready().await {
                return;
            }
            assert!(Instant::now() < end, "redis-server does not start again");
        }
    }

    /// Sends one command, which must succeed.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).await.unwrap()
    }

    /// Sends one command.
    pub(crate) async fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisError> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query_async(&mut self.connection().await?).await
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let login = if self.password.is_empty() { String::new() } else { format!(":{}@", self.password) };
        Client::open(format!("redis://{login}{}", self.address()))?.get_multiplexed_async_connection().await
    }

    /// The number of keys.
    pub(crate) async fn size(&self) -> u64 {
        self.ask(&["DBSIZE"]).await
    }

    /// Waits until the server answers. Returns `false` if it exited instead, for example because the port is in use.
    async fn is_ready(&mut self) -> bool {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end && self.child.try_wait().unwrap().is_none() {
            if self.try_ask::<String>(&["PING"]).await.is_ok_and(|answer| answer == "PONG") {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_installed() -> bool {
    let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// A port that is not in use.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, settings: &[&str], folder: &Folder) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
    command.args(["--port", &port.to_string(), "--dir"]).arg(folder.path()).args(settings);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
