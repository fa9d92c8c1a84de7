//! The oracle: what must hold, looked at with every write of the table, every call to a subsystem and every answer, and
//! once more when everything rests. It looks at what was written and booked, never at what the code says of itself.

use std::collections::{BTreeMap, BTreeSet};

use referrals::{
    machine::{Verb, next},
    referral::{Lane, Referral, State as Phase, Status},
    reward::{RewardStatus, Side},
    table::{self, Unreadable},
};
use serde_json::Value;

use crate::{clock, history::Acknowledged, state::Booking};

/// What an invocation knew when it began.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// Accounts that were flagged then, and have been ever since.
    pub(crate) flagged: BTreeSet<String>,
}

/// When the steps of a referral were committed, in milliseconds since the history began.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    created: u64,
    issued: Option<u64>,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    violations: Vec<String>,
    /// Who is flagged now, by the table.
    flagged: BTreeSet<String>,
    /// Accounts that were cleared at some time, of whom we do not know what an issue read.
    cleared: BTreeSet<String>,
    /// How often each referral was converted.
    conversions: BTreeMap<String, u32>,
    moments: BTreeMap<String, Moments>,
    /// Referees whose referral was told to be new.
    created: BTreeMap<String, u32>,
}

impl Oracle {
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// What an invocation that begins now can know.
    pub(crate) fn invocation(&self) -> Invocation {
        Invocation { flagged: self.flagged.clone() }
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
        }
        if sk != "REFERRAL" {
            return;
        }
        let before = (!old.is_null()).then(|| referral(old)).transpose();
        match (before, referral(new)) {
            (Ok(before), Ok(after)) => {
                self.step(key, before.as_ref(), &after, by);
                self.index(key, new, &after);
            }
            (Err(problem), _) | (_, Err(problem)) => self.fail(format!("{key}: {problem}")),
        }
    }

    fn step(&mut self, key: &str, before: Option<&Referral>, after: &Referral, by: Option<&Invocation>) {
        let Some(before) = before else {
            self.moments.insert(key.to_owned(), Moments { created: clock::millis(), ..Moments::default() });
            if after.status() != Status::Pending || after.rev != 1 {
                self.fail(format!("{key}: begins as {:?} with rev {}", after.status(), after.rev));
            }
            return;
        };
        if (&before.referrer, &before.code, before.created_at) != (&after.referrer, &after.code, after.created_at) {
            self.fail(format!("{key}: another referrer, code or beginning"));
        }
        if after.rev != before.rev + 1 {
            self.fail(format!("{key}: rev {} after {}", after.rev, before.rev));
        }
        let (from, to) = (before.status(), after.status());
        let moments = self.moments.entry(key.to_owned()).or_default();
        match to {
            Status::Rewarded => moments.issued = moments.issued.or(Some(clock::millis())),
            Status::Pending | Status::Converted | Status::Voided => {}
        }
        if !Verb::ALL.into_iter().any(|verb| next(from, verb) == Some(to)) {
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
            let known = by.is_some_and(|by| by.flagged.contains(person.as_str()));
            if known && self.flagged.contains(person.as_str()) && !self.cleared.contains(person.as_str()) {
                self.fail(format!("{key}: issued though {person} was flagged before"));
            }
        }
    }

    fn reward(&mut self, key: &str, side: Side, before: &Referral, after: &Referral) {
        let (Some(before), Some(after)) = (before.rewards(), after.rewards()) else { return };
        let (was, is) = (before.of(side), after.of(side));
        if was.benefit != is.benefit || before.issued_at != after.issued_at {
            self.fail(format!("{key}: the {side:?}'s reward changed"));
        }
        if was.status() == RewardStatus::Delivered && was != is {
            self.fail(format!("{key}: the {side:?}'s delivered reward changed"));
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
                    statuses.contains(&RewardStatus::Failed).then_some(Lane::Parked)
                }
            }),
        };
        let lane = item[table::WORK]["S"].as_str().and_then(|work| work.split('#').next());
        let expected = owed.map(|lane| if lane == Lane::Due { "due" } else { "parked" });
        if lane != expected || item.get(table::DUE_AT).is_some() != owed.is_some() {
            self.fail(format!("{key}: in the index as {lane:?}, and owed is {expected:?}"));
        }
    }

    /// A subsystem booked a reward of this referral: it must have been issued.
    pub(crate) fn booked(&mut self, referral: Option<&Referral>, key: &str) {
        let side = key.split_once(':').map(|(_, side)| side);
        let is_issued = referral.is_some_and(|referral| referral.rewards().is_some());
        if !is_issued || !Side::BOTH.iter().any(|known| side == Some(known.as_str())) {
            self.fail(format!("{key} was booked and not issued"));
        }
    }

    /// The API said that a referral is new.
    pub(crate) fn said_new(&mut self, referee: &str) {
        let created = self.created.entry(referee.to_owned()).or_default();
        *created += 1;
        if *created > 1 {
            self.fail(format!("{referee}: said to be new twice"));
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
                let is_lost = match &referral.state {
                    Phase::Pending { withdrawn } => withdrawn.iter().all(|withdrawn| order != withdrawn.order.as_str()),
                    _ => false,
                };
                (came_later && is_lost).then_some("an order was acknowledged, and lost")
            }
            "order.cancelled" | "payment.disputed" | "order.refunded" => {
                let is_part = taken_in.event["detail"]["amount"].as_u64().is_some_and(|amount| amount < 4200);
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

/// The key that a stream record is about.
pub(crate) fn key(record: &Value) -> (&str, &str) {
    let part = |name: &str| record["dynamodb"]["Keys"][name]["S"].as_str().unwrap_or_default();
    (part(table::PK), part(table::SK))
}

/// A referral from its item in DynamoDB's JSON.
pub(crate) fn referral(item: &Value) -> Result<Referral, Unreadable> {
    table::referral_from_image(serde_json::from_value(item.clone()).unwrap_or_default())
}
