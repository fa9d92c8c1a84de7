//! Keys: every key, index and attribute name of the table.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | code | `CODE#<canonical>` | `CODE` |
//! | code owner | `USER#<id>` | `CODE#<program>` |
//! | account | `USER#<id>` | `ACCOUNT` |
//! | referral | `REFEREE#<id>` | `REFERRAL` |
//! | reversal | `REFEREE#<id>` | `REVERSAL#<reversal id>` |
//! | order | `ORDER#<id>` | `ORDER` |
//! | note | `REFEREE#<id>` or `USER#<id>` | `NOTE#<time>#<kind>` |
//!
//! An item that may exist only once has a key that can be written only once. A code has one owner, a user has one live
//! code per program, a referee has one referral, and an order converts one referral.

use std::{
    collections::HashMap,
    fmt::{self, Display},
};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::{
    domain::{
        code::Code,
        id::{self, OrderId, ProgramId, UserId},
        time::Timestamp,
    },
    referral::{
        Lane,
        note::{Note, Subject},
        reward::InstructionId,
    },
};

/// An item, or a part of one.
pub type Item = HashMap<String, AttributeValue>;

/// The table's partition key.
pub const PK: &str = "pk";
/// The table's sort key.
pub const SK: &str = "sk";
/// The revision of a referral: the number of its writes.
pub const REV: &str = "rev";
/// The name of a referral's state.
pub const STATUS: &str = "status";
/// The index that lists the referrals of a referrer in order of creation.
pub const BY_REFERRER: &str = "by_referrer";
/// The partition key of `by_referrer`.
pub const REFERRER: &str = "referrer";
/// The sort key of `by_referrer`: `<created_at>#<referee>`.
pub const REFERRED_AT: &str = "referred_at";
/// The sparse index of referrals that still need work, and its partition key: `due#<0-9>` or `parked#<0-9>`.
pub const WORK: &str = "work";
/// The sort key of `work`.
pub const DUE_AT: &str = "due_at";
/// Whether an account is flagged.
pub const FLAGGED: &str = "flagged";
/// Why an account is flagged.
pub const FLAG_REASON: &str = "flag_reason";
/// The time of the last change of an account's flag.
pub const FLAG_AT: &str = "flag_at";
/// The correlation id of a referral.
pub const CORRELATION_ID: &str = "correlation_id";
/// The code that the item of a code's owner names.
pub const CODE: &str = "code";
/// When a code expires.
pub const EXPIRES_AT: &str = "expires_at";
/// The user whose referral an order may convert.
pub const CLAIMED_BY: &str = "referee";
/// What was paid for an order, when it was claimed.
pub const PAID: &str = "paid";
/// When DynamoDB may delete an item, in seconds since 1970. Another type than a number: never.
pub const TTL: &str = "ttl";
/// The number of an order's adjustments.
pub const ADJUSTMENTS: &str = "adjustments";
/// Whether an order was cancelled.
pub const CANCELLED: &str = "cancelled";
/// The prefix of an order's refunds. The id follows.
pub const REFUND: &str = "refund#";
/// The prefix of refunds that the provider could not carry out.
pub const REFUND_FAILED: &str = "refund_failed#";
/// The prefix of an order's disputes.
pub const DISPUTE: &str = "dispute#";
/// Whether an order has an adjustment that was not kept, and that no operator has resolved.
pub const EXCESS: &str = "excess";
/// When a subsystem accepted a reversal.
pub const DELIVERED_AT: &str = "delivered_at";
/// When a subsystem refused a reversal permanently.
pub const FAILED_AT: &str = "failed_at";
/// The subsystem's refusal.
pub const FAILURE: &str = "failure";
/// How often an operator sent a reversal again.
pub const RESENT: &str = "resent";
/// When a reversal was closed without a call.
pub const CLOSED_AT: &str = "closed_at";
/// The devices of an account, a set.
pub const DEVICES: &str = "devices";

/// The number of partitions of each lane in the index `work`.
pub const WORK_SHARDS: u32 = 10;

const REFERRAL_SK: &str = "REFERRAL";
const ORDER_SK: &str = "ORDER";
const REVERSAL_SK: &str = "REVERSAL#";
const NOTE_SK: &str = "NOTE#";

/// Whether an attribute of an order is an adjustment.
pub(super) fn is_adjustment(name: &str) -> bool {
    name == CANCELLED || [REFUND, REFUND_FAILED, DISPUTE].iter().any(|prefix| name.starts_with(prefix))
}

/// An item's primary key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    pk: String,
    sk: String,
}

impl Key {
    fn new(pk: String, sk: impl Into<String>) -> Self {
        Self { pk, sk: sk.into() }
    }

    /// The key of a code.
    pub fn code(code: &Code) -> Self {
        Self::new(format!("CODE#{}", code.canonical()), "CODE")
    }

    /// The key of the item that names the code of a user in a program: the live one, or else the last one.
    pub fn code_owner(user: &UserId, program: &ProgramId) -> Self {
        Self::new(format!("USER#{user}"), format!("CODE#{program}"))
    }

    /// The key of a user's account.
    pub fn account(user: &UserId) -> Self {
        Self::new(format!("USER#{user}"), "ACCOUNT")
    }

    /// The key of a referee's one referral.
    pub fn referral(referee: &UserId) -> Self {
        Self::new(format!("REFEREE#{referee}"), REFERRAL_SK)
    }

    /// The key of a reversal.
    pub fn reversal(id: &InstructionId) -> Self {
        Self::new(format!("REFEREE#{}", id.referee), format!("{REVERSAL_SK}{id}"))
    }

