//! Copies the items of a restored table back into the table of the stack. Only the command `restore` uses it.
//!
//! The table in use wins, because it contains later writes. A restored item is written only where the table has no item,
//! an older state of the same referral, an unreadable referral, or an older flag.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    Store, StoreError, WriteResult, guard,
    items::{account, code, order, referral::from_referral_item, reversal::to_reversal_item},
    keys::{self, ADJUSTMENTS, DISPUTE, DUE_AT, EXCESS, Item, ItemKind, Key, PAID, text},
    orders::UNCLAIMED,
    read_batch,
    write::Write,
};
use crate::{
    domain::{account::Account, adjustments::Adjustments, time::Timestamp},
    referral::Referral,
};

/// What has to be done with an item of the restored table.
#[derive(Clone, PartialEq, Debug)]
pub struct Repair {
    pub outcome: Restored,
    /// The item's key, for operators.
    pub address: String,
    writes: Vec<Write>,
    /// Further items, each of which is written only if the table has none.
    missing: Vec<Write>,
}

/// The result for one item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Restored {
    /// The table has no such item.
    Copied,
    /// The table has an older or unreadable state of the referral, misses a flag or a device of the account, or misses the user or an
    /// adjustment of the order.
    Repaired,
    /// The table has this item or a later state.
    Kept,
    /// The table has another referral, code, owner or user of an order under this key. An operator has to decide.
    Conflicting,
    /// The referral or account cannot be read. It is not copied.
    Unreadable,
}

/// A page of the restored table.
#[derive(Clone, PartialEq, Debug)]
pub struct RestoredPage {
    pub repairs: Vec<Repair>,
    /// Where the next page begins.
    pub next: Option<Item>,
}

impl Store {
    /// Reads a page of the table `from` and decides what to write into this table. The sweep does the work of written
    /// referrals at `resume` or later.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn plan_restore(
        &self,
        from: &Self,
        start: Option<Item>,
        resume: Timestamp,
    ) -> Result<RestoredPage, StoreError> {
        let page = from.client.scan().table_name(&from.table).consistent_read(true).limit(1000);
        let answer = page.set_exclusive_start_key(start).send().await?;
        let mut repairs = Vec::new();
        for items in answer.items.unwrap_or_default().chunks(Self::BATCH) {
            let keys = items.iter().filter_map(Key::of).map(|key| key.attributes()).collect();
            let found = read_batch(&self.client, &self.table, keys).await?;
            let same = |key: &Key| found.iter().find(|item| Key::of(item).as_ref() == Some(key));
            let items = items.iter().filter_map(|item| Some((Key::of(item)?, item)));
            repairs.extend(items.map(|(key, item)| repair(&key, item, same(&key), resume)));
        }
        Ok(RestoredPage { repairs, next: answer.last_evaluated_key })
    }

    /// Writes what was decided. Returns `false` if the table's item has changed since the decision; then repeat it.
    ///
    /// # Errors
    /// Returns an error when it is unknown whether the table wrote it.
    pub async fn restore(&self, repair: &Repair) -> Result<bool, StoreError> {
        let mut is_written = true;
        for write in &repair.writes {
            is_written &= matches!(self.send(write.clone(), None).await?, WriteResult::Written(_));
        }
        for write in &repair.missing {
            self.send(write.clone(), None).await?;
        }
        Ok(is_written)
    }
}

fn repair(key: &Key, item: &Item, found: Option<&Item>, resume: Timestamp) -> Repair {
    let (outcome, writes) = match (key.kind(), found) {
        (ItemKind::Referral, found) => of_referral(item, found, resume),
        (ItemKind::Account, Some(found)) => of_account(key, item, found, resume),
        (ItemKind::Order, Some(found)) => of_order(key, item, found, resume),
        (ItemKind::Reversal, None) => (Restored::Copied, vec![guard::copy(postponed(item.clone(), resume))]),
        (_, None) => (Restored::Copied, vec![guard::copy(item.clone())]),
        (kind, Some(found)) if is_same(kind, item, found) => (Restored::Kept, Vec::new()),
        (_, Some(_)) => (Restored::Conflicting, Vec::new()),
    };
    let missing = if writes.is_empty() { Vec::new() } else { reversals_of(key, item) };
    Repair { outcome, address: key.to_string(), writes, missing }
}

