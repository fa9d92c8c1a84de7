//! The part of HTTP/1.1 that a stand-in needs. It is written by hand because a stand-in must be able to send broken
//! responses.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{self, AsyncRead, AsyncReadExt};

/// Reads a request; `None` if the caller disconnected before it was complete.
pub(super) async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(HeaderMap, Vec<u8>)>> {
    const BREAK: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(BREAK.len()).position(|window| window == BREAK) {
            let headers = headers(&String::from_utf8_lossy(&bytes[..end]));
            let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
            let body = &bytes[end + BREAK.len()..];
            if body.len() >= length {
                return Ok(Some((headers, body[..length].to_vec())));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

fn headers(head: &str) -> HeaderMap {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let header = |(name, value): (&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap())
    };
    lines.map(header).collect()
}

/// The head of a response whose body ends with the connection, so that it can have any length.
pub(super) fn head(status: u16, line: &str) -> String {
    let line = if line.is_empty() { String::new() } else { format!("{line}\r\n") };
    format!("HTTP/1.1 {status} by the test\r\ncontent-type: text/plain\r\n{line}connection: close\r\n\r\n")
}
