//! Items of the analytics table. Only this file knows their keys and attribute names.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | facts of a referral | `REFEREE#<id>` | `FACTS` |
//! | a program's day | `PROGRAM#<program>#DAYS#<shard>` | `<day>` |
//! | a referrer's month, or all time | `PROGRAM#<program>#REFERRER#<id>` | `<month>` or `all` |
//! | liability of a program | `LIABILITY#<shard>` | `<program>` |
//!
//! A counter item has one attribute per counter. Days and liability are spread over shards by the referee, so that no
//! item becomes a hot key. A referrer's counters are one item per period, which the index `board` sorts by net
//! conversions.

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
    calendar::{Day, Period},
    counters::{Counters, NET_CONVERSIONS},
    facts::Facts,
    subject::{Board, Subject},
};
use crate::{
    domain::id::{ProgramId, UserId},
    store::{
        items::InvalidItem,
        keys::{self, Item, text},
    },
};

pub use crate::store::keys::{PK, SK};

/// The index of referrers by rank, and the name of its partition key: `<program>#<month or all>#<shard>`.
pub const BOARD: &str = "board";
/// The index's sort key, a number: the net conversions multiplied by a constant, plus a number derived from the referrer's
/// id, so that ties have a fixed order.
pub const SCORE: &str = "score";
/// The referral's revision that the facts describe.
pub const REV: &str = "rev";

/// The number of shards per counter. It must not change: queries read exactly these shards.
pub const SHARDS: u32 = 10;

/// What one net conversion adds to a score.
const POINT: i128 = 1_000_000_000_000_000_000;

/// A primary key.
pub(super) fn key(pk: String, sk: impl Into<String>) -> Item {
    Item::from([(PK.to_owned(), text(pk)), (SK.to_owned(), text(sk))])
}

/// The key of a referral's facts.
pub(super) fn facts_key(referee: &UserId) -> Item {
    key(format!("REFEREE#{referee}"), "FACTS")
}

/// The key of the counter item to which this referee's referral contributes.
pub(super) fn counter_key(subject: &Subject, referee: &UserId) -> Item {
    let shard = keys::shard_of(referee, SHARDS);
    match subject {
        Subject::Day(program, day) => key(days_partition(program, shard), day.to_string()),
        Subject::Referrer(program, referrer, period) => referrer_key(program, referrer, *period),
        Subject::Liability(program) => key(liability_partition(shard), program.as_str()),
    }
}

/// The partition of one shard of a program's days.
pub(super) fn days_partition(program: &ProgramId, shard: u32) -> String {
    format!("PROGRAM#{program}#DAYS#{shard}")
}

/// The partition of one shard of the liability.
pub(super) fn liability_partition(shard: u32) -> String {
    format!("LIABILITY#{shard}")
}

/// The key of a referrer's counters.
pub(super) fn referrer_key(program: &ProgramId, referrer: &UserId, period: Period) -> Item {
    key(format!("PROGRAM#{program}#REFERRER#{referrer}"), period.to_string())
}

/// The shard of a leaderboard that contains a referrer.
pub(super) fn board_shard(referrer: &UserId) -> u32 {
    keys::shard_of(referrer, SHARDS)
}

/// The index partition of one shard of a leaderboard.
pub(super) fn board_partition(board: &Board, shard: u32) -> String {
    format!("{}#{}#{shard}", board.program, board.period)
}

/// The index key of a referrer's position on a leaderboard.
pub(super) fn board_key(board: &Board, referrer: &UserId, score: i128) -> Item {
    let mut key = referrer_key(&board.program, referrer, board.period);
    key.insert(BOARD.to_owned(), text(board_partition(board, board_shard(referrer))));
    key.insert(SCORE.to_owned(), number(score));
    key
}

/// The lowest score of a referrer with this many net conversions.
pub(super) fn score_of(net_conversions: i128) -> i128 {
    net_conversions.saturating_mul(POINT)
}

/// The part of a score that breaks ties: derived from the referrer's id, and less than one net conversion adds.
pub(super) fn tie_break(referrer: &UserId) -> i128 {
    let digest = Sha256::digest(referrer.as_str().as_bytes());
    let number = digest.iter().take(8).fold(0_i128, |number, byte| number * 256 + i128::from(*byte));
    number % POINT
}

