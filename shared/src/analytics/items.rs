//! The metrics table: the only file that knows its keys and attribute names.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | facts of a referral | `REFEREE#<id>` | `FACTS` |
//! | a program's day | `PROGRAM#<program>#DAYS#<shard>` | `<day>` |
//! | a referrer's month, or all time | `PROGRAM#<program>#REFERRER#<id>` | `<month>` or `all` |
//! | what a program owes | `LIABILITY#<shard>` | `<program>` |
//!
//! A counter has an attribute for each figure. Days and what is owed are spread over shards by the referee, so that no
//! item takes more than its part of what happens. A referrer's counters are one item each, which the index `board`
//! sorts by how many of their referrals were converted and stand.

use aws_sdk_dynamodb::{
    error::BuildError,
    operation::create_table::builders::CreateTableFluentBuilder,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
        ProjectionType, ScalarAttributeType,
    },
};
use sha2::{Digest, Sha256};

use super::{
    calendar::Day,
    contributions::Subject,
    counters::{Figures, LASTING},
    facts::Facts,
    queries::{Board, Period},
};
use crate::{
    id::{ProgramId, UserId},
    store::{
        items::InvalidItem,
        keys::{self, Item, text},
    },
};

pub use crate::store::keys::{PK, SK};

/// The index of referrers by rank; also its partition key: `<program>#<month or all>#<shard>`.
pub const BOARD: &str = "board";
/// Its sort key, a number: how many referrals last, and behind that a number of the referrer's own, so that no two
/// have the same.
pub const SCORE: &str = "score";
/// The revision that facts are of.
pub const REV: &str = "rev";

/// Over how many shards counters are spread. The number stays as it is: counters in further shards would not be read.
pub const SHARDS: u32 = 10;

/// What one lasting referral adds to a score.
const POINT: i128 = 1_000_000_000_000_000_000;

/// An item's address.
pub(super) fn key(pk: String, sk: impl Into<String>) -> Item {
    Item::from([(PK.to_owned(), text(pk)), (SK.to_owned(), text(sk))])
}

/// Where the facts of a referral are.
pub(super) fn facts_key(referee: &UserId) -> Item {
    key(format!("REFEREE#{referee}"), "FACTS")
}

/// Where a counter is that this referee's referral adds to.
pub(super) fn counter_key(subject: &Subject, referee: &UserId) -> Item {
    let shard = keys::shard_of(referee, SHARDS);
    match subject {
        Subject::Day(program, day) => key(days_partition(program, shard), day.to_string()),
        Subject::Referrer(program, referrer, period) => referrer_key(program, referrer, *period),
        Subject::Liability(program) => key(liability_partition(shard), program.as_str()),
    }
}

/// A shard of a program's days.
pub(super) fn days_partition(program: &ProgramId, shard: u32) -> String {
    format!("PROGRAM#{program}#DAYS#{shard}")
}

/// A shard of what is owed.
pub(super) fn liability_partition(shard: u32) -> String {
    format!("LIABILITY#{shard}")
}

/// Where a referrer's counters are.
pub(super) fn referrer_key(program: &ProgramId, referrer: &UserId, period: Period) -> Item {
    key(format!("PROGRAM#{program}#REFERRER#{referrer}"), period.to_string())
}

/// The shard of a board that a referrer is in.
pub(super) fn board_shard(referrer: &UserId) -> u32 {
    keys::shard_of(referrer, SHARDS)
}

/// A shard of a board.
pub(super) fn board_partition(board: &Board, shard: u32) -> String {
    format!("{}#{}#{shard}", board.program, board.period)
}

/// A referrer's place on a board, as the index keys it.
pub(super) fn board_key(board: &Board, referrer: &UserId, score: i128) -> Item {
    let mut key = referrer_key(&board.program, referrer, board.period);
    key.insert(BOARD.to_owned(), text(board_partition(board, board_shard(referrer))));
    key.insert(SCORE.to_owned(), number(score));
    key
}

/// The least score of those who have `lasting` referrals.
pub(super) fn score_of(lasting: i128) -> i128 {
    lasting.saturating_mul(POINT)
}

/// What a referrer's score is beyond their referrals: from 0 up to one point, another for each.
pub(super) fn tie_break(referrer: &UserId) -> i128 {
    let digest = Sha256::digest(referrer.as_str().as_bytes());
    let drawn = digest.iter().take(8).fold(0_i128, |number, byte| number * 256 + i128::from(*byte));
    drawn % POINT
}

/// Who is at this place of a board, and with which score; `None` when it is no place.
pub(super) fn placed(item: &Item) -> Option<(UserId, i128)> {
    let (_, referrer) = item.get(PK)?.as_s().ok()?.rsplit_once('#')?;
    Some((referrer.parse().ok()?, whole(item.get(SCORE)?)?))
}

/// A number as an attribute.
pub(super) fn number(number: i128) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn whole(value: &AttributeValue) -> Option<i128> {
    value.as_n().ok()?.parse().ok()
}

