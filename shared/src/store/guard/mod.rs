//! Guards: every condition and every other expression that is sent to the table.
//!
//! | guard | guarantees |
//! |---|---|
//! | [`create`] | an item that may exist only once is written once (UNIQUE) |
//! | [`step`] | a referral changes only as its machine allows, and only from the revision that was read |
//! | [`copy`], [`replace`] | a restored item never overwrites a write that the decision did not see |
//! | [`claim_order`] | an order converts the referral of one user |
//! | [`adjust_order`] | each adjustment of an order is kept once, and of a dispute the latest state |
//! | [`mark_excess`] | an order with too many adjustments needs an operator once |
//! | [`resolve_order`] | an operator's approval does not hide an adjustment that the decision did not see |
//! | [`reversals`] | of a reversal's facts, each is set once |
//! | [`set_flag`] | of all changes of an account's flag, the latest counts |
//! | [`end_code`], [`disable_code`] | only an existing code's expiry changes, and disabling a code does not prolong it |
//! | [`name_code`], [`has_ended`] | of a user's codes in a program, at most one is live |
//! | [`remember_device`] | an account has a limited number of devices |

pub(super) mod reversals;

use aws_sdk_dynamodb::{Client, operation::query::builders::QueryFluentBuilder, types::AttributeValue};

