//! Reads by key: one item, or a batch.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use super::{DynamoError, Key, MAX_BATCH, Table, members, past::Past};

impl Table {
    pub(super) fn get_item(&self, request: &Value) -> Result<Value, DynamoError> {
        members(request, &["TableName", "Key", "ConsistentRead", "ReturnConsumedCapacity"])?;
        self.is_named(request)?;
        let key = Key::read(request.get("Key"))?;
        let items = self.as_read(request);
        Ok(items.get(&key).map_or_else(|| json!({}), |item| json!({ "Item": item })))
    }

    pub(super) fn batch_get_item(&self, request: &Value) -> Result<Value, DynamoError> {
        members(request, &["RequestItems", "ReturnConsumedCapacity"])?;
        let tables = request["RequestItems"].as_object().ok_or_else(DynamoError::serialization)?;
        let [(name, wanted)] = tables.iter().collect::<Vec<_>>()[..] else {
            return Err(DynamoError::validation("a batch read of one table is what is known here"));
        };
        members(wanted, &["Keys", "ConsistentRead"])?;
        self.is_named(&json!({ "TableName": name }))?;
        let keys = wanted["Keys"].as_array().ok_or_else(DynamoError::serialization)?;
        if !(1..=MAX_BATCH).contains(&keys.len()) {
            return Err(DynamoError::validation("Too many items requested for the BatchGetItem call, or none"));
        }
        let mut keys = keys.iter().map(|key| Key::read(Some(key))).collect::<Result<Vec<_>, _>>()?;
        // The order is neither that of the request nor that of the keys, because callers must not rely on an order.
        keys.sort_by_cached_key(|key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            (hasher.finish(), key.clone())
        });
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(DynamoError::validation("Provided list of item keys contains duplicates"));
        }
        let (now, later) = keys.split_at(keys.len().min(self.batch));
        let items = self.as_read(wanted);
        let found: Vec<_> = now.iter().filter_map(|key| items.get(key)).collect();
        let mut rest = json!({});
        if !later.is_empty() {
            let mut unread = wanted.clone();
            unread["Keys"] = later.iter().map(Key::attributes).collect();
            rest[name] = unread;
        }
        Ok(json!({ "Responses": { name: found }, "UnprocessedKeys": rest }))
    }

    /// The items that a read sees, depending on `ConsistentRead`.
    fn as_read(&self, request: &Value) -> Past<'_> {
        self.as_of(if request["ConsistentRead"] == true { 0 } else { self.late })
    }
}
