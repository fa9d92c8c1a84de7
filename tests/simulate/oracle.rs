//! The oracle: what must hold, looked at with every write of the table, every call to a subsystem and every answer, and
//! once more when everything rests. It looks at what was written and booked, never at what the code says of itself.

mod outside;

use std::collections::{BTreeMap, BTreeSet};

use referrals::{
    id::UserId,
    referral::{Lane, Referral, State as Phase, Status},
    reward::{RewardStatus, Side},
    table::{self, Unreadable},
};
use serde_json::Value;

use crate::{clock, history::Acknowledged, state::Booking};

/// What an invocation knew when it began.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// Which one it is.
    pub(crate) id: u64,
    /// When it began, in milliseconds since the history did.
    pub(crate) began: u64,
    /// Accounts that were flagged then, and have been ever since.
    pub(crate) flagged: BTreeSet<String>,
}

/// When the steps of a referral were committed, in milliseconds since the history began.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    created: u64,
    /// By which invocation it was created.
    by: Option<u64>,
    issued: Option<u64>,
}

/// A code, and when and by which invocation it was written.
#[derive(Clone, Debug)]
struct KnownCode {
    owner: String,
    at: u64,
    by: Option<u64>,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    violations: Vec<String>,
    /// How many invocations there were, and how many faults each met.
    invocations: u64,
    met: BTreeMap<u64, u32>,
    /// Who is flagged now, by the table.
    flagged: BTreeSet<String>,
    /// Accounts that were cleared at some time, of whom we do not know what an issue read.
    cleared: BTreeSet<String>,
    /// How often each referral was converted.
    conversions: BTreeMap<String, u32>,
    moments: BTreeMap<String, Moments>,
    /// Referees whose referral was told to be new.
    created: BTreeSet<String>,
    /// Every referral as it was written last, by its referee.
    referrals: BTreeMap<String, Referral>,
    /// Every code, by its key.
    codes: BTreeMap<String, KnownCode>,
    /// The latest news of each account: of when, and whether it is flagged.
    standings: BTreeMap<String, (String, bool)>,
    /// What was told, by the event's id, and the id under which each reward was told to be issued.
    told: BTreeMap<String, Value>,
    names: BTreeMap<String, String>,
    /// The key under which each reward was booked first, and which rewards were refused for good.
    keys: BTreeMap<String, String>,
    refused: BTreeSet<String>,
}

impl Oracle {
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// What an invocation that begins now can know.
    pub(crate) fn invocation(&mut self) -> Invocation {
        self.invocations += 1;
        Invocation { id: self.invocations, began: clock::millis(), flagged: self.flagged.clone() }
    }

    /// A write was committed.
    pub(crate) fn written(&mut self, record: &Value, by: Option<&Invocation>) {
        let (key, sk) = key(record);
        let (old, new) = (&record["dynamodb"]["OldImage"], &record["dynamodb"]["NewImage"]);
        if let ("ACCOUNT", Some(user)) = (sk, key.strip_prefix("USER#")) {
            if new[table::FLAGGED]["BOOL"] == true {
                self.flagged.insert(user.to_owned());
            } else if self.flagged.remove(user) {
                self.cleared.insert(user.to_owned());
            }
            self.stands(user, new);
        }
        if sk.starts_with("CODE") {
            self.code(key, sk, record, by);
        }
        if sk != "REFERRAL" {
            return;
        }
        let before = (!old.is_null()).then(|| referral(old)).transpose();
        match (before, referral(new)) {
            (Ok(before), Ok(after)) => {
                self.step(key, before.as_ref(), &after, by);
                self.index(key, new, &after);
                self.referrals.insert(after.referee.as_str().to_owned(), after);
            }
            (Err(problem), _) | (_, Err(problem)) => self.fail(format!("{key}: {problem}")),
        }
    }

