//! Compares `schemas/` with the code in both directions: the service quarantines exactly the events that a schema refuses.
//! (`world/audit.rs` validates the events that the service publishes at the end of every test.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::{Value, json};

use crate::{
    malformed::{EVENTS, invalid_details, valid_detail, without_redelivery},
    world::{SCHEMAS, Schema, World, schema_folder},
};

const EVENT: &str = include_str!("../../functions/conversion/src/event.rs");
const ANNOUNCE: [&str; 2] = [
    include_str!("../../shared/src/lifecycle/announce/mod.rs"),
    include_str!("../../shared/src/lifecycle/announce/reversal.rs"),
];

/// The detail types in a source file.
fn named(source: &str) -> BTreeSet<String> {
    let (code, _) = source.split_once("#[cfg(test)]").unwrap();
    let is_type = |text: &&str| {
        text.split('.').count() == 2 && text.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte))
    };
    code.split('"').skip(1).step_by(2).filter(is_type).map(str::to_owned).collect()
}

/// The types that have schemas: ours, or those of the product.
fn described(ours: bool) -> BTreeSet<String> {
    SCHEMAS.iter().filter(|(_, schema)| schema.is_ours() == ours).map(|(name, _)| name.clone()).collect()
}

/// `OrderCompleted` for `order.completed`.
fn title(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split(['.', '_']).map(capital).collect()
}

/// Every reference in a schema.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref") {
                assert_eq!(fields.len(), 1, "draft 4 ignores what stands beside a reference: {value}");
                found.insert(reference.as_str().unwrap());
            }
            fields.values().for_each(|value| references(value, found));
        }
        _ => {}
    }
}

/// Every event in a file of `events/`, with its envelope. In a queue message it is text.
fn enveloped(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| enveloped(item, found)),
        Value::Object(fields) if fields.contains_key("detail-type") => found.push(value.clone()),
        Value::Object(fields) => fields.values().for_each(|value| enveloped(value, found)),
        Value::String(text) if text.contains("detail-type") => enveloped(&serde_json::from_str(text).unwrap(), found),
        _ => {}
    }
}

#[test]
fn every_type_that_is_read_or_published_has_a_schema() {
    assert_eq!(named(EVENT), described(false), "read by event.rs, described");
    assert_eq!(ANNOUNCE.into_iter().flat_map(named).collect::<BTreeSet<_>>(), described(true), "published, described");
    let template = local::template().unwrap();
    let pattern = &template["Resources"]["IncomingRule"]["Properties"]["EventPattern"]["detail-type"];
    let passed = pattern.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    assert_eq!(passed.collect::<BTreeSet<_>>(), described(false), "let through by the rule, described");
}

#[test]
fn each_schema_is_draft_4_and_self_contained() {
    for (name, schema) in SCHEMAS.iter() {
        let json = &schema.json;
        assert_eq!(json["$schema"], "http://json-schema.org/draft-04/schema#", "{name}");
        let problem = jsonschema::draft4::meta::validate(json).err().map(|problem| problem.to_string());
        assert_eq!(problem, None, "{name}");
        assert_eq!(json["title"], title(name), "{name}");
        assert_eq!(json["x-amazon-events-detail-type"], *name);
        assert_eq!(json["properties"]["detail-type"]["enum"], json!([name]));

        let mut found = BTreeSet::new();
        references(json, &mut found);
        let definitions = json["definitions"].as_object().unwrap().keys();
        let definitions: Vec<_> = definitions.map(|name| format!("#/definitions/{name}")).collect();
        assert_eq!(found, definitions.iter().map(String::as_str).collect(), "{name}: used, and there");
    }
}

