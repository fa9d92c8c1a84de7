//! Guards: every condition and every other expression that the table is asked to keep is written here.
//!
//! | guard | keeps true |
//! |---|---|
//! | [`create`] | a thing that must exist once is written once (UNIQUE) |
//! | [`step`] | a referral moves only as its machine allows, and only from what was read (`WHERE status = ...`) |
//! | [`standing`] | of all news of an account, the latest holds |
//! | [`end_code`] | a code's end changes only where there is a code, and who disables it does not make it live longer |
//! | [`remember_device`] | an account's devices stay few |

use aws_sdk_dynamodb::{
    Client,
    operation::{
        put_item::builders::PutItemFluentBuilder, query::builders::QueryFluentBuilder,
        update_item::builders::UpdateItemFluentBuilder,
    },
    types::{AttributeValue, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, Update},
};

use crate::{
    account::{Account, Standing},
    code::Ending,
    device::Device,
    id::UserId,
    machine::Transition,
    mutant::{self, Mutant},
    referral::Lane,
    table::{self, DEVICES, EXPIRES_AT, FLAG_AT, FLAG_REASON, FLAGGED, Item, Key, PK, REV, STATUS, text},
    time::Timestamp,
};

/// Nothing is at this address yet.
const ABSENT: &str = "attribute_not_exists(#pk)";

/// A condition as it stands, on the attribute `name` among others; this mutant lets everything pass.
fn kept(condition: &str, name: &str, loosened: Mutant) -> String {
    if mutant::is(loosened) {
        return format!("attribute_exists({name}) OR attribute_not_exists({name}) OR {condition}");
    }
    condition.to_owned()
}

/// Puts an item where nothing is; a refusal brings what is there.
pub(super) fn create(client: &Client, item: Item) -> PutItemFluentBuilder {
    client
        .put_item()
        .set_item(Some(item))
        .condition_expression(kept(ABSENT, "#pk", Mutant::ReferralOverwritten))
        .expression_attribute_names("#pk", PK)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
}

/// The same as a part of a transaction.
pub(super) fn create_in(table: &str, item: Item) -> Option<Put> {
    Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(kept(ABSENT, "#pk", Mutant::CodeOverwritten))
        .expression_attribute_names("#pk", PK)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .ok()
}

/// Writes what a step changed of a referral, if the table still holds the referral that was read, in a state from which
/// the machine allows the verb; a refusal brings what is there.
///
/// Only attributes that differ are named, so whatever a newer version of this service keeps there stays.
pub(super) fn step(client: &Client, before: &Item, after: &Item, verb: Transition) -> UpdateItemFluentBuilder {
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
    let same = if mutant::is(Mutant::StepWithoutRevision) { ">=" } else { "=" };
    let condition = format!("#rev {same} :rev AND #status IN ({})", allowed.join(", "));
    difference(update.condition_expression(kept(&condition, "#rev", Mutant::StepWithoutCondition)), before, after)
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
    gone.retain(|_| !mutant::is(Mutant::RemovedAttributesKept));
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
    const LATER: &str = "attribute_not_exists(#at) OR #at < :at";
    const LATER_OR_EQUAL: &str = "attribute_not_exists(#at) OR #at < :at OR (#at = :at AND #flagged <> :flagged)";
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
            .condition_expression(kept(LATER_OR_EQUAL, "#at", Mutant::FlagWithoutTimeCheck))
            .expression_attribute_values(":reason", text(reason)),
        None => update
            .update_expression("SET #flagged = :flagged, #at = :at REMOVE #reason")
            .condition_expression(kept(LATER, "#at", Mutant::ClearanceWithoutTimeCheck)),
    }
}

