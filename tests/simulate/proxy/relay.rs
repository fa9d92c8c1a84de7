//! The proxy: takes the functions' calls from real sockets to the embedded DynamoDB, or to the models of all the rest,
//! and breaks them as a network and a server would.

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
    table::Line,
};
use crate::{
    faults::Kind,
    history::INVOCATION,
    wires::{self, Shared},
};

/// What comes back over the wire.
enum Reply {
    Answer(Vec<u8>),
    /// The connection is closed.
    Closed,
    /// The connection is reset.
    Reset,
    /// The connection is closed in the midst of the answer.
    Cut(Vec<u8>),
}

/// What the proxy's connections share.
#[derive(Clone, Default)]
pub(super) struct Relay {
    pub(super) shared: Shared,
    /// The line to the table of the history that is under way.
    pub(super) line: Arc<Mutex<Option<Line>>>,
}

impl Relay {
    /// Takes whoever calls.
    pub(super) async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let relay = self.clone();
            tokio::spawn(async move { relay.converse(stream).await });
        }
    }

    /// Answers one connection's calls. Each is carried to its end, whether or not its caller is still there.
    async fn converse(&self, stream: TcpStream) {
        // Small answers; a network that gathers them would only be slow.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let mut stream = BufReader::new(stream);
        while let Ok(Some(request)) = Message::read(&mut stream).await {
            if !self.shared.is_under_way() {
                return;
            }
            let _on_its_way = self.shared.on_its_way();
            let reply = match caller(&self.shared, &request) {
                Some(invocation) => INVOCATION.scope(invocation, self.carry(&request)).await,
                None => self.carry(&request).await,
            };
            if !send(stream.get_mut(), reply).await {
                return;
            }
        }
    }

    async fn carry(&self, request: &Message) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let (key, line) = (request.header("idempotency-key").to_owned(), request.first_line());
        let Some((service, operation)) = request.header("x-amz-target").split_once('.') else {
            return reply(wires::give(&self.shared, &body, key, line).await);
        };
        self.shared.pause().await;
        let back = match service {
            "AWSEvents" => reply(wires::bus(&self.shared, &body).await),
            "AmazonSQS" => reply(Ok(wires::queue(&self.shared, operation, &body))),
            _ => self.ask(operation, request).await,
        };
        self.shared.pause().await;
        back
    }

    /// Asks the table.
    async fn ask(&self, operation: &str, request: &Message) -> Reply {
        let shared = &self.shared;
        match wires::broken(shared, operation) {
            Some(Ok(answer)) => return Reply::Answer(http::bytes(&answer)),
            Some(Err(_lost)) => return Reply::Closed,
            None => {}
        }
        let (before, after) = wires::slowness(shared).unwrap_or_default();
        sleep(before).await;
        let mut line = self.line.lock().await;
        let Some(answer) = line.as_mut() else { return Reply::Closed };
        let answer = answer.ask(shared, operation, request).await;
        drop(line);
        sleep(after).await;
        match answer {
            Ok(answer) if wires::is_write(operation) && shared.strikes(Kind::AnswerLost) => {
                if shared.with(|state| state.rng.bool()) { Reply::Reset } else { Reply::Cut(answer) }
            }
            Ok(answer) => Reply::Answer(answer),
            Err(problem) => {
                shared.with(|state| state.oracle.fail(format!("the table cannot be asked: {problem}")));
                Reply::Closed
            }
        }
    }
}

fn reply(back: Result<HttpResponse, ConnectorError>) -> Reply {
    back.map_or(Reply::Reset, |answer| Reply::Answer(http::bytes(&answer)))
}

/// Whether the connection goes on.
async fn send(stream: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Answer(bytes) => stream.write_all(&bytes).await.is_ok(),
        Reply::Closed => false,
        Reply::Reset => {
            // The system then resets what it would otherwise close.
            _ = stream.set_zero_linger();
            false
        }
        Reply::Cut(bytes) => {
            _ = stream.write_all(&bytes[..bytes.len() / 2]).await;
            false
        }
    }
}