use super::{
    cursor::{ListCursor, WorkPartition},
    items,
    keys::{
        self, ADJUSTMENTS, CANCELLED, CLAIMED_BY, CODE, DEVICES, DISPUTE, EXCESS, EXPIRES_AT, FLAG_AT, FLAG_REASON,
        FLAGGED, Item, Key, PAID, PK, REV, STATUS, TTL, text,
    },
    write::Write,
};
use crate::{
    domain::{
        account::{Account, AccountFlag},
        adjustments::Adjustments,
        code::Code,
        device::Device,
        id::UserId,
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::machine::Transition,
};

/// No item with this key exists.
const ABSENT: &str = "attribute_not_exists(#pk)";

/// Returns the condition unchanged, except under the mutant `loosened`, which makes it always true. The condition uses
/// the attribute `name`.
fn kept(condition: &str, name: &str, loosened: Mutant) -> String {
    if mutant::is(loosened) {
        return format!("attribute_exists({name}) OR attribute_not_exists({name}) OR {condition}");
    }
    condition.to_owned()
}

/// Writes an item if none exists with its key. A conflict returns the existing item. `loosened` is the mutant that
/// drops the condition.
pub(super) fn create(item: Item, loosened: Mutant) -> Write {
    Write::put(item).when(kept(ABSENT, "#pk", loosened)).name("#pk", PK).returning_found()
}

/// Writes an item if none exists with its key: one of a restored table, or a reversal.
pub(super) fn copy(item: Item) -> Write {
    Write::put(item).when(ABSENT).name("#pk", PK)
}

/// Replaces an item by that of a restored table, if it still has the revision that was read.
pub(super) fn replace(found: &Item, item: Item) -> Write {
    let write = Write::put(item).name("#rev", REV);
    match found.get(REV) {
        Some(rev) => write.when("#rev = :rev").value(":rev", rev.clone()),
        None => write.when("attribute_not_exists(#rev)"),
    }
}

/// Writes what a step changed. The condition: the table still contains the revision that was read, and the machine
/// allows the transition from its state. A conflict returns the existing item.
///
/// The update names only attributes that differ, so it keeps attributes that a newer version of this service added.
pub(super) fn step(before: &Item, after: &Item, transition: Transition) -> Write {
    let mut write = difference(before, after).name("#status", STATUS).name("#rev", REV).returning_found();
    if let Some(rev) = before.get(REV) {
        write = write.value(":rev", rev.clone());
    }
    let mut allowed = Vec::new();
    for status in transition.allowed_from() {
        let name = format!(":{}", status.as_str());
        write = write.value(&name, text(status.as_str()));
        allowed.push(name);
    }
    let same = if mutant::is(Mutant::StepWithoutRevision) { ">=" } else { "=" };
    let condition = format!("#rev {same} :rev AND #status IN ({})", allowed.join(", "));
    write.when(kept(&condition, "#rev", Mutant::StepWithoutCondition))
}

/// Sets new and changed attributes, and removes those that no longer exist.
fn difference(before: &Item, after: &Item) -> Write {
    let (mut set, mut remove) = (Vec::new(), Vec::new());
    let mut changed: Vec<_> = after.iter().filter(|(name, value)| before.get(*name) != Some(value)).collect();
    changed.sort_by_key(|(name, _)| *name);
    let mut gone: Vec<_> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    gone.sort();
    gone.retain(|_| !mutant::is(Mutant::RemovedAttributesKept));
    for (name, _) in &changed {
        set.push(format!("#{name} = :new_{name}"));
    }
    for name in &gone {
        remove.push(format!("#{name}"));
    }
    let clause = |verb: &str, parts: Vec<String>| match parts.as_slice() {
        [] => String::new(),
        parts => format!("{verb} {} ", parts.join(", ")),
    };
    let expression = clause("SET", set) + &clause("REMOVE", remove);
    let key = Key::of(before).map(|key| key.attributes()).unwrap_or_default();
    let mut write = Write::update(key, expression.trim_end());
    for (name, value) in changed {
        write = write.name(format!("#{name}"), name).value(format!(":new_{name}"), value.clone());
    }
    for name in gone {
        write = write.name(format!("#{name}"), name);
    }
    write
}

/// Claims an order for this user, unless someone has claimed it. A conflict returns the order.
pub(super) fn claim_order(order: &Key, referee: &UserId, paid: AttributeValue) -> Write {
    // DynamoDB deletes only items whose time is a number.
    Write::update(order.attributes(), "SET #referee = :referee, #paid = :paid, #ttl = :never")
        .when(kept("attribute_not_exists(#referee)", "#referee", Mutant::OrderClaimedTwice))
        .name("#referee", CLAIMED_BY)
        .name("#paid", PAID)
        .name("#ttl", TTL)
        .value(":referee", text(referee.as_str()))
        .value(":paid", paid)
        .value(":never", AttributeValue::Null(true))
        .returning_new()
        .returning_found()
}

/// Adds an adjustment, as an attribute, if it is new or the dispute's latest state. The order must have fewer than
/// [`Adjustments::MOST`], unless it [always fits](is_limited). An order that no one claims is deleted at `until`. A conflict returns the order.
pub(super) fn adjust_order(order: &Key, name: &str, value: AttributeValue, until: Timestamp) -> Write {
    const ONCE: &str = "attribute_not_exists(#id) AND (attribute_not_exists(#count) OR #count < :most)";
    const LATEST: &str =
        "(attribute_not_exists(#id) AND (attribute_not_exists(#count) OR #count < :most)) OR #id < :value";
    let condition = match name {
        CANCELLED => "attribute_not_exists(#id)".to_owned(),
        DISPUTE => kept("attribute_not_exists(#id) OR #id < :value", "#id", Mutant::EarlierDisputeWins),
        name if name.starts_with(DISPUTE) => kept(LATEST, "#id", Mutant::EarlierDisputeWins),
        _ => ONCE.to_owned(),
    };
    let write =
        Write::update(order.attributes(), "SET #id = :value, #ttl = if_not_exists(#ttl, :until) ADD #count :one")
            .when(condition)
            .name("#id", name)
            .name("#count", ADJUSTMENTS)
            .name("#ttl", TTL)
            .value(":value", value)
            .value(":until", number(until.seconds()))
            .value(":one", number(1))
            .returning_new()
            .returning_found();
    if is_limited(name) { write.value(":most", number(Adjustments::MOST.into())) } else { write }
}

/// Whether an adjustment counts for the limit. A cancellation and the only dispute of an order always fit.
pub(super) fn is_limited(name: &str) -> bool {
    name != CANCELLED && name != DISPUTE
}

/// Marks an order that has an adjustment beyond the limit, unless it was marked before. A conflict returns the order.
pub(super) fn mark_excess(order: &Key) -> Write {
    Write::update(order.attributes(), "SET #excess = :excess ADD #count :one")
        .when("attribute_not_exists(#excess)")
        .name("#excess", EXCESS)
        .name("#count", ADJUSTMENTS)
        .value(":excess", AttributeValue::Bool(true))
        .value(":one", number(1))
        .returning_new()
        .returning_found()
}

/// Resolves what is unclear about an order: these refunds failed, and adjustments beyond the limit are ignored. The order must have
/// the number of adjustments that was read. A part of the transaction that also writes the referral's step.
pub(super) fn resolve_order(order: &Key, read: &Adjustments, failed: &[String], now: Timestamp) -> Write {
    let mut expression = "SET #count = :next".to_owned();
    let mut names = vec![("#count".to_owned(), ADJUSTMENTS)];
    for (place, name) in failed.iter().enumerate() {
        expression += &format!(", #refund{place} = :now");
        names.push((format!("#refund{place}"), name));
    }
    if read.has_excess {
        expression += ", #excess = :resolved";
        names.push(("#excess".to_owned(), EXCESS));
    }
    let mut write = Write::update(order.attributes(), &expression)
        .when("#count = :read")
        .value(":read", number(read.version.into()))
        .value(":next", number(i64::from(read.version) + 1));
    for (placeholder, name) in names {
        write = write.name(placeholder, name);
    }
    if !failed.is_empty() {
        write = write.value(":now", text(items::order::resolved_at(now)));
    }
    if read.has_excess { write.value(":resolved", AttributeValue::Bool(false)) } else { write }
}

/// Keeps a claimed order for good. Adjustments of an order that an earlier build claimed set a time to delete it.
pub(super) fn keep_order(order: &Key) -> Write {
    Write::update(order.attributes(), "SET #ttl = :never")
        .when("attribute_exists(#referee)")
        .name("#referee", CLAIMED_BY)
        .name("#ttl", TTL)
        .value(":never", AttributeValue::Null(true))
}

/// Raises the number of an order's adjustments, if it is still the one that was read.
pub(super) fn raise_adjustments(order: &Key, found: Option<u32>, to: u32) -> Write {
    let write = Write::update(order.attributes(), "SET #count = :count")
        .name("#count", ADJUSTMENTS)
        .value(":count", number(to.into()));
    match found {
        Some(found) => write.when("#count = :found").value(":found", number(found.into())),
        None => write.when("attribute_not_exists(#count)"),
    }
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Changes an account's flag unless a later change is stored. If a flag and a clearance have the same time, the flag
/// wins, so that the result does not depend on the order of arrival. Earlier versions stored times of the future, which
/// would override every change until then, so any change replaces those.
pub(super) fn set_flag(account: &Key, flag: &AccountFlag, now: Timestamp) -> Write {
    const LATER: &str = "attribute_not_exists(#at) OR #at < :at OR #at > :latest";
    const LATER_OR_EQUAL: &str =
        "attribute_not_exists(#at) OR #at < :at OR #at > :latest OR (#at = :at AND #flagged <> :flagged)";
    let write = match &flag.reason {
        Some(reason) => Write::update(account.attributes(), "SET #flagged = :flagged, #at = :at, #reason = :reason")
            .when(kept(LATER_OR_EQUAL, "#at", Mutant::FlagWithoutTimeCheck))
            .value(":reason", text(reason)),
        None => Write::update(account.attributes(), "SET #flagged = :flagged, #at = :at REMOVE #reason").when(kept(
            LATER,
            "#at",
            Mutant::ClearanceWithoutTimeCheck,
        )),
    };
    write
        .name("#flagged", FLAGGED)
        .name("#at", FLAG_AT)
        .name("#reason", FLAG_REASON)
        .value(":at", text(flag.at.to_string()))
        .value(":latest", text(now.plus(Timestamp::TOLERANCE).to_string()))
        .value(":flagged", AttributeValue::Bool(flag.reason.is_some()))
}

/// The code exists.
const EXISTS: &str = "attribute_exists(#pk)";

/// Ends a code at a time that is not in the future, if the code exists. Returns the changed code.
pub(super) fn end_code(code: &Key, end: Timestamp) -> Write {
    set_expiry(code, Some(end)).when(EXISTS).returning_new()
}

/// Ends a code now, if it exists. Returns the changed code, or, as a conflict, a code that had already ended.
pub(super) fn disable_code(code: &Key, now: Timestamp) -> Write {
    const STILL_LIVE: &str = "attribute_exists(#pk) AND (attribute_not_exists(#end) OR #end > :end)";
    set_expiry(code, Some(now)).when(STILL_LIVE).returning_new().returning_found()
}

/// Makes a code live until a time, or without an end, if it exists. A part of the transaction that also writes
/// [`name_code`].
pub(super) fn revive_code(code: &Key, end: Option<Timestamp>) -> Write {
    set_expiry(code, end).when(EXISTS)
}

fn set_expiry(code: &Key, end: Option<Timestamp>) -> Write {
    let write = match end {
        Some(end) => Write::update(code.attributes(), "SET #end = :end").value(":end", text(end.to_string())),
        None => Write::update(code.attributes(), "REMOVE #end"),
    };
    write.name("#pk", PK).name("#end", EXPIRES_AT)
}

/// Names a user's code in the owner's item, if the item still names the code `instead_of`. A conflict returns the item.
pub(super) fn name_code(owner: &Key, code: &Code, instead_of: &Code) -> Write {
    const UNCHANGED: &str = "attribute_not_exists(#pk) OR #code = :old";
    Write::update(owner.attributes(), "SET #code = :code")
        .when(kept(UNCHANGED, "#pk", Mutant::CodeNamedUnchecked))
        .name("#pk", PK)
        .name("#code", CODE)
        .value(":code", text(code.as_str()))
        .value(":old", text(instead_of.as_str()))
        .returning_found()
}

/// Requires that a code has ended: no one has revived it.
pub(super) fn has_ended(code: &Key, now: Timestamp) -> Write {
    Write::check(code.attributes())
        .when(kept("#end <= :now", "#end", Mutant::EndedCodeUnchecked))
        .name("#end", EXPIRES_AT)
        .value(":now", text(now.to_string()))
}

/// Adds a device to an account. The mint's transaction uses it without a limit, because a user mints once per program.
pub(super) fn add_device(account: &Key, device: &Device) -> Write {
    Write::update(account.attributes(), "ADD #devices :devices")
        .name("#devices", DEVICES)
        .value(":devices", AttributeValue::Ss(vec![device.as_str().to_owned()]))
}

/// Adds a device to an account that has fewer than [`Account::MAX_DEVICES`].
pub(super) fn remember_device(account: &Key, device: &Device) -> Write {
    add_device(account, device)
        .when("attribute_not_exists(#devices) OR size(#devices) < :most")
        .value(":most", AttributeValue::N(Account::MAX_DEVICES.to_string()))
}

/// Reads the index of a referrer's referrals, newest first, after the cursor.
pub(super) fn referred_before(client: &Client, referrer: &UserId, before: Option<&ListCursor>) -> QueryFluentBuilder {
    let query = client
        .query()
        .index_name(keys::BY_REFERRER)
        .scan_index_forward(false)
        .expression_attribute_names("#referrer", keys::REFERRER)
        .expression_attribute_values(":referrer", text(keys::referrer_partition(referrer)));
    match before {
        Some(before) => query
            .key_condition_expression("#referrer = :referrer AND #at < :before")
            .expression_attribute_names("#at", keys::REFERRED_AT)
            .expression_attribute_values(":before", text(before.as_sort_key())),
        None => query.key_condition_expression("#referrer = :referrer"),
    }
}

/// Reads a referral with its reversals and notes.
pub(super) fn of_referee(client: &Client, referral: &Key) -> QueryFluentBuilder {
    client
        .query()
        .consistent_read(true)
        .key_condition_expression("#pk = :pk")
        .expression_attribute_names("#pk", PK)
        .expression_attribute_values(":pk", text(referral.partition()))
}

/// Reads a partition of the index of work up to a time, the earliest due time first.
pub(super) fn due_by(client: &Client, partition: WorkPartition, now: Timestamp) -> QueryFluentBuilder {
    client
        .query()
        .index_name(keys::WORK)
        .key_condition_expression("#work = :work AND #due_at <= :now")
        .expression_attribute_names("#work", keys::WORK)
        .expression_attribute_names("#due_at", keys::DUE_AT)
        .expression_attribute_values(":work", text(partition.key()))
        .expression_attribute_values(":now", text(now.to_string()))
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;

    use super::*;
    use crate::{
        fraud::FraudReason,
        referral::{
            Referral,
            machine::{Command, Decision},
        },
        sample::{at, pending},
        store::items::referral::to_referral_item,
    };

    /// The write for this command.
    fn write(before: &Referral, event: &Command<'_>) -> Write {
        let Decision::Apply(after, transition) = before.decide(event, at(5)) else { panic!("{event:?} is refused") };
        let item = |referral| to_referral_item(referral).unwrap();
        super::step(&item(before), &item(&after), transition)
    }

    #[test]
    fn a_step_requires_the_revision_that_was_read_and_an_allowed_state() {
        let write = write(&pending(), &Command::Void(FraudReason::ReferrerFlagged.into()));
        assert_eq!(write.condition(), Some("#rev = :rev AND #status IN (:pending, :converted, :voided)"));
        let update = write.into_update();
        let values = update.expression_attribute_values().unwrap();
        assert_eq!(values[":rev"], AttributeValue::N("1".to_owned()));
        assert_eq!(values[":pending"], text("pending"));
        assert_eq!(values[":converted"], text("converted"));
        assert_eq!(values[":voided"], text("voided"));
        assert_eq!(
            update.return_values_on_condition_check_failure(),
            Some(&ReturnValuesOnConditionCheckFailure::AllOld)
        );
    }

    #[test]
    fn a_step_names_only_changed_attributes() {
        let voided = write(&pending(), &Command::Void(FraudReason::ReferrerFlagged.into()));
        assert_eq!(voided.expression(), Some("SET #rev = :new_rev, #status = :new_status, #voided = :new_voided"));
    }

    #[test]
    fn attributes_that_a_step_drops_are_removed() {
        let before = Item::from([("a".to_owned(), text("1")), ("b".to_owned(), text("2")), (PK.to_owned(), text("p"))]);
        let mut after = before.clone();
        after.remove("b");
        assert_eq!(difference(&before, &after).expression(), Some("REMOVE #b"));
    }

    #[test]
    fn an_item_is_created_only_where_none_exists() {
        for loosened in [Mutant::ReferralOverwritten, Mutant::CodeOverwritten] {
            let put = create(to_referral_item(&pending()).unwrap(), loosened).into_put();
            assert_eq!(put.condition_expression(), Some("attribute_not_exists(#pk)"));
            assert_eq!(put.expression_attribute_names().unwrap()["#pk"], "pk");
        }
    }

    #[test]
    fn the_latest_change_of_a_flag_counts() {
        let condition = |reason: Option<&str>| {
            let change = AccountFlag { reason: reason.map(str::to_owned), at: at(5) };
            let write = set_flag(&Key::account(&"bob".parse().unwrap()), &change, at(5));
            write.condition().unwrap().to_owned()
        };
        assert_eq!(
            condition(Some("fraud")),
            "attribute_not_exists(#at) OR #at < :at OR #at > :latest OR (#at = :at AND #flagged <> :flagged)"
        );
        assert_eq!(condition(None), "attribute_not_exists(#at) OR #at < :at OR #at > :latest");
    }

    #[test]
    fn only_an_existing_code_expires_and_disabling_does_not_prolong_it() {
        let key = Key::code(&"ada-invites".parse().unwrap());
        assert_eq!(end_code(&key, at(5)).condition(), Some("attribute_exists(#pk)"));
        let still_live = "attribute_exists(#pk) AND (attribute_not_exists(#end) OR #end > :end)";
        assert_eq!(disable_code(&key, at(5)).condition(), Some(still_live));
        for (end, expression) in [(None, "REMOVE #end"), (Some(at(5)), "SET #end = :end")] {
            let write = revive_code(&key, end);
            assert_eq!((write.condition(), write.expression()), (Some("attribute_exists(#pk)"), Some(expression)));
        }
    }

    #[test]
    fn a_user_has_one_live_code() {
        let [old, new] = ["ada-old", "Ada-New"].map(|code| code.parse::<Code>().unwrap());
        let owner = Key::code_owner(&"ada".parse().unwrap(), &"default".parse().unwrap());
        let write = name_code(&owner, &new, &old);
        assert_eq!(write.condition(), Some("attribute_not_exists(#pk) OR #code = :old"));
        let update = write.into_update();
        let values = update.expression_attribute_values().unwrap();
        assert_eq!((&values[":code"], &values[":old"]), (&text("Ada-New"), &text("ada-old")));
        assert_eq!(
            update.return_values_on_condition_check_failure(),
            Some(&ReturnValuesOnConditionCheckFailure::AllOld)
        );
        let check = has_ended(&Key::code(&old), at(5)).into_check();
        assert_eq!(check.condition_expression(), "#end <= :now");
        assert_eq!(check.expression_attribute_values().unwrap()[":now"], text(at(5).to_string()));
        assert_eq!(check.key(), &Key::code(&old).attributes());
    }

    #[test]
    fn the_number_of_devices_is_limited() {
        let (account, device) = (Key::account(&"bob".parse().unwrap()), serde_json::from_str("\"digest\"").unwrap());
        let write = remember_device(&account, &device);
        assert_eq!(write.condition(), Some("attribute_not_exists(#devices) OR size(#devices) < :most"));
        // The mint adds at most one device per program, so it needs no condition.
        let part = add_device(&account, &device).into_update();
        assert_eq!((part.table_name(), part.update_expression()), ("table", "ADD #devices :devices"));
        assert_eq!(
            part.expression_attribute_values().unwrap()[":devices"],
            AttributeValue::Ss(vec!["digest".to_owned()])
        );
        assert_eq!(part.condition_expression(), None);
    }
}
