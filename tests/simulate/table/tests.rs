//! Tests of the in-memory table where the differential tests compare nothing or ignore differences.

use std::sync::{Arc, Mutex};

use referrals::store::{Attributed, Store};
use serde_json::{Value, json};

use super::{Table, connector, differential::client};

fn table(items: &[Value]) -> Table {
    let mut table = Table::new("t");
    for item in items {
        table.answer("PutItem", &json!({ "TableName": "t", "Item": item })).unwrap();
    }
    table
}

fn item(more: Value) -> Value {
    let mut item = json!({ "pk": { "S": "p" }, "sk": { "S": "s" } });
    item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    item
}

/// Whether a condition holds for an item with these attributes; `Err` if the condition is refused.
fn holds(attributes: Value, condition: &str, values: Value) -> Result<bool, String> {
    let mut names = serde_json::Map::new();
    for name in ["a", "b", "c"] {
        if condition.contains(&format!("#{name}")) {
            names.insert(format!("#{name}"), json!(name));
        }
    }
    let mut request = json!({
        "TableName": "t", "Key": { "pk": { "S": "p" }, "sk": { "S": "s" } }, "ConditionExpression": condition,
    });
    if !names.is_empty() {
        request["ExpressionAttributeNames"] = names.into();
    }
    if values.as_object().is_some_and(|values| !values.is_empty()) {
        request["ExpressionAttributeValues"] = values;
    }
    match table(&[item(attributes)]).answer("UpdateItem", &request) {
        Ok(_) => Ok(true),
        Err(problem) if problem.code == "ConditionalCheckFailedException" => Ok(false),
        Err(problem) => {
            assert_eq!(problem.code, "ValidationException");
            Err(problem.message)
        }
    }
}

#[test]
fn a_missing_attribute_is_unequal_and_not_comparable() {
    let one = || json!({ ":v": { "N": "1" } });
    for (condition, expected) in [
        ("#a <> :v", true),
        ("#a = :v", false),
        ("#a < :v", false),
        ("#a >= :v", false),
        ("NOT #a = :v", true),
        ("#a IN (:v)", false),
        ("NOT #a BETWEEN :v AND :v", true),
        ("size(#a) < :v", false),
        ("contains(#a, :v)", false),
    ] {
        assert_eq!(holds(json!({}), condition, one()), Ok(expected), "{condition}");
    }
}

#[test]
fn types_that_do_not_compare_are_unequal() {
    let text = || json!({ "a": { "S": "1" } });
    for (condition, expected) in [("#a = :v", false), ("#a <> :v", true), ("#a < :v", false), ("#a > :v", false)] {
        assert_eq!(holds(text(), condition, json!({ ":v": { "N": "1" } })), Ok(expected), "{condition}");
    }
    assert!(holds(text(), "#a < :v", json!({ ":v": { "BOOL": true } })).unwrap_err().contains("operand type: BOOL"));
    assert_eq!(holds(json!({ "a": { "BOOL": true } }), "#a < :v", json!({ ":v": { "N": "1" } })), Ok(false));
}

#[test]
fn not_binds_before_and_and_and_before_or() {
    let attributes = || json!({ "a": { "N": "1" }, "b": { "N": "2" } });
    let values = || json!({ ":one": { "N": "1" } });
    for (condition, expected) in [
        ("#a = :one OR #a = :one AND #b = :one", true),
        ("(#a = :one OR #a = :one) AND #b = :one", false),
        ("NOT #b = :one OR #a <> :one", true),
        ("NOT (#b = :one OR #a = :one)", false),
        ("NOT #b = :one AND #a = :one", true),
    ] {
        assert_eq!(holds(attributes(), condition, values()), Ok(expected), "{condition}");
    }
}