    /// The key of a note. The time of an audit entry is that of the action; of a refused order, that of the order.
    pub fn note(subject: &Subject, note: &Note) -> Self {
        let partition = match subject {
            Subject::Referral(referee) => format!("REFEREE#{referee}"),
            Subject::Account(user) => format!("USER#{user}"),
        };
        let place = match note {
            Note::Operator(entry) => format!("{}#{}", entry.at, entry.action.as_str()),
            Note::Order(refused) => format!("{}#order:{}", refused.placed_at, refused.order_id),
        };
        Self::new(partition, format!("{NOTE_SK}{place}"))
    }

    /// The key of an order.
    pub fn order(order: &OrderId) -> Self {
        Self::new(format!("ORDER#{order}"), ORDER_SK)
    }

    /// The key as the API expects it.
    pub fn attributes(&self) -> Item {
        Item::from([(PK.to_owned(), text(&self.pk)), (SK.to_owned(), text(&self.sk))])
    }

    /// The key of an item that the API returned.
    pub fn of(item: &Item) -> Option<Self> {
        let part = |name| item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).cloned();
        Some(Self { pk: part(PK)?, sk: part(SK)? })
    }

    pub(super) fn partition(&self) -> &str {
        &self.pk
    }

    /// The kind of item that has this key.
    pub(super) fn kind(&self) -> ItemKind {
        match self.sk.as_str() {
            REFERRAL_SK => ItemKind::Referral,
            "ACCOUNT" => ItemKind::Account,
            "CODE" => ItemKind::Code,
            ORDER_SK => ItemKind::Order,
            sk if sk.starts_with("CODE#") => ItemKind::CodeOwner,
            sk if sk.starts_with(REVERSAL_SK) => ItemKind::Reversal,
            sk if sk.starts_with(NOTE_SK) => ItemKind::Note,
            _ => ItemKind::Other,
        }
    }
}

impl Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.pk, self.sk)
    }
}

/// The kinds of items. A newer version may have others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ItemKind {
    Referral,
    Account,
    Code,
    CodeOwner,
    Order,
    Reversal,
    Note,
    Other,
}

/// A string attribute.
pub fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Whether an item is a referral.
pub(super) fn is_referral_item(item: &Item) -> bool {
    item.get(SK).and_then(|sk| sk.as_s().ok()).is_some_and(|sk| sk == REFERRAL_SK)
}

/// Whether the keys of a stream record are those of a referral.
pub(super) fn is_referral_key(keys: &serde_dynamo::Item) -> bool {
    matches!(keys.inner().get(SK), Some(serde_dynamo::AttributeValue::S(sk)) if sk == REFERRAL_SK)
}

/// Whether the keys of a stream record are those of a reversal.
pub(super) fn is_reversal_key(keys: &serde_dynamo::Item) -> bool {
    matches!(keys.inner().get(SK), Some(serde_dynamo::AttributeValue::S(sk)) if sk.starts_with(REVERSAL_SK))
}

/// A partition key as a log line may contain it: with a code, or with the referral's stored correlation id, but without
/// the id of a user. Referrals of version 0.1.0 have no stored id and are named by a hash.
pub(super) fn loggable(pk: &str, correlation_id: Option<&str>) -> String {
    let (kind, id) = pk.split_once('#').unwrap_or((pk, ""));
    match (kind, correlation_id) {
        ("CODE", _) => pk.to_owned(),
        ("REFEREE", Some(stored)) => format!("{kind}#{stored}"),
        ("REFEREE", None) => format!("{kind}#{}", id::hashed(id)),
        _ => kind.to_owned(),
    }
}

/// The partition of `by_referrer` that lists a referrer's referrals.
pub fn referrer_partition(referrer: &UserId) -> String {
    format!("REFERRER#{referrer}")
}

/// The referrer whose partition of `by_referrer` this is.
pub(super) fn referrer_of(partition: &str) -> Option<UserId> {
    partition.strip_prefix("REFERRER#")?.parse().ok()
}

/// The sort key of a referral in `by_referrer`. It sorts by time and is unique.
pub(super) fn referred_at(created_at: Timestamp, referee: &UserId) -> String {
    format!("{created_at}#{referee}")
}

/// The two parts of such a sort key.
pub(super) fn referred_at_parts(referred_at: &str) -> Option<(Timestamp, UserId)> {
    let (created_at, referee) = referred_at.split_once('#')?;
    Some((Timestamp::try_from(created_at.to_owned()).ok()?, referee.parse().ok()?))
}

/// A partition of the index `work`.
pub fn work_partition(lane: Lane, shard: u32) -> String {
    match lane {
        Lane::Due => format!("due#{shard}"),
        Lane::Attention => format!("parked#{shard}"),
    }
}

/// Whether the item is in the lane of the sweep.
pub(super) fn is_due_item(item: &Item) -> bool {
    item.get(WORK).and_then(|work| work.as_s().ok()).is_some_and(|work| work.starts_with("due#"))
}

/// The key of a referral or a reversal in the index `work`.
pub(super) fn work_key(partition: String, due_at: Timestamp, item: &Key) -> Item {
    let mut key = item.attributes();
    key.insert(WORK.to_owned(), text(partition));
    key.insert(DUE_AT.to_owned(), text(due_at.to_string()));
    key
}

/// The due time of such a key, and the referee or the id of the reversal.
pub(super) fn work_key_parts(key: &Item) -> Option<(Timestamp, String)> {
    let due_at = Timestamp::try_from(key.get(DUE_AT)?.as_s().ok()?.clone()).ok()?;
    let Key { pk, sk } = Key::of(key)?;
    let id = sk.strip_prefix(REVERSAL_SK).or(pk.strip_prefix("REFEREE#"))?;
    Some((due_at, id.to_owned()))
}

/// The shard, out of this many, that a user's items belong to.
pub fn shard_of(user: &UserId, shards: u32) -> u32 {
    user.as_str().bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())) % shards
}
