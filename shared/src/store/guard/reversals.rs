//! The conditions of a reversal's item. Each fact is set once, under its own condition.

use aws_sdk_dynamodb::types::AttributeValue;

use super::number;
use crate::{
    domain::time::Timestamp,
    referral::{Lane, reversal::Reversal, reward::InstructionId},
    store::{
        keys::{self, CLOSED_AT, DELIVERED_AT, DUE_AT, FAILED_AT, FAILURE, Key, PK, RESENT, WORK, WORK_SHARDS, text},
        write::Write,
    },
};

const NAMES: [(&str, &str); 8] = [
    ("#pk", PK),
    ("#delivered", DELIVERED_AT),
    ("#failed", FAILED_AT),
    ("#failure", FAILURE),
    ("#closed", CLOSED_AT),
    ("#resent", RESENT),
    ("#work", WORK),
    ("#due", DUE_AT),
];

/// Neither delivered nor closed.
const OPEN: &str = "attribute_exists(#pk) AND attribute_not_exists(#delivered) AND attribute_not_exists(#closed)";

/// Changes a reversal under this condition. A conflict returns the item that was found.
fn change(id: &InstructionId, expression: &str, condition: &str) -> Write {
    let write = Write::update(Key::reversal(id).attributes(), expression).when(condition);
    let is_used = |name: &str| expression.contains(name) || condition.contains(name);
    let used = NAMES.into_iter().filter(|(name, _)| is_used(name));
    used.fold(write, |write, (name, attribute)| write.name(name, attribute)).returning_new().returning_found()
}

/// Records that the subsystem accepted the reversal. This ends its work.
pub(in crate::store) fn mark_delivered(id: &InstructionId, now: Timestamp) -> Write {
    const ONCE: &str = "attribute_exists(#pk) AND attribute_not_exists(#delivered)";
    change(id, "SET #delivered = :now REMOVE #work, #due, #closed", ONCE).value(":now", time(now))
}

/// Records that the subsystem refused the reversal, unless an operator has sent it again since the call.
pub(in crate::store) fn mark_failed(read: &Reversal, answer: &str, now: Timestamp) -> Write {
    let condition = format!("{OPEN} AND attribute_not_exists(#failed) AND #resent = :resent");
    change(&read.id, "SET #failed = :now, #failure = :answer, #work = :work, #due = :now", &condition)
        .value(":now", time(now))
        .value(":answer", text(answer))
        .value(":resent", number(read.delivery.resent.into()))
        .value(":work", work(&read.id, Lane::Attention))
}

/// Closes a reversal that has nothing to take back. This ends its work. If its reward was delivered meanwhile, its due time has
/// changed.
pub(in crate::store) fn close(read: &Reversal, now: Timestamp) -> Write {
    let condition = format!("{OPEN} AND #due = :found");
    change(&read.id, "SET #closed = :now REMOVE #work, #due", &condition)
        .value(":now", time(now))
        .value(":found", time(read.due_at))
}

/// Moves the time of the sweep's next check, if it is still the one that was read.
pub(in crate::store) fn claim(read: &Reversal, until: Timestamp) -> Write {
    change(&read.id, "SET #due = :until", "#due = :found AND #work = :work")
        .value(":found", time(read.due_at))
        .value(":until", time(until))
        .value(":work", work(&read.id, Lane::Due))
}

/// Removes a refusal, so that the reversal is sent again.
pub(in crate::store) fn resend(read: &Reversal, until: Timestamp) -> Write {
    let condition = format!("{OPEN} AND #resent = :resent");
    change(&read.id, "SET #resent = :next, #work = :work, #due = :until REMOVE #failed, #failure", &condition)
        .value(":resent", number(read.delivery.resent.into()))
        .value(":next", number(i64::from(read.delivery.resent) + 1))
        .value(":until", time(until))
        .value(":work", work(&read.id, Lane::Due))
}

fn time(at: Timestamp) -> AttributeValue {
    text(at.to_string())
}

/// The partition of a reversal in the index of work.
fn work(id: &InstructionId, lane: Lane) -> AttributeValue {
    text(keys::work_partition(lane, keys::shard_of(&id.referee, WORK_SHARDS)))
}
