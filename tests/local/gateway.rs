//! The HTTP front end: emulates API Gateway and routes the AWS protocol and the `/_local/` paths.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts, uri::Authority},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::{
    aws, clock,
    functions::{Failure, Function},
    problem::{json_answer, problem},
    service::Local,
    subsystems,
};

/// The largest request body; API Gateway has the same limit.
const MAX_BODY: usize = 10 * 1024 * 1024;
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest request line. API Gateway limits the line and headers together to 10 KB; only the line is checked here.
const MAX_TARGET: usize = 32 * 1024;

/// Answers every request.
pub(crate) async fn answer(
    State(local): State<Arc<Local>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if parts.uri.to_string().len() > MAX_TARGET {
        return problem(StatusCode::URI_TOO_LONG, "invalid_request", "The path and query are too long.");
    }
    let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return problem(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The limit is 10 MB."),
        Err(_) => return problem(StatusCode::REQUEST_TIMEOUT, "invalid_request", "The body was not received in time."),
    };
    if path.starts_with(subsystems::PREFIX) {
        return subsystems::respond(&local, &parts, &body).await;
    }
    match operation(&parts) {
        Some(target) => aws::answer(&local, target, &body),
        None => api(&local, &parts, client, &body).await,
    }
}

/// The operation named by the header `X-Amz-Target`, if this is a request of the AWS protocol: a POST to the root or
/// to a queue's URL.
fn operation(parts: &Parts) -> Option<&str> {
    let queue = parts.uri.path().strip_prefix('/')?.split('/').next() == Some(clock::ACCOUNT);
    let target = parts.headers.get("x-amz-target")?.to_str().ok()?;
    (parts.method == Method::POST && (parts.uri.path() == "/" || queue)).then_some(target)
}