/// Each file is self-contained, so shared definitions are repeated and must be equal.
#[test]
fn the_schemas_agree_with_each_other() {
    let mut known: BTreeMap<String, (&str, &Value)> = BTreeMap::new();
    for (name, schema) in SCHEMAS.iter() {
        let side = if schema.is_ours() { "our envelope" } else { "the product's envelope" };
        let envelope = schema.json["properties"].as_object().unwrap().iter();
        let envelope = envelope.filter(|(part, _)| !["detail", "detail-type"].contains(&part.as_str()));
        let envelope = envelope.map(|(part, value)| (format!("{part} of {side}"), value));
        let required = (format!("what is required of {side}"), &schema.json["required"]);
        let definitions = schema.json["definitions"].as_object().unwrap();
        let definitions = definitions.iter().map(|(part, value)| (part.clone(), value));
        for (part, value) in envelope.chain([required]).chain(definitions) {
            let (first, known) = *known.entry(part.clone()).or_insert((name, value));
            assert_eq!(value, known, "{part}: {name} and {first}");
        }
    }
    for (name, schema) in SCHEMAS.iter().filter(|(_, schema)| schema.is_ours()) {
        let fields = |of: &str| {
            let definition = &schema.json["definitions"][of];
            let required = definition["required"].as_array()?.iter().map(|field| field.as_str().unwrap().to_owned());
            Some((required.collect(), definition["properties"].as_object()?.keys().cloned().collect()))
        };
        let (required, all): (BTreeSet<String>, BTreeSet<String>) = fields(&title(name)).unwrap();
        assert_eq!(required, all, "{name}: our fields are never absent, they may be null");
    }
}

#[test]
fn the_event_files_are_valid() {
    let files = fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events")).unwrap();
    let mut seen = BTreeSet::new();
    for path in files.map(|file| file.unwrap().path()) {
        let mut found = Vec::new();
        enveloped(&serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap(), &mut found);
        for event in found.iter().filter(|event| event["source"] != "aws.events") {
            let name = event["detail-type"].as_str().unwrap();
            assert_eq!(SCHEMAS[name].problems(event), [""; 0], "{path:?}");
            seen.insert(name.to_owned());
        }
    }
    let mut expected = described(false);
    expected.extend(["reward.issued", "reward.reversed"].map(str::to_owned));
    assert_eq!(seen, expected, "in events/");
}

/// `detail` with this field changed.
fn with(detail: &Value, field: &str, value: Value) -> Value {
    let mut detail = detail.clone();
    detail[field] = value;
    detail
}

/// Valid and invalid details of a type, at the limits of every format.
fn details(detail_type: &str) -> Vec<Value> {
    let whole = valid_detail(detail_type);
    let mut details = invalid_details(detail_type);
    details.push(whole.clone());
    details.push(with(&whole, "more", json!({"a": [1]})));
    let times = [
        json!(null),
        json!("2026-01-31T09:30:00Z"),
        json!("2026-01-31t09:30:00.123456789z"),
        json!("2026-01-31T09:30:00+02:00"),
        json!("1970-01-01T00:00:00Z"),
        json!("1969-12-31T23:59:59Z"),
        json!("2026-13-01T00:00:00Z"),
        json!("2026-02-30T00:00:00Z"),
        json!("2026-01-31T24:00:00Z"),
        json!("2026-01-31T09:30:00"),
        json!("2026-01-31T09:30:00.Z"),
        json!("2026-01-31T09:30Z"),
        json!("2026-01-31"),
        json!("10000-01-01T00:00:00Z"),
        json!("-0001-01-01T00:00:00Z"),
        json!("2026-01-31T09:30:00Z\n"),
        json!("2026-06-15T12:34:60Z"),
        json!("2026-06-30T23:59:60Z"),
        json!(""),
        json!(1_769_851_800),
    ];
    let ids =
        [json!("AZaz09_.@-+|"), json!("x".repeat(128)), json!("b:b"), json!("b/b"), json!("\u{e9}"), json!("b\n")];
    let fields: Vec<(&str, Vec<Value>)> = vec![
        ("order_id", ids.to_vec()),
        ("user_id", ids.to_vec()),
        ("refund_id", ids.to_vec()),
        ("amount", vec![json!(0), json!(9_007_199_254_740_991_u64), json!(1.0), json!(true)]),
        ("currency", vec![json!("EUR"), json!("EURO"), json!("E1R"), json!("USD\n")]),
        ("reason", vec![json!(""), json!("x".repeat(1000))]),
    ];
    let mut fields: Vec<_> = fields.into_iter().filter(|(field, _)| whole.get(field).is_some()).collect();
    match detail_type {
        "order.completed" | "account.flagged" | "account.cleared" => fields.push(("occurred_at", times.to_vec())),
        "order.refunded" | "order.refund_failed" | "order.cancelled" => {
            fields.push(("user_id", [&ids[..], &[json!(null)]].concat()));
        }
        "payment.disputed" | "payment.dispute_won" => fields.extend([
            ("user_id", [&ids[..], &[json!(null)]].concat()),
            ("dispute_id", [&ids[..], &[json!(null)]].concat()),
            ("occurred_at", times.to_vec()),
        ]),
        "customer.signed_up" => fields.extend([
            ("signed_up_at", times.to_vec()),
            (
                "code",
                [json!(null), json!("abc"), json!("a-B"), json!("--a"), json!("A".repeat(32))]
                    .into_iter()
                    .chain(["", "ab", "---", "a_b", "abc\n"].map(Value::from))
                    .chain([json!("A".repeat(33))])
                    .collect(),
            ),
            ("device_fingerprint", vec![json!(null), json!("x"), json!("x".repeat(512)), json!("x".repeat(513))]),
            (
                "ip",
                [json!(null), json!(7)]
                    .into_iter()
                    .chain(["203.0.113.7", "::1", "1.2.3", "256.1.1.1", "::g", "localhost", ""].map(Value::from))
                    .collect(),
            ),
            ("user_agent", vec![json!(null), json!(""), json!(7)]),
            ("email", vec![json!(null), json!("no address"), json!([])]),
        ]),
        _ => {}
    }
    let changed = fields.iter().flat_map(|(field, values)| values.iter().map(|value| (*field, value.clone())));
    details.extend(changed.map(|(field, value)| with(&whole, field, value)));
    details
}

