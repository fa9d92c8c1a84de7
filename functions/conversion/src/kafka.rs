//! Batches from Kafka: each partition in its order, the partitions side by side, and of each the first record that
//! failed given back, from which Lambda brings it again.

use std::{collections::BTreeMap, future::Future};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use lambda_runtime::Error;
use referrals::runtime::Deadline;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout_at;

/// What is read of a batch. The library's type insists on all the rest too, down to the bytes of headers: one odd record
/// would fail its batch for ever. And a record that is put aside is kept as it came.
#[derive(Deserialize)]
struct Batch {
    /// By topic and partition (`orders-0`), which is also how an answer names a partition.
    #[serde(default)]
    records: BTreeMap<String, Vec<Value>>,
}

/// Whether this is a batch from a cluster, Amazon's or one's own.
pub(crate) fn is_batch(payload: &Value) -> bool {
    matches!(payload["eventSource"].as_str(), Some("aws:kafka" | "SelfManagedKafka"))
}

/// Handles the events of a batch, each given with its record, and answers where each partition has to go on. What is
/// still under way when time runs out has failed.
///
/// # Errors
/// When it is no batch; then the whole of it comes again.
pub(crate) async fn each<F, D>(payload: Value, deadline: Deadline, handle: F) -> Result<Value, Error>
where
    F: Fn(Value, Value) -> D,
    D: Future<Output = Result<(), Error>>,
{
    let Batch { records } = serde_json::from_value(payload)?;
    let partitions = records.into_iter().map(|(partition, records)| take(partition, records, deadline, &handle));
    let failures: Vec<Value> = join_all(partitions).await.into_iter().flatten().collect();
    Ok(json!({ "batchItemFailures": failures }))
}

/// Takes the records of a partition one after another, as far as all goes well; the one that failed, if one did.
async fn take<F, D>(partition: String, records: Vec<Value>, deadline: Deadline, handle: &F) -> Option<Value>
where
    F: Fn(Value, Value) -> D,
    D: Future<Output = Result<(), Error>>,
{
    for record in records {
        let Some(event) = event(&record) else { continue };
        let offset = record["offset"].clone();
        match timeout_at(deadline.last_call(), handle(event, record)).await {
            Ok(Ok(())) => continue,
            Ok(Err(problem)) => tracing::warn!(outcome = "failed", partition, %offset, %problem),
            Err(_elapsed) => tracing::warn!(outcome = "out of time", partition, %offset),
        }
        return Some(json!({ "itemIdentifier": { "partition": partition, "offset": offset } }));
    }
    None
}

/// The event that a record holds; what is no JSON becomes `null`, which is no event either. None of it in a tombstone,
/// a record without a value.
fn event(record: &Value) -> Option<Value> {
    let value = record.get("value").filter(|value| !value.is_null())?;
    let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
    Some(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
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

    /// Takes a batch; a record that holds a text fails with it, one that holds `true` never ends. What was taken, and
    /// the answer.
    async fn taken(batch: Value, deadline: Deadline) -> (Vec<Value>, Value) {
        let taken = RefCell::new(Vec::new());
        let answer = each(batch, deadline, |event, record| {
            taken.borrow_mut().push(record["offset"].clone());
            async move {
                match event {
                    Value::String(problem) => Err(problem.into()),
                    Value::Bool(true) => std::future::pending().await,
                    // So that partitions get the chance to overtake each other.
                    _ => {
                        sleep(Duration::from_millis(1)).await;
                        Ok(())
                    }
                }
            }
        });
        let answer = answer.await.unwrap();
        (taken.into_inner(), answer)
    }

    #[test]
    fn both_kinds_of_cluster_are_known_and_nothing_else() {
        assert!(is_batch(&json!({"eventSource": "aws:kafka", "records": {}})));
        assert!(is_batch(&json!({"eventSource": "SelfManagedKafka", "records": {}})));
        for other in [json!(null), json!({"Records": []}), json!({"detail-type": "x", "records": {}})] {
            assert!(!is_batch(&other), "{other}");
        }
    }

    #[tokio::test]
    async fn a_partition_stops_at_its_first_failure_and_no_other_does() {
        let records = json!({
            "orders-0": [record(7, "{}"), record(8, "\"broken\""), record(9, "{}")],
            "orders-1": [record(70, "{}"), record(71, "{}")],
        });
        let (mut all, answer) = taken(batch(records), soon()).await;
        let failed = json!([{"itemIdentifier": {"partition": "orders-0", "offset": 8}}]);
        assert_eq!(answer, json!({ "batchItemFailures": failed }));
        all.sort_by_key(Value::as_u64);
        assert_eq!(all, [7, 8, 70, 71]);
    }

    #[tokio::test]
    async fn partitions_are_side_by_side_and_records_one_after_another() {
        let three = |first| (first..first + 3).map(|offset| record(offset, "{}")).collect::<Value>();
        let (all, answer) = taken(batch(json!({"orders-0": three(0), "orders-1": three(10)})), soon()).await;
        assert_eq!(answer, json!({"batchItemFailures": []}));
        assert_eq!(all[..2], [0, 10], "both have begun before one is done");
        let of = |partition: u64| all.iter().filter_map(Value::as_u64).filter(move |offset| offset / 10 == partition);
        assert!(of(0).is_sorted() && of(1).is_sorted() && all.len() == 6, "{all:?}");
    }

    #[tokio::test]
    async fn what_is_under_way_when_time_runs_out_has_failed() {
        let short = Deadline::after(Duration::from_millis(1020));
        let records =
            json!({"orders-0": [record(1, "{}"), record(2, "true"), record(3, "{}")], "orders-1": [record(4, "{}")]});
        let (_, answer) = taken(batch(records), short).await;
        let failed = json!([{"itemIdentifier": {"partition": "orders-0", "offset": 2}}]);
        assert_eq!(answer, json!({ "batchItemFailures": failed }));
    }

    #[test]
    fn a_tombstone_holds_no_event_and_what_cannot_be_read_an_empty_one() {
        assert_eq!(event(&record(1, "{\"a\":1}")), Some(json!({"a": 1})));
        assert_eq!(event(&json!({"offset": 1, "value": null})), None);
        assert_eq!(event(&json!({"offset": 1})), None);
        for value in [json!("no base 64"), json!(STANDARD.encode("no JSON")), json!({"already": "decoded"}), json!("")]
        {
            assert_eq!(event(&json!({"offset": 1, "value": value})), Some(Value::Null), "{value}");
        }
    }

    #[tokio::test]
    async fn odd_headers_are_nobodys_concern_and_no_batch_is_an_error() {
        let mut odd = record(1, "{}");
        odd["headers"] = json!([{"trace": [255]}, null]);
        assert_eq!(taken(batch(json!({"orders-0": [odd]})), soon()).await.1, json!({"batchItemFailures": []}));
        assert_eq!(taken(json!({"eventSource": "aws:kafka"}), soon()).await.1, json!({"batchItemFailures": []}));
        assert!(each(batch(json!({"orders-0": 7})), soon(), |_, _| async { Ok(()) }).await.is_err());
    }
}