#[test]
fn numbers_are_equal_by_value_and_sets_without_order() {
    let values = || json!({ ":v": { "N": "1.00" } });
    assert_eq!(holds(json!({ "a": { "N": "1" } }), "#a = :v", values()), Ok(true));
    assert_eq!(holds(json!({ "a": { "N": "10e-1" } }), "#a IN (:v)", values()), Ok(true));
    assert_eq!(holds(json!({ "a": { "NS": ["1", "2"] } }), "contains(#a, :v)", values()), Ok(true));
    let set = json!({ ":v": { "SS": ["y", "x"] } });
    assert_eq!(holds(json!({ "a": { "SS": ["x", "y"] } }), "#a = :v", set), Ok(true));
    assert_eq!(holds(json!({ "a": { "SS": ["x", "y"] } }), "size(#a) = :v", json!({ ":v": { "N": "2" } })), Ok(true));
}

#[test]
fn unsupported_requests_are_refused() {
    let values = || json!({ ":v": { "N": "1" } });
    for condition in [
        "#a.b = :v",
        "#a[0] = :v",
        "a = :v",
        "#a = :v AND",
        "#a = = :v",
        "#a = :v)",
        "(#a = :v",
        "attribute_type(#a, :v)",
        "Attribute_Exists(#a) AND #b = :v",
        "attribute_exists(:v)",
        "#a = :v ; #a = :v",
        "#a = #a AND #b = :v",
        "#a == :v",
    ] {
        assert!(holds(json!({}), condition, values()).is_err(), "{condition}");
    }
    assert!(holds(json!({}), "", json!({})).unwrap_err().contains("empty"));
    assert!(holds(json!({}), "#a = :other", values()).unwrap_err().contains("not defined"));
    let spare = json!({ ":v": { "N": "1" }, ":w": { "N": "1" } });
    assert!(holds(json!({}), "#a = :v", spare).unwrap_err().contains("unused"));
    let mut table = table(&[]);
    for (operation, request) in [
        ("GetItem", json!({ "TableName": "t", "Key": item(json!({})), "ProjectionExpression": "a" })),
        ("Query", json!({ "TableName": "t", "FilterExpression": "a" })),
        ("Scan", json!({ "TableName": "t" })),
        ("PutItem", json!({ "TableName": "other", "Item": item(json!({})) })),
    ] {
        assert!(table.answer(operation, &request).is_err(), "{operation} {request}");
    }
}

#[test]
fn a_write_that_changes_nothing_makes_no_record() {
    let same = || item(json!({ "a": { "N": "1.0" }, "s": { "SS": ["b", "a"] } }));
    let mut table = table(&[same(), same(), item(json!({ "a": { "N": "1" }, "s": { "SS": ["a", "b"] } }))]);
    assert_eq!(table.records().len(), 1);
    table.answer("DeleteItem", &json!({ "TableName": "t", "Key": item(json!({})) })).unwrap();
    table.answer("DeleteItem", &json!({ "TableName": "t", "Key": item(json!({})) })).unwrap();
    let names: Vec<_> = table.records().iter().map(|record| record["eventName"].clone()).collect();
    assert_eq!(names, ["INSERT", "REMOVE"]);
}

#[test]
fn a_record_has_the_shape_of_lambdas_record() {
    let table = table(&[item(json!({ "a": { "N": "1" } }))]);
    let real: Value = serde_json::from_str(include_str!("../../../events/rewards-stream.json")).unwrap();
    let members = |record: &Value| record.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let (real, ours) = (&real["Records"][0], &table.records()[0]);
    assert_eq!(members(real), members(ours));
    assert_eq!(members(&real["dynamodb"]), members(&ours["dynamodb"]));
}

#[test]
fn an_index_can_lag_behind_but_the_table_cannot() {
    let place = |at: &str| item(json!({ "work": { "S": "due#1" }, "due_at": { "S": at } }));
    let mut table = table(&[place("1"), place("2")]);
    let query = json!({
        "TableName": "t", "IndexName": "work", "KeyConditionExpression": "#w = :w",
        "ExpressionAttributeNames": { "#w": "work" }, "ExpressionAttributeValues": { ":w": { "S": "due#1" } },
    });
    for (lag, seen) in [(0, json!("2")), (1, json!("1")), (2, Value::Null), (9, Value::Null)] {
        table.lag_indexes(lag);
        let answer = table.answer("Query", &query).unwrap();
        assert_eq!(answer["Items"][0]["due_at"]["S"], seen, "{lag}");
    }
    let get = json!({ "TableName": "t", "Key": item(json!({})) });
    assert_eq!(table.answer("GetItem", &get).unwrap()["Item"]["due_at"]["S"], "2");
}

