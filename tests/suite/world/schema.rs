//! The files of `schemas/`: what every event in and out is like, ready to validate with.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::LazyLock};

use jsonschema::Validator;
use referrals::bus::SOURCE;
use serde_json::{Value, json};

/// Every schema by its detail-type, which is the file's name.
pub(crate) static SCHEMAS: LazyLock<BTreeMap<String, Schema>> = LazyLock::new(|| {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let schemas = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    schemas.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), Schema::read(&path))).collect()
});

/// Where they are.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

/// One file: the schema of one type of event, its envelope included.
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

    /// Whether it describes an event that we publish.
    pub(crate) fn is_ours(&self) -> bool {
        is_ours(&self.json)
    }

    /// What is wrong with an event, by this schema; nothing if it is valid.
    pub(crate) fn problems(&self, event: &Value) -> Vec<String> {
        self.validator.iter_errors(event).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

fn is_ours(schema: &Value) -> bool {
    schema["x-amazon-events-source"] == SOURCE
}

/// Contracts grow, so the files leave room for fields to come, and subscribers should too. What we publish is held to
/// what is written: a field that no schema describes is a mistake of one of the two.
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
