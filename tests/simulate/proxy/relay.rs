//! The proxy: forwards the functions' calls from real sockets to the embedded DynamoDB or to the models, and breaks
//! them as a network or a server would.

use std::sync::Arc;

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::ConnectorError};
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::sleep,
};

use super::{
    caller::caller,
    http::{self, Message},
    table::TableConnection,
};
use crate::{
    faults::Kind,
    history::INVOCATION,
    transport::{self, Shared},
};

/// How a call is answered.
enum Reply {
    Answer(Vec<u8>),
    /// The connection is closed.
    Closed,
    /// The connection is reset.
    Reset,
    /// The connection is closed in the middle of the response.
    Cut(Vec<u8>),
}

/// State that the proxy's connections share.
#[derive(Clone, Default)]
pub(super) struct Proxy {
    pub(super) shared: Shared,
    /// The connection to the table of the running history.
    pub(super) line: Arc<Mutex<Option<TableConnection>>>,
}

impl Proxy {
    /// Accepts connections.
    pub(super) async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let relay = self.clone();
            tokio::spawn(async move { relay.serve_connection(stream).await });
        }
    }

    /// Serves the calls of one connection. Each runs to its end, even if the caller has gone.
    async fn serve_connection(&self, stream: TcpStream) {
        // Responses are small; delaying them to fill packets would only slow them down.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let mut stream = BufReader::new(stream);
        while let Ok(Some(request)) = Message::read(&mut stream).await {
            if !self.shared.is_running() {
                return;
            }
            let _in_flight = self.shared.in_flight();
            let reply = match caller(&self.shared, &request) {
                Some(invocation) => INVOCATION.scope(invocation, self.forward(&request)).await,
                None => self.forward(&request).await,
            };
            if !send(stream.get_mut(), reply).await {
                return;
            }
        }
    }

    async fn forward(&self, request: &Message) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let (key, line) = (request.header("idempotency-key").to_owned(), request.first_line());
        let Some((service, operation)) = request.header("x-amz-target").split_once('.') else {
            return reply(transport::call_subsystem(&self.shared, &body, key, line).await);
        };
        self.shared.pause().await;
        let back = match service {
            "AWSEvents" => reply(transport::bus(&self.shared, &body).await),
            "AmazonSQS" => reply(Ok(transport::queue(&self.shared, operation, &body))),
            _ => self.call(operation, request).await,
        };
        self.shared.pause().await;
        back
    }

    /// Calls the table.
    async fn call(&self, operation: &str, request: &Message) -> Reply {
        let shared = &self.shared;
        match transport::injected_failure(shared, operation) {
            Some(Ok(answer)) => return Reply::Answer(http::bytes(&answer)),
            Some(Err(_lost)) => return Reply::Closed,
            None => {}
        }
        let (before, after) = transport::slow_call_delays(shared).unwrap_or_default();
        sleep(before).await;
        let mut line = self.line.lock().await;
        let Some(answer) = line.as_mut() else { return Reply::Closed };
        let answer = answer.call(shared, operation, request).await;
        drop(line);
        sleep(after).await;
        match answer {
            Ok(answer) if transport::is_write(operation) && shared.strikes(Kind::AnswerLost) => {
                if shared.with(|state| state.rng.bool()) { Reply::Reset } else { Reply::Cut(answer) }
            }
            Ok(answer) => Reply::Answer(answer),
            Err(problem) => {
                shared.with(|state| state.oracle.fail(format!("the table cannot be called: {problem}")));
                Reply::Closed
            }
        }
    }
}

fn reply(back: Result<HttpResponse, ConnectorError>) -> Reply {
    back.map_or(Reply::Reset, |answer| Reply::Answer(http::bytes(&answer)))
}

/// Sends a reply. Returns whether the connection stays open.
async fn send(stream: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Answer(bytes) => stream.write_all(&bytes).await.is_ok(),
        Reply::Closed => false,
        Reply::Reset => {
            // The operating system then resets the connection instead of closing it.
            _ = stream.set_zero_linger();
            false
        }
        Reply::Cut(bytes) => {
            _ = stream.write_all(&bytes[..bytes.len() / 2]).await;
            false
        }
    }
}