#[test]
fn a_batch_read_can_leave_keys_unprocessed() {
    let mut table = Table::new("t");
    let keys: Vec<_> = ["1", "2", "3"].map(|pk| json!({ "pk": { "S": pk }, "sk": { "S": "s" } })).into();
    for key in &keys {
        table.answer("PutItem", &json!({ "TableName": "t", "Item": key })).unwrap();
    }
    table.limit_batches(2);
    let answer = table.answer("BatchGetItem", &json!({ "RequestItems": { "t": { "Keys": keys } } })).unwrap();
    assert_eq!(answer["Responses"]["t"].as_array().unwrap().len(), 2);
    let rest = table.answer("BatchGetItem", &json!({ "RequestItems": answer["UnprocessedKeys"] })).unwrap();
    assert_eq!(rest["Responses"]["t"].as_array().unwrap().len(), 1);
    assert_eq!(rest["UnprocessedKeys"], json!({}));
}

#[test]
fn a_token_applies_once_and_expires_after_ten_minutes() {
    let mut table = Table::new("t");
    let add = |amount: &str| {
        json!({ "ClientRequestToken": "x", "TransactItems": [{ "Update": {
            "TableName": "t", "Key": item(json!({})), "UpdateExpression": "ADD #a :v",
            "ExpressionAttributeNames": { "#a": "a" }, "ExpressionAttributeValues": { ":v": { "N": amount } },
        }}]})
    };
    let sum = |table: &Table| table.items().values().next().unwrap()["a"]["N"].clone();
    table.answer("TransactWriteItems", &add("1")).unwrap();
    table.answer("TransactWriteItems", &add("1")).unwrap();
    assert_eq!(sum(&table), "1");
    let problem = table.answer("TransactWriteItems", &add("2")).unwrap_err();
    assert_eq!(problem.code, "IdempotentParameterMismatchException");
    table.set_now(10 * 60 * 1000);
    table.answer("TransactWriteItems", &add("2")).unwrap();
    assert_eq!(sum(&table), "3");
}

/// Prints the time per call without asserting it. `MEASURE` sets the number of calls.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "measures what a call costs")]
async fn the_store_works_over_the_wire() {
    let table = Arc::new(Mutex::new(Table::new("t")));
    let store = Store::new(&client("http://table.invalid", connector::connector(&table)), "t");
    let calls: u32 = std::env::var("MEASURE").ok().and_then(|calls| calls.parse().ok()).unwrap_or(50);
    let began = std::time::Instant::now();
    for call in 0..calls {
        let referral = super::differential::referral(&format!("user-{}", call % 1000));
        let attributed = store.attribute(referral.clone()).await.unwrap();
        assert_eq!(matches!(attributed, Attributed::New(_)), call < 1000);
        assert_eq!(store.referral(&referral.referee).await.unwrap(), Some(referral));
    }
    println!("{calls} puts and gets through the store: {:?} each call", began.elapsed() / (2 * calls));

    let key = table.lock().unwrap().items().keys().next().unwrap().attributes();
    let request = json!({ "TableName": "t", "Key": key, "ConsistentRead": true });
    let mut table = table.lock().unwrap();
    let put = json!({
        "TableName": "t", "Item": table.answer("GetItem", &request).unwrap()["Item"],
        "ConditionExpression": "attribute_not_exists(#pk)", "ExpressionAttributeNames": { "#pk": "pk" },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    let began = std::time::Instant::now();
    for _ in 0..calls {
        table.answer("GetItem", &request).unwrap();
        table.answer("PutItem", &put).unwrap_err();
    }
    println!("the table alone: {:?} each call", began.elapsed() / (2 * calls));
}
