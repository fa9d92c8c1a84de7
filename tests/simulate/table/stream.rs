//! The table's stream: one record for each write that changed an item, in the form that Lambda receives.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Item, Key, Table, item};

impl Table {
    /// Applies the change of another table's stream record.
    pub(crate) fn follow(&mut self, record: &Value) -> Result<(), String> {
        let image = |name: &str| record["dynamodb"][name].as_object().cloned();
        let key = Key::read(record["dynamodb"].get("Keys")).map_err(|problem| problem.message)?;
        if self.items.get(&key) != image("OldImage").as_ref() {
            return Err(format!("{} {}: its old image differs from the stored item", key.pk, key.sk));
        }
        self.keep(key, image("NewImage"));
        Ok(())
    }

    /// Replaces the item at the key and adds a stream record, unless nothing changes.
    pub(super) fn keep(&mut self, key: Key, after: Option<Item>) {
        if self.items.get(&key) == after.as_ref() {
            return;
        }
        let (keys, new) = (key.attributes(), after.clone());
        let old = match after {
            Some(item) => self.items.insert(key, item),
            None => self.items.remove(&key),
        };
        let record = self.record(keys, old, new);
        self.records.push(Arc::new(record));
    }

    fn record(&self, keys: Item, old: Option<Item>, new: Option<Item>) -> Value {
        let number = self.records.len() + 1;
        let name = match (&old, &new) {
            (None, _) => "INSERT",
            (Some(_), Some(_)) => "MODIFY",
            (Some(_), None) => "REMOVE",
        };
        let size = item::size(&keys) + [&old, &new].into_iter().flatten().map(item::size).sum::<usize>();
        let mut change = json!({
            "ApproximateCreationDateTime": self.now / 1000,
            // Fixed width, so that sequence numbers sort as text.
            "SequenceNumber": format!("44215845000000000{number:011}"),
            "SizeBytes": size,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        });
        change["Keys"] = keys.into();
        for (image, item) in [("OldImage", old), ("NewImage", new)] {
            if let Some(item) = item {
                change[image] = item.into();
            }
        }
        let mut record = json!({
            "eventID": format!("{number:032x}"),
            "eventName": name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "eventSourceARN":
                format!("arn:aws:dynamodb:us-east-1:123456789012:table/{}/stream/2026-03-01T08:00:00.000", self.name),
        });
        record["dynamodb"] = change;
        record
    }
}