    fn step(&mut self, key: &str, before: Option<&Referral>, after: &Referral, by: Option<&Invocation>) {
        let Some(before) = before else {
            let by_whom = by.map(|by| by.id);
            self.moments
                .insert(key.to_owned(), Moments { created: clock::millis(), by: by_whom, ..Moments::default() });
            if after.status() != Status::Pending || after.rev != 1 {
                self.fail(format!("{key}: begins as {:?} with rev {}", after.status(), after.rev));
            }
            self.begins(key, after, by);
            return;
        };
        if (&before.referrer, &before.code, before.created_at) != (&after.referrer, &after.code, after.created_at) {
            self.fail(format!("{key}: another referrer, code or beginning"));
        }
        if after.rev != before.rev + 1 {
            self.fail(format!("{key}: rev {} after {}", after.rev, before.rev));
        }
        if after.state == before.state {
            self.fail(format!("{key}: a write that changes nothing"));
        }
        let (from, to) = (before.status(), after.status());
        let moments = self.moments.entry(key.to_owned()).or_default();
        match to {
            Status::Rewarded => moments.issued = moments.issued.or(Some(clock::millis())),
            Status::Pending | Status::Converted | Status::Voided => {}
        }
        if !WAYS.contains(&(from, to)) {
            self.fail(format!("{key}: {from:?} became {to:?}"));
        }
        if from != Status::Converted && to == Status::Converted {
            *self.conversions.entry(key.to_owned()).or_default() += 1;
            if self.conversions[key] > 1 {
                self.fail(format!("{key}: converted twice"));
            }
        }
        if from == Status::Converted && to == Status::Rewarded {
            self.issued(key, before, after, by);
        }
        if before.conversion().is_some() && after.conversion() != before.conversion() {
            self.fail(format!("{key}: another conversion"));
        }
        for side in Side::BOTH {
            self.reward(key, side, before, after);
        }
    }

    /// Nothing is paid that is held, or whose people were flagged before the issue read how they stand.
    fn issued(&mut self, key: &str, before: &Referral, after: &Referral, by: Option<&Invocation>) {
        let (Phase::Converted { due_at, .. }, Some(rewards)) = (&before.state, after.rewards()) else { return };
        if rewards.issued_at < *due_at {
            self.fail(format!("{key}: issued at {} and due at {due_at}", rewards.issued_at));
        }
        for person in [&after.referrer, &after.referee] {
            if self.was_flagged(person, by) {
                self.fail(format!("{key}: issued though {person} was flagged before"));
            }
        }
    }

    /// A referral begins: not by the code of somebody who was flagged, and not between two who refer each other.
    fn begins(&mut self, key: &str, referral: &Referral, by: Option<&Invocation>) {
        if self.was_flagged(&referral.referrer, by) {
            self.fail(format!("{key}: begins though {} was flagged before", referral.referrer));
        }
        let own = self.referrals.get(referral.referrer.as_str()).filter(|own| own.referrer == referral.referee);
        let own = own.and_then(|own| self.moments.get(&format!("REFEREE#{}", own.referee)));
        if own.is_some_and(|own| by.is_some_and(|by| own.created < by.began)) {
            self.fail(format!("{key}: begins though {} had come by their code", referral.referrer));
        }
    }

    /// Whether a person was flagged when the invocation began, and has been ever since.
    fn was_flagged(&self, person: &UserId, by: Option<&Invocation>) -> bool {
        let person = person.as_str();
        let is_known = by.is_some_and(|by| by.flagged.contains(person));
        is_known && self.flagged.contains(person) && !self.cleared.contains(person)
    }

    /// Of all news of an account the latest holds, and of two at the same time the flag.
    fn stands(&mut self, user: &str, account: &Value) {
        let Some(at) = account[table::FLAG_AT]["S"].as_str() else { return };
        let now = (at.to_owned(), account[table::FLAGGED]["BOOL"] == true);
        let before = self.standings.insert(user.to_owned(), now.clone());
        if before.is_some_and(|before| now < before) {
            self.fail(format!("{user}: older news was written over later news"));
        }
    }

    /// A code, or the note of who has it, is written once.
    fn code(&mut self, key: &str, sk: &str, record: &Value, by: Option<&Invocation>) {
        let (old, new) = (&record["dynamodb"]["OldImage"], &record["dynamodb"]["NewImage"]);
        if !old.is_null() {
            self.fail(format!("{key} {sk}: written over"));
        }
        if sk == "CODE" {
            let owner = new["owner"]["S"].as_str().unwrap_or_default().to_owned();
            self.codes.insert(key.to_owned(), KnownCode { owner, at: clock::millis(), by: by.map(|by| by.id) });
        }
    }

    fn reward(&mut self, key: &str, side: Side, before: &Referral, after: &Referral) {
        let id = after.reward_id(side).to_string();
        let (Some(before), Some(after)) = (before.rewards(), after.rewards()) else { return };
        let (was, is) = (before.of(side), after.of(side));
        if was.benefit != is.benefit || before.issued_at != after.issued_at {
            self.fail(format!("{key}: the {side:?}'s reward changed"));
        }
        if was.status() == RewardStatus::Delivered && was != is {
            self.fail(format!("{key}: the {side:?}'s delivered reward changed"));
        }
        if was.delivered_at.is_none() && is.delivered_at.is_some() && !self.keys.contains_key(&id) {
            self.fail(format!("{id}: marked delivered, and nobody has booked it"));
        }
        if was.failed_at.is_none() && is.failed_at.is_some() && !self.refused.contains(&id) {
            self.fail(format!("{id}: marked as refused, and nobody has refused it"));
        }
    }

