//! Writes of one item, with a condition: put, update and delete.

use serde_json::{Value, json};

use super::{
    DynamoError, Item, Key, Table,
    expression::{Condition, Definitions, Update},
    item, members,
    query::INDEX_KEYS,
    word,
};

/// A parsed write that is not applied yet.
pub(super) struct Write {
    pub(super) key: Key,
    condition: Option<Condition>,
    change: Change,
    /// Whether a refusal returns the existing item.
    returns_old: bool,
}

enum Change {
    Put(Item),
    Update(Option<Update>),
    Delete,
    Nothing,
}

const SHARED: [&str; 5] = [
    "TableName",
    "ConditionExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ReturnValuesOnConditionCheckFailure",
];
/// Members that a single write may have, but not a part of a transaction.
const SINGLE_ONLY: [&str; 2] = ["ReturnValues", "ReturnConsumedCapacity"];

impl Write {
    /// Parses a single write or a part of a transaction (`Put`, `Update`, `Delete` or `ConditionCheck`).
    pub(super) fn read(kind: &str, request: &Value, more: &[&str]) -> Result<Self, DynamoError> {
        let own: &[&str] = match kind {
            "Put" => &["Item"],
            "Update" => &["Key", "UpdateExpression"],
            "Delete" | "ConditionCheck" => &["Key"],
            _ => return Err(DynamoError::validation(format!("{kind} is not supported"))),
        };
        members(request, &[&SHARED[..], own, more].concat())?;
        let definitions = Definitions::of(request)?;
        let condition = definitions.condition(request, "ConditionExpression")?;
        let update = if kind == "Update" { definitions.update(request)? } else { None };
        definitions.all_used(condition.is_some() || update.is_some())?;
        let returns_old =
            word(request, "ReturnValuesOnConditionCheckFailure", &["NONE", "ALL_OLD"])? == Some("ALL_OLD");
        let (key, change) = match kind {
            "Put" => {
                let (key, item) = item::checked_item(&request["Item"])?;
                (key, Change::Put(item))
            }
            "Update" => {
                update.as_ref().map_or(Ok(()), Update::leaves_the_key)?;
                (Key::read(request.get("Key"))?, Change::Update(update))
            }
            "Delete" => (Key::read(request.get("Key"))?, Change::Delete),
            _ if condition.is_none() => return Err(DynamoError::validation("a ConditionCheck has a condition")),
            _ => (Key::read(request.get("Key"))?, Change::Nothing),
        };
        Ok(Self { key, condition, change, returns_old })
    }
}

impl Table {
    pub(super) fn write_item(&mut self, kind: &str, request: &Value) -> Result<Value, DynamoError> {
        let write = Write::read(kind, request, &SINGLE_ONLY)?;
        self.is_named(request)?;
        let returned: &[&str] = if kind == "Update" { &["NONE", "ALL_NEW"] } else { &["NONE", "ALL_OLD"] };
        let returned = word(request, "ReturnValues", returned)?;
        if let Change::Put(item) = &write.change {
            // For a single write, this is checked before the condition. In a transaction it is the write's cancellation
            // reason.
            item::keepable(item, &INDEX_KEYS)?;
        }
        let after = self.outcome(&write)?;
        let image = match returned {
            Some("ALL_OLD") => self.items.get(&write.key).cloned(),
            Some("ALL_NEW") => after.clone(),
            _ => None,
        };
        self.keep(write.key, after);
        Ok(image.map_or_else(|| json!({}), |image| json!({ "Attributes": image })))
    }

    /// The item that the write would leave at its key, unless its condition fails.
    pub(super) fn outcome(&self, write: &Write) -> Result<Option<Item>, DynamoError> {
        let found = self.items.get(&write.key);
        let nothing = Item::new();
        if write.condition.as_ref().is_some_and(|condition| !condition.holds(found.unwrap_or(&nothing))) {
            return Err(DynamoError::condition(found.filter(|_| write.returns_old).cloned()));
        }
        match &write.change {
            Change::Put(item) => {
                item::keepable(item, &INDEX_KEYS)?;
                Ok(Some(item.clone()))
            }
            Change::Update(update) => {
                let mut item = found.cloned().unwrap_or_else(|| write.key.attributes());
                if let Some(update) = update {
                    update.apply(&mut item)?;
                }
                item::keepable(&item, &INDEX_KEYS)?;
                Ok(Some(item))
            }
            Change::Delete => Ok(None),
            Change::Nothing => Ok(found.cloned()),
        }
    }
}