/// Facts as an item.
///
/// # Errors
/// When the library refuses the value.
pub(super) fn facts_item(facts: &Facts) -> Result<Item, InvalidItem> {
    let mut item: Item =
        serde_dynamo::to_item(facts).map_err(|problem| InvalidItem::at(&facts_key(&facts.referee), &problem))?;
    item.extend(facts_key(&facts.referee));
    Ok(item)
}

/// Facts from their item.
///
/// # Errors
/// When it is not an item of facts.
pub(super) fn facts_from(item: Item) -> Result<Facts, InvalidItem> {
    let key = item.clone();
    serde_dynamo::from_item(item).map_err(|problem| InvalidItem::at(&key, &problem))
}

/// The figures of a counter's item.
pub(super) fn figures(item: &Item) -> Figures {
    let mut figures = Figures::default();
    for (name, value) in item.iter().filter(|(name, _)| *name != SCORE) {
        figures.add(name, whole(value).unwrap_or_default());
    }
    if let Some(score) = item.get(SCORE).and_then(whole) {
        figures.add(LASTING, score.div_euclid(POINT));
    }
    figures
}

/// The day of a program's counter.
pub(super) fn day_of(item: &Item) -> Option<Day> {
    item.get(SK)?.as_s().ok()?.parse().ok()
}

/// What an item says, the same text where two tables say the same: its facts, or those figures that are not zero. `None`
/// when it says nothing.
pub fn told(item: &Item) -> Option<String> {
    if item.contains_key(REV) {
        let facts = facts_from(item.clone()).map(|facts| format!("{facts:?}"));
        return Some(facts.unwrap_or_else(|problem| problem.to_string()));
    }
    let figures = figures(item);
    let told: Vec<_> = figures.iter().map(|(name, count)| format!("{name} {count}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// An item's key for a message.
pub fn address(item: &Item) -> String {
    let part = |name| item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).map_or("?", String::as_str);
    format!("{} {}", part(PK), part(SK))
}

/// Whether two items have the same key.
pub fn is_same_key(one: &Item, other: &Item) -> bool {
    [PK, SK].into_iter().all(|part| one.get(part) == other.get(part))
}

/// An item's key.
pub(super) fn key_of(item: &Item) -> Item {
    [PK, SK].into_iter().filter_map(|part| Some((part.to_owned(), item.get(part)?.clone()))).collect()
}

/// The table, as the template has it.
pub(super) fn definition(table: CreateTableFluentBuilder) -> Result<CreateTableFluentBuilder, BuildError> {
    let attribute = |name, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
    let key = |name, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let board = GlobalSecondaryIndex::builder()
        .index_name(BOARD)
        .key_schema(key(BOARD, KeyType::Hash)?)
        .key_schema(key(SCORE, KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build());
    let table = table
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key(PK, KeyType::Hash)?)
        .key_schema(key(SK, KeyType::Range)?)
        .attribute_definitions(attribute(PK, ScalarAttributeType::S)?)
        .attribute_definitions(attribute(SK, ScalarAttributeType::S)?)
        .attribute_definitions(attribute(BOARD, ScalarAttributeType::S)?)
        .attribute_definitions(attribute(SCORE, ScalarAttributeType::N)?);
    Ok(table.global_secondary_indexes(board.build()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::rewarded;

    #[test]
    fn facts_come_back_as_they_were_and_fit_a_unit() {
        let facts = Facts::from(&rewarded());
        let item = facts_item(&facts).unwrap();
        assert_eq!(facts_from(item.clone()).unwrap(), facts);
        assert_eq!(item[REV], AttributeValue::N("3".to_owned()));
        assert!(format!("{item:?}").len() < 2048, "{item:?}");
    }

    #[test]
    fn a_score_is_what_lasts_and_whose_it_is() {
        let alice: UserId = "alice".parse().unwrap();
        let tie = tie_break(&alice);
        assert!((0..POINT).contains(&tie));
        assert_ne!(tie, tie_break(&"bob".parse().unwrap()));
        let board = Board { program: "default".parse().unwrap(), period: Period::All };
        let item = board_key(&board, &alice, score_of(3) + tie);
        assert_eq!(placed(&item), Some((alice, score_of(3) + tie)));
        assert_eq!(figures(&item).get(LASTING), 3);
    }

    #[test]
    fn a_counter_at_zero_says_nothing() {
        let board = Board { program: "default".parse().unwrap(), period: Period::All };
        let alice: UserId = "alice".parse().unwrap();
        let mut item = board_key(&board, &alice, tie_break(&alice));
        assert_eq!(told(&item), None);
        item.insert("attributed".to_owned(), number(1));
        assert_eq!(told(&item).as_deref(), Some("attributed 1"));
        assert_eq!(address(&item), "PROGRAM#default#REFERRER#alice all");
    }
}
