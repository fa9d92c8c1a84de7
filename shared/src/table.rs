//! The table: the only file that knows keys, attribute names and the shape of items.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | code | `CODE#<canonical>` | `CODE` |
//! | code owner | `USER#<id>` | `CODE#<program>` |
//! | account | `USER#<id>` | `ACCOUNT` |
//! | referral | `REFEREE#<id>` | `REFERRAL` |
//!
//! A thing that must exist once has a key that can be taken once: a code has one owner, a user one code per program, a
//! referee one referral. A referral's item stays below 1 KB, so that every write of it costs one unit.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    account::Account,
    code::{Code, OwnedCode},
    device::Device,
    id::{self, ProgramId, UserId},
    order::NotedAdjustment,
    program::Terms,
    referral::{Conversion, Lane, Referral, Rewards, State, Status, VoidReason},
    time::Timestamp,
};

/// An item, or part of one.
pub type Item = HashMap<String, AttributeValue>;

/// The table's partition key.
pub const PK: &str = "pk";
/// The table's sort key.
pub const SK: &str = "sk";
/// A referral's count of writes.
pub const REV: &str = "rev";
/// A referral's state by name.
pub const STATUS: &str = "status";
/// The index of a referrer's referrals, newest last.
pub const BY_REFERRER: &str = "by_referrer";
/// Its partition key.
pub const REFERRER: &str = "referrer";
/// Its sort key: `<created_at>#<referee>`.
pub const REFERRED_AT: &str = "referred_at";
/// The sparse index of all that still owes something; also its partition key: `due#<0-9>` or `parked#<0-9>`.
pub const WORK: &str = "work";
/// Its sort key.
pub const DUE_AT: &str = "due_at";
/// Whether an account is flagged.
pub const FLAGGED: &str = "flagged";
/// Why.
pub const FLAG_REASON: &str = "flag_reason";
/// When its standing was last decided.
pub const FLAG_AT: &str = "flag_at";
/// When a code ends.
pub const EXPIRES_AT: &str = "expires_at";
/// An account's devices, a set.
pub const DEVICES: &str = "devices";

/// How many partitions each lane of the index of work is spread over.
pub const WORK_SHARDS: u32 = 10;

const REFERRAL_SK: &str = "REFERRAL";

/// An item is not what its key says it is.
#[derive(Clone, Debug, thiserror::Error)]
#[error("item {key} cannot be read: {problem}")]
pub struct Unreadable {
    key: String,
    problem: String,
}

/// An item's address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    pk: String,
    sk: String,
}

impl Key {
    fn new(pk: String, sk: impl Into<String>) -> Self {
        Self { pk, sk: sk.into() }
    }

    /// Where a code is.
    pub fn code(code: &Code) -> Self {
        Self::new(format!("CODE#{}", code.canonical()), "CODE")
    }

    /// Where it is written which code a user has in a program.
    pub fn code_owner(user: &UserId, program: &ProgramId) -> Self {
        Self::new(format!("USER#{user}"), format!("CODE#{program}"))
    }

    /// Where a user's account is.
    pub fn account(user: &UserId) -> Self {
        Self::new(format!("USER#{user}"), "ACCOUNT")
    }

    /// Where the one referral of a referee is.
    pub fn referral(referee: &UserId) -> Self {
        Self::new(format!("REFEREE#{referee}"), REFERRAL_SK)
    }

    /// The key as the API takes it.
    pub fn attributes(&self) -> Item {
        Item::from([(PK.to_owned(), text(&self.pk)), (SK.to_owned(), text(&self.sk))])
    }

    /// The key of an item that the API returned.
    pub fn of(item: &Item) -> Option<Self> {
        let part = |name| item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).cloned();
        Some(Self { pk: part(PK)?, sk: part(SK)? })
    }
}

/// A string attribute.
pub fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// The partition of the index of a user's referrals as referrer.
pub fn referrer_partition(referrer: &UserId) -> String {
    format!("REFERRER#{referrer}")
}

/// A referral's place among those of one referrer. It sorts by time, and is unique.
pub fn place(created_at: Timestamp, referee: &UserId) -> String {
    format!("{created_at}#{referee}")
}

/// The referee at this place; `None` when it is no place.
pub fn referee_at(place: &str) -> Option<UserId> {
    let (created_at, referee) = place.split_once('#')?;
    Timestamp::try_from(created_at.to_owned()).ok()?;
    referee.parse().ok()
}

