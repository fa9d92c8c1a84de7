//! The paths under `/_local/`: stand-ins for the reward endpoints, and inspection of the bus and the queues.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header::ALLOW, request::Parts},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    clock,
    journal::{JournalError, Message, Received},
    live,
    problem::{answer, json_answer, problem},
    queue::parsed,
    service::Local,
};

/// The prefix of all paths of the local service itself.
pub(crate) const PREFIX: &str = "/_local/";
/// The reward types, each with a stand-in endpoint.
pub(crate) const KINDS: [&str; 3] = ["credit", "coupon", "points"];

/// How the stand-ins answer next, by reward type. Without a script they answer 200.
#[derive(Default)]
pub(crate) struct Scripts(Mutex<HashMap<String, Script>>);

/// The next answers of a stand-in.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    /// The statuses of the next answers.
    #[serde(default)]
    answers: VecDeque<u16>,
    /// The delay of every answer from now on, in milliseconds.
    #[serde(default)]
    delay_ms: u64,
}

/// The longest delay that a script may set.
const MAX_DELAY_MS: u64 = 60_000;

impl Scripts {
    fn set(&self, kind: &str, script: Script) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.to_owned(), script);
    }

    /// The status and the delay of the next answer.
    fn next(&self, kind: &str) -> (StatusCode, Duration) {
        let mut scripts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let script = scripts.get_mut(kind);
        let delay = script.as_ref().map_or(0, |script| script.delay_ms);
        let status = script.and_then(|script| script.answers.pop_front());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
        (status, Duration::from_millis(delay))
    }
}

/// Answers a request whose path begins with [`PREFIX`].
pub(crate) async fn respond(local: &Local, parts: &Parts, body: &[u8]) -> Response<Body> {
    let path = parts.uri.path();
    let segments: Vec<_> = path.strip_prefix(PREFIX).unwrap_or(path).split('/').collect();
    let (query, headers) = (parts.uri.query().unwrap_or_default(), &parts.headers);
    let result = match (segments.as_slice(), parts.method.as_str()) {
        (["deliveries"], "GET") => list(query, |after| deliveries(local, after)),
        (["events"], "GET") => list(query, |after| Ok(local.journal.events(after)?.into())),
        (["live", file @ ..], "GET") => {
            Ok(live::respond(local, &file.join("/")).unwrap_or_else(|| no_such_path(&segments)))
        }
        (["parked"], "GET") => parked(local),
        (["landing", ..], "GET") => Ok(answer(StatusCode::OK, "text/plain", LANDING.to_owned())),
        (["subsystems", kind, "script"], "PUT") if KINDS.contains(kind) => Ok(set_script(local, kind, body)),
        (["subsystems", kind], "POST") if KINDS.contains(kind) => received(local, kind, false, headers, body).await,
        (["subsystems", kind, "reversals"], "POST") if KINDS.contains(kind) => {
            received(local, kind, true, headers, body).await
        }
        (segments, _) => Ok(no_such_path(segments)),
    };
    result.unwrap_or_else(|trouble| {
        tracing::error!(%trouble, "cannot read or write the journal");
        problem(StatusCode::INTERNAL_SERVER_ERROR, "unavailable", &trouble.to_string())
    })
}

const LANDING: &str = "This is where your product would be. Set LANDING_URL to redirect visitors to it.\n";

/// Answers with a list. The query's `after=` is the number of entries to skip.
fn list(query: &str, of: impl FnOnce(u32) -> Result<Value, JournalError>) -> Result<Response<Body>, JournalError> {
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after="));
    match after.map_or(Ok(0), str::parse) {
        Ok(after) => Ok(json_answer(StatusCode::OK, &of(after)?)),
        Err(_) => {
            Ok(problem(StatusCode::BAD_REQUEST, "invalid_request", "after must be a number: how many entries to skip."))
        }
    }
}