/// The referrer and the score in an index item; `None` if it is not an index item.
pub(super) fn ranked(item: &Item) -> Option<(UserId, i128)> {
    let (_, referrer) = item.get(PK)?.as_s().ok()?.rsplit_once('#')?;
    Some((referrer.parse().ok()?, integer(item.get(SCORE)?)?))
}

/// A number as an attribute value.
pub(super) fn number(number: i128) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn integer(value: &AttributeValue) -> Option<i128> {
    value.as_n().ok()?.parse().ok()
}

/// Writes facts as an item.
///
/// # Errors
/// Returns an error when the facts cannot be serialized.
pub(super) fn facts_item(facts: &Facts) -> Result<Item, InvalidItem> {
    let mut item: Item =
        serde_dynamo::to_item(facts).map_err(|problem| InvalidItem::at(&facts_key(&facts.referee), &problem))?;
    item.extend(facts_key(&facts.referee));
    Ok(item)
}

/// Reads facts from their item.
///
/// # Errors
/// Returns an error when the item does not contain facts.
pub(super) fn facts_from(item: Item) -> Result<Facts, InvalidItem> {
    let key = item.clone();
    serde_dynamo::from_item(item).map_err(|problem| InvalidItem::at(&key, &problem))
}

/// The counters of an item; the score is returned as net conversions.
pub(super) fn counters(item: &Item) -> Counters {
    let mut counters = Counters::default();
    for (name, value) in item.iter().filter(|(name, _)| *name != SCORE) {
        counters.add(name, integer(value).unwrap_or_default());
    }
    if let Some(score) = item.get(SCORE).and_then(integer) {
        counters.add(NET_CONVERSIONS, score.div_euclid(POINT));
    }
    counters
}

/// The day of a program's counter item.
pub(super) fn day_of(item: &Item) -> Option<Day> {
    item.get(SK)?.as_s().ok()?.parse().ok()
}

/// The content of an item as text, for comparing two tables: its facts, or its counters that are not zero. `None` if all
/// counters are zero.
pub fn canonical_text(item: &Item) -> Option<String> {
    if item.contains_key(REV) {
        let facts = facts_from(item.clone()).map(|facts| format!("{facts:?}"));
        return Some(facts.unwrap_or_else(|problem| problem.to_string()));
    }
    let counters = counters(item);
    let lines: Vec<_> = counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// An item's key as text, for messages.
pub fn address(item: &Item) -> String {
    let part = |name| item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).map_or("?", String::as_str);
    format!("{} {}", part(PK), part(SK))
}

/// Whether two items have the same key.
pub fn is_same_key(one: &Item, other: &Item) -> bool {
    [PK, SK].into_iter().all(|part| one.get(part) == other.get(part))
}

/// The key attributes of an item.
pub(super) fn key_of(item: &Item) -> Item {
    [PK, SK].into_iter().filter_map(|part| Some((part.to_owned(), item.get(part)?.clone()))).collect()
}

/// The table definition, equal to the one in the template.
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
    fn facts_survive_their_item_and_fit_in_one_write_unit() {
        let facts = Facts::from(&rewarded());
        let item = facts_item(&facts).unwrap();
        assert_eq!(facts_from(item.clone()).unwrap(), facts);
        assert_eq!(item[REV], AttributeValue::N("3".to_owned()));
        assert!(format!("{item:?}").len() < 2048, "{item:?}");
    }

    #[test]
    fn a_score_holds_net_conversions_and_a_tie_break() {
        let alice: UserId = "alice".parse().unwrap();
        let tie = tie_break(&alice);
        assert!((0..POINT).contains(&tie));
        assert_ne!(tie, tie_break(&"bob".parse().unwrap()));
        let board = Board { program: "default".parse().unwrap(), period: Period::All };
        let item = board_key(&board, &alice, score_of(3) + tie);
        assert_eq!(ranked(&item), Some((alice, score_of(3) + tie)));
        assert_eq!(counters(&item).get(NET_CONVERSIONS), 3);
    }

    #[test]
    fn an_item_with_zero_counters_has_no_text() {
        let board = Board { program: "default".parse().unwrap(), period: Period::All };
        let alice: UserId = "alice".parse().unwrap();
        let mut item = board_key(&board, &alice, tie_break(&alice));
        assert_eq!(canonical_text(&item), None);
        item.insert("attributed".to_owned(), number(1));
        assert_eq!(canonical_text(&item).as_deref(), Some("attributed 1"));
        assert_eq!(address(&item), "PROGRAM#default#REFERRER#alice all");
    }
}
