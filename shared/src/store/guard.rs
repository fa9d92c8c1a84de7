//! Guards: every condition and every other expression that the table is asked to keep is written here.
//!
//! | guard | keeps true |
//! |---|---|
//! | [`create`] | a thing that must exist once is written once (UNIQUE) |
//! | [`step`] | a referral moves only as its machine allows, and only from what was read (`WHERE status = ...`) |
//! | [`standing`] | of all news of an account, the latest holds |
//! | [`remember_device`] | an account's devices stay few |

use aws_sdk_dynamodb::{
    Client,
    operation::{
        put_item::builders::PutItemFluentBuilder, query::builders::QueryFluentBuilder,
        update_item::builders::UpdateItemFluentBuilder,
    },
    types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, Update},
};

use crate::{
    account::{Account, Standing},
    device::Device,
    id::UserId,
    referral::{Lane, Verb},
    table::{self, DEVICES, FLAG_AT, FLAG_REASON, FLAGGED, Item, Key, PK, REV, STATUS, text},
    time::Timestamp,
};

/// Nothing is at this address yet.
const ABSENT: &str = "attribute_not_exists(#pk)";

/// Puts an item where nothing is; a refusal brings what is there.
pub(super) fn create(client: &Client, item: Item) -> PutItemFluentBuilder {
    client
        .put_item()
        .set_item(Some(item))
        .condition_expression(ABSENT)
        .expression_attribute_names("#pk", PK)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
}

/// The same as a part of a transaction.
pub(super) fn create_in(table: &str, item: Item) -> Option<Put> {
    Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(ABSENT)
        .expression_attribute_names("#pk", PK)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .ok()
}

/// Writes what a step changed of a referral, if the table still holds the referral that was read, in a state from which
/// the machine allows the verb; a refusal brings what is there.
///
/// Only attributes that differ are named, so whatever a newer version of this service keeps there stays.
pub(super) fn step(client: &Client, before: &Item, after: &Item, verb: Verb) -> UpdateItemFluentBuilder {
    let mut update = client
        .update_item()
        .set_key(Key::of(before).map(|key| key.attributes()))
        .expression_attribute_names("#status", STATUS)
        .expression_attribute_names("#rev", REV)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    if let Some(rev) = before.get(REV) {
        update = update.expression_attribute_values(":rev", rev.clone());
    }
    let mut allowed = Vec::new();
    for status in verb.allowed_from() {
        let place = format!(":{}", status.as_str());
        update = update.expression_attribute_values(&place, text(status.as_str()));
        allowed.push(place);
    }
    let condition = format!("#rev = :rev AND #status IN ({})", allowed.join(", "));
    difference(update.condition_expression(condition), before, after)
}

/// `SET` what is new or different, `REMOVE` what is gone.
fn difference(mut update: UpdateItemFluentBuilder, before: &Item, after: &Item) -> UpdateItemFluentBuilder {
    let (mut set, mut remove) = (Vec::new(), Vec::new());
    let mut changed: Vec<_> = after.iter().filter(|(name, value)| before.get(*name) != Some(value)).collect();
    changed.sort_by_key(|(name, _)| *name);
    for (name, value) in changed {
        set.push(format!("#{name} = :new_{name}"));
        update = update
            .expression_attribute_names(format!("#{name}"), name)
            .expression_attribute_values(format!(":new_{name}"), value.clone());
    }
    let mut gone: Vec<_> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    gone.sort();
    for name in gone {
        remove.push(format!("#{name}"));
        update = update.expression_attribute_names(format!("#{name}"), name);
    }
    let clause = |verb: &str, parts: Vec<String>| match parts.as_slice() {
        [] => String::new(),
        parts => format!("{verb} {} ", parts.join(", ")),
    };
    let expression = clause("SET", set) + &clause("REMOVE", remove);
    update.update_expression(expression.trim_end())
}

/// Writes an account's standing unless a later one is known. At one and the same time a flag outweighs a clearance, so
/// the result does not depend on the order of arrival.
pub(super) fn standing(client: &Client, account: &Key, standing: &Standing) -> UpdateItemFluentBuilder {
    let update = client
        .update_item()
        .set_key(Some(account.attributes()))
        .expression_attribute_names("#flagged", FLAGGED)
        .expression_attribute_names("#at", FLAG_AT)
        .expression_attribute_names("#reason", FLAG_REASON)
        .expression_attribute_values(":at", text(standing.at.to_string()))
        .expression_attribute_values(":flagged", AttributeValue::Bool(standing.flag.is_some()));
    match &standing.flag {
        Some(reason) => update
            .update_expression("SET #flagged = :flagged, #at = :at, #reason = :reason")
            .condition_expression(
                "attribute_not_exists(#at) OR #at < :at OR (#at = :at AND #flagged <> :flagged)",
            )
            .expression_attribute_values(":reason", text(reason)),
        None => update
            .update_expression("SET #flagged = :flagged, #at = :at REMOVE #reason")
            .condition_expression("attribute_not_exists(#at) OR #at < :at"),
    }
}

/// Adds a device to an account, as long as there are few.
pub(super) fn remember_device(client: &Client, account: &Key, device: &Device) -> UpdateItemFluentBuilder {
    client
        .update_item()
        .set_key(Some(account.attributes()))
        .update_expression("ADD #devices :devices")
        .condition_expression("attribute_not_exists(#devices) OR size(#devices) < :most")
        .expression_attribute_names("#devices", DEVICES)
        .expression_attribute_values(":devices", AttributeValue::Ss(vec![device.as_str().to_owned()]))
        .expression_attribute_values(":most", AttributeValue::N(Account::MAX_DEVICES.to_string()))
}

/// The same as a part of the mint's transaction: unconditional, for a user mints once per program.
pub(super) fn remember_device_in(table: &str, account: &Key, device: &Device) -> Option<Update> {
    Update::builder()
        .table_name(table)
        .set_key(Some(account.attributes()))
        .update_expression("ADD #devices :devices")
        .expression_attribute_names("#devices", DEVICES)
        .expression_attribute_values(":devices", AttributeValue::Ss(vec![device.as_str().to_owned()]))
        .build()
        .ok()
}

/// Reads the index of a referrer's referrals, newest first, from just before a place.
pub(super) fn referred_before(client: &Client, referrer: &UserId, before: Option<&str>) -> QueryFluentBuilder {
    let query = client
        .query()
        .index_name(table::BY_REFERRER)
        .scan_index_forward(false)
        .expression_attribute_names("#referrer", table::REFERRER)
        .expression_attribute_values(":referrer", text(table::referrer_partition(referrer)));
    match before {
        Some(before) => query
            .key_condition_expression("#referrer = :referrer AND #at < :before")
            .expression_attribute_names("#at", table::REFERRED_AT)
            .expression_attribute_values(":before", text(before)),
        None => query.key_condition_expression("#referrer = :referrer"),
    }
}

/// Reads one partition of the index of work up to a time, the longest waiting first.
pub(super) fn due_by(client: &Client, lane: Lane, shard: u32, now: Timestamp) -> QueryFluentBuilder {
    client
        .query()
        .index_name(table::WORK)
        .key_condition_expression("#work = :work AND #due_at <= :now")
        .expression_attribute_names("#work", table::WORK)
        .expression_attribute_names("#due_at", table::DUE_AT)
        .expression_attribute_values(":work", text(table::work_partition(lane, shard)))
        .expression_attribute_values(":now", text(now.to_string()))
}