    /// What is owed is in the index, from the moment that it is owed on, and nothing else is.
    fn index(&mut self, key: &str, item: &Value, referral: &Referral) {
        let owed = match referral.status() {
            Status::Pending | Status::Voided => None,
            Status::Converted => Some(Lane::Due),
            Status::Rewarded => referral.rewards().and_then(|rewards| {
                let statuses = Side::BOTH.map(|side| rewards.of(side).status());
                if statuses.contains(&RewardStatus::Issued) {
                    Some(Lane::Due)
                } else {
                    statuses.contains(&RewardStatus::Failed).then_some(Lane::Attention)
                }
            }),
        };
        let lane = item[table::WORK]["S"].as_str().and_then(|work| work.split('#').next());
        let expected = owed.map(|lane| if lane == Lane::Due { "due" } else { "parked" });
        if lane != expected || item.get(table::DUE_AT).is_some() != owed.is_some() {
            self.fail(format!("{key}: in the index as {lane:?}, and owed is {expected:?}"));
        }
    }

    /// Everything rests: nothing is owed, what was booked is what was issued, and what was acknowledged is done.
    pub(crate) fn at_rest(
        &mut self,
        referrals: &[Referral],
        bookings: &BTreeMap<String, Booking>,
        acknowledged: &[Acknowledged],
    ) {
        let mut issued = BTreeSet::new();
        for referral in referrals {
            let name = referral.referee.as_str();
            if let Some(work) = referral.work() {
                self.fail(format!("{name}: at rest, and owed since {}", work.at));
            }
            for taken_in in acknowledged.iter().filter(|taken_in| taken_in.event["detail"]["user_id"] == name) {
                if let Some(problem) = self.undone(referral, taken_in) {
                    self.fail(format!("{name}: {problem}: {}", taken_in.event["detail"]));
                }
            }
            self.called_off(referral, acknowledged);
            let sides = referral.rewards().into_iter().flat_map(|_| Side::BOTH);
            issued.extend(sides.map(|side| referral.reward_id(side).to_string()));
        }
        let booked = bookings.iter().filter(|(_, booking)| booking.booked).map(|(key, _)| key.clone());
        let booked: BTreeSet<String> = booked.collect();
        if booked != issued {
            self.fail(format!("booked {booked:?}, issued {issued:?}"));
        }
    }

    /// What an acknowledged event should have brought about and did not.
    fn undone(&self, referral: &Referral, taken_in: &Acknowledged) -> Option<&'static str> {
        let moments = self.moments.get(&format!("REFEREE#{}", referral.referee))?;
        let order = &taken_in.event["detail"]["order_id"];
        match taken_in.event["detail-type"].as_str()? {
            "order.completed" => {
                let came_later = taken_in.began > moments.created;
                (came_later && referral.status() == Status::Pending).then_some("an order was acknowledged, and lost")
            }
            "order.cancelled" | "payment.disputed" | "order.refunded" => {
                let is_part = taken_in.event["detail"]["amount"].as_u64().is_some_and(|amount| amount < WORTH);
                let in_time =
                    taken_in.began > moments.created && moments.issued.is_some_and(|issued| taken_in.ended < issued);
                let is_ours = referral.conversion().is_some_and(|conversion| order == conversion.order.as_str());
                (is_ours && in_time && !is_part && referral.rewards().is_some())
                    .then_some("paid, though taken back before")
            }
            _ => None,
        }
    }
}

/// What an order is worth in every history.
pub(crate) const WORTH: u64 = 4200;

/// Every way from one state to the next, written once more, for the machine is on trial too.
const WAYS: [(Status, Status); 6] = [
    (Status::Pending, Status::Pending),
    (Status::Pending, Status::Converted),
    (Status::Pending, Status::Voided),
    (Status::Converted, Status::Rewarded),
    (Status::Converted, Status::Voided),
    (Status::Rewarded, Status::Rewarded),
];

/// The key that a stream record is about.
pub(crate) fn key(record: &Value) -> (&str, &str) {
    let part = |name: &str| record["dynamodb"]["Keys"][name]["S"].as_str().unwrap_or_default();
    (part(table::PK), part(table::SK))
}

/// A referral from its item in DynamoDB's JSON.
pub(crate) fn referral(item: &Value) -> Result<Referral, Unreadable> {
    table::referral_from_image(serde_json::from_value(item.clone()).unwrap_or_default())
}