/// The answer to an unknown path or method.
fn no_such_path(segments: &[&str]) -> Response<Body> {
    let allowed = match segments {
        ["deliveries" | "events" | "parked" | "live"] | ["landing", ..] => "GET",
        ["subsystems", kind, "script"] if KINDS.contains(kind) => "PUT",
        ["subsystems", kind] | ["subsystems", kind, "reversals"] if KINDS.contains(kind) => "POST",
        _ => return problem(StatusCode::NOT_FOUND, "not_found", "The local service has no such path."),
    };
    let detail = format!("This path accepts only {allowed}.");
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &detail);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Stores a call, then answers as the script says.
async fn received(
    local: &Local,
    kind: &str,
    reversal: bool,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response<Body>, JournalError> {
    let (status, delay) = local.scripts.next(kind);
    local.journal.record_call(&Received {
        subsystem: kind.to_owned(),
        reversal,
        headers: headers_of(headers),
        body: String::from_utf8_lossy(body).into_owned(),
        status: status.as_u16(),
        at: clock::now(),
    })?;
    tokio::time::sleep(delay).await;
    Ok(json_answer(status, &json!({ "received": true })))
}

/// Sets the script for the next calls.
fn set_script(local: &Local, kind: &str, body: &[u8]) -> Response<Body> {
    match serde_json::from_slice::<Script>(body) {
        Ok(script)
            if script.delay_ms <= MAX_DELAY_MS && script.answers.iter().all(|status| (200..600).contains(status)) =>
        {
            local.scripts.set(kind, script);
            answer(StatusCode::NO_CONTENT, "application/json", String::new())
        }
        Ok(_) => problem(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "Statuses must be 200 to 599 and the delay at most a minute.",
        ),
        Err(trouble) => problem(StatusCode::BAD_REQUEST, "invalid_request", &trouble.to_string()),
    }
}

/// The calls that the stand-ins received, including those answered with an error, without the first `after`.
fn deliveries(local: &Local, after: u32) -> Result<Value, JournalError> {
    let calls = local.journal.calls(after)?.into_iter().map(|call| {
        let body = parsed(&call.body);
        json!({
            "reward_id": if call.reversal { &body["reverses"] } else { &body["reward_id"] },
            "reversal_id": body["reversal_id"],
            "type": call.subsystem,
            "reversal": call.reversal,
            "headers": call.headers,
            "body": body,
            "body_text": call.body,
            "status": call.status,
            "received_at": clock::text(call.at),
        })
    });
    Ok(calls.collect())
}

/// The messages that wait for an operator: everything in queues that no function consumes.
fn parked(local: &Local) -> Result<Response<Body>, JournalError> {
    let messages = local.journal.messages(|queue| !local.deployment.is_consumed(queue))?;
    let items: Vec<_> = messages.iter().map(parked_item).collect();
    Ok(json_answer(StatusCode::OK, &json!({ "count": items.len(), "items": items })))
}

fn parked_item(message: &Message) -> Value {
    let attributes = message.attributes.as_object().into_iter().flatten();
    let attributes: Map<_, _> =
        attributes.map(|(name, attribute)| (name.clone(), attribute["StringValue"].clone())).collect();
    let reason = attributes.get("reason").or_else(|| attributes.get("ErrorMessage")).cloned();
    json!({
        "queue": message.queue,
        "body": parsed(&message.body),
        "reason": reason,
        "attributes": attributes,
        "parked_at": clock::text(message.sent_at),
    })
}

/// Headers as an object; repeated headers are joined by commas.
pub(crate) fn headers_of(headers: &HeaderMap) -> Value {
    let values = headers.keys().map(|name| {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (name.as_str().to_owned(), Value::from(values.join(",")))
    });
    Value::Object(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_followed_by_successful_answers() {
        let scripts = Scripts::default();
        let script: Script = serde_json::from_value(json!({"answers": [500, 429], "delay_ms": 5})).unwrap();
        scripts.set("credit", script);
        assert_eq!(scripts.next("credit"), (StatusCode::INTERNAL_SERVER_ERROR, Duration::from_millis(5)));
        assert_eq!(scripts.next("points"), (StatusCode::OK, Duration::ZERO));
        assert_eq!(scripts.next("credit").0, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(scripts.next("credit").0, StatusCode::OK);
    }

    #[test]
    fn repeated_headers_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        assert_eq!(headers_of(&headers), json!({"x-a": "1,2"}));
    }
}