/// The reversals of a restored referral. A backup can contain the referral without them.
fn reversals_of(key: &Key, item: &Item) -> Vec<Write> {
    let is_referral = key.kind() == ItemKind::Referral;
    let referral = is_referral.then(|| from_referral_item(item.clone()).ok()).flatten();
    let reversals = referral.iter().flat_map(Referral::reversals);
    reversals.filter_map(|reversal| to_reversal_item(&reversal).ok()).map(guard::copy).collect()
}

fn of_referral(item: &Item, found: Option<&Item>, resume: Timestamp) -> (Restored, Vec<Write>) {
    let Ok(referral) = from_referral_item(item.clone()) else { return (Restored::Unreadable, Vec::new()) };
    let item = postponed(item.clone(), resume);
    let Some(found) = found else { return (Restored::Copied, vec![guard::copy(item)]) };
    match from_referral_item(found.clone()) {
        Ok(current) if !is_same_referral(&current, &referral) => (Restored::Conflicting, Vec::new()),
        Ok(current) if current.rev >= referral.rev => (Restored::Kept, Vec::new()),
        Ok(_) | Err(_) => (Restored::Repaired, vec![guard::replace(found, item)]),
    }
}

/// Revisions can be compared only between states of the same referral.
fn is_same_referral(one: &Referral, other: &Referral) -> bool {
    (&one.referrer, one.created_at, one.mark) == (&other.referrer, other.created_at, other.mark)
}

/// The item, with its work due at `resume` or later. Until then, later events about the referral can be replayed.
fn postponed(mut item: Item, resume: Timestamp) -> Item {
    let resume = text(resume.to_string());
    let is_earlier = |at: &AttributeValue| at.as_s().ok() < resume.as_s().ok();
    if keys::is_due_item(&item) && item.get(DUE_AT).is_some_and(is_earlier) {
        item.insert(DUE_AT.to_owned(), resume);
    }
    item
}

/// Adds what the table's account misses: a later change of the flag, and devices.
fn of_account(key: &Key, item: &Item, found: &Item, resume: Timestamp) -> (Restored, Vec<Write>) {
    let read = |item: &Item| Some((account::flag(item.clone()).ok()?, account::from_item(item.clone()).ok()?.devices));
    let (Some((flag, devices)), Some((current, known))) = (read(item), read(found)) else {
        return (Restored::Unreadable, Vec::new());
    };
    let later = flag.filter(|flag| current.is_none_or(|current| current.at < flag.at));
    let room = Account::MAX_DEVICES.saturating_sub(known.len());
    let missing = devices.iter().filter(|device| !known.contains(device)).take(room);
    let writes: Vec<Write> = later
        .iter()
        .map(|flag| guard::set_flag(key, flag, resume))
        .chain(missing.map(|device| guard::remember_device(key, device)))
        .collect();
    (if writes.is_empty() { Restored::Kept } else { Restored::Repaired }, writes)
}

