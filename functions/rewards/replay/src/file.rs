//! The files: invocation records that Lambda wrote to the bucket of failed records, copied to a folder.
//!
//! Lambda writes one object per batch that it gave up: metadata, and in `payload` the whole event as escaped JSON.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

/// The content of a file.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// A batch of the table's stream.
    Stream {
        /// The name of the function that could not process it.
        function: String,
        /// The records.
        records: Vec<Value>,
    },
    /// A batch of another event source, such as Kafka.
    OtherSource,
}

/// A file that is not an invocation record.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It cannot be read from the disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not JSON, or a field is missing.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It has no records.
    #[error("the payload is not a batch of stream records")]
    NotABatch,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InvocationRecord {
    request_context: RequestContext,
    #[serde(rename = "DDBStreamBatchInfo")]
    stream: Option<IgnoredAny>,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    function_arn: String,
}

/// All files in this folder and its subfolders, sorted. The names of the objects begin with shard and time.
///
/// # Errors
/// Returns an error when a folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => found.extend(files(&entry.path())?),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file.
///
/// # Errors
/// Returns an error when it is not an invocation record with its event.
pub fn read(path: &Path) -> Result<Content, Unreadable> {
    parse(&fs::read_to_string(path)?)
}

fn parse(text: &str) -> Result<Content, Unreadable> {
    let record: InvocationRecord = serde_json::from_str(text)?;
    if record.stream.is_none() {
        return Ok(Content::OtherSource);
    }
    let mut event = match record.payload {
        Value::String(escaped) => serde_json::from_str(&escaped)?,
        event => event,
    };
    let Value::Array(records) = event["Records"].take() else { return Err(Unreadable::NotABatch) };
    // arn:aws:lambda:REGION:ACCOUNT:function:NAME, perhaps with a version behind it.
    let function = record.request_context.function_arn.split(':').nth(6).unwrap_or_default().to_owned();
    Ok(Content::Stream { function, records })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(payload: &Value) -> Value {
        json!({
            "requestContext": {
                "requestId": "316aa6d0-8154-4bd5-9af7-85d5f4a6bc81",
                "functionArn": "arn:aws:lambda:us-east-2:123456789012:function:referrals-RewardsFunction-1:live",
                "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 11
            },
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "version": "1.0", "timestamp": "2026-11-14T00:13:49.717Z",
            "DDBStreamBatchInfo": {"shardId": "shardId-00000001573689847184-864758bb", "batchSize": 1},
            "payload": payload
        })
    }

    #[test]
    fn the_payload_is_the_escaped_event() {
        let event = json!({"Records": [{"eventID": "1"}]});
        let expected = Content::Stream {
            function: "referrals-RewardsFunction-1".to_owned(),
            records: vec![json!({"eventID": "1"})],
        };
        assert_eq!(parse(&record(&json!(event.to_string())).to_string()).unwrap(), expected);
        assert_eq!(parse(&record(&event).to_string()).unwrap(), expected);
    }

    #[test]
    fn other_sources_are_recognised_and_other_files_refused() {
        let mut kafka = record(&json!("{}"));
        kafka.as_object_mut().unwrap().remove("DDBStreamBatchInfo");
        assert_eq!(parse(&kafka.to_string()).unwrap(), Content::OtherSource);
        for broken in [json!({}), json!("text"), record(&json!("{}")), record(&json!("{")), record(&Value::Null)] {
            assert!(parse(&broken.to_string()).is_err(), "{broken}");
        }
        assert!(parse("").is_err());
    }
}
