//! Items: the shapes of what the table stores, one file for each shape.

pub mod account;
pub mod code;
pub mod referral;

use serde::{Serialize, de::DeserializeOwned};

use super::keys::{Item, Key, PK};
use crate::domain::id;

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
        Self { key: pk.map_or_else(|| NO_KEY.to_owned(), |pk| loggable(pk)), problem: problem.to_string() }
    }
}

const NO_KEY: &str = "without a key";

fn to_item(key: &Key, value: &impl Serialize) -> Result<Item, InvalidItem> {
    let mut item: Item = serde_dynamo::to_item(value)
        .map_err(|problem| InvalidItem { key: loggable(key.partition()), problem: problem.to_string() })?;
    item.extend(key.attributes());
    Ok(item)
}

fn from_image<T: DeserializeOwned>(image: serde_dynamo::Item) -> Result<T, InvalidItem> {
    let key = key_text(&image);
    serde_dynamo::from_item(image).map_err(|problem| InvalidItem { key, problem: problem.to_string() })
}

/// The partition key for a message, with its id hashed as in all log lines.
fn key_text(image: &serde_dynamo::Item) -> String {
    match image.inner().get(PK) {
        Some(serde_dynamo::AttributeValue::S(pk)) => loggable(pk),
        _ => NO_KEY.to_owned(),
    }
}

fn loggable(pk: &str) -> String {
    let (kind, id) = pk.split_once('#').unwrap_or(("", pk));
    format!("{kind}#{}", id::hashed(id))
}
