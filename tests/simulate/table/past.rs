//! Earlier states of the table: what an eventually consistent read or a lagging index sees.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Item, Key, Table};

/// The items at an earlier time: the current ones, except for what changed since.
pub(super) struct Past<'a> {
    now: &'a BTreeMap<Key, Item>,
    /// The earlier values at keys that were written since.
    then: BTreeMap<Key, Option<&'a Item>>,
}

impl Table {
    /// The items as they were that many writes ago.
    pub(super) fn as_of(&self, writes: usize) -> Past<'_> {
        let mut then = BTreeMap::new();
        // Latest first, so that of two writes to one key the earlier write determines the value.
        for record in self.records.iter().rev().take(writes) {
            let images = &record["dynamodb"];
            let Ok(key) = Key::read(images.get("Keys")) else { continue };
            then.insert(key, images.get("OldImage").and_then(Value::as_object));
        }
        Past { now: &self.items, then }
    }
}

impl<'a> Past<'a> {
    /// The item at a key.
    pub(super) fn get(&self, key: &Key) -> Option<&'a Item> {
        self.then.get(key).map_or_else(|| self.now.get(key), |then| *then)
    }

    /// Every item, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Item> {
        let unchanged = self.now.iter().filter(|(key, _)| !self.then.contains_key(key)).map(|(_, item)| item);
        unchanged.chain(self.then.values().copied().flatten())
    }
}
