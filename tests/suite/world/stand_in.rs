//! A test's own stand-in: a reward endpoint on a plain socket. It books each key once, and fails as configured.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
};

use referrals::domain::time::Timestamp;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Duration, sleep},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::bare_http::{head, request};

/// The secret with which the service must sign, so that a stand-in accepts its calls.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How a stand-in handles one call. A reply with a 2xx status, or one that interrupts a 2xx response, books the reward.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and an additional header line.
    With(u16, String),
    /// Books the reward but does not answer while the caller waits.
    Silence,
    /// Books the reward and resets the connection in the middle of the response.
    Reset,
    /// Waits for [`StandIn::release`], then answers with this status.
    Hold(u16),
    /// Answers with this status and a body of ten megabytes.
    Long(u16),
    /// Answers with this status and an endless body, as fast as the caller reads it.
    Endless(u16),
    /// Answers with this status and an endless body, one byte at a time.
    Trickle(u16),
    /// Fails three of ten calls, one of them after booking. Random, but determined by the seed, the key and the number
    /// of the call for that key, regardless of the order of arrival.
    Flaky(u64),
}

/// A received call.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) key: String,
    pub(crate) body: Value,
    pub(crate) at: Timestamp,
    /// Whether the reward was booked by this call or before it.
    pub(crate) booked: bool,
}

#[derive(Debug)]
struct State {
    /// The replies to the next calls, by key.
    scripts: HashMap<String, VecDeque<Reply>>,
    /// The reply to all other calls.
    default_reply: Reply,
    calls: Vec<Received>,
    /// The number of calls, by key.
    attempts: HashMap<String, u32>,
    /// The booked body, by key.
    booked: BTreeMap<String, Value>,
    /// Connections that ended without a request, such as after a rejected certificate.
    aborted_connections: usize,
}

/// A handle of a stand-in; clones share its state. It listens until the test ends.
#[derive(Clone, Debug)]
pub(crate) struct StandIn {
    url: String,
    state: Arc<Mutex<State>>,
    /// Whether held calls may continue.
    open: watch::Sender<bool>,
}

/// How a connection ends.
#[derive(PartialEq, Eq)]
enum Closing {
    Close,
    Reset,
}

impl StandIn {
    /// Listens for plain HTTP.
    pub(crate) async fn start() -> Self {
        Self::listen("http", None).await
    }

