//! Raw events of API Gateway, sent to the functions' processes: no value that a visitor can choose, and no unused part of an event,
//! prevents an answer. The local gateway cannot send such events, because it replaces the forwarded headers.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::world::{
    World,
    function::{Binary, Process},
};

/// Headers that a visitor, a proxy or the gateway sets.
const HEADERS: [&str; 22] = [
    "host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-host",
    "x-forwarded-for",
    "forwarded",
    "via",
    "cookie",
    "content-type",
    "content-length",
    "content-encoding",
    "accept",
    "accept-language",
    "authorization",
    "origin",
    "referer",
    "user-agent",
    "x-amzn-trace-id",
    "x-lambda-http-content-encoding",
    "x-http-method-override",
    "transfer-encoding",
    "x",
];

/// Texts that are not a host, a scheme, a number, a URL or a header value.
const TEXTS: [&str; 30] = [
    "",
    " ",
    "a b",
    "https,http",
    "https, http",
    "gopher",
    "file",
    "javascript",
    "ht tp",
    "1http",
    "://",
    "//",
    "/",
    "?",
    "#",
    "a#b",
    "a?b",
    "[::1",
    "a:99999",
    "user:pass@host/../?#",
    "%",
    "%zz",
    "%00",
    "`{|}^\"<>\\",
    "ä\u{202e}日本",
    "\u{1}",
    "\u{7f}",
    "a\r\nb: c",
    "\0",
    "\u{ffff}",
];

fn event(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events").join(format!("{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// An event with another value at each of these places.
fn changed(event: &Value, changes: &[(&str, Value)]) -> Value {
    let mut event = event.clone();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        event.pointer_mut(parent).unwrap()[name] = value.clone();
    }
    event
}

/// Sends the event, and asserts that the answer is not a failure.
async fn status(process: &mut Process, event: &Value, what: &str) -> u64 {
    let answer = process.ask(event).await.unwrap_or_else(|problem| panic!("{what:.300}: {problem}"));
    let status = answer["statusCode"].as_u64().unwrap_or_else(|| panic!("{what:.300}: {answer}"));
    assert!(status < 500, "{what:.300}: {answer}");
    status
}

/// A world with a live code and a function that answers this event with `expected`.
async fn started(binary: Binary, event: &Value, expected: u64) -> (World, Process) {
    let world = World::start().await;
    world.mint("alice", "ALICE-2026").await;
    let mut process = Process::start(binary, world.service()).await;
    assert_eq!(status(&mut process, event, "unchanged").await, expected);
    (world, process)
}

/// A function that both APIs have, an event for it, and the status of its answer.
fn functions() -> [(Binary, Value, u64); 2] {
    [(Binary::Attribution, event("attribution-land"), 302), (Binary::Admin, event("admin-undelivered"), 200)]
}

#[tokio::test]
async fn no_header_of_a_visitor_prevents_an_answer() {
    for (binary, event, expected) in functions() {
        let (world, mut process) = started(binary, &event, expected).await;
        let long = "x".repeat(9 * 1024);
        for header in HEADERS {
            for text in TEXTS.into_iter().chain([long.as_str()]) {
                let event = changed(&event, &[(&format!("/headers/{header}"), json!(text))]);
                let what = format!("{binary:?} {header}: {text:?}");
                assert_eq!(status(&mut process, &event, &what).await, expected, "{what}");
            }
        }
        for name in ["", " ", "a b", "ä", "\u{1}", "a:b", "a\r\nb", "\0", &long] {
            let mut event = event.clone();
            event["headers"][name] = json!("x");
            assert_eq!(status(&mut process, &event, name).await, expected, "{binary:?} {name:?}");
        }
        let many: Vec<_> = (0..40_000).map(|number| (format!("x-{number}"), "x")).collect();
        let event = changed(&event, &[("/headers", many.into_iter().collect())]);
        assert_eq!(status(&mut process, &event, "many headers").await, expected, "{binary:?}");
        world.end().await;
    }
}

#[tokio::test]
async fn several_headers_together_do_not_prevent_an_answer() {
    for (binary, event, expected) in functions() {
        let (world, mut process) = started(binary, &event, expected).await;
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let mut event = event.clone();
            for _ in 0..random.usize(1..8) {
                let text = TEXTS[random.usize(..TEXTS.len())];
                event["headers"][HEADERS[random.usize(..HEADERS.len())]] = json!(text);
            }
            assert_eq!(status(&mut process, &event, &event.to_string()).await, expected, "{event}");
        }
        world.end().await;
    }
}

