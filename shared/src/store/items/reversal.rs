//! The item of a reversal: an instruction with its delivery and its own place in the index of work.

use serde::{Deserialize, Serialize};

use super::{InvalidItem, from_image, key_text, to_item};
use crate::{
    domain::{
        id::UserId,
        money::{Amount, Currency},
        time::Timestamp,
    },
    referral::{
        Lane,
        reversal::{Reversal, ReversalStatus},
        reward::{Benefit, Delivery, InstructionId, RewardType},
    },
    store::keys::{self, Item, Key, WORK_SHARDS},
};

#[derive(Serialize, Deserialize)]
struct ReversalItem {
    reversal_id: InstructionId,
    user_id: UserId,
    r#type: RewardType,
    amount: Amount,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    correlation_id: String,
    issued_at: Timestamp,
    reward_issued_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reward_delivered_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(default)]
    resent: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    work: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
}

/// The item of a new reversal.
///
/// # Errors
/// Returns an error when the reversal cannot be serialized.
pub fn to_reversal_item(reversal: &Reversal) -> Result<Item, InvalidItem> {
    let is_open = reversal.status() == ReversalStatus::Issued;
    let shard = keys::shard_of(&reversal.id.referee, WORK_SHARDS);
    let Delivery { delivered_at, failed_at, failure, resent, .. } = reversal.delivery.clone();
    let item = ReversalItem {
        reversal_id: reversal.id.clone(),
        user_id: reversal.user.clone(),
        r#type: reversal.benefit.kind(),
        amount: reversal.benefit.amount(),
        currency: reversal.benefit.currency(),
        correlation_id: reversal.correlation_id.clone(),
        issued_at: reversal.issued_at,
        reward_issued_at: reversal.reward_issued_at,
        reward_delivered_at: reversal.reward_delivered_at,
        delivered_at,
        failed_at,
        failure,
        resent,
        closed_at: reversal.closed_at,
        work: is_open.then(|| keys::work_partition(Lane::Due, shard)),
        due_at: is_open.then_some(reversal.due_at),
    };
    to_item(&Key::reversal(&reversal.id), &item)
}

/// Reads a reversal from its item.
///
/// # Errors
/// Returns an error when the item is not a reversal.
pub fn from_reversal_item(item: Item) -> Result<Reversal, InvalidItem> {
    from_reversal_image(item.into())
}

/// Whether the keys of a stream record are those of a reversal.
pub fn is_reversal_key(keys: &serde_dynamo::Item) -> bool {
    keys::is_reversal_key(keys)
}

/// Reads a reversal from an image in a stream record.
///
/// # Errors
/// Returns an error when the image is not a reversal.
pub fn from_reversal_image(image: serde_dynamo::Item) -> Result<Reversal, InvalidItem> {
    let key = key_text(&image);
    let item: ReversalItem = from_image(image)?;
    let benefit = Benefit::from_fields(item.r#type, item.amount, item.currency);
    Ok(Reversal {
        benefit: benefit.map_err(|problem| InvalidItem { key, problem: problem.to_string() })?,
        id: item.reversal_id,
        user: item.user_id,
        correlation_id: item.correlation_id,
        issued_at: item.issued_at,
        reward_issued_at: item.reward_issued_at,
        reward_delivered_at: item.reward_delivered_at,
        delivery: Delivery {
            called_at: None,
            delivered_at: item.delivered_at,
            failed_at: item.failed_at,
            failure: item.failure,
            resent: item.resent,
        },
        closed_at: item.closed_at,
        due_at: item.due_at.unwrap_or(item.issued_at),
    })
}
