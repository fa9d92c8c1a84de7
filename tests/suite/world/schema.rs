//! The files of `schemas/`, which describe every event in and out, ready for validation.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::LazyLock};

use jsonschema::Validator;
use referrals::aws::bus::SOURCE;
use serde_json::{Value, json};

/// Every schema, by its detail-type, which is the file's name.
pub(crate) static SCHEMAS: LazyLock<BTreeMap<String, Schema>> = LazyLock::new(|| {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let schemas = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    schemas.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), Schema::read(&path))).collect()
});

/// The directory with the schemas.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

/// The schema of one event type, including the envelope.
pub(crate) struct Schema {
    pub(crate) text: String,
    pub(crate) json: Value,
    validator: Validator,
}

impl Schema {
    fn read(path: &PathBuf) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|problem| panic!("{path:?}: {problem}"));
        let strict = if is_ours(&json) { closed(&json) } else { json.clone() };
        let validator = jsonschema::draft4::options().should_validate_formats(true).build(&strict);
        Self { text, validator: validator.unwrap_or_else(|problem| panic!("{path:?}: {problem}")), json }
    }

    /// Whether this schema describes an event that the service publishes.
    pub(crate) fn is_ours(&self) -> bool {
        is_ours(&self.json)
    }

    /// The violations of this schema by an event; empty if the event is valid.
    pub(crate) fn problems(&self, event: &Value) -> Vec<String> {
        self.validator.iter_errors(event).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

fn is_ours(schema: &Value) -> bool {
    schema["x-amazon-events-source"] == SOURCE
}

/// Disallows additional properties. The files allow them, because later versions add fields and subscribers should
/// accept these. But a published event must match its schema exactly: a field without a description is an error in the
/// schema or in the code.
fn closed(schema: &Value) -> Value {
    let mut closed = schema.clone();
    for definition in closed["definitions"].as_object_mut().unwrap().values_mut() {
        if definition["type"] == "object" {
            definition["additionalProperties"] = json!(false);
        }
    }
    closed["additionalProperties"] = json!(false);
    closed
}