/// Adds what the table's order misses: its user, and adjustments. An order never changes its user.
fn of_order(key: &Key, item: &Item, found: &Item, resume: Timestamp) -> (Restored, Vec<Write>) {
    let (Ok(user), Ok(current)) = (order::claimed_by(item), order::claimed_by(found)) else {
        return (Restored::Unreadable, Vec::new());
    };
    let claim = match (user, current, item.get(PAID)) {
        (Some(user), Some(current), _) if user != current => return (Restored::Conflicting, Vec::new()),
        (Some(user), None, Some(paid)) => Some(guard::claim_order(key, &user, paid.clone())),
        _ => None,
    };
    let missing: Vec<_> =
        item.iter().filter(|(name, value)| keys::is_adjustment(name) && is_later(name, value, found)).collect();
    let is_new = |(name, _): &&(&String, &AttributeValue)| !found.contains_key(*name);
    let kept = found.keys().filter(|name| keys::is_adjustment(name)).count();
    let added = missing.iter().filter(is_new).count();
    if added > 0 && kept + added > Adjustments::MOST as usize {
        return (Restored::Conflicting, Vec::new());
    }
    let until = resume.plus(UNCLAIMED);
    let adjustments = missing.iter().map(|(name, value)| guard::adjust_order(key, name, (*value).clone(), until));
    let has_excess = |item: &Item| item.contains_key(EXCESS);
    let excess = (has_excess(item) && !has_excess(found)).then(|| guard::mark_excess(key));
    let writes: Vec<Write> =
        claim.into_iter().chain(recount(key, item, found)).chain(adjustments).chain(excess).collect();
    (if writes.is_empty() { Restored::Kept } else { Restored::Repaired }, writes)
}