/// Changes when a code ends, if there is such a code; brings what is there then, or, of a code that had ended already, as
/// a refusal.
pub(super) fn end_code(client: &Client, code: &Key, ending: Ending) -> UpdateItemFluentBuilder {
    let update = client
        .update_item()
        .set_key(Some(code.attributes()))
        .expression_attribute_names("#pk", PK)
        .expression_attribute_names("#end", EXPIRES_AT)
        .return_values(ReturnValue::AllNew)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let set = |update: UpdateItemFluentBuilder, end: Timestamp| {
        update.update_expression("SET #end = :end").expression_attribute_values(":end", text(end.to_string()))
    };
    match ending {
        Ending::At(end) => set(update, end).condition_expression("attribute_exists(#pk)"),
        Ending::Never => update.update_expression("REMOVE #end").condition_expression("attribute_exists(#pk)"),
        Ending::Now(now) => set(update, now)
            .condition_expression("attribute_exists(#pk) AND (attribute_not_exists(#end) OR #end > :end)"),
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

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::{Config, config::BehaviorVersion};

    use super::*;
    use crate::{
        fraud::FraudReason,
        machine::{Command, Decision},
        referral::Referral,
        sample::{at, pending},
    };

    fn client() -> Client {
        Client::from_conf(Config::builder().behavior_version(BehaviorVersion::latest()).build())
    }

    /// The update that this event makes of this referral.
    fn update(before: &Referral, event: &Command<'_>) -> UpdateItemFluentBuilder {
        let Decision::Apply(after, verb) = before.decide(event, at(5)) else { panic!("{event:?} is refused") };
        let item = |referral| table::referral_item(referral).unwrap();
        super::step(&client(), &item(before), &item(&after), verb)
    }

    #[test]
    fn a_step_demands_the_revision_that_was_read_and_an_allowed_state() {
        let update = update(&pending(), &Command::Void(FraudReason::ReferrerFlagged.into()));
        let condition = update.get_condition_expression().as_deref();
        assert_eq!(condition, Some("#rev = :rev AND #status IN (:pending, :converted)"));
        let values = update.get_expression_attribute_values().as_ref().unwrap();
        assert_eq!(values[":rev"], AttributeValue::N("1".to_owned()));
        assert_eq!(values[":pending"], text("pending"));
        assert_eq!(values[":converted"], text("converted"));
        assert_eq!(
            update.get_return_values_on_condition_check_failure(),
            &Some(ReturnValuesOnConditionCheckFailure::AllOld)
        );
    }

    #[test]
    fn a_step_names_what_changed_and_nothing_else() {
        let voided = update(&pending(), &Command::Void(FraudReason::ReferrerFlagged.into()));
        let expression = voided.get_update_expression().as_deref();
        assert_eq!(expression, Some("SET #rev = :new_rev, #status = :new_status, #voided = :new_voided"));
    }

    #[test]
    fn what_a_step_takes_away_is_removed() {
        let before = Item::from([("a".to_owned(), text("1")), ("b".to_owned(), text("2")), (PK.to_owned(), text("p"))]);
        let mut after = before.clone();
        after.remove("b");
        let update = difference(client().update_item(), &before, &after);
        assert_eq!(update.get_update_expression().as_deref(), Some("REMOVE #b"));
    }

    #[test]
    fn what_must_exist_once_is_put_where_nothing_is() {
        let item = || table::referral_item(&pending()).unwrap();
        let put = create(&client(), item());
        assert_eq!(put.get_condition_expression().as_deref(), Some("attribute_not_exists(#pk)"));
        let part = create_in("table", item()).unwrap();
        assert_eq!(part.condition_expression(), Some("attribute_not_exists(#pk)"));
        assert_eq!(part.expression_attribute_names().unwrap()["#pk"], "pk");
    }

    #[test]
    fn the_latest_news_of_an_account_holds() {
        let condition = |flag: Option<&str>| {
            let news = Standing { flag: flag.map(str::to_owned), at: at(5) };
            let update = standing(&client(), &Key::account(&"bob".parse().unwrap()), &news);
            update.get_condition_expression().clone().unwrap()
        };
        assert_eq!(
            condition(Some("fraud")),
            "attribute_not_exists(#at) OR #at < :at OR (#at = :at AND #flagged <> :flagged)"
        );
        assert_eq!(condition(None), "attribute_not_exists(#at) OR #at < :at");
    }

    #[test]
    fn a_code_is_ended_where_there_is_one_and_never_later_than_it_was() {
        let (client, key) = (client(), Key::code(&"ada-invites".parse().unwrap()));
        let condition = |ending| super::end_code(&client, &key, ending).get_condition_expression().clone().unwrap();
        assert_eq!(condition(Ending::Never), "attribute_exists(#pk)");
        assert_eq!(condition(Ending::At(at(5))), "attribute_exists(#pk)");
        let now = condition(Ending::Now(at(5)));
        assert_eq!(now, "attribute_exists(#pk) AND (attribute_not_exists(#end) OR #end > :end)");
    }

    #[test]
    fn devices_stay_few() {
        let device = serde_json::from_str("\"digest\"").unwrap();
        let update = remember_device(&client(), &Key::account(&"bob".parse().unwrap()), &device);
        let condition = update.get_condition_expression().as_deref();
        assert_eq!(condition, Some("attribute_not_exists(#devices) OR size(#devices) < :most"));
        // With the mint it is the first of this program, or one of few.
        let part = remember_device_in("table", &Key::account(&"bob".parse().unwrap()), &device).unwrap();
        assert_eq!((part.table_name(), part.update_expression()), ("table", "ADD #devices :devices"));
        assert_eq!(
            part.expression_attribute_values().unwrap()[":devices"],
            AttributeValue::Ss(vec!["digest".to_owned()])
        );
        assert_eq!(part.condition_expression(), None);
    }
}
