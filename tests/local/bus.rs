//! The event bus: `PutEvents`, `PutPartnerEvents` and the rules.

mod time;

use serde_json::{Value, json};

use crate::{aws::AwsError, clock, journal::NewMessage, service::Local};

/// The most entries of one call of `PutEvents`, and of `PutPartnerEvents`.
const MAX_ENTRIES: usize = 10;
const MAX_PARTNER_ENTRIES: usize = 20;
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
    let entries = entries(request, MAX_ENTRIES)?;
    entries.iter().try_for_each(|entry| known_bus(local, entry))?;
    publish(local, entries, |entry| match entry["Source"].as_str() {
        Some(source) if source.starts_with("aws.") => Err(Refused {
            code: "NotAuthorizedForSourceException",
            message: "Not authorized for the source.".to_owned(),
        }),
        _ => Ok(()),
    })
}

/// `PutPartnerEvents`: as above, for the bus that has the source's name. AWS accepts the events of a source without a bus
/// too, and no rule receives them.
pub(crate) fn put_partner_events(local: &Local, request: &Value) -> Result<Value, AwsError> {
    let entries = entries(request, MAX_PARTNER_ENTRIES)?;
    if let Some(source) = entries.iter().filter_map(|entry| entry["Source"].as_str()).find(|name| !is_partner(name)) {
        let problem = format!("Source {source:?} does not match aws\\.partner(/[\\.\\-_A-Za-z0-9]+){{2,}}.");
        return Err(AwsError::new("ValidationException", problem));
    }
    publish(local, entries, |_| Ok(()))
}

/// The entries of a request, if their number and size are allowed.
fn entries(request: &Value, most: usize) -> Result<&[Value], AwsError> {
    let Some(entries) = request["Entries"].as_array() else {
        return Err(AwsError::new("SerializationException", "Entries is not a list."));
    };
    if entries.is_empty() || entries.len() > most {
        let problem = format!("Entries must have 1 to {most} members, not {}.", entries.len());
        return Err(AwsError::new("ValidationException", problem));
    }
    if entries.iter().map(size).sum::<usize>() > MAX_BYTES {
        return Err(AwsError::new(
            "ValidationException",
            "Total size of the entries in the request is over the limit.",
        ));
    }
    Ok(entries)
}

/// Publishes the valid entries that `check` lets through.
fn publish(local: &Local, entries: &[Value], check: impl Fn(&Value) -> Result<(), Refused>) -> Result<Value, AwsError> {
    let times = entries.iter().map(time::time).collect::<Result<Vec<_>, _>>()?;
    let events: Vec<_> =
        entries.iter().zip(times).map(|(entry, time)| check(entry).and_then(|()| event(entry, time))).collect();
    let accepted: Vec<_> = events.iter().filter_map(|event| event.as_ref().ok()).cloned().collect();
    let new_messages: Vec<_> = accepted.iter().flat_map(|event| new_messages(local, event)).collect();
    local.journal.publish(&accepted, &new_messages)?;
    let answers: Vec<_> = events.iter().map(answer).collect();
    Ok(json!({ "FailedEntryCount": events.len() - accepted.len(), "Entries": answers }))
}

/// A message for each target of each rule that receives the event. A rule of a partner's bus receives the events of that
/// partner only, and no other rule does.
fn new_messages(local: &Local, event: &Value) -> Vec<NewMessage> {
    let partner = event["source"].as_str().filter(|source| is_partner(source));
    let rules = local.deployment.rules.iter().filter(|rule| rule.partner() == partner && rule.pattern.matches(event));
    let targets = rules.flat_map(|rule| &rule.targets);
    targets.map(|target| local.new_message(target, &event.to_string(), json!({}))).collect()
}

/// Whether a name is a partner's event source, and so the name of its bus.
pub(crate) fn is_partner(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    let parts = name.strip_prefix("aws.partner/").map(|rest| rest.split('/').collect::<Vec<_>>());
    parts.is_some_and(|parts| parts.len() >= 2 && parts.into_iter().all(is_part))
}

/// The event in EventBridge's envelope. Its time is `None` if it is outside the range.
fn event(entry: &Value, time: Option<i64>) -> Result<Value, Refused> {
    let source = text(entry, "Source")?;
    let detail_type = text(entry, "DetailType")?;
    let detail = detail(text(entry, "Detail")?)?;
    let time = time.ok_or_else(|| invalid("Time", "Time is not between the years 1970 and 9999."))?;
    let resources = entry.get("Resources").filter(|resources| resources.is_array()).cloned();
    Ok(json!({
        "version": "0",
        "id": clock::id(),
        "detail-type": detail_type,
        "source": source,
        "account": clock::ACCOUNT,
        "time": clock::seconds_text(time),
        "region": clock::REGION,
        "resources": resources.unwrap_or_else(|| json!([])),
        "detail": detail,
    }))
}

fn text<'a>(entry: &'a Value, name: &str) -> Result<&'a str, Refused> {
    let text = entry[name].as_str().filter(|text| !text.is_empty());
    text.ok_or_else(|| invalid(name, &format!("{name} is a required argument.")))
}

fn invalid(name: &str, reason: &str) -> Refused {
    Refused { code: "InvalidArgument", message: format!("Parameter {name} is not valid. Reason: {reason}") }
}

fn detail(text: &str) -> Result<Value, Refused> {
    let detail = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    detail.ok_or_else(|| Refused { code: "MalformedDetail", message: "Detail is malformed.".to_owned() })
}

/// Checks that the entry names an existing bus, by name or ARN. On AWS an entry without a bus goes to the account's
/// `default` bus, which none of our rules use. Here it is accepted to make first steps easier, with a warning. AWS accepts an
/// unknown bus too, and drops the event. Here it is an error, which a developer sees.
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
        event(&entry, Some(0)).err().map_or("", |refused| refused.code)
    }

    #[test]
    fn an_entry_becomes_an_event_in_its_envelope() {
        let entry = json!({"Source": "shop", "DetailType": "order.completed", "Detail": "{\"a\":1}"});
        let event = event(&entry, Some(1_769_851_800_000)).ok().unwrap();
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
    #[test]
    fn a_partners_source_has_two_or_more_parts() {
        for name in ["aws.partner/stripe.com/acct_1", "aws.partner/example.com/a/b-c"] {
            assert!(is_partner(name), "{name}");
        }
        for name in
            ["aws.partner/example.com", "aws.partner/example.com/", "aws.partner//a", "aws.ec2", "aws.partner/a/b c"]
        {
            assert!(!is_partner(name), "{name}");
        }
    }
}