/// Raises the count of an order above the restored one, unless both are equal. Referrals know adjustments by this count, and the
/// two counts are of different adjustments.
fn recount(key: &Key, item: &Item, found: &Item) -> Option<Write> {
    let count = |item: &Item| item.get(ADJUSTMENTS)?.as_n().ok()?.parse::<u32>().ok();
    let adjustments = |item: &Item| -> Item {
        item.iter()
            .filter(|(name, _)| keys::is_adjustment(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let (restored, current) = (count(item)?, count(found).unwrap_or_default());
    let is_same = restored == current && adjustments(item) == adjustments(found);
    (current <= restored && !is_same).then(|| guard::raise_adjustments(key, count(found), restored + 1))
}

/// Whether the table's order does not have this adjustment, or has an earlier state of a dispute.
fn is_later(name: &str, value: &AttributeValue, found: &Item) -> bool {
    found.get(name).is_none_or(|current| name.starts_with(DISPUTE) && current.as_s().ok() < value.as_s().ok())
}

/// Whether two items under one key are the same thing. A code never changes its owner, but can expire.
fn is_same(kind: ItemKind, item: &Item, found: &Item) -> bool {
    match kind {
        ItemKind::Code => {
            let owner = |item: &Item| code::from_code_item(item.clone()).ok().map(|code| code.owner);
            owner(item) == owner(found)
        }
        ItemKind::CodeOwner => {
            let names = |item: &Item| code::from_owner_item(item.clone()).ok();
            names(item) == names(found)
        }
        ItemKind::Referral
        | ItemKind::Account
        | ItemKind::Order
        | ItemKind::Reversal
        | ItemKind::Note
        | ItemKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{account::AccountFlag, code::OwnedCode},
        referral::{State, machine::Command, reward::Side},
        sample::{applied, at, cancelled, converted, grant, pending, rewarded},
        store::items::referral::to_referral_item,
    };

    fn item(referral: &Referral) -> Item {
        to_referral_item(referral).unwrap()
    }

    fn of(restored: &Referral, found: Option<&Item>) -> Repair {
        repair(&Key::referral(&restored.referee), &item(restored), found, at(0))
    }

    #[test]
    fn the_later_state_of_a_referral_wins() {
        let delivered = applied(rewarded().decide(&Command::MarkDelivered(&grant(Side::Referee)), at(40)));
        let copied = of(&rewarded(), None);
        assert_eq!((copied.outcome, copied.address.as_str()), (Restored::Copied, "REFEREE#bob REFERRAL"));
        assert_eq!(copied.writes, [guard::copy(item(&rewarded()))]);
        for later in [&rewarded(), &delivered] {
            let kept = of(&rewarded(), Some(&item(later)));
            assert_eq!((kept.outcome, kept.writes), (Restored::Kept, vec![]));
        }
        let older = item(&rewarded());
        let repaired = of(&delivered, Some(&older));
        assert_eq!(repaired.outcome, Restored::Repaired);
        assert_eq!(repaired.writes, [guard::replace(&older, item(&delivered))]);
        assert_eq!(repaired.writes[0].condition(), Some("#rev = :rev"));
    }

    /// A backup is not consistent across items.
    #[test]
    fn a_restored_referral_brings_the_reversals_that_it_misses() {
        let reversed = applied(rewarded().decide(&Command::Adjust(&cancelled("o-1"), None), at(50)));
        let expected: Vec<_> =
            reversed.reversals().iter().map(|reversal| guard::copy(to_reversal_item(reversal).unwrap())).collect();
        assert_eq!(expected.len(), 2);
        for found in [None, Some(&item(&rewarded()))] {
            assert_eq!(of(&reversed, found).missing, expected);
        }
        assert_eq!(of(&reversed, Some(&item(&reversed))).missing, []);
        assert_eq!(of(&rewarded(), None).missing, []);
    }

    #[test]
    fn an_unreadable_referral_is_replaced_and_never_written() {
        let mut broken = item(&rewarded());
        broken.remove("status");
        assert_eq!(of(&rewarded(), Some(&broken)).outcome, Restored::Repaired);
        let unreadable = repair(&Key::referral(&rewarded().referee), &broken, None, at(0));
        assert_eq!((unreadable.outcome, unreadable.writes), (Restored::Unreadable, vec![]));
    }

    #[test]
    fn another_referral_of_the_same_referee_is_left_to_an_operator() {
        let again = Referral { created_at: at(9000), ..pending() };
        let found = of(&rewarded(), Some(&item(&again)));
        assert_eq!((found.outcome, found.writes), (Restored::Conflicting, vec![]));
    }

    #[test]
    fn only_work_that_would_be_due_earlier_is_postponed() {
        let due = |referral: &Referral, resume| postponed(item(referral), at(resume)).get(DUE_AT).cloned();
        assert_eq!(due(&converted(), 5000), Some(text(at(5000).to_string())));
        assert_eq!(due(&converted(), 10), Some(text(at(1010).to_string())));
        assert_eq!(due(&pending(), 5000), None);
        let State::Converted { due_at, .. } =
            from_referral_item(postponed(item(&converted()), at(5000))).unwrap().state
        else {
            panic!("it is still converted")
        };
        assert_eq!(due_at, at(5000));
    }

    #[test]
    fn an_account_gets_the_flag_and_the_devices_that_it_misses() {
        let key = Key::account(&"bob".parse().unwrap());
        let flagged = |millis: i64| {
            let mut account = key.attributes();
            account.insert("flagged".to_owned(), AttributeValue::Bool(true));
            account.insert("flag_reason".to_owned(), text("fraud"));
            account.insert("flag_at".to_owned(), text(at(millis).to_string()));
            account
        };
        let flag = AccountFlag { reason: Some("fraud".to_owned()), at: at(5) };
        let repaired = repair(&key, &flagged(5), Some(&key.attributes()), at(0));
        assert_eq!(
            (repaired.outcome, repaired.writes),
            (Restored::Repaired, vec![guard::set_flag(&key, &flag, at(0))])
        );
        for later in [flagged(5), flagged(6)] {
            assert_eq!(repair(&key, &flagged(5), Some(&later), at(0)).outcome, Restored::Kept);
        }
        let mut device = key.attributes();
        device.insert("devices".to_owned(), AttributeValue::Ss(vec!["digest".to_owned()]));
        let digest = serde_json::from_str("\"digest\"").unwrap();
        let repaired = repair(&key, &device, Some(&flagged(5)), at(0));
        assert_eq!(repaired.writes, [guard::remember_device(&key, &digest)]);
    }

    #[test]
    fn an_order_gets_the_user_and_the_adjustments_that_it_misses() {
        let key = Key::order(&"o-1".parse().unwrap());
        let with = |attributes: &[(&str, &str)]| {
            let mut item = key.attributes();
            item.extend(attributes.iter().map(|(name, value)| ((*name).to_owned(), text(*value))));
            item
        };
        let claimed = |user| with(&[("referee", user), ("paid", "500 USD")]);
        let bob = "bob".parse().unwrap();
        let repaired = repair(&key, &claimed("bob"), Some(&key.attributes()), at(0));
        assert_eq!(repaired.outcome, Restored::Repaired);
        assert_eq!(repaired.writes, [guard::claim_order(&key, &bob, text("500 USD"))]);
        assert_eq!(repair(&key, &claimed("bob"), Some(&claimed("bob")), at(0)).outcome, Restored::Kept);
        assert_eq!(repair(&key, &claimed("bob"), Some(&claimed("eve")), at(0)).outcome, Restored::Conflicting);
        assert_eq!(repair(&key, &with(&[]), Some(&claimed("eve")), at(0)).outcome, Restored::Kept);

        let adjusted = |name: &str, value: &str, count: u32| {
            let mut item = with(&[(name, value)]);
            item.insert(ADJUSTMENTS.to_owned(), AttributeValue::N(count.to_string()));
            item
        };
        let added = |name, value: &str| guard::adjust_order(&key, name, text(value), at(0).plus(UNCLAIMED));
        for (name, value) in [("refund#r-1", "1"), ("refund_failed#r-1", "1"), ("cancelled", "1"), ("dispute#", "5")] {
            let restored = adjusted(name, value, 1);
            let repaired = repair(&key, &restored, Some(&claimed("bob")), at(0));
            assert_eq!(repaired.writes, [guard::raise_adjustments(&key, None, 2), added(name, value)]);
            assert_eq!(repair(&key, &restored, Some(&restored), at(0)).outcome, Restored::Kept);
        }
        let later = repair(&key, &adjusted("dispute#", "5", 1), Some(&adjusted("dispute#", "4", 3)), at(0));
        assert_eq!(later.writes, [added("dispute#", "5")]);
        let earlier = repair(&key, &adjusted("dispute#", "4", 1), Some(&adjusted("dispute#", "5", 2)), at(0));
        assert_eq!(earlier.outcome, Restored::Kept);
        // Fewer writes lead to the same adjustments, so the counts do not have the same meaning.
        let fewer = repair(&key, &adjusted("dispute#", "5", 2), Some(&adjusted("dispute#", "5", 1)), at(0));
        assert_eq!(fewer.writes, [guard::raise_adjustments(&key, Some(1), 3)]);
        let full: Vec<_> = (0..100).map(|number| format!("refund#r-{number}")).collect();
        let full = with(&full.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>());
        assert_eq!(repair(&key, &adjusted("cancelled", "1", 1), Some(&full), at(0)).outcome, Restored::Conflicting);
    }

    #[test]
    fn a_code_keeps_its_owner_and_an_owner_the_newer_code() {
        let code = |owner: &str| OwnedCode {
            code: "ada-invites".parse().unwrap(),
            owner: owner.parse().unwrap(),
            program: "default".parse().unwrap(),
            created_at: at(0),
            expires_at: None,
        };
        let (of_ada, of_eve) = (code::to_code_item(&code("ada")).unwrap(), code::to_code_item(&code("eve")).unwrap());
        let key = Key::of(&of_ada).unwrap();
        assert_eq!(repair(&key, &of_ada, None, at(0)).outcome, Restored::Copied);
        assert_eq!(repair(&key, &of_ada, Some(&of_ada), at(0)).outcome, Restored::Kept);
        assert_eq!(repair(&key, &of_ada, Some(&of_eve), at(0)).outcome, Restored::Conflicting);
        let owner = code::to_owner_item(&code("ada")).unwrap();
        let other = OwnedCode { code: "other-code".parse().unwrap(), ..code("ada") };
        let key = Key::of(&owner).unwrap();
        let found = code::to_owner_item(&other).unwrap();
        assert_eq!(repair(&key, &owner, Some(&found), at(0)).outcome, Restored::Conflicting);
    }
}
