//! Items and values in DynamoDB's JSON: validation, canonical form and size.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::{DynamoError, number::Number};

/// An item: attribute names and values such as `{"S": "text"}`.
pub(crate) type Item = Map<String, Value>;

/// The table's partition key.
pub(crate) const PK: &str = "pk";
/// The table's sort key.
pub(crate) const SK: &str = "sk";

/// The largest item, in bytes.
const MAX_BYTES: usize = 400 * 1024;

/// An item's primary key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

impl Key {
    /// Parses a request's `Key`, which must contain only the key.
    pub(crate) fn read(key: Option<&Value>) -> Result<Self, DynamoError> {
        match key.and_then(Value::as_object) {
            Some(attributes) if attributes.len() == 2 => Self::of(attributes),
            _ => Err(DynamoError::validation("The provided key element does not match the schema")),
        }
    }

    /// The key of an item to be written.
    pub(crate) fn of(item: &Item) -> Result<Self, DynamoError> {
        let part = |name: &str| match item.get(name).map(parts) {
            Some(("S", Value::String(text))) if !text.is_empty() => Ok(text.clone()),
            Some(("S", _)) => Err(DynamoError::validation(format!(
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an \
                 empty string value. Key: {name}"
            ))),
            Some(_) | None => Err(DynamoError::validation("The provided key element does not match the schema")),
        };
        Ok(Self { pk: part(PK)?, sk: part(SK)? })
    }

    /// The key as an item.
    pub(crate) fn attributes(&self) -> Item {
        Item::from_iter([(PK.to_owned(), json!({ "S": self.pk })), (SK.to_owned(), json!({ "S": self.sk }))])
    }
}

/// A value's type and content; a [`checked`] value has both.
pub(crate) fn parts(value: &Value) -> (&str, &Value) {
    let part = value.as_object().and_then(|value| value.iter().next());
    part.map_or(("", &Value::Null), |(kind, content)| (kind.as_str(), content))
}

/// The text of a string value.
pub(crate) fn text(value: &Value) -> Option<&str> {
    value.get("S").and_then(Value::as_str)
}

/// Validates a value and returns its canonical form: numbers without redundant zeros, sets sorted.
pub(crate) fn checked(value: &Value) -> Result<Value, DynamoError> {
    let invalid = |what: &str| DynamoError::validation(format!("One or more parameter values were invalid: {what}"));
    let Some(value) = value.as_object() else { return Err(DynamoError::serialization()) };
    let [(kind, content)] = value.iter().collect::<Vec<_>>()[..] else {
        return Err(DynamoError::validation(
            "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported \
             datatypes",
        ));
    };
    let number = |text: &Value| {
        let number = text.as_str().and_then(Number::read);
        number.map(|number| number.to_string()).ok_or_else(|| invalid("the number is invalid"))
    };
    let content = match (kind.as_str(), content) {
        ("S", Value::String(_)) | ("BOOL", Value::Bool(_)) | ("NULL", Value::Bool(true)) => content.clone(),
        ("N", content) => Value::from(number(content)?),
        ("M", Value::Object(map)) => {
            map.iter().map(|(name, value)| Ok((name.clone(), checked(value)?))).collect::<Result<Item, _>>()?.into()
        }
        ("L", Value::Array(list)) => list.iter().map(checked).collect::<Result<Vec<_>, _>>()?.into(),
        ("SS" | "NS", Value::Array(members)) => {
            let member = |member: &Value| match (kind.as_str(), member) {
                ("NS", number_) => number(number_),
                (_, Value::String(text)) => Ok(text.clone()),
                _ => Err(invalid("a set has a member of another type")),
            };
            let mut kept = members.iter().map(member).collect::<Result<Vec<_>, _>>()?;
            kept.sort();
            kept.dedup();
            match (members.len(), kept.len()) {
                (0, _) => return Err(invalid("An empty set is not allowed")),
                (given, kept) if given != kept => return Err(invalid("Input collection contains duplicates")),
                _ => kept.into(),
            }
        }
        ("B" | "BS", _) => return Err(DynamoError::validation("binary values are not supported")),
        _ => return Err(DynamoError::serialization()),
    };
    Ok(json!({ kind.as_str(): content }))
}

/// Validates an item and returns its key and its canonical form.
pub(crate) fn checked_item(item: &Value) -> Result<(Key, Item), DynamoError> {
    let Some(item) = item.as_object() else { return Err(DynamoError::serialization()) };
    for name in [PK, SK] {
        if !item.contains_key(name) {
            return Err(DynamoError::validation(format!(
                "One or more parameter values were invalid: Missing the key {name} in the item"
            )));
        }
        if item[name].get("S").is_none() {
            return Err(DynamoError::validation(format!(
                "One or more parameter values were invalid: Type mismatch for key {name}"
            )));
        }
    }
    let key = Key::of(item)?;
    let item = item.iter().map(|(name, value)| Ok((name.clone(), checked(value)?))).collect::<Result<Item, _>>()?;
    Ok((key, item))
}

/// Refuses an item that the table cannot store: one that is too large, or whose index key is not a string.
pub(crate) fn keepable(item: &Item, index_keys: &[&str]) -> Result<(), DynamoError> {
    for name in index_keys {
        if item.get(*name).is_some_and(|value| text(value).is_none_or(str::is_empty)) {
            return Err(DynamoError::validation(format!(
                "One or more parameter values were invalid: Type mismatch for Index Key {name} or an empty string"
            )));
        }
    }
    match size(item) {
        size if size > MAX_BYTES => Err(DynamoError::validation("Item size has exceeded the maximum allowed size")),
        _ => Ok(()),
    }
}

/// An item's approximate size in bytes.
pub(crate) fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn value_size(value: &Value) -> usize {
    match parts(value) {
        ("M", Value::Object(map)) => 3 + size(map) + map.len(),
        ("L", Value::Array(list)) => 3 + list.iter().map(value_size).sum::<usize>() + list.len(),
        ("N", Value::String(digits)) => digits.len().div_ceil(2) + 1,
        (_, Value::Array(members)) => members.iter().filter_map(Value::as_str).map(str::len).sum(),
        (_, Value::String(text)) => text.len(),
        _ => 1,
    }
}

/// Compares two values; `None` if their types differ or have no order.
pub(crate) fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (parts(one), parts(other)) {
        (("S", Value::String(one)), ("S", Value::String(other))) => Some(one.as_bytes().cmp(other.as_bytes())),
        (("N", Value::String(one)), ("N", Value::String(other))) => Some(Number::read(one)?.cmp(&Number::read(other)?)),
        _ => None,
    }
}