/// Invokes the function of the product's or the operators' API (here both share an address) with the request as API
/// Gateway's event, and returns its answer.
async fn api(local: &Local, parts: &Parts, client: SocketAddr, body: &[u8]) -> Response<Body> {
    let event = event(local, parts, client, body);
    let is_admin = ["/admin", "/dashboard"].iter().any(|path| parts.uri.path().starts_with(path));
    let function = if is_admin { Function::Admin } else { Function::Attribution };
    match local.functions.invoke(function, event).await {
        Ok(answer) => response(&answer).unwrap_or_else(|| {
            tracing::error!(%answer, "the function's answer is not an HTTP response");
            gateway_error(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        }),
        Err(failure) => {
            tracing::error!(reason = %failure, "the function failed");
            match failure {
                Failure::Timeout(_) => gateway_error(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
                Failure::Error(_) | Failure::Panic => {
                    gateway_error(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
                }
            }
        }
    }
}

/// API Gateway's own answer when the function returns none.
fn gateway_error(status: StatusCode, message: &str) -> Response<Body> {
    json_answer(status, &json!({ "message": message }))
}

/// The request in the form that an HTTP API passes to a function (payload version 2.0).
fn event(local: &Local, parts: &Parts, client: SocketAddr, body: &[u8]) -> Value {
    let now = clock::now();
    let path = path(parts);
    let query = parts.uri.query().unwrap_or_default();
    let (body, encoded) = body_of(&parts.headers, body);
    let host = host(local, &parts.headers);
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers(&parts.headers, &host, client),
        "requestContext": {
            "accountId": clock::ACCOUNT,
            "apiId": "local",
            "domainName": host,
            "domainPrefix": "local",
            "http": {
                "method": parts.method.as_str(),
                "path": path,
                "protocol": format!("{:?}", parts.version),
                "sourceIp": client.ip().to_string(),
                "userAgent": text(&parts.headers, header::USER_AGENT),
            },
            "requestId": clock::id(),
            "routeKey": "$default",
            "stage": "$default",
            "time": clock::log_text(now),
            "timeEpoch": now,
        },
        "isBase64Encoded": encoded,
    });
    let optional = [
        ("body", body.map(Value::from)),
        ("cookies", cookies(&parts.headers)),
        ("queryStringParameters", parameters(query)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            event[name] = value;
        }
    }
    event
}

/// The path, percent-decoded once, as API Gateway does.
fn path(parts: &Parts) -> String {
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy();
    // `OPTIONS *` and `CONNECT host` have no path of this form.
    if path.starts_with('/') { path.into_owned() } else { format!("/{path}") }
}

/// The host that the client called. The function's library builds a URL from it, so an invalid host is replaced. API
/// Gateway accepts only its own host names.
fn host(local: &Local, headers: &HeaderMap) -> String {
    let given = text(headers, header::HOST);
    let usable =
        given.len() < 256 && given.parse::<Authority>().is_ok() && url::Url::parse(&format!("http://{given}/")).is_ok();
    if usable { given } else { local.url.trim_start_matches("http://").to_owned() }
}

/// The headers without cookies, with the gateway's forwarding headers.
fn headers(headers: &HeaderMap, host: &str, client: SocketAddr) -> Value {
    let mut gateway_error = subsystems::headers_of(headers);
    if let Value::Object(fields) = &mut gateway_error {
        let before = text(headers, HeaderName::from_static("x-forwarded-for"));
        let from = [before, client.ip().to_string()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        fields.remove("cookie");
        fields.insert("host".to_owned(), host.into());
        fields.insert("x-forwarded-for".to_owned(), from.join(", ").into());
        fields.insert("x-forwarded-proto".to_owned(), "http".into());
    }
    gateway_error
}

fn cookies(headers: &HeaderMap) -> Option<Value> {
    let lines =
        headers.get_all(header::COOKIE).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
    let cookies: Vec<_> = lines
        .flat_map(|line| line.split(';').map(|cookie| cookie.trim().to_owned()).collect::<Vec<_>>())
        .filter(|cookie| !cookie.is_empty())
        .collect();
    (!cookies.is_empty()).then(|| cookies.into())
}

/// The query's parameters, decoded; several values of one name are joined by commas.
fn parameters(query: &str) -> Option<Value> {
    let mut parameters = Map::<String, Value>::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let joined = match parameters.get(name.as_ref()).and_then(Value::as_str) {
            Some(before) => format!("{before},{value}"),
            None => value.into_owned(),
        };
        parameters.insert(name.into_owned(), joined.into());
    }
    (!parameters.is_empty()).then(|| parameters.into())
}

/// The body, and whether it is base64-encoded: the gateway keeps a body as text only if its content type says so.
fn body_of(headers: &HeaderMap, body: &[u8]) -> (Option<String>, bool) {
    let content_type = text(headers, header::CONTENT_TYPE).to_lowercase();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let textual = kind.is_empty()
        || kind.starts_with("text/")
        || ["application/json", "application/xml", "application/javascript"].contains(&kind)
        || kind.ends_with("+json")
        || kind.ends_with("+xml");
    match std::str::from_utf8(body) {
        Ok("") => (None, false),
        Ok(body) if textual => (Some(body.to_owned()), false),
        _ => (Some(STANDARD.encode(body)), true),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// The function's answer as an HTTP response; `None` if it is not one.
fn response(answer: &Value) -> Option<Response<Body>> {
    let status = u16::try_from(answer["statusCode"].as_u64()?).ok()?;
    let body = answer["body"].as_str().unwrap_or_default();
    let body = match answer["isBase64Encoded"].as_bool() {
        Some(true) => STANDARD.decode(body).ok()?,
        _ => body.as_bytes().to_vec(),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        add(response.headers_mut(), name, value)?;
    }
    for cookie in answer["cookies"].as_array().into_iter().flatten() {
        add(response.headers_mut(), "set-cookie", cookie)?;
    }
    add(response.headers_mut(), "apigw-requestid", &clock::id().into())?;
    Some(response)
}

fn add(headers: &mut HeaderMap, name: &str, value: &Value) -> Option<()> {
    let name = HeaderName::try_from(name).ok()?;
    headers.append(name, HeaderValue::from_str(value.as_str()?).ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[test]
    fn only_text_stays_text() {
        assert_eq!(body_of(&typed("application/json; charset=utf-8"), b"{}"), (Some("{}".to_owned()), false));
        assert_eq!(body_of(&HeaderMap::new(), b"{}"), (Some("{}".to_owned()), false));
        assert_eq!(body_of(&typed("application/x-www-form-urlencoded"), b"{}"), (Some("e30=".to_owned()), true));
        assert_eq!(body_of(&typed("application/json"), b"\xff"), (Some("/w==".to_owned()), true));
        assert_eq!(body_of(&typed("application/json"), b""), (None, false));
    }

    #[test]
    fn cookies_and_parameters_are_parsed() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; b=2;"));
        headers.append(header::COOKIE, HeaderValue::from_static("c=3"));
        assert_eq!(cookies(&headers), Some(json!(["a=1", "b=2", "c=3"])));
        assert_eq!(cookies(&HeaderMap::new()), None);
        assert_eq!(parameters("a=1&a=2&b=%20"), Some(json!({"a": "1,2", "b": " "})));
        assert_eq!(parameters(""), None);
    }

    #[test]
    fn an_answer_becomes_a_response() {
        let answer = json!({
            "statusCode": 302, "headers": {"location": "/x"}, "cookies": ["a=1", "b=2"], "body": "aGk=",
            "isBase64Encoded": true,
        });
        let response = response(&answer).unwrap();
        assert_eq!(response.status(), StatusCode::FOUND);
        assert_eq!(response.headers()["location"], "/x");
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn an_invalid_answer_is_rejected() {
        for answer in [json!(null), json!({"statusCode": 7}), json!({"statusCode": 200, "headers": {"a b": "x"}})] {
            assert!(response(&answer).is_none(), "{answer}");
        }
    }
}
