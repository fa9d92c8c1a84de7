//! A stand-in of a test's own: a subsystem on a bare socket, which books each key once and is as rude as it was told.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
};

use referrals::time::Timestamp;
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

/// What a service must be told to sign with, for a stand-in to believe it.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a stand-in does with one call. What answers 2xx, or would have, has booked the reward.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// Answers this status.
    Status(u16),
    /// The same, with one more line in the head of the answer.
    With(u16, String),
    /// Books, and says nothing for as long as the caller waits.
    Silence,
    /// Books, and resets the connection before the answer is whole.
    Reset,
    /// Waits until it is let go, then answers this status.
    Hold(u16),
    /// Answers this status with a body of ten megabytes.
    Long(u16),
    /// Answers this status with a body that never ends, as fast as it is taken.
    Endless(u16),
    /// The same, a byte now and then.
    Trickle(u16),
    /// Fails three calls of ten, of these one after it has booked. Chance, but the same for a seed, a key and the number
    /// of its call, in whatever order the calls come.
    Moody(u64),
}

/// A call as it came, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) key: String,
    pub(crate) body: Value,
    pub(crate) at: Timestamp,
    /// Whether the subsystem has the reward since, or had it before.
    pub(crate) booked: bool,
}

#[derive(Debug)]
struct State {
    /// By key, what to do with its next calls.
    scripts: HashMap<String, VecDeque<Reply>>,
    /// What to do with every other call.
    usual: Reply,
    calls: Vec<Received>,
    /// By key, how often it was called.
    attempts: HashMap<String, u32>,
    /// By key, what was booked.
    booked: BTreeMap<String, Value>,
    /// Callers that went away before there was a call, as one does who does not like a certificate.
    turned_away: usize,
}

/// A handle on a stand-in; clones share it. It listens for as long as its test runs.
#[derive(Clone, Debug)]
pub(crate) struct StandIn {
    url: String,
    state: Arc<Mutex<State>>,
    /// Whether those who are held may go.
    open: watch::Sender<bool>,
}

/// How a connection ends.
#[derive(PartialEq, Eq)]
enum Parting {
    Close,
    Reset,
}

impl StandIn {
    /// Over plain HTTP.
    pub(crate) async fn start() -> Self {
        Self::listen("http", None).await
    }

    /// Over TLS.
    pub(crate) async fn with_tls(config: ServerConfig) -> Self {
        Self::listen("https", Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(scheme: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            scripts: HashMap::new(),
            usual: Reply::Status(200),
            calls: Vec::new(),
            attempts: HashMap::new(),
            booked: BTreeMap::new(),
            turned_away: 0,
        };
        let this = Self {
            url: format!("{scheme}://{}", listener.local_addr().unwrap()),
            state: Arc::new(Mutex::new(state)),
            open: watch::Sender::new(true),
        };
        tokio::spawn(this.clone().accept(listener, tls));
        this
    }

    /// Its endpoint.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Tells what to do with the next calls of one key.
    pub(crate) fn script(&self, key: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state().scripts.entry(key.to_owned()).or_default().extend(replies);
    }

    /// Tells what to do with every call that has no script. Who is held by [`Reply::Hold`] stays until [`Self::let_go`].
    pub(crate) fn usually(&self, reply: Reply) {
        if matches!(reply, Reply::Hold(_)) {
            self.open.send_replace(false);
        }
        self.state().usual = reply;
    }

    /// Lets go of everybody who is held, and holds nobody any more.
    pub(crate) fn let_go(&self) {
        self.usually(Reply::Status(200));
        self.open.send_replace(true);
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Received> {
        self.state().calls.clone()
    }

    /// The calls so far under one key.
    pub(crate) fn calls_of(&self, key: &str) -> Vec<Received> {
        self.state().calls.iter().filter(|call| call.key == key).cloned().collect()
    }

    /// What was booked, by key.
    pub(crate) fn booked(&self) -> BTreeMap<String, Value> {
        self.state().booked.clone()
    }

    /// How many keys were booked.
    pub(crate) fn booked_count(&self) -> usize {
        self.state().booked.len()
    }

    /// How many callers went away before there was a call.
    pub(crate) fn turned_away(&self) -> usize {
        self.state().turned_away
    }

    /// Its calls as the service lists those to its own stand-ins.
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
            tokio::spawn(async move { this.meet(stream, tls).await });
        }
    }

    async fn meet(&self, mut stream: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else {
            if self.converse(&mut stream).await.is_ok_and(|parting| parting == Parting::Reset) {
                stream.set_zero_linger().unwrap();
            }
            return;
        };
        match tls.accept(stream).await {
            // Whoever hangs up while it is talked to has its reasons.
            Ok(mut stream) => drop(self.converse(&mut stream).await),
            Err(_) => self.state().turned_away += 1,
        }
    }

    /// One call to a connection. Errors are the caller's: it went away.
    async fn converse(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Parting> {
        let Some((headers, body)) = request(stream).await? else {
            self.state().turned_away += 1;
            return Ok(Parting::Close);
        };
        let Some(key) = key(&headers, &body) else {
            stream.write_all(head(401, "").as_bytes()).await?;
            return Ok(Parting::Close);
        };
        let body: Value = serde_json::from_slice(&body)?;
        let reply = self.next_reply(&key);
        let place = self.note(&key, &body);
        if matches!(reply, Reply::Hold(_)) {
            self.open.subscribe().wait_for(|open| *open).await.ok();
        }
        if reply.books() {
            self.book(place, key, body);
        }
        answer(stream, reply).await
    }

    fn next_reply(&self, key: &str) -> Reply {
        let mut state = self.state();
        let attempts = state.attempts.entry(key.to_owned()).or_default();
        *attempts += 1;
        let attempt = *attempts;
        let scripted = state.scripts.get_mut(key).and_then(VecDeque::pop_front);
        match scripted.unwrap_or_else(|| state.usual.clone()) {
            Reply::Moody(seed) => {
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

    fn note(&self, key: &str, body: &Value) -> usize {
        let mut state = self.state();
        let booked = state.booked.contains_key(key);
        let at = chrono::Utc::now().into();
        state.calls.push(Received { key: key.to_owned(), body: body.clone(), at, booked });
        state.calls.len() - 1
    }

    fn book(&self, place: usize, key: String, body: Value) {
        let mut state = self.state();
        state.calls[place].booked = true;
        state.booked.entry(key).or_insert(body);
    }
}

impl Reply {
    fn books(&self) -> bool {
        match self {
            Self::Silence | Self::Reset => true,
            Self::Moody(_) => false,
            Self::Status(status)
            | Self::Hold(status)
            | Self::With(status, _)
            | Self::Long(status)
            | Self::Endless(status)
            | Self::Trickle(status) => (200..300).contains(status),
        }
    }
}

/// The key of a call that is signed, and says the same wherever it names its reward.
fn key(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    Webhook::new(SECRET).unwrap().verify(body, headers).ok()?;
    let id = serde_json::from_slice::<Value>(body).ok()?["reward_id"].as_str()?.to_owned();
    ["idempotency-key", "webhook-id"].iter().all(|name| headers.get(*name).is_some_and(|key| *key == id)).then_some(id)
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), reply: Reply) -> io::Result<Parting> {
    static CHUNK: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    match reply {
        Reply::Silence => {
            // Until the caller hangs up.
            while stream.read(&mut [0]).await? > 0 {}
        }
        Reply::Reset => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
            return Ok(Parting::Reset);
        }
        // Its mood was read before it answers.
        Reply::Moody(_) => {}
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
    Ok(Parting::Close)
}
