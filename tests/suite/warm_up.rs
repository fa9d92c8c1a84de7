//! The warm-up at the start of a function: a request without cost opens the connection that the first call uses.

use std::sync::{Arc, Mutex};

use referrals::{
    aws::{self, tls, warm_up},
    runtime::Env,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::world::{self, process::LIMIT};

/// A stand-in for an AWS endpoint. It keeps connections open and records the requests of each one.
#[derive(Clone, Default)]
struct Endpoint(Arc<Mutex<Vec<Vec<String>>>>);

impl Endpoint {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let this = self.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                this.0.lock().unwrap().push(Vec::new());
                tokio::spawn(this.clone().serve(stream, number));
            }
        });
        url
    }

    async fn serve(self, mut stream: TcpStream, number: usize) {
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
                continue;
            }
            bytes.clear();
            self.0.lock().unwrap()[number].push(head.to_lowercase());
            let answer = if head.starts_with("GET") { "healthy: dynamodb" } else { "{}" };
            let length = answer.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    fn requests(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }
}

/// Asserts that the request has no operation and no signature, so that DynamoDB does not count, refuse or log it.
fn assert_warm_up(request: &str) {
    assert!(request.starts_with("get / http/1.1\r\n"), "{request}");
    for header in ["x-amz-target", "authorization", "content-length"] {
        assert!(!request.contains(header), "{request}");
    }
}

#[tokio::test]
async fn the_first_call_uses_the_warm_connection() {
    let endpoint = Endpoint::default();
    let aws = world::aws(&endpoint.start().await, tls::aws(&Env::default()));
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
    warm_up::dynamodb(&dynamodb).await;
    dynamodb.get_item().table_name("referrals").send().await.unwrap();
    let [connection] = &endpoint.requests()[..] else { panic!("{:?}", endpoint.requests()) };
    let [request, call] = &connection[..] else { panic!("{connection:?}") };
    assert_warm_up(request);
    assert!(call.contains("x-amz-target: dynamodb_20120810.getitem"), "{call}");
}

#[tokio::test]
async fn the_bus_gets_one_warm_up_request() {
    let endpoint = Endpoint::default();
    let aws = world::aws(&endpoint.start().await, tls::aws(&Env::default()));
    warm_up::bus(&aws_sdk_eventbridge::Client::new(&aws)).await;
    let [connection] = &endpoint.requests()[..] else { panic!("{:?}", endpoint.requests()) };
    let [request] = &connection[..] else { panic!("{connection:?}") };
    assert_warm_up(request);
}

/// A closed port and a server that never answers delay the start by one attempt only.
#[tokio::test]
async fn an_unavailable_endpoint_does_not_block_the_start() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [address, silent.local_addr().unwrap()] {
        let aws = world::aws(&format!("http://{address}"), tls::aws(&Env::default()));
        let client = aws_sdk_dynamodb::Client::new(&aws.into_builder().timeout_config(aws::timeouts()).build());
        timeout(LIMIT, warm_up::dynamodb(&client)).await.unwrap();
    }
}
