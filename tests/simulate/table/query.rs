//! Queries of the table and of its two indexes, which are computed from the items each time.

use serde_json::{Value, json};

use super::{
    DynamoError, Item, Table,
    expression::{Comparison, Condition, Definitions, Operand},
    item::{self, PK, SK, text},
    members, word,
};

/// The target of a query: the table or an index.
#[derive(Clone, Copy, Debug)]
struct Index {
    hash: &'static str,
    range: &'static str,
}

const TABLE: Index = Index { hash: PK, range: SK };
const INDEXES: [(&str, Index); 2] = [
    ("by_referrer", Index { hash: "referrer", range: "referred_at" }),
    ("work", Index { hash: "work", range: "due_at" }),
];

/// The attributes that must be strings because they are index keys.
pub(super) const INDEX_KEYS: [&str; 4] = ["referrer", "referred_at", "work", "due_at"];

/// The most bytes of a page.
const PAGE: usize = 1024 * 1024;

/// A key condition: the partition and a range within it.
struct Part {
    partition: String,
    range: Option<Condition>,
}

impl Table {
    pub(super) fn query(&self, request: &Value) -> Result<Value, DynamoError> {
        members(
            request,
            &[
                "TableName",
                "IndexName",
                "KeyConditionExpression",
                "ExpressionAttributeNames",
                "ExpressionAttributeValues",
                "ScanIndexForward",
                "Limit",
                "ExclusiveStartKey",
                "Select",
                "ConsistentRead",
                "ReturnConsumedCapacity",
            ],
        )?;
        self.is_named(request)?;
        let (index, projected) = index(request)?;
        let select = word(request, "Select", &["COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES"])?;
        match (select, projected) {
            (Some("ALL_ATTRIBUTES"), true) => {
                return Err(DynamoError::validation(
                    "One or more parameter values were invalid: Select type ALL_ATTRIBUTES is not supported for global \
                     secondary index",
                ));
            }
            (Some("ALL_PROJECTED_ATTRIBUTES"), false) => {
                return Err(DynamoError::validation(
                    "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName",
                ));
            }
            _ => {}
        }
        let definitions = Definitions::of(request)?;
        let condition = definitions.condition(request, "KeyConditionExpression")?;
        definitions.all_used(condition.is_some())?;
        let part =
            Part::of(condition.ok_or_else(|| DynamoError::validation("KeyConditionExpression is missing"))?, index)?;
        let forward = request["ScanIndexForward"].as_bool().unwrap_or(true);
        let limit = match &request["Limit"] {
            Value::Null => usize::MAX,
            limit => {
                limit.as_u64().filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok()).ok_or_else(
                    || DynamoError::validation("Limit: Member must have value greater than or equal to 1"),
                )?
            }
        };
        let start = match &request["ExclusiveStartKey"] {
            Value::Null => None,
            start => Some(index.start(start, &part)?),
        };

        let items = self.as_of(if projected { self.lag } else { 0 });
        let mut found: Vec<(Place<'_>, &Item)> = items
            .all()
            .filter(|item| item.get(index.hash).and_then(text) == Some(&part.partition))
            .filter_map(|item| Some((index.place(item)?, item)))
            .filter(|(_, item)| part.range.as_ref().is_none_or(|range| range.holds(item)))
            .collect();
        found.sort_by(|(one, _), (other, _)| if forward { one.cmp(other) } else { other.cmp(one) });
        if let Some(start) = &start {
            let start = index.place(start).ok_or_else(DynamoError::serialization)?;
            found.retain(|(place, _)| if forward { *place > start } else { *place < start });
        }

        let (mut page, mut bytes, mut last) = (Vec::new(), 0, None);
        for (_, item) in found {
            let shown = if projected { index.keys(item) } else { item.clone() };
            bytes += item::size(&shown);
            page.push(Value::from(shown));
            // A full page has a continuation key, even if the next page is empty.
            if page.len() >= limit || bytes > PAGE {
                last = Some(index.keys(item));
                break;
            }
        }
        let mut answer = json!({ "Count": page.len(), "ScannedCount": page.len() });
        if select != Some("COUNT") {
            answer["Items"] = page.into();
        }
        if let Some(last) = last {
            answer["LastEvaluatedKey"] = last.into();
        }
        Ok(answer)
    }
}

