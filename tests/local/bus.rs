//! The event bus: `PutEvents` and the rules.

use serde_json::{Value, json};

use crate::{aws::AwsError, clock, journal::NewMessage, service::Local};

/// The most entries of one call.
const MAX_ENTRIES: usize = 10;
/// The most bytes of all entries of one call together.
const MAX_BYTES: usize = 1024 * 1024;

/// An entry that is refused while others are accepted.
struct Refused {
    code: &'static str,
    message: String,
}

/// `PutEvents`: accepts the valid entries and reports a result for each. It answers after the events and the messages
/// that the rules create are stored.
pub(crate) fn put_events(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let Some(entries) = request["Entries"].as_array() else {
        return Err(AwsError::new("SerializationException", "Entries is not a list."));
    };
    if entries.is_empty() || entries.len() > MAX_ENTRIES {
        let problem = format!("Entries must have 1 to {MAX_ENTRIES} members, not {}.", entries.len());
        return Err(AwsError::new("ValidationException", problem));
    }
    if entries.iter().map(size).sum::<usize>() > MAX_BYTES {
        return Err(AwsError::new(
            "ValidationException",
            "Total size of the entries in the request is over the limit.",
        ));
    }
    entries.iter().try_for_each(|entry| known_bus(local, entry))?;
    let events: Vec<_> = entries.iter().map(event).collect();
    let accepted: Vec<_> = events.iter().filter_map(|event| event.as_ref().ok()).cloned().collect();
    let new_messages: Vec<_> = accepted.iter().flat_map(|event| new_messages(local, event)).collect();
    local.journal.publish(&accepted, &new_messages)?;
    let answers: Vec<_> = events.iter().map(answer).collect();
    Ok(json!({ "FailedEntryCount": events.len() - accepted.len(), "Entries": answers }))
}

/// A message for each target of each rule that matches the event.
fn new_messages(local: &Local, event: &Value) -> Vec<NewMessage> {
    let rules = local.deployment.rules.iter().filter(|rule| rule.pattern.matches(event));
    let targets = rules.flat_map(|rule| &rule.targets);
    targets.map(|target| local.new_message(target, &event.to_string(), json!({}))).collect()
}

/// The event in EventBridge's envelope.
fn event(entry: &Value) -> Result<Value, Refused> {
    let source = text(entry, "Source")?;
    let detail_type = text(entry, "DetailType")?;
    let detail = detail(text(entry, "Detail")?)?;
    let resources = entry.get("Resources").filter(|resources| resources.is_array()).cloned();
    Ok(json!({
        "version": "0",
        "id": clock::id(),
        "detail-type": detail_type,
        "source": source,
        "account": clock::ACCOUNT,
        "time": clock::seconds_text(time(entry)),
        "region": clock::REGION,
        "resources": resources.unwrap_or_else(|| json!([])),
        "detail": detail,
    }))
}

fn text<'a>(entry: &'a Value, name: &str) -> Result<&'a str, Refused> {
    let text = entry[name].as_str().filter(|text| !text.is_empty());
    text.ok_or_else(|| Refused {
        code: "InvalidArgument",
        message: format!("Parameter {name} is not valid. Reason: {name} is a required argument."),
    })
}

fn detail(text: &str) -> Result<Value, Refused> {
    let detail = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    detail.ok_or_else(|| Refused { code: "MalformedDetail", message: "Detail is malformed.".to_owned() })
}

/// The entry's time, which SDKs send as seconds since 1970; now, if it has none.
#[allow(clippy::cast_possible_truncation, reason = "a time beyond the range of milliseconds is cut to it")]
fn time(entry: &Value) -> i64 {
    entry["Time"].as_f64().map_or_else(clock::now, |seconds| (seconds * 1000.0) as i64)
}

/// Checks that the entry names an existing bus, by name or ARN. On AWS an entry without a bus goes to the account's
/// `default` bus, which none of our rules use. Here it is accepted to make first steps easier, with a warning.
fn known_bus(local: &Local, entry: &Value) -> Result<(), AwsError> {
    let named = entry["EventBusName"].as_str().unwrap_or("default");
    match named.rsplit("event-bus/").next().unwrap_or(named) {
        name if name == local.bus => Ok(()),
        "default" => {
            tracing::warn!("an event without EventBusName; on AWS nothing listens on the default bus");
            Ok(())
        }
        name => Err(AwsError::new("ResourceNotFoundException", format!("Event bus {name} does not exist."))),
    }
}

fn size(entry: &Value) -> usize {
    ["Source", "DetailType", "Detail"].iter().filter_map(|name| entry[name].as_str()).map(str::len).sum()
}

fn answer(event: &Result<Value, Refused>) -> Value {
    match event {
        Ok(event) => json!({ "EventId": event["id"] }),
        Err(Refused { code, message }) => json!({ "ErrorCode": code, "ErrorMessage": message }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(entry: Value) -> &'static str {
        event(&entry).err().map_or("", |refused| refused.code)
    }

    #[test]
    fn an_entry_becomes_an_event_in_its_envelope() {
        let entry =
            json!({"Source": "shop", "DetailType": "order.completed", "Detail": "{\"a\":1}", "Time": 1_769_851_800});
        let event = event(&entry).ok().unwrap();
        assert_eq!(event["detail"], json!({"a": 1}));
        assert_eq!(event["detail-type"], "order.completed");
        assert_eq!(event["time"], "2026-01-31T09:30:00Z");
        assert_eq!(event["resources"], json!([]));
    }

    #[test]
    fn a_missing_field_or_a_detail_that_is_not_an_object_is_refused() {
        assert_eq!(code(json!({"DetailType": "x", "Detail": "{}"})), "InvalidArgument");
        assert_eq!(code(json!({"Source": "x", "DetailType": 7, "Detail": "{}"})), "InvalidArgument");
        assert_eq!(code(json!({"Source": "x", "DetailType": "y"})), "InvalidArgument");
        assert_eq!(code(json!({"Source": "x", "DetailType": "y", "Detail": "{"})), "MalformedDetail");
        assert_eq!(code(json!({"Source": "x", "DetailType": "y", "Detail": "[]"})), "MalformedDetail");
    }
}