/// The functions read none of these parts.
#[tokio::test]
async fn an_unused_part_of_an_event_can_be_anything() {
    let parts = [
        "/version",
        "/routeKey",
        "/pathParameters",
        "/queryStringParameters",
        "/stageVariables",
        "/unknown",
        "/requestContext/accountId",
        "/requestContext/apiId",
        "/requestContext/authentication",
        "/requestContext/domainName",
        "/requestContext/domainPrefix",
        "/requestContext/requestId",
        "/requestContext/routeKey",
        "/requestContext/stage",
        "/requestContext/time",
        "/requestContext/timeEpoch",
        "/requestContext/unknown",
        "/requestContext/http/path",
        "/requestContext/http/protocol",
        "/requestContext/http/sourceIp",
        "/requestContext/http/userAgent",
    ];
    let values = TEXTS.into_iter().map(Value::from);
    let values: Vec<_> = values.chain([json!(null), json!(1.5), json!({}), json!({"a": "b"}), json!(["a"])]).collect();
    for (binary, event, expected) in functions() {
        let (world, mut process) = started(binary, &event, expected).await;
        for part in parts {
            for value in &values {
                let what = format!("{binary:?} {part}: {value}");
                let event = changed(&event, &[(part, value.clone())]);
                assert_eq!(status(&mut process, &event, &what).await, expected, "{what}");
            }
            // Without the headers, a URL would be built from the request context.
            let event = changed(&event, &[("/headers", json!({})), (part, json!("a b"))]);
            assert_eq!(status(&mut process, &event, part).await, expected, "{part}");
        }
        world.end().await;
    }
}

/// Path, query, method, cookies and body are read; an invalid one is refused, and the others have no effect on each other.
#[tokio::test]
async fn an_invalid_part_of_a_request_is_refused() {
    for (binary, event, expected) in functions() {
        let (world, mut process) = started(binary, &event, expected).await;
        for text in TEXTS {
            for part in ["/rawPath", "/requestContext/http/method", "/body"] {
                status(&mut process, &changed(&event, &[(part, json!(text))]), &format!("{part} {text:?}")).await;
            }
            let path = format!("/{text}");
            status(&mut process, &changed(&event, &[("/rawPath", json!(path))]), &path).await;
            let cookies = json!([text, format!("a={text}"), format!("referral={text}")]);
            for change in [("/rawQueryString", json!(text)), ("/cookies", cookies)] {
                let what = format!("{binary:?} {change:?}");
                assert_eq!(status(&mut process, &changed(&event, &[change]), &what).await, expected, "{what}");
            }
            let encoded = [("/body", json!(text)), ("/isBase64Encoded", json!(true))];
            status(&mut process, &changed(&event, &encoded), &format!("body {text:?}")).await;
        }
        for authorizer in [json!(null), json!({}), json!({"jwt": {"claims": {"aud": ["a"], "exp": 1}, "scopes": null}})]
        {
            let event = changed(&event, &[("/requestContext/authorizer", authorizer)]);
            assert_eq!(status(&mut process, &event, "authorizer").await, expected, "{event}");
        }
        for event in [json!({}), json!({"requestContext": {}}), json!({"requestContext": {"http": {}}})] {
            assert!(status(&mut process, &event, "empty").await >= 400, "{event}");
        }
        world.end().await;
    }
}

/// The cookie of a visit counts, whatever other cookies the browser sends.
#[tokio::test]
async fn other_cookies_do_not_hide_the_cookie_of_a_visit() {
    let land = event("attribution-land");
    let (world, mut process) = started(Binary::Attribution, &land, 302).await;
    let answer = process.ask(&land).await.unwrap();
    let cookie = answer["cookies"][0].as_str().unwrap().split(';').next().unwrap();
    let attribute = event("attribution-attribute-by-cookie");
    for (number, other) in TEXTS.into_iter().enumerate() {
        let referee = format!("referee-{number}");
        let body = json!({ "referee_id": referee }).to_string();
        let cookies = json!([format!("a={other}"), cookie, other]);
        let event = changed(&attribute, &[("/cookies", cookies), ("/body", json!(body))]);
        assert_eq!(status(&mut process, &event, other).await, 201, "{other:?}");
    }
    world.until_idle().await;
    world.end().await;
}
