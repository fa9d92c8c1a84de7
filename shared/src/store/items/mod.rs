//! Items: the shapes of what the table stores, one file for each shape.

pub mod account;
pub mod code;
pub mod note;
pub mod order;
pub mod referral;
pub mod reversal;

use serde::{Serialize, de::DeserializeOwned};

use super::keys::{self, Item, Key, PK};

/// An item does not have the shape that its key requires.
#[derive(Clone, Debug, thiserror::Error)]
#[error("invalid item {key}: {problem}")]
pub struct InvalidItem {
    key: String,
    problem: String,
}

impl InvalidItem {
    /// Reports a problem with the item that has this key.
    pub(crate) fn at(key: &Item, problem: &serde_dynamo::Error) -> Self {
        let pk = key.get(PK).and_then(|pk| pk.as_s().ok());
        let key = pk.map_or_else(|| NO_KEY.to_owned(), |pk| keys::loggable(pk, None));
        Self { key, problem: problem.to_string() }
    }
}

const NO_KEY: &str = "without a key";

fn to_item(key: &Key, value: &impl Serialize) -> Result<Item, InvalidItem> {
    let mut item: Item = serde_dynamo::to_item(value)
        .map_err(|problem| InvalidItem { key: keys::loggable(key.partition(), None), problem: problem.to_string() })?;
    item.extend(key.attributes());
    Ok(item)
}

fn from_image<T: DeserializeOwned>(image: serde_dynamo::Item) -> Result<T, InvalidItem> {
    let key = key_text(&image);
    serde_dynamo::from_item(image).map_err(|problem| InvalidItem { key, problem: problem.to_string() })
}

/// The partition key of an image, for a message.
fn key_text(image: &serde_dynamo::Item) -> String {
    let text = |name: &str| match image.inner().get(name) {
        Some(serde_dynamo::AttributeValue::S(text)) => Some(text.as_str()),
        _ => None,
    };
    text(PK).map_or_else(|| NO_KEY.to_owned(), |pk| keys::loggable(pk, text(keys::CORRELATION_ID)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_item_is_named_without_the_id_of_a_user() {
        let image = |pk: &str, more: serde_json::Value| -> serde_dynamo::Item {
            let mut image = serde_json::json!({"pk": {"S": pk}});
            image.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(image).unwrap()
        };
        let stored = serde_json::json!({"correlation_id": {"S": "0123456789abcdef"}});
        let none = serde_json::json!({});
        for (pk, more, expected) in [
            ("REFEREE#4711", &stored, "REFEREE#0123456789abcdef"),
            ("REFEREE#4711", &none, &*format!("REFEREE#{}", crate::domain::id::hashed("4711"))),
            ("USER#4711", &none, "USER"),
            ("CODE#ADA", &none, "CODE#ADA"),
        ] {
            assert_eq!(key_text(&image(pk, more.clone())), expected);
        }
    }
}
