//! The Lambda Runtime API for one process: it hands out one invocation at a time, and records when the next one is requested.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::{
    error::Error,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Response, StatusCode, Uri},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// Why a process cannot be invoked, or what it reported instead of an answer.
pub type Trouble = Box<dyn Error + Send + Sync>;

/// The timeout. Under valgrind everything takes fifty times as long, and longer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The state of a process that waits for its next invocation.
pub struct Idle {
    /// When it requested the invocation.
    pub since: Instant,
    event: oneshot::Sender<Invocation>,
}

/// An event and its time limit.
struct Invocation {
    event: String,
    limit: Duration,
}

/// The answer of the process.
pub struct Answer {
    /// When it arrived.
    pub at: Instant,
    pub body: Bytes,
}

/// The side of the API that the process talks to.
#[derive(Clone)]
struct Front {
    idle: mpsc::UnboundedSender<Idle>,
    answers: mpsc::UnboundedSender<Result<Answer, String>>,
}

/// The API of one process.
pub struct RuntimeApi {
    /// Host and port, as Lambda sets them in `AWS_LAMBDA_RUNTIME_API`.
    pub address: String,
    idle: mpsc::UnboundedReceiver<Idle>,
    answers: mpsc::UnboundedReceiver<Result<Answer, String>>,
    server: JoinHandle<()>,
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl RuntimeApi {
    /// Serves the API at a free port.
    ///
    /// # Errors
    /// Returns an error when there is no port.
    pub async fn start() -> Result<Self, Trouble> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let ((idle_front, idle), (answers_front, answers)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let front = Front { idle: idle_front, answers: answers_front };
        let app = Router::new().fallback(answer).with_state(front);
        let server = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self { address, idle, answers, server })
    }

    /// Waits until the process requests its next invocation.
    ///
    /// # Errors
    /// Returns an error when it does not do so within [`PATIENCE`], or reports an error.
    pub async fn idle(&mut self) -> Result<Idle, Trouble> {
        tokio::select! {
            idle = timeout(PATIENCE, self.idle.recv()) => Ok(idle?.ok_or("the Runtime API ended")?),
            Some(Err(problem)) = self.answers.recv() => Err(problem.into()),
        }
    }

    /// Sends this event to the waiting process, and returns its answer.
    ///
    /// # Errors
    /// Returns an error when the process does not answer within [`PATIENCE`], or reports an error.
    pub async fn invoke(&mut self, idle: Idle, event: String, limit: Duration) -> Result<Answer, Trouble> {
        idle.event.send(Invocation { event, limit }).map_err(|_| "the process hung up")?;
        Ok(timeout(PATIENCE, self.answers.recv()).await?.ok_or("the Runtime API ended")??)
    }
}

/// The variables that Lambda sets for a process with the Runtime API at this address.
pub fn variables(api: &str) -> [(&'static str, &str); 8] {
    [
        ("AWS_LAMBDA_RUNTIME_API", api),
        ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "measured"),
        ("AWS_SECRET_ACCESS_KEY", "measured"),
    ]
}

async fn answer(State(front): State<Front>, uri: Uri, body: Bytes) -> Response<Body> {
    let at = Instant::now();
    match uri.path().rsplit('/').next() {
        Some("next") => {
            let (event, invocation) = oneshot::channel();
            let _not_measured = front.idle.send(Idle { since: at, event });
            invocation.await.map_or_else(|_| plain(StatusCode::GONE), next)
        }
        Some("response") => {
            let _not_measured = front.answers.send(Ok(Answer { at, body }));
            plain(StatusCode::ACCEPTED)
        }
        _ => {
            let _not_measured = front.answers.send(Err(String::from_utf8_lossy(&body).into_owned()));
            plain(StatusCode::ACCEPTED)
        }
    }
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn next(Invocation { event, limit }: Invocation) -> Response<Body> {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + limit;
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:measured")
        .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0")
        .body(Body::from(event));
    response.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR))
}
