//! Batches from Kafka. Partitions are processed concurrently, and the records of a partition in their order. The answer
//! names the first failed record of each partition. Lambda delivers again from this record on.

use std::{collections::BTreeMap, future::Future};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use lambda_runtime::Error;
use referrals::{
    domain::time::Timestamp,
    runtime::{Deadline, log_outcome::LogOutcome},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout_at;

/// The parts of a batch that this function needs. The type of the library requires all other fields too, including the
/// bytes of headers, so one unusual record would fail its batch forever. Records stay JSON values, because a quarantined
/// record is stored unchanged.
#[derive(Deserialize)]
struct Batch {
    /// The records by topic and partition (`orders-0`). The answer names a partition in the same way.
    #[serde(default)]
    records: BTreeMap<String, Vec<Value>>,
}

/// Whether this is a batch from Kafka: from an Amazon MSK cluster or a self-managed one.
pub(crate) fn is_batch(payload: &Value) -> bool {
    matches!(payload["eventSource"].as_str(), Some("aws:kafka" | "SelfManagedKafka"))
}

/// Handles the events of a batch, each with its record, and returns the records from which partitions must continue.
/// Records that are not finished at the deadline have failed.
///
/// # Errors
/// Returns an error when the payload is not a batch. Lambda then delivers all of it again.
pub(crate) async fn each<F, D>(payload: Value, deadline: Deadline, handle: F) -> Result<Value, Error>
where
    F: Fn(Value, Value) -> D,
    D: Future<Output = Result<(), Error>>,
{
    let Batch { records } = serde_json::from_value(payload)?;
    let partitions = records.into_iter().map(|(partition, records)| each_record(partition, records, deadline, &handle));
    let failures: Vec<Value> = join_all(partitions).await.into_iter().flatten().collect();
    Ok(json!({ "batchItemFailures": failures }))
}

/// Handles the records of a partition one after another, and returns the first one that failed.
async fn each_record<F, D>(partition: String, records: Vec<Value>, deadline: Deadline, handle: &F) -> Option<Value>
where
    F: Fn(Value, Value) -> D,
    D: Future<Output = Result<(), Error>>,
{
    for record in records {
        let Some(event) = event(&record) else { continue };
        let offset = record["offset"].clone();
        match timeout_at(deadline.last_call(), handle(event, record)).await {
            Ok(Ok(())) => continue,
            Ok(Err(problem)) => {
                tracing::warn!(outcome = LogOutcome::Failed.as_str(), partition, %offset, %problem);
            }
            Err(_elapsed) => {
                tracing::warn!(outcome = LogOutcome::OutOfTime.as_str(), partition, %offset);
            }
        }
        return Some(json!({ "itemIdentifier": { "partition": partition, "offset": offset } }));
    }
    None
}

/// The event in a record. A value that is not JSON becomes `null`, which is an invalid event. A tombstone, which is a record
/// without a value, holds no event.
fn event(record: &Value) -> Option<Value> {
    let value = record.get("value").filter(|value| !value.is_null())?;
    let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
    Some(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// Gives an event without a time that of its record, which the producer or the broker has set.
pub(crate) fn date(event: &mut Value, record: &Value) {
    if let (Some(event), Some(at)) = (event.as_object_mut(), timestamp(record))
        && event.get("time").is_none_or(Value::is_null)
    {
        event.insert("time".to_owned(), at.to_string().into());
    }
}

/// When the broker stored a record, if the topic has its records dated by the broker. A time from the producer's clock says
/// nothing about the receipt.
pub(crate) fn appended_at(record: &Value) -> Option<Timestamp> {
    let is_of_broker = record["timestampType"] == "LOG_APPEND_TIME";
    timestamp(record).filter(|_| is_of_broker)
}

fn timestamp(record: &Value) -> Option<Timestamp> {
    record["timestamp"].as_i64().and_then(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use tokio::time::sleep;

    use super::*;

    fn record(offset: u64, value: &str) -> Value {
        json!({"topic": "orders", "partition": 0, "offset": offset, "timestamp": 1, "value": STANDARD.encode(value)})
    }

    fn batch(records: Value) -> Value {
        json!({"eventSource": "aws:kafka", "records": records})
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    /// Handles a batch: a record with a string fails, and one with `true` never ends. Returns the offsets of the records
    /// that were started, and the answer.
    async fn handled(batch: Value, deadline: Deadline) -> (Vec<Value>, Value) {
        let started = RefCell::new(Vec::new());
        let answer = each(batch, deadline, |event, record| {
            started.borrow_mut().push(record["offset"].clone());
            async move {
                match event {
                    Value::String(problem) => Err(problem.into()),
                    Value::Bool(true) => std::future::pending().await,
                    // Gives the other partitions a chance to run.
                    _ => {
                        sleep(Duration::from_millis(1)).await;
                        Ok(())
                    }
                }
            }
        });
        let answer = answer.await.unwrap();
        (started.into_inner(), answer)
    }

    #[test]
    fn an_event_without_a_time_has_that_of_its_record() {
        let dated = |mut event: Value, record: Value| {
            date(&mut event, &record);
            event
        };
        let record = json!({"timestamp": 1_000, "timestampType": "CREATE_TIME"});
        let of_record = json!({"time": "1970-01-01T00:00:01.000Z"});
        assert_eq!(dated(json!({}), record.clone()), of_record);
        assert_eq!(dated(json!({"time": null}), record.clone()), of_record);
        let own = json!({"time": "2026-01-31T09:30:00Z"});
        assert_eq!(dated(own.clone(), record.clone()), own);
        assert_eq!(dated(json!("text"), record), json!("text"));
        assert_eq!(dated(json!({}), json!({"timestamp": -1})), json!({}));
    }

    #[test]
    fn batches_of_both_kinds_of_cluster_are_recognized() {
        assert!(is_batch(&json!({"eventSource": "aws:kafka", "records": {}})));
        assert!(is_batch(&json!({"eventSource": "SelfManagedKafka", "records": {}})));
        for other in [json!(null), json!({"Records": []}), json!({"detail-type": "x", "records": {}})] {
            assert!(!is_batch(&other), "{other}");
        }
    }

    #[tokio::test]
    async fn only_the_partition_with_a_failed_record_stops() {
        let records = json!({
            "orders-0": [record(7, "{}"), record(8, "\"broken\""), record(9, "{}")],
            "orders-1": [record(70, "{}"), record(71, "{}")],
        });
        let (mut all, answer) = handled(batch(records), soon()).await;
        let failed = json!([{"itemIdentifier": {"partition": "orders-0", "offset": 8}}]);
        assert_eq!(answer, json!({ "batchItemFailures": failed }));
        all.sort_by_key(Value::as_u64);
        assert_eq!(all, [7, 8, 70, 71]);
    }

    #[tokio::test]
    async fn partitions_run_concurrently_and_their_records_in_order() {
        let three = |first| (first..first + 3).map(|offset| record(offset, "{}")).collect::<Value>();
        let (all, answer) = handled(batch(json!({"orders-0": three(0), "orders-1": three(10)})), soon()).await;
        assert_eq!(answer, json!({"batchItemFailures": []}));
        assert_eq!(all[..2], [0, 10], "both start before one is finished");
        let of = |partition: u64| all.iter().filter_map(Value::as_u64).filter(move |offset| offset / 10 == partition);
        assert!(of(0).is_sorted() && of(1).is_sorted() && all.len() == 6, "{all:?}");
    }

    #[tokio::test]
    async fn a_record_that_is_not_finished_at_the_deadline_has_failed() {
        let short = Deadline::after(Duration::from_millis(1020));
        let records =
            json!({"orders-0": [record(1, "{}"), record(2, "true"), record(3, "{}")], "orders-1": [record(4, "{}")]});
        let (_, answer) = handled(batch(records), short).await;
        let failed = json!([{"itemIdentifier": {"partition": "orders-0", "offset": 2}}]);
        assert_eq!(answer, json!({ "batchItemFailures": failed }));
    }

    #[test]
    fn a_tombstone_holds_no_event_and_an_invalid_value_is_null() {
        assert_eq!(event(&record(1, "{\"a\":1}")), Some(json!({"a": 1})));
        assert_eq!(event(&json!({"offset": 1, "value": null})), None);
        assert_eq!(event(&json!({"offset": 1})), None);
        for value in [json!("no base 64"), json!(STANDARD.encode("no JSON")), json!({"already": "decoded"}), json!("")]
        {
            assert_eq!(event(&json!({"offset": 1, "value": value})), Some(Value::Null), "{value}");
        }
    }

    #[test]
    fn only_the_brokers_time_is_the_time_of_receipt() {
        let appended = |kind: &str| appended_at(&json!({"timestamp": 1_769_851_800_120_i64, "timestampType": kind}));
        assert_eq!(appended("LOG_APPEND_TIME"), Timestamp::from_millis(1_769_851_800_120));
        assert_eq!(appended("CREATE_TIME"), None);
        assert_eq!(appended_at(&json!({"timestampType": "LOG_APPEND_TIME"})), None);
    }

    #[tokio::test]
    async fn headers_are_ignored_and_an_invalid_batch_is_an_error() {
        let mut odd = record(1, "{}");
        odd["headers"] = json!([{"trace": [255]}, null]);
        assert_eq!(handled(batch(json!({"orders-0": [odd]})), soon()).await.1, json!({"batchItemFailures": []}));
        assert_eq!(handled(json!({"eventSource": "aws:kafka"}), soon()).await.1, json!({"batchItemFailures": []}));
        assert!(each(batch(json!({"orders-0": 7})), soon(), |_, _| async { Ok(()) }).await.is_err());
    }
}
