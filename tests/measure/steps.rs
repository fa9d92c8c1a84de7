//! The steps that are measured: each is an event of `events/`, with the events that have to happen before it.

use std::{fs, path::PathBuf};

use local::Service;
use serde_json::{Value, json};

use crate::Trouble;

/// A step of a referral's life.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The name of the function's binary.
    pub(crate) function: &'static str,
    event: Event,
    /// The files of the events that happen before.
    before: &'static [&'static str],
    /// Whether the function reads its secrets from Secrets Manager, as in a deployed stack. They are plain settings otherwise,
    /// which are faster to measure.
    pub(crate) reads_secrets: bool,
}

/// The event that the function receives.
enum Event {
    /// A file of `events/`.
    File(&'static str),
    /// The stream record of bob's referral in its present state.
    Record,
}

const fn step(name: &'static str, function: &'static str, file: &'static str, before: &'static [&'static str]) -> Step {
    Step { name, function, event: Event::File(file), before, reads_secrets: false }
}

const PENDING: [&str; 2] = ["attribution-mint-vanity", "attribution-attribute"];
const CONVERTED: [&str; 3] = [PENDING[0], PENDING[1], "conversion-order-completed"];
const ISSUED: [&str; 4] = [PENDING[0], PENDING[1], CONVERTED[2], "sweep-schedule"];

/// All steps, in the order of a referral's life.
pub(crate) static STEPS: [Step; 12] = [
    step("mint", "attribution", "attribution-mint", &[]),
    Step { reads_secrets: true, ..step("secrets", "attribution", "attribution-mint", &[]) },
    step("land", "attribution", "attribution-land", &[PENDING[0]]),
    step("attribute", "attribution", "attribution-attribute", &[PENDING[0]]),
    step("read", "attribution", "attribution-referral", &PENDING),
    step("convert", "conversion", "conversion-order-completed", &PENDING),
    step("repeat", "conversion", "conversion-order-completed", &CONVERTED),
    Step { name: "issue", function: "rewards", event: Event::Record, before: &CONVERTED, reads_secrets: false },
    step("sweep", "sweep", "sweep-schedule", &[]),
    step("deliver", "delivery", "delivery-queue", &ISSUED),
    step("count", "analytics", "analytics-stream", &[]),
    step("liability", "admin", "admin-liability", &[]),
];

/// The step with this name.
pub(crate) fn named(name: &str) -> Result<&'static Step, Trouble> {
    Ok(STEPS.iter().find(|step| step.name == name).ok_or_else(|| format!("there is no step {name}"))?)
}

impl Step {
    /// The logical id of the step's function.
    pub(crate) fn logical_id(&self) -> String {
        logical_id(self.function)
    }

    /// Sends the events that happen before, and returns the step's event.
    pub(crate) async fn prepare(&self, service: &Service) -> Result<Value, Trouble> {
        for file in self.before {
            let function = file.split('-').next().unwrap_or_default();
            service.invoke(&logical_id(function), event(file)?).await?;
        }
        match self.event {
            Event::File(file) => event(file),
            Event::Record => record(service).await,
        }
    }
}

fn logical_id(function: &str) -> String {
    let (first, rest) = function.split_at(1);
    format!("{}{rest}Function", first.to_uppercase())
}

/// The contents of a file of `events/`.
pub(crate) fn event(file: &str) -> Result<Value, Trouble> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events").join(format!("{file}.json"));
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// The stream record of bob's referral in its present state.
pub(crate) async fn record(service: &Service) -> Result<Value, Trouble> {
    let table = service.env().required("TABLE_NAME")?;
    let item = service.dynamodb().scan().table_name(table).send().await?.items.unwrap_or_default();
    let is_referral = |item: &&std::collections::HashMap<String, _>| {
        item.get("pk") == Some(&aws_sdk_dynamodb::types::AttributeValue::S("REFEREE#bob".to_owned()))
    };
    let item = item.iter().find(is_referral).ok_or("bob has no referral")?;
    let mut batch = event("rewards-stream")?;
    batch["Records"][0]["dynamodb"]["NewImage"] = serde_json::to_value(serde_dynamo::Item::from(item.clone()))?;
    batch["Records"][0]["eventName"] = json!("MODIFY");
    Ok(batch)
}
