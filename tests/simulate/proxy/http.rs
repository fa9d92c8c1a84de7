//! The part of HTTP/1.1 that the proxy needs: complete messages with a length, one at a time. The proxy must be able to
//! break them.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::io::{self, AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// A request or response as received.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// The first line and the headers, each with its line ending, and the empty line.
    head: String,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Reads the next message; `None` when the other side closed the connection, even within a message.
    pub(super) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut message = Self::default();
        while !message.head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut message.head).await? == 0 {
                return Ok(None);
            }
        }
        message.body = vec![0; message.header("content-length").parse().unwrap_or_default()];
        match stream.read_exact(&mut message.body).await {
            Ok(_) => Ok(Some(message)),
            Err(problem) if problem.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// The first line.
    pub(super) fn first_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// A header's value, or an empty string.
    pub(super) fn header(&self, name: &str) -> &str {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut named = headers.filter(|(header, _)| header.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// The message with another body.
    pub(super) fn with_body(&self, body: Vec<u8>) -> Self {
        let is_kept = |line: &&str| !line.to_ascii_lowercase().starts_with("content-length:");
        let lines: String = self.head.trim_end().split_inclusive("\r\n").filter(is_kept).collect();
        Self { head: format!("{}\r\ncontent-length: {}\r\n\r\n", lines.trim_end(), body.len()), body }
    }

    /// The message in wire format.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }
}

/// A response of the models in wire format.
pub(super) fn bytes(answer: &HttpResponse) -> Vec<u8> {
    let body = answer.body().bytes().unwrap_or_default();
    let headers: String = answer.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (status, length) = (answer.status().as_u16(), body.len());
    let head = format!("HTTP/1.1 {status} by the simulator\r\n{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