    /// Listens for TLS.
    pub(crate) async fn with_tls(config: ServerConfig) -> Self {
        Self::listen("https", Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(scheme: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            scripts: HashMap::new(),
            default_reply: Reply::Status(200),
            calls: Vec::new(),
            attempts: HashMap::new(),
            booked: BTreeMap::new(),
            aborted_connections: 0,
        };
        let this = Self {
            url: format!("{scheme}://{}", listener.local_addr().unwrap()),
            state: Arc::new(Mutex::new(state)),
            open: watch::Sender::new(true),
        };
        tokio::spawn(this.clone().accept(listener, tls));
        this
    }

    /// The endpoint's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Sets the replies to the next calls with this key.
    pub(crate) fn script(&self, key: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state().scripts.entry(key.to_owned()).or_default().extend(replies);
    }

    /// Sets the reply to every call without a script. [`Reply::Hold`] holds calls until [`Self::release`].
    pub(crate) fn set_default_reply(&self, reply: Reply) {
        if matches!(reply, Reply::Hold(_)) {
            self.open.send_replace(false);
        }
        self.state().default_reply = reply;
    }

    /// Releases all held calls and stops holding new ones.
    pub(crate) fn release(&self) {
        self.set_default_reply(Reply::Status(200));
        self.open.send_replace(true);
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Received> {
        self.state().calls.clone()
    }

    /// Every call so far with this key.
    pub(crate) fn calls_of(&self, key: &str) -> Vec<Received> {
        self.state().calls.iter().filter(|call| call.key == key).cloned().collect()
    }

    /// The booked bodies, by key.
    pub(crate) fn booked(&self) -> BTreeMap<String, Value> {
        self.state().booked.clone()
    }

    /// The number of booked keys.
    pub(crate) fn booked_count(&self) -> usize {
        self.state().booked.len()
    }

    /// The number of connections that ended without a request.
    pub(crate) fn aborted_connections(&self) -> usize {
        self.state().aborted_connections
    }

    /// The calls in the format in which the service lists the calls of its own stand-ins.
    pub(super) fn deliveries(&self) -> Vec<Value> {
        let delivery = |call: &Received| {
            json!({
                "reward_id": call.body["reward_id"], "body": call.body, "status": if call.booked { 200 } else { 500 },
                "headers": {"idempotency-key": call.key, "webhook-id": call.key},
            })
        };
        self.state().calls.iter().map(delivery).collect()
    }

    async fn accept(self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        while let Ok((stream, _)) = listener.accept().await {
            let (this, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move { this.handle_connection(stream, tls).await });
        }
    }

    async fn handle_connection(&self, mut stream: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else {
            if self.handle_call(&mut stream).await.is_ok_and(|closing| closing == Closing::Reset) {
                stream.set_zero_linger().unwrap();
            }
            return;
        };
        match tls.accept(stream).await {
            // The caller may close the connection at any time.
            Ok(mut stream) => drop(self.handle_call(&mut stream).await),
            Err(_) => self.state().aborted_connections += 1,
        }
    }

    /// Handles one call. An error means that the caller disconnected.
    async fn handle_call(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Closing> {
        let Some((headers, body)) = request(stream).await? else {
            self.state().aborted_connections += 1;
            return Ok(Closing::Close);
        };
        let Some(key) = key(&headers, &body) else {
            stream.write_all(head(401, "").as_bytes()).await?;
            return Ok(Closing::Close);
        };
        let body: Value = serde_json::from_slice(&body)?;
        let reply = self.next_reply(&key);
        let index = self.record(&key, &body);
        if matches!(reply, Reply::Hold(_)) {
            self.open.subscribe().wait_for(|open| *open).await.ok();
        }
        if reply.books() {
            self.book(index, key, body);
        }
        answer(stream, reply).await
    }

    fn next_reply(&self, key: &str) -> Reply {
        let mut state = self.state();
        let attempts = state.attempts.entry(key.to_owned()).or_default();
        *attempts += 1;
        let attempt = *attempts;
        let scripted = state.scripts.get_mut(key).and_then(VecDeque::pop_front);
        match scripted.unwrap_or_else(|| state.default_reply.clone()) {
            Reply::Flaky(seed) => {
                let mut hasher = DefaultHasher::new();
                (seed, key, attempt).hash(&mut hasher);
                match hasher.finish() % 10 {
                    0 => Reply::Reset,
                    1 | 2 => Reply::Status(503),
                    _ => Reply::Status(200),
                }
            }
            reply => reply,
        }
    }

    fn record(&self, key: &str, body: &Value) -> usize {
        let mut state = self.state();
        let booked = state.booked.contains_key(key);
        let at = chrono::Utc::now().into();
        state.calls.push(Received { key: key.to_owned(), body: body.clone(), at, booked });
        state.calls.len() - 1
    }

    fn book(&self, index: usize, key: String, body: Value) {
        let mut state = self.state();
        state.calls[index].booked = true;
        state.booked.entry(key).or_insert(body);
    }
}

impl Reply {
    fn books(&self) -> bool {
        match self {
            Self::Silence | Self::Reset => true,
            Self::Flaky(_) => false,
            Self::Status(status)
            | Self::Hold(status)
            | Self::With(status, _)
            | Self::Long(status)
            | Self::Endless(status)
            | Self::Trickle(status) => (200..300).contains(status),
        }
    }
}

/// The idempotency key, if the call is correctly signed and all its headers name the same reward or reversal.
fn key(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    Webhook::new(SECRET).unwrap().verify(body, headers).ok()?;
    let body = serde_json::from_slice::<Value>(body).ok()?;
    let id = body["reversal_id"].as_str().or(body["reward_id"].as_str())?.to_owned();
    ["idempotency-key", "webhook-id"].iter().all(|name| headers.get(*name).is_some_and(|key| *key == id)).then_some(id)
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), reply: Reply) -> io::Result<Closing> {
    static CHUNK: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    match reply {
        Reply::Silence => {
            // Until the caller closes the connection.
            while stream.read(&mut [0]).await? > 0 {}
        }
        Reply::Reset => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
            return Ok(Closing::Reset);
        }
        // `next_reply` has replaced this reply with a definite one.
        Reply::Flaky(_) => {}
        Reply::Status(status) | Reply::Hold(status) => stream.write_all(head(status, "").as_bytes()).await?,
        Reply::With(status, line) => stream.write_all(head(status, &line).as_bytes()).await?,
        Reply::Long(status) => {
            stream.write_all(head(status, "content-length: 10485760").as_bytes()).await?;
            for _ in 0..160 {
                stream.write_all(&CHUNK).await?;
            }
        }
        Reply::Endless(status) => {
            stream.write_all(head(status, "").as_bytes()).await?;
            loop {
                stream.write_all(&CHUNK).await?;
            }
        }
        Reply::Trickle(status) => {
            stream.write_all(head(status, "").as_bytes()).await?;
            loop {
                stream.write_all(b"x").await?;
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    stream.shutdown().await?;
    Ok(Closing::Close)
}
