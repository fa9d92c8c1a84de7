//! Processes that a test starts, calls over HTTP, signals, and kills when dropped.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

/// The time limit of anything that a test waits for, including delivery after a kill.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The `local` command.
pub(crate) fn command() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_local")))
}

/// A command with piped input and output and without environment variables that would change its behaviour.
pub(crate) fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars() {
        if ["PORT", "LOG_LEVEL", "CACHE_URL"].contains(&name.as_str()) || name.ends_with("_ENDPOINT") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the process to exit, within the time limit.
pub(crate) fn end(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < until, "the process does not exit");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A running command; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) url: String,
    output: mpsc::Receiver<String>,
    http: reqwest::Client,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Running {
    /// Starts the local service on this data and waits until it is ready.
    pub(crate) fn start(data: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.args(["--port", "0", "--dynamodb-port", "0", "--data"]).arg(data).envs(settings.iter().copied());
        let (running, before) = Self::spawn(command);
        assert!(before.is_empty(), "the first line must be `ready`: {before:#?}");
        running
    }

    /// Starts a command that prints `ready` and its URL. Also returns the lines before that.
    pub(crate) fn spawn(mut command: Command) -> (Self, Vec<String>) {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (lines, output) = mpsc::channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(LIMIT).build();
        let mut running = Self { child, url: String::new(), output, http: http.unwrap() };
        let mut before = Vec::new();
        while running.url.is_empty() {
            let line = running.line();
            match line.strip_prefix("ready ") {
                Some(url) => running.url = url.to_owned(),
                None => before.push(line),
            }
        }
        assert!(running.url.starts_with("http://127.0.0.1:"), "{}", running.url);
        (running, before)
    }

    /// The next line of output.
    pub(crate) fn line(&self) -> String {
        self.output.recv_timeout(LIMIT).unwrap()
    }

    /// Whether the command has printed this line since the last call.
    pub(crate) fn has_said(&self, line: &str) -> bool {
        self.output.try_iter().any(|said| said == line)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        header: Option<(&str, &str)>,
        body: Value,
    ) -> (u16, Value, String) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body.to_string());
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let cookie = response.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
        let body = response.bytes().await.unwrap();
        let cookie = cookie.as_deref().and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null), cookie)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body, _) = self.send(Method::GET, path, None, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn order(&self, user: &str, order: &str) {
        let detail = json!({"order_id": order, "user_id": user, "amount": 4200, "currency": "USD"});
        self.publish("order.completed", detail).await;
    }

    pub(crate) async fn publish(&self, detail_type: &str, detail: Value) {
        let entry = json!({
            "EventBusName": "referrals", "Source": "shop", "DetailType": detail_type, "Detail": detail.to_string(),
        });
        let target = Some(("x-amz-target", "AWSEvents.PutEvents"));
        let (status, body, _) = self.send(Method::POST, "/", target, json!({"Entries": [entry]})).await;
        assert_eq!((status, &body["FailedEntryCount"]), (200, &json!(0)), "{body}");
    }

    pub(crate) async fn statuses(&self, referee: &str) -> Value {
        let referral = self.get(&format!("/v1/referrals/{referee}")).await;
        json!([referral["status"], referral["rewards"][0]["status"], referral["rewards"][1]["status"]])
    }

    pub(crate) async fn deliveries(&self) -> Vec<Value> {
        self.get("/_local/deliveries").await.as_array().unwrap().clone()
    }

    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds().await {
            assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Attributes bob with alice's code, and returns the cookie of another visitor of her link.
    pub(crate) async fn attribute_bob(&self) -> String {
        let (status, ..) = self.send(Method::PUT, "/v1/users/alice/code", None, json!({"code": "alice"})).await;
        assert_eq!(status, 201);
        let body = json!({"referee_id": "bob", "code": "alice"});
        assert_eq!(self.send(Method::POST, "/v1/referrals", None, body).await.0, 201);
        let (status, _, cookie) = self.send(Method::GET, "/r/alice", None, Value::Null).await;
        assert_eq!((status, cookie.starts_with("referral=")), (302, true));
        cookie
    }
}