/// A partition of the index of work.
pub fn work_partition(lane: Lane, shard: u32) -> String {
    match lane {
        Lane::Due => format!("due#{shard}"),
        Lane::Attention => format!("parked#{shard}"),
    }
}

/// The key in the index of work of a referral that is due then: where a page of the index begins.
pub fn work_key(lane: Lane, shard: u32, due_at: Timestamp, referee: &UserId) -> Item {
    let mut key = Key::referral(referee).attributes();
    key.insert(WORK.to_owned(), text(work_partition(lane, shard)));
    key.insert(DUE_AT.to_owned(), text(due_at.to_string()));
    key
}

/// When and whose, from such a key; `None` when it is none.
pub fn work_place(key: &Item) -> Option<(Timestamp, UserId)> {
    let due_at = Timestamp::try_from(key.get(DUE_AT)?.as_s().ok()?.clone()).ok()?;
    Some((due_at, Key::of(key)?.pk.strip_prefix("REFEREE#")?.parse().ok()?))
}

/// Which of so many shards a user's things are in.
pub fn shard_of(user: &UserId, shards: u32) -> u32 {
    user.as_str().bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())) % shards
}

/// A code's item.
#[derive(Serialize, Deserialize)]
struct CodeItem {
    code: Code,
    owner: UserId,
    program: ProgramId,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// A code owner's item: no more than the code, whose own item holds the rest.
#[derive(Serialize, Deserialize)]
struct CodeOwnerItem {
    code: Code,
}

/// An account's item.
#[derive(Deserialize)]
struct AccountItem {
    #[serde(default)]
    flagged: bool,
    #[serde(default)]
    devices: Vec<Device>,
}

/// A referral's item.
#[derive(Serialize, Deserialize)]
struct ReferralItem {
    referrer: String,
    referred_at: String,
    code: Code,
    program: ProgramId,
    terms: Terms,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    rev: u64,
    status: Status,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    withdrawn: Vec<NotedAdjustment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversion: Option<Conversion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rewards: Option<Rewards>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    voided: Option<Voided>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    work: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Voided {
    at: Timestamp,
    reason: VoidReason,
}

/// A code as an item.
///
/// # Errors
/// When the library refuses the value.
pub fn code_item(code: &OwnedCode) -> Result<Item, Unreadable> {
    let OwnedCode { code: display, owner, program, created_at, expires_at } = code.clone();
    let item = CodeItem { code: display, owner, program, created_at, expires_at };
    to_item(&Key::code(&code.code), &item)
}

/// A code from its item.
///
/// # Errors
/// When it is not a code's item.
pub fn code_from(item: Item) -> Result<OwnedCode, Unreadable> {
    let CodeItem { code, owner, program, created_at, expires_at } = from_image(item.into())?;
    Ok(OwnedCode { code, owner, program, created_at, expires_at })
}

/// The note that this user has this code, as an item.
///
/// # Errors
/// When the library refuses the value.
pub fn code_owner_item(code: &OwnedCode) -> Result<Item, Unreadable> {
    to_item(&Key::code_owner(&code.owner, &code.program), &CodeOwnerItem { code: code.code.clone() })
}

/// Which code it is that the user has.
///
/// # Errors
/// When it is not a code owner's item.
pub fn owned_code_from(item: Item) -> Result<Code, Unreadable> {
    from_image::<CodeOwnerItem>(item.into()).map(|owner| owner.code)
}

/// An account from its item.
///
/// # Errors
/// When it is not an account's item.
pub fn account_from(item: Item) -> Result<Account, Unreadable> {
    let AccountItem { flagged, devices } = from_image(item.into())?;
    Ok(Account { flagged, devices })
}

/// A referral as an item.
///
/// # Errors
/// When the library refuses the value.
pub fn referral_item(referral: &Referral) -> Result<Item, Unreadable> {
    let work = referral.work();
    let voided = match &referral.state {
        State::Voided { at, reason, .. } => Some(Voided { at: *at, reason: *reason }),
        State::Pending { .. } | State::Converted { .. } | State::Rewarded { .. } => None,
    };
    let item = ReferralItem {
        referrer: referrer_partition(&referral.referrer),
        referred_at: place(referral.created_at, &referral.referee),
        code: referral.code.clone(),
        program: referral.program.clone(),
        terms: referral.terms.clone(),
        device: referral.device.clone(),
        mark: referral.mark,
        rev: referral.rev,
        status: referral.status(),
        withdrawn: match &referral.state {
            State::Pending { adjustments } => adjustments.clone(),
            _ => Vec::new(),
        },
        conversion: referral.conversion().cloned(),
        rewards: referral.rewards().cloned(),
        voided,
        work: work.map(|work| work_partition(work.lane, shard_of(&referral.referee, WORK_SHARDS))),
        due_at: work.map(|work| work.at),
    };
    to_item(&Key::referral(&referral.referee), &item)
}

/// A referral from its item.
///
/// # Errors
/// When it is not a referral's item, or one in no state that a referral can be in.
pub fn referral_from(item: Item) -> Result<Referral, Unreadable> {
    referral_from_image(item.into())
}

/// A referral from an image in a stream record.
///
/// # Errors
/// When it is not a referral's item, or one in no state that a referral can be in.
pub fn referral_from_image(image: serde_dynamo::Item) -> Result<Referral, Unreadable> {
    let key = key_text(&image);
    read_referral(from_image(image)?).ok_or_else(|| Unreadable { key, problem: "no such state".to_owned() })
}

fn read_referral(item: ReferralItem) -> Option<Referral> {
    let (created_at, referee) = item.referred_at.split_once('#')?;
    Some(Referral {
        referee: referee.parse().ok()?,
        referrer: item.referrer.strip_prefix("REFERRER#")?.parse().ok()?,
        created_at: Timestamp::try_from(created_at.to_owned()).ok()?,
        state: read_state(item.status, item.withdrawn, item.conversion, item.rewards, item.voided, item.due_at)?,
        code: item.code,
        program: item.program,
        terms: item.terms,
        device: item.device,
        mark: item.mark,
        rev: item.rev,
    })
}

/// Rebuilds the state; `None` when parts of it are missing.
fn read_state(
    status: Status,
    withdrawn: Vec<NotedAdjustment>,
    conversion: Option<Conversion>,
    rewards: Option<Rewards>,
    voided: Option<Voided>,
    due_at: Option<Timestamp>,
) -> Option<State> {
    match status {
        Status::Pending => Some(State::Pending { adjustments: withdrawn }),
        Status::Converted => Some(State::Converted { conversion: conversion?, due_at: due_at? }),
        Status::Rewarded => {
            let rewards = rewards?;
            // With nothing on its way there is no due time any more, and nobody asks for it.
            let due_at = due_at.unwrap_or(rewards.issued_at);
            Some(State::Rewarded { conversion: conversion?, rewards, due_at })
        }
        Status::Voided => voided.map(|voided| State::Voided { at: voided.at, reason: voided.reason, conversion }),
    }
}

fn to_item(key: &Key, value: &impl Serialize) -> Result<Item, Unreadable> {
    let mut item: Item = serde_dynamo::to_item(value)
        .map_err(|problem| Unreadable { key: loggable(&key.pk), problem: problem.to_string() })?;
    item.extend(key.attributes());
    Ok(item)
}

fn from_image<T: DeserializeOwned>(image: serde_dynamo::Item) -> Result<T, Unreadable> {
    let key = key_text(&image);
    serde_dynamo::from_item(image).map_err(|problem| Unreadable { key, problem: problem.to_string() })
}

/// The key for a message, hashed as ids are there; a stranger's item may lack it.
fn key_text(image: &serde_dynamo::Item) -> String {
    match image.inner().get(PK) {
        Some(serde_dynamo::AttributeValue::S(pk)) => loggable(pk),
        _ => "without a key".to_owned(),
    }
}

/// What cannot be read of the item with this key, and why.
pub(crate) fn unreadable(key: &Item, problem: &serde_dynamo::Error) -> Unreadable {
    let pk = key.get(PK).and_then(|pk| pk.as_s().ok()).map_or_else(|| "without a key".to_owned(), |pk| loggable(pk));
    Unreadable { key: pk, problem: problem.to_string() }
}

fn loggable(pk: &str) -> String {
    let (kind, id) = pk.split_once('#').unwrap_or(("", pk));
    format!("{kind}#{}", id::hashed(id))
}

/// Whether an item is a referral's.
pub(crate) fn is_referral_item(item: &Item) -> bool {
    item.get(SK).and_then(|sk| sk.as_s().ok()).is_some_and(|sk| sk == REFERRAL_SK)
}

/// Whether a stream record's keys are those of a referral.
pub fn is_referral(keys: &serde_dynamo::Item) -> bool {
    matches!(keys.inner().get(SK), Some(serde_dynamo::AttributeValue::S(sk)) if sk == REFERRAL_SK)
}
