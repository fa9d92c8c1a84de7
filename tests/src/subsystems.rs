//! The paths under `/_local/`: stand-ins for the reward subsystems, and a look into what bus and queues hold.

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

/// The path below which everything is the local service's own.
pub(crate) const PREFIX: &str = "/_local/";
/// The kinds of reward that there is a stand-in for.
pub(crate) const KINDS: [&str; 3] = ["credit", "coupon", "points"];

/// How the stand-ins behave next, by kind; whoever has no script left answers 200.
#[derive(Default)]
pub(crate) struct Scripts(Mutex<HashMap<String, Script>>);

/// What a stand-in was told to do with the next calls.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    /// The statuses of the next answers.
    #[serde(default)]
    answers: VecDeque<u16>,
    /// How long each answer takes from now on, in milliseconds.
    #[serde(default)]
    delay_ms: u64,
}

/// The longest delay that a script may ask for.
const LONGEST_DELAY: u64 = 60_000;

impl Scripts {
    fn set(&self, kind: &str, script: Script) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.to_owned(), script);
    }

    /// The status of the next answer and how long it takes.
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
            Ok(live::respond(local, &file.join("/")).unwrap_or_else(|| not_here(&segments)))
        }
        (["parked"], "GET") => parked(local),
        (["landing"], "GET") => Ok(answer(StatusCode::OK, "text/plain", LANDING.to_owned())),
        (["subsystems", kind, "script"], "PUT") if KINDS.contains(kind) => Ok(told(local, kind, body)),
        (["subsystems", kind], "POST") if KINDS.contains(kind) => received(local, kind, false, headers, body).await,
        (["subsystems", kind, "reversals"], "POST") if KINDS.contains(kind) => {
            received(local, kind, true, headers, body).await
        }
        (segments, _) => Ok(not_here(segments)),
    };
    result.unwrap_or_else(|trouble| {
        tracing::error!(%trouble, "cannot read or write the journal");
        problem(StatusCode::INTERNAL_SERVER_ERROR, "unavailable", &trouble.to_string())
    })
}

const LANDING: &str = "Here would be the product. Set LANDING_URL to send visitors to it.\n";

/// Answers with a list but for those of it that are known already: as many as the query's `after=` says, else none.
fn list(query: &str, of: impl FnOnce(u32) -> Result<Value, JournalError>) -> Result<Response<Body>, JournalError> {
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after="));
    match after.map_or(Ok(0), str::parse) {
        Ok(after) => Ok(json_answer(StatusCode::OK, &of(after)?)),
        Err(_) => Ok(problem(StatusCode::BAD_REQUEST, "invalid_request", "after is how many you have seen: a number.")),
    }
}

/// No such path, or one that is asked in the wrong way.
fn not_here(segments: &[&str]) -> Response<Body> {
    let allowed = match segments {
        ["deliveries" | "events" | "parked" | "landing" | "live"] => "GET",
        ["subsystems", kind, "script"] if KINDS.contains(kind) => "PUT",
        ["subsystems", kind] | ["subsystems", kind, "reversals"] if KINDS.contains(kind) => "POST",
        _ => return problem(StatusCode::NOT_FOUND, "not_found", "The local service has no such path."),
    };
    let detail = format!("Only {allowed} is answered here.");
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &detail);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Remembers a call, then answers it as the script says.
async fn received(
    local: &Local,
    kind: &str,
    reversal: bool,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response<Body>, JournalError> {
    let (status, delay) = local.scripts.next(kind);
    local.journal.remember(&Received {
        subsystem: kind.to_owned(),
        reversal,
        headers: headers_of(headers),
        body: parsed(&String::from_utf8_lossy(body)),
        status: status.as_u16(),
        at: clock::now(),
    })?;
    tokio::time::sleep(delay).await;
    Ok(json_answer(status, &json!({ "received": true })))
}

/// Takes a script for the next calls.
fn told(local: &Local, kind: &str, body: &[u8]) -> Response<Body> {
    match serde_json::from_slice::<Script>(body) {
        Ok(script)
            if script.delay_ms <= LONGEST_DELAY && script.answers.iter().all(|status| (200..600).contains(status)) =>
        {
            local.scripts.set(kind, script);
            answer(StatusCode::NO_CONTENT, "application/json", String::new())
        }
        Ok(_) => problem(StatusCode::BAD_REQUEST, "invalid_request", "Statuses are 200 to 599, delays up to a minute."),
        Err(trouble) => problem(StatusCode::BAD_REQUEST, "invalid_request", &trouble.to_string()),
    }
}

/// The calls that the stand-ins received, those that they answered with an error too, but for the first `after`.
fn deliveries(local: &Local, after: u32) -> Result<Value, JournalError> {
    let calls = local.journal.calls(after)?.into_iter().map(|call| {
        json!({
            "reward_id": call.body["reward_id"],
            "type": call.subsystem,
            "reversal": call.reversal,
            "headers": call.headers,
            "body": call.body,
            "status": call.status,
            "received_at": clock::text(call.at),
        })
    });
    Ok(calls.collect())
}

/// What waits for a person: everything in a queue that nothing empties.
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

/// Headers as an object; one that came more than once has its values joined.
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
    fn a_script_is_followed_and_then_all_is_well() {
        let scripts = Scripts::default();
        let script: Script = serde_json::from_value(json!({"answers": [500, 429], "delay_ms": 5})).unwrap();
        scripts.set("credit", script);
        assert_eq!(scripts.next("credit"), (StatusCode::INTERNAL_SERVER_ERROR, Duration::from_millis(5)));
        assert_eq!(scripts.next("points"), (StatusCode::OK, Duration::ZERO));
        assert_eq!(scripts.next("credit").0, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(scripts.next("credit").0, StatusCode::OK);
    }

    #[test]
    fn headers_that_come_twice_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        assert_eq!(headers_of(&headers), json!({"x-a": "1,2"}));
    }
}