/// The optional fields of a sign-up. The schema says what to send, and the service ignores every other value.
const IGNORED: [&str; 6] = ["code", "device_fingerprint", "ip", "user_agent", "email", "signed_up_at"];

/// Why this event must be quarantined, by its schema.
fn reasons_for_quarantine(event: &Value) -> Vec<String> {
    let name = event["detail-type"].as_str().unwrap();
    let is_ignored = |problem: &String| {
        name == "customer.signed_up" && IGNORED.iter().any(|field| problem.starts_with(&format!("/detail/{field}:")))
    };
    SCHEMAS[name].problems(event).into_iter().filter(|problem| !is_ignored(problem)).collect()
}

/// The envelope ids of all events in quarantine.
async fn quarantined(world: &World) -> BTreeSet<String> {
    let answer = world.get("/_local/parked").await.with(200);
    let items = answer["items"].as_array().unwrap().iter();
    items.map(|item| item["body"]["payload"]["id"].as_str().unwrap().to_owned()).collect()
}

/// In both directions: no event that a schema accepts is quarantined, and every event that it refuses is.
#[tokio::test]
async fn exactly_the_events_that_a_schema_refuses_are_quarantined() {
    let mut world = without_redelivery().await;
    assert_eq!(EVENTS.map(str::to_owned).into_iter().collect::<BTreeSet<_>>(), described(false));
    for detail_type in EVENTS {
        for detail in details(detail_type) {
            world.publish(detail_type, detail).await;
        }
    }
    world.until_idle().await;
    let quarantined = quarantined(&world).await;
    let (mut good, mut differ) = (0, Vec::new());
    for event in world.events().await.iter().filter(|event| event["source"] == "shop") {
        let problems = reasons_for_quarantine(event);
        good += u32::from(problems.is_empty());
        if problems.is_empty() == quarantined.contains(event["id"].as_str().unwrap()) {
            differ.push(format!("{} {}: {problems:?}", event["detail-type"], event["detail"]));
        }
    }
    assert!(differ.is_empty(), "schema and service differ: {differ:#?}");
    assert!(good > 60 && quarantined.len() > 120, "{good} good, {} bad", quarantined.len());
    world.expect_unprocessed(quarantined.len() as u64);
    world.end().await;
}

/// The service refuses something that a schema of draft 4 cannot express. The description mentions it.
#[tokio::test]
async fn rules_that_a_schema_cannot_express_also_lead_to_quarantine() {
    let mut world = without_redelivery().await;
    let cases = [("account.cleared", "occurred_at", json!("2999-01-01T00:00:00Z"))];
    let mut published = BTreeSet::new();
    for (detail_type, field, value) in &cases {
        published.insert(world.publish(detail_type, with(&valid_detail(detail_type), field, value.clone())).await);
    }
    world.until_idle().await;
    assert_eq!(quarantined(&world).await, published);
    for event in world.events().await {
        assert_eq!(SCHEMAS[event["detail-type"].as_str().unwrap()].problems(&event), [""; 0]);
    }
    world.expect_unprocessed(cases.len() as u64);
    world.end().await;
}

