//! Alarms: every record or event that can be lost raises one, and the alarms on the sweep's metrics see each value.

use std::fs;

use referrals::lifecycle::issue::LONGEST_PAUSE;
use serde_json::{Value, json};

use crate::layers::root;

fn raw(path: &str) -> Value {
    local::yaml(&fs::read_to_string(root(path)).unwrap()).unwrap()
}

fn alarm(logical_id: &str) -> Value {
    let resource = &raw("monitoring/template.yaml")["Resources"][logical_id];
    assert_eq!(resource["Type"], "AWS::CloudWatch::Alarm", "there is no alarm {logical_id}");
    resource["Properties"].clone()
}

/// Asserts that one lost record, event or attempt raises this alarm, on Lambda's metric with this dimension, whose value
/// the root template passes to the nested one.
fn assert_watches(logical_id: &str, metric: &str, dimension: &str, parameter: &str, source: &Value) {
    let alarm = alarm(logical_id);
    assert_eq!((&alarm["Namespace"], &alarm["MetricName"]), (&json!("AWS/Lambda"), &json!(metric)), "{logical_id}");
    assert_eq!(alarm["Dimensions"], json!([{"Name": dimension, "Value": {"Ref": parameter}}]), "{logical_id}");
    assert_eq!((&alarm["Statistic"], &alarm["Threshold"]), (&json!("Sum"), &json!(0)), "{logical_id}");
    assert_eq!(&raw("template.yaml")["Resources"]["Monitoring"]["Properties"]["Parameters"][parameter], source);
}

/// The event source mappings that discard records after their last retry, each with its properties. SAM names the mapping
/// of a function's event: the function's logical id, then the event's.
fn discarding() -> Vec<(String, String, Value)> {
    let template = raw("template.yaml");
    let mut found = Vec::new();
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let properties = &resource["Properties"];
        if resource["Type"] == "AWS::Lambda::EventSourceMapping" {
            let function = properties["FunctionName"]["Ref"].as_str().unwrap();
            found.push((name.clone(), function.to_owned(), properties.clone()));
        }
        for (event, source) in properties["Events"].as_object().into_iter().flatten() {
            found.push((format!("{name}{event}"), name.clone(), source["Properties"].clone()));
        }
    }
    found.into_iter().filter(|(_, _, mapping)| mapping.get("MaximumRetryAttempts").is_some()).collect()
}

#[test]
fn every_record_that_lambda_gives_up_raises_an_alarm() {
    let kafka = raw("template.yaml")["Resources"]["Monitoring"]["Properties"]["Parameters"]["KafkaMappingId"].clone();
    let mut watched = Vec::new();
    for (mapping, function, properties) in discarding() {
        let (alarms, id, source) = match mapping.as_str() {
            "RewardsFunctionStream" => ("Stream", "RewardsStreamMappingId", json!({"Ref": mapping})),
            "AnalyticsFunctionStream" => ("Analytics", "AnalyticsStreamMappingId", json!({"Ref": mapping})),
            "ConversionMskMapping" | "ConversionKafkaMapping" => ("Kafka", "KafkaMappingId", kafka.clone()),
            other => panic!("{other} can lose records without an alarm"),
        };
        // Lambda sends these metrics only when the mapping asks for them.
        assert_eq!(properties["MetricsConfig"]["Metrics"], json!(["EventCount"]), "{mapping}");
        assert!(properties["DestinationConfig"]["OnFailure"].is_object(), "{mapping} has no destination");
        let dimension = "EventSourceMappingUUID";
        assert_watches(&format!("{alarms}DroppedAlarm"), "DroppedEventCount", dimension, id, &source);
        let stored = "OnFailureDestinationDeliveredEventCount";
        assert_watches(&format!("{alarms}RecordAlarm"), stored, dimension, id, &source);
        let name = format!("{function}Name");
        let failures = "DestinationDeliveryFailures";
        let failed = if alarms == "Kafka" {
            "ConversionDestinationAlarm".to_owned()
        } else {
            format!("{alarms}DestinationAlarm")
        };
        assert_watches(&failed, failures, "FunctionName", &name, &json!({"Ref": function}));
        watched.push(mapping);
    }
    assert_eq!(watched.len(), 4, "{watched:?}");
}

/// A function that is invoked asynchronously keeps events whose retries failed in a dead-letter queue. An event that this
/// queue does not accept is lost.
#[test]
fn every_dead_letter_that_lambda_cannot_send_raises_an_alarm() {
    let template = raw("template.yaml");
    let functions = template["Resources"].as_object().unwrap().iter();
    let functions = functions.filter(|(_, resource)| resource["Properties"].get("DeadLetterQueue").is_some());
    let names: Vec<&String> = functions.map(|(name, _)| name).collect();
    assert_eq!(names, ["ConversionFunction"]);
    let source = json!({"Ref": "ConversionFunction"});
    assert_watches("ConversionLostAlarm", "DeadLetterErrors", "FunctionName", "ConversionFunctionName", &source);
}

/// The sweep sees an undelivered reward when it announces it again, so between two values the longest pause can pass.
#[test]
fn the_alarm_on_undelivered_rewards_sees_every_value() {
    let alarm = alarm("UndeliveredAlarm");
    let number = |name: &str| alarm[name].as_u64().unwrap();
    assert_eq!((alarm["MetricName"].as_str(), number("DatapointsToAlarm")), (Some("oldest_undelivered"), 1));
    let window = number("Period") * number("EvaluationPeriods");
    assert!(window >= LONGEST_PAUSE.as_secs() + number("Period"), "{window} seconds");
    assert!(window <= 86_400, "CloudWatch evaluates at most a day");
}

#[test]
fn the_alarm_on_missing_events_is_off_by_default() {
    let (root, nested) = (raw("template.yaml"), raw("monitoring/template.yaml"));
    let hours = &root["Parameters"]["SilenceHours"];
    assert_eq!(hours["Default"], 0);
    assert_eq!(nested["Resources"]["SilenceAlarm"]["Condition"], "HasSilence");
    assert_eq!(nested["Conditions"]["HasSilence"], json!({"Fn::Not": [{"Fn::Equals": [{"Ref": "SilenceHours"}, 0]}]}));
    let alarm = alarm("SilenceAlarm");
    assert_eq!((&alarm["Period"], &alarm["EvaluationPeriods"]), (&json!(3600), &json!({"Ref": "SilenceHours"})));
    assert_eq!(
        (&alarm["TreatMissingData"], &alarm["ComparisonOperator"]),
        (&json!("breaching"), &json!("LessThanThreshold"))
    );
    assert!(hours["MaxValue"].as_u64().unwrap() * 3600 <= 86_400, "CloudWatch evaluates at most a day");
}
