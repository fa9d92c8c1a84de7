//! The item of a referral. It stays below 1 KB, so that every write costs one write unit, unless it has several candidates.

use serde::{Deserialize, Serialize};

use super::{InvalidItem, from_image, key_text, to_item};
use crate::{
    domain::{
        code::Code, correlation::CorrelationId, device::Device, id::ProgramId, order::NotedAdjustment, time::Timestamp,
    },
    program::Terms,
    referral::{AdjustedOrder, Candidate, Conversion, Referral, Rewards, State, Status, Voided},
    store::keys::{self, Item, Key, WORK_SHARDS},
};

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
    signed_up_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<CorrelationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<Candidate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adjusted_order: Option<AdjustedOrder>,
    #[serde(default, skip_serializing_if = "is_never")]
    reopened: u32,
    rev: u64,
    status: Status,
    #[serde(rename = "withdrawn", default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<NotedAdjustment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversion: Option<Conversion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rewards: Option<Rewards>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    voided: Option<StoredVoid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    work: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct StoredVoid {
    #[serde(flatten)]
    voided: Voided,
    #[serde(rename = "exact", default, skip_serializing_if = "std::ops::Not::not")]
    is_exact: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_never(count: &u32) -> bool {
    *count == 0
}

/// The item of a referral.
///
/// # Errors
/// Returns an error when the referral cannot be serialized.
pub fn to_referral_item(referral: &Referral) -> Result<Item, InvalidItem> {
    let work = referral.work();
    let is_exact = matches!(referral.state, State::Voided { is_exact: true, .. });
    let voided = referral.voided().map(|voided| StoredVoid { voided, is_exact });
    let item = ReferralItem {
        referrer: keys::referrer_partition(&referral.referrer),
        referred_at: keys::referred_at(referral.created_at, &referral.referee),
        code: referral.code.clone(),
        program: referral.program.clone(),
        terms: referral.terms.clone(),
        device: referral.device.clone(),
        signed_up_at: referral.signed_up_at,
        correlation_id: referral.correlation_id.clone(),
        mark: referral.mark,
        candidates: referral.candidates.clone(),
        adjusted_order: referral.adjusted_order.clone(),
        reopened: referral.reopened,
        rev: referral.rev,
        status: referral.status(),
        notes: referral.notes.clone(),
        conversion: referral.conversion().cloned(),
        rewards: referral.rewards().cloned(),
        voided,
        work: work.map(|work| keys::work_partition(work.lane, keys::shard_of(&referral.referee, WORK_SHARDS))),
        due_at: work.map(|work| work.at),
    };
    to_item(&Key::referral(&referral.referee), &item)
}

/// Whether an item is a referral.
pub(crate) fn is_referral_item(item: &Item) -> bool {
    keys::is_referral_item(item)
}

/// Reads a referral from its item.
///
/// # Errors
/// Returns an error when the item is not a referral, or its attributes do not form a valid state.
pub fn from_referral_item(item: Item) -> Result<Referral, InvalidItem> {
    from_referral_image(item.into())
}

/// Whether the keys of a stream record are those of a referral.
pub fn is_referral_key(keys: &serde_dynamo::Item) -> bool {
    keys::is_referral_key(keys)
}

/// Reads a referral from an image in a stream record.
///
/// # Errors
/// Returns an error when the image is not a referral, or its attributes do not form a valid state.
pub fn from_referral_image(image: serde_dynamo::Item) -> Result<Referral, InvalidItem> {
    let key = key_text(&image);
    read_referral(from_image(image)?).ok_or_else(|| InvalidItem { key, problem: "invalid state".to_owned() })
}

fn read_referral(item: ReferralItem) -> Option<Referral> {
    let (created_at, referee) = keys::referred_at_parts(&item.referred_at)?;
    // An earlier version can convert by a candidate without removing it.
    let is_other =
        |candidate: &Candidate| Some(&candidate.conversion.order) != item.conversion.as_ref().map(|by| &by.order);
    let candidates = item.candidates.into_iter().filter(is_other).collect();
    Some(Referral {
        referee,
        referrer: keys::referrer_of(&item.referrer)?,
        created_at,
        state: read_state(item.status, item.conversion, item.rewards, item.voided, item.due_at)?,
        code: item.code,
        program: item.program,
        terms: item.terms,
        device: item.device,
        signed_up_at: item.signed_up_at,
        correlation_id: item.correlation_id,
        mark: item.mark,
        notes: item.notes,
        candidates,
        adjusted_order: item.adjusted_order,
        reopened: item.reopened,
        rev: item.rev,
    })
}

/// Builds the state from the attributes; `None` when some are missing.
fn read_state(
    status: Status,
    conversion: Option<Conversion>,
    rewards: Option<Rewards>,
    voided: Option<StoredVoid>,
    due_at: Option<Timestamp>,
) -> Option<State> {
    match status {
        Status::Pending => Some(State::Pending),
        Status::Converted => Some(State::Converted { conversion: conversion?, due_at: due_at? }),
        Status::Rewarded => {
            let rewards = rewards?;
            // When no reward is waiting for an answer, the item has no due time, and nothing reads this one.
            let due_at = due_at.unwrap_or(rewards.issued_at);
            Some(State::Rewarded { conversion: conversion?, rewards, due_at })
        }
        Status::Voided => {
            let StoredVoid { voided: Voided { at, reason }, is_exact } = voided?;
            Some(match rewards {
                Some(rewards) => {
                    let due_at = due_at.unwrap_or(at);
                    State::Reversed { at, reason, conversion: conversion?, rewards, due_at }
                }
                None => State::Voided { at, reason, is_exact, conversion },
            })
        }
    }
}