#[tokio::test]
async fn every_type_of_event_is_published() {
    let world = without_redelivery().await;
    world.script("credit", json!({"answers": [400]})).await;
    world.refer("alice", "bob").await;
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.refer("carol", "dave").await;
    world.publish("account.flagged", json!({"user_id": "carol", "reason": "a test"})).await;
    world.until_idle().await;
    world.order("dave", "o-2").await;
    world.until_status("dave", "voided").await;
    // Of two reversals, the subsystem refuses one.
    world.refer("erin", "frank").await;
    world.order("frank", "o-3").await;
    world.until_status("frank", "rewarded").await;
    world.until_idle().await;
    world.script("credit", json!({"answers": [404]})).await;
    world.publish("order.cancelled", json!({"order_id": "o-3"})).await;
    world.until_status("frank", "voided").await;
    world.until_idle().await;

    let published: Vec<Value> =
        world.events().await.into_iter().filter(|event| event["source"] == referrals::aws::bus::SOURCE).collect();
    let types = published.iter().map(|event| event["detail-type"].as_str().unwrap().to_owned());
    assert_eq!(types.collect::<BTreeSet<_>>(), described(true));

    // The validators refuse an event if any field is missing, if there is an additional field, or if a field has another type.
    for event in &published {
        let schema = &SCHEMAS[event["detail-type"].as_str().unwrap()];
        assert_eq!(schema.problems(event), [""; 0]);
        for field in event["detail"].as_object().unwrap().keys() {
            let mut without = event.clone();
            without["detail"].as_object_mut().unwrap().remove(field);
            assert_ne!(schema.problems(&without), [""; 0], "without {field}: {event:#}");
            let mut other = event.clone();
            other["detail"][field] = json!(true);
            assert_ne!(schema.problems(&other), [""; 0], "{field}: {event:#}");
        }
        let mut more = event.clone();
        more["detail"]["more"] = json!(null);
        assert_ne!(schema.problems(&more), [""; 0]);
    }
    world.end().await;
}

/// The expected contents of `schemas/template.yaml`.
fn template() -> String {
    let head = "\
# The schemas of this folder in an EventBridge schema registry. The root template nests this file when PublishSchemas is
# true. CloudFormation cannot include the text of another file here, so this file repeats each schema on one line. A test
# (tests/suite/schemas.rs) compares both and prints what this file should be.
AWSTemplateFormatVersion: \"2010-09-09\"
Description: Referrals - schemas of incoming and outgoing events.

Parameters:
  RegistryName:
    Description: The name of the registry.
    Type: String
    MaxLength: 64

Resources:
  Registry:
    Type: AWS::EventSchemas::Registry
    Properties:
      RegistryName: !Ref RegistryName
      Description: Incoming and outgoing events of the referral service.
";
    let resource = |(name, schema): (&String, &Schema)| {
        let content: String = schema.text.lines().map(str::trim).collect();
        // Our events have a name with source and type, like those that the registry discovers. The product's source is unknown.
        let schema_name = if schema.is_ours() { format!("referrals@{name}") } else { name.clone() };
        format!(
            "
  {}:
    Type: AWS::EventSchemas::Schema
    Properties:
      RegistryName: !GetAtt Registry.RegistryName
      SchemaName: {schema_name}
      Description: {}
      Type: JSONSchemaDraft4
      Content: {}
",
            title(name),
            quoted(schema.json["description"].as_str().unwrap()),
            quoted(&content),
        )
    };
    head.to_owned() + &SCHEMAS.iter().map(resource).collect::<String>()
}

/// A text in YAML's single quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[test]
fn the_template_publishes_what_the_files_say() {
    let (written, expected) = (fs::read_to_string(schema_folder().join("template.yaml")).unwrap(), template());
    assert!(written == expected, "schemas/template.yaml should be:\n{expected}");
    let published = local::yaml(&written).unwrap();
    for (name, schema) in SCHEMAS.iter() {
        let properties = &published["Resources"][title(name)]["Properties"];
        let content: Value = serde_json::from_str(properties["Content"].as_str().unwrap()).unwrap();
        assert_eq!(content, schema.json, "{name}");
    }

    let main = local::template().unwrap();
    let stack = &main["Resources"]["EventSchemas"];
    assert_eq!(stack["Properties"]["TemplateURL"], "schemas/template.yaml");
    let condition = stack["Condition"].as_str().unwrap();
    assert_eq!(
        main["Conditions"][condition],
        json!({"Fn::Equals": ["false", "true"]}),
        "only if PublishSchemas is true"
    );
}