fn index(request: &Value) -> Result<(Index, bool), DynamoError> {
    let Some(name) = request["IndexName"].as_str() else { return Ok((TABLE, false)) };
    let Some((_, index)) = INDEXES.into_iter().find(|(known, _)| *known == name) else {
        return Err(DynamoError::validation(format!("The table does not have the specified index: {name}")));
    };
    if request["ConsistentRead"].as_bool() == Some(true) {
        return Err(DynamoError::validation("Consistent reads are not supported on global secondary indexes"));
    }
    Ok((index, true))
}

/// An item's sort position in its partition: by the index's sort key, then by the item's own key.
type Place<'a> = (&'a str, &'a str, &'a str);

impl Index {
    fn place(self, item: &Item) -> Option<Place<'_>> {
        Some((text(item.get(self.range)?)?, text(item.get(PK)?)?, text(item.get(SK)?)?))
    }

    /// The item's keys: those of the table and of the index.
    fn keys(self, item: &Item) -> Item {
        let names = [PK, SK, self.hash, self.range];
        names.iter().filter_map(|name| Some(((*name).to_owned(), item.get(*name)?.clone()))).collect()
    }

    /// The exclusive start key of a page: exactly the keys, within the queried range.
    fn start(self, start: &Value, part: &Part) -> Result<Item, DynamoError> {
        let invalid = || DynamoError::validation("The provided starting key is invalid");
        let start = start.as_object().ok_or_else(DynamoError::serialization)?;
        if start.values().any(|value| text(value).is_none())
            || self.keys(start) != *start
            || self.place(start).is_none()
        {
            return Err(invalid());
        }
        let partition = start.get(self.hash).and_then(text).ok_or_else(invalid)?;
        if partition != part.partition || part.range.as_ref().is_some_and(|range| !range.holds(start)) {
            return Err(DynamoError::validation(
                "The provided starting key is outside query boundaries based on provided conditions",
            ));
        }
        Ok(start.clone())
    }
}

impl Part {
    /// Converts a condition to a key condition: equality for the partition and, with `AND`, at most one for the sort
    /// key.
    fn of(condition: Condition, index: Index) -> Result<Self, DynamoError> {
        let (one, other) = match condition {
            Condition::And(one, other) => (*one, Some(*other)),
            one => (one, None),
        };
        let (partition, range) = match (partition(&one, index), other) {
            (Some(partition), range) => (partition, range),
            (None, Some(other)) => match partition(&other, index) {
                Some(partition) => (partition, Some(one)),
                None => return Err(missed(index.hash)),
            },
            (None, None) => return Err(missed(index.hash)),
        };
        match &range {
            Some(range) if !is_range(range, index) => Err(DynamoError::validation("Query key condition not supported")),
            _ => Ok(Self { partition, range }),
        }
    }
}

fn missed(hash: &str) -> DynamoError {
    DynamoError::validation(format!("Query condition missed key schema element: {hash}"))
}

fn partition(condition: &Condition, index: Index) -> Option<String> {
    match condition {
        Condition::Compare(Operand::Attribute(name), Comparison::Equal, Operand::Value(value))
            if name == index.hash =>
        {
            text(value).map(str::to_owned)
        }
        _ => None,
    }
}

fn is_range(condition: &Condition, index: Index) -> bool {
    let is_key = |operand: &Operand| matches!(operand, Operand::Attribute(name) if name == index.range);
    let is_text = |operand: &Operand| matches!(operand, Operand::Value(value) if text(value).is_some());
    match condition {
        Condition::Compare(key, comparison, value) => {
            is_key(key) && *comparison != Comparison::Unequal && is_text(value)
        }
        Condition::Between(key, low, high) => is_key(key) && is_text(low) && is_text(high),
        Condition::BeginsWith(key, value) => is_key(key) && is_text(value),
        _ => false,
    }
}
