//! The oracle: checks rules on every table write, reward call and API answer, and again when a history has ended. It
//! judges by what was written and booked, never by what the code reports about itself.

mod adjustments;
mod codes;
mod flags;
mod operators;
mod orders;
mod outside;
mod reversals;

use std::collections::{BTreeMap, BTreeSet};

use referrals::{
    domain::{id::UserId, time::Timestamp},
    referral::{
        Lane, Referral, State as Phase, Status,
        reversal::Reversal,
        reward::{RewardStatus, Side},
    },
    store::{
        items::{InvalidItem, referral::from_referral_image, reversal::from_reversal_image},
        keys,
    },
};
use serde_json::Value;

use self::flags::FlagEvent;
use crate::{
    clock,
    faults::Kind,
    history::Acknowledged,
    state::{Booking, DEAD_LETTERS, DELAY},
};

/// What was known when an invocation began.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// The number of the invocation.
    pub(crate) id: u64,
    /// When it began, in milliseconds since the start of the history.
    pub(crate) began: u64,
    /// Accounts that were flagged at that time.
    pub(crate) flagged: BTreeSet<String>,
    /// Whether it receives delayed copies of events.
    pub(crate) is_copy: bool,
    /// Whether it processes messages of the delay queue or of a dead-letter queue.
    pub(crate) is_delayed: bool,
}

/// When a referral's steps were committed, in milliseconds since the start of the history.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    created: u64,
    /// The invocation that created it.
    by: Option<u64>,
}

/// An answer to a call of the API.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// The time of the invocation's decisions.
    pub(crate) now: Timestamp,
    pub(crate) by: Invocation,
}

/// Everything observed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    violations: Vec<String>,
    /// The number of invocations, and the faults that each of them met.
    invocations: u64,
    met: BTreeMap<u64, u32>,
    /// The accounts that are flagged in the table.
    flagged: BTreeSet<String>,
    /// Accounts that were cleared at some time. For them it is unknown what an issue read.
    cleared: BTreeSet<String>,
    /// How often each referral was converted.
    conversions: BTreeMap<String, u32>,
    /// When each order was placed, by order and reported user; and the user who claimed each order.
    placed: BTreeMap<(String, String), Timestamp>,
    claims: BTreeMap<String, String>,
    /// When the hold of each order of a referee ends, by order and referee.
    holds: BTreeMap<(String, String), Timestamp>,
    /// The orders that converted a referral or were kept, in the order of their arrival, each with its referee.
    arrivals: Vec<(String, String)>,
    operators: operators::Operators,
    /// The adjustments that the product published.
    adjustments: Vec<adjustments::Published>,
    moments: BTreeMap<String, Moments>,
    /// Referees for whom the API reported a new referral.
    created: BTreeSet<String>,
    /// The last written state of each referral, by referee.
    referrals: BTreeMap<String, Referral>,
    /// Every code, by its key, and the keys of the codes that the owners' items name.
    codes: BTreeMap<String, codes::KnownCode>,
    named: BTreeMap<String, String>,
    /// The latest flag update of each account: its time, and whether it is flagged.
    flag_updates: BTreeMap<String, (String, bool)>,
    /// The valid flags and clearances that the product published, by event id.
    flag_events: BTreeMap<String, FlagEvent>,
    /// The invalid events that the product published, by id, and how often each was quarantined.
    invalid: BTreeMap<String, u32>,
    /// Published events by id, and the event id under which each reward was issued.
    published: BTreeMap<String, Value>,
    event_ids: BTreeMap<String, String>,
    /// The key under which each reward was first booked, and the rewards that a subsystem refused permanently.
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

    /// Starts an invocation and records what is known at this time.
    pub(crate) fn invocation(&mut self, queue: &str) -> Invocation {
        self.invocations += 1;
        let (is_copy, is_delayed) = (queue == DELAY, [DELAY, DEAD_LETTERS].contains(&queue));
        let flagged = self.flagged.clone();
        Invocation { id: self.invocations, began: clock::millis(), flagged, is_copy, is_delayed }
    }

    /// Checks a committed write. Returns what happened, if the plan cannot decide about it.
    pub(crate) fn written(&mut self, record: &Value, by: Option<&Invocation>) -> Option<Kind> {
        let (key, sk) = key(record);
        let (old, new) = (&record["dynamodb"]["OldImage"], &record["dynamodb"]["NewImage"]);
        if let ("ACCOUNT", Some(user)) = (sk, key.strip_prefix("USER#")) {
            if new[keys::FLAGGED]["BOOL"] == true {
                self.flagged.insert(user.to_owned());
            } else if self.flagged.remove(user) {
                self.cleared.insert(user.to_owned());
            }
            self.check_flag(user, new);
        }
        if sk.starts_with("CODE") {
            self.check_code(key, sk, record, by);
        }
        if sk == "ORDER" {
            self.check_claim(key, new);
            self.check_order(key, old, new);
        }
        if sk.starts_with("NOTE#") {
            self.check_note(key, sk, old);
        }
        if sk.starts_with("REVERSAL#") {
            self.check_reversal(key, old, new);
        }
        if sk != "REFERRAL" {
            return None;
        }
        let before = (!old.is_null()).then(|| referral(old)).transpose();
        match (before, referral(new)) {
            (Ok(before), Ok(after)) => {
                self.check_transition(key, before.as_ref(), &after, by);
                self.check_index(key, new, &after);
                let is_next = before.as_ref().is_some_and(|before| is_converted_by_next(before, &after));
                let is_reversed = before.is_some_and(|before| is_reversed(&before, &after));
                self.referrals.insert(after.referee.as_str().to_owned(), after);
                is_next.then_some(Kind::NextOrderConverts).or(is_reversed.then_some(Kind::RewardReversed))
            }
            (Err(problem), _) | (_, Err(problem)) => {
                self.fail(format!("{key}: {problem}"));
                None
            }
        }
    }

    fn check_transition(&mut self, key: &str, before: Option<&Referral>, after: &Referral, by: Option<&Invocation>) {
        let Some(before) = before else {
            let invocation = by.map(|by| by.id);
            self.moments.insert(key.to_owned(), Moments { created: clock::millis(), by: invocation });
            if after.status() != Status::Pending || after.rev != 1 {
                self.fail(format!("{key}: created as {:?} with rev {}", after.status(), after.rev));
            }
            self.check_created(key, after, by);
            return;
        };
        if (&before.referrer, &before.code, before.created_at) != (&after.referrer, &after.code, after.created_at) {
            self.fail(format!("{key}: the referrer, code or creation time changed"));
        }
        if before.correlation_id != after.correlation_id {
            self.fail(format!("{key}: the correlation id changed"));
        }
        if after.rev != before.rev + 1 {
            self.fail(format!("{key}: rev {} follows {}", after.rev, before.rev));
        }
        if (Referral { rev: before.rev, ..after.clone() }) == *before {
            self.fail(format!("{key}: a write that changes nothing"));
        }
        self.check_operation(key, before, after, by);
        let (from, to) = (before.status(), after.status());
        if !TRANSITIONS.contains(&(from, to)) {
            self.fail(format!("{key}: {from:?} became {to:?}"));
        }
        if (from != Status::Converted && to == Status::Converted) || is_converted_by_next(before, after) {
            let is_second = matches!(before.state, Phase::Voided { reason, .. } if !reason.is_of_order())
                && before.reopened == after.reopened;
            let number = self.conversions.entry(key.to_owned()).or_default();
            *number += 1;
            if is_second || (from == Status::Pending && *number > 1) {
                self.fail(format!("{key}: converted twice"));
            }
        }
        if from == Status::Converted && to == Status::Rewarded {
            self.check_issue(key, before, after, by);
            self.check_adjustments_before_issue(key, after);
            self.check_clear(key, after);
        }
        if is_reversed(before, after) {
            self.check_reversed(key, after);
        }
        let facts = |referral: &Referral| {
            referral.conversion().map(|known| (known.event.clone(), known.order.clone(), known.paid, known.at))
        };
        let is_new = from == Status::Pending || (from != Status::Rewarded && to == Status::Converted);
        match (facts(before), facts(after)) {
            (known, Some((_, order, ..))) if is_new && known.as_ref().is_none_or(|(_, known, ..)| *known != order) => {
                self.check_conversion(key, order.as_str(), after);
                self.check_next_conversion(key, before, after);
            }
            (known, now) if known != now => self.fail(format!("{key}: the conversion changed")),
            _ => {}
        }
        self.check_known_orders(key, before, after);
        self.note_holds(before, after, by);
        self.check_due_time(key, after);
        if before.signed_up_at() != after.signed_up_at() {
            self.fail(format!("{key}: the time of the sign-up changed"));
        }
        for side in Side::BOTH {
            self.check_reward(key, side, before, after);
        }
    }

    /// Checks an issue: not before the hold ends, and not if an account was flagged when the invocation began.
    fn check_issue(&mut self, key: &str, before: &Referral, after: &Referral, by: Option<&Invocation>) {
        let (Phase::Converted { due_at, .. }, Some(rewards)) = (&before.state, after.rewards()) else { return };
        if rewards.issued_at < *due_at {
            self.fail(format!("{key}: issued at {} and due at {due_at}", rewards.issued_at));
        }
        for user in [&after.referrer, &after.referee] {
            if self.was_flagged(user, by) {
                self.fail(format!("{key}: issued although {user} was flagged before"));
            }
        }
    }

    /// Checks a new referral: the referrer was not flagged, and the two users do not refer each other.
    fn check_created(&mut self, key: &str, referral: &Referral, by: Option<&Invocation>) {
        if referral.correlation_id.is_none() {
            self.fail(format!("{key}: created without a correlation id"));
        }
        if self.was_flagged(&referral.referrer, by) {
            self.fail(format!("{key}: created although {} was flagged before", referral.referrer));
        }
        let own = self.referrals.get(referral.referrer.as_str()).filter(|own| own.referrer == referral.referee);
        let own = own.and_then(|own| self.moments.get(&format!("REFEREE#{}", own.referee)));
        if own.is_some_and(|own| by.is_some_and(|by| own.created < by.began)) {
            self.fail(format!("{key}: created although {} was referred by this referee", referral.referrer));
        }
    }

    /// Whether a user was flagged when the invocation began, and has been ever since.
    fn was_flagged(&self, user: &UserId, by: Option<&Invocation>) -> bool {
        let user = user.as_str();
        let is_known = by.is_some_and(|by| by.flagged.contains(user));
        is_known && self.flagged.contains(user) && !self.cleared.contains(user)
    }

    fn check_reward(&mut self, key: &str, side: Side, before: &Referral, after: &Referral) {
        let id = after.reward_id(side).to_string();
        let (Some(before), Some(after)) = (before.rewards(), after.rewards()) else { return };
        let (was, is) = (before.of(side), after.of(side));
        if was.benefit != is.benefit || before.issued_at != after.issued_at {
            self.fail(format!("{key}: the {side:?}'s reward changed"));
        }
        if was.delivery.status() == RewardStatus::Delivered && was.delivery != is.delivery {
            self.fail(format!("{key}: the {side:?}'s delivered reward changed"));
        }
        if was.reversed.is_some() && was.reversed != is.reversed {
            self.fail(format!("{key}: the reversed amount of the {side:?}'s reward changed"));
        }
        if was.delivery.delivered_at.is_none() && is.delivery.delivered_at.is_some() && !self.keys.contains_key(&id) {
            self.fail(format!("{id}: marked delivered, but it was not booked"));
        }
        if was.delivery.failed_at.is_none() && is.delivery.failed_at.is_some() && !self.refused.contains(&id) {
            self.fail(format!("{id}: marked failed, but no subsystem refused it"));
        }
    }

    /// Checks the work index: it contains exactly the outstanding work, from the moment that work exists.
    fn check_index(&mut self, key: &str, item: &Value, referral: &Referral) {
        let unclear = referral.attention().map(|_| Lane::Attention);
        let expected_lane = match referral.status() {
            Status::Pending => None,
            // A call that may have given the reward needs an answer, because only then it can be taken back.
            Status::Voided => referral.rewards().and_then(|rewards| {
                let is_called = |side: &Side| rewards.of(*side).delivery.called_at.is_some();
                let is_open = |side: &Side| rewards.of(*side).delivery.status() == RewardStatus::Issued;
                let is_due = Side::BOTH.iter().any(|side| is_called(side) && is_open(side));
                is_due.then_some(Lane::Due).or(unclear)
            }),
            Status::Converted => unclear.or(Some(Lane::Due)),
            Status::Rewarded => referral.rewards().and_then(|rewards| {
                let statuses = Side::BOTH.map(|side| rewards.of(side).status());
                if statuses.contains(&RewardStatus::Issued) {
                    Some(Lane::Due)
                } else {
                    statuses.contains(&RewardStatus::Failed).then_some(Lane::Attention).or(unclear)
                }
            }),
        };
        self.check_lane(key, item, expected_lane);
    }

    /// Checks the place of an item in the work index.
    fn check_lane(&mut self, key: &str, item: &Value, expected: Option<Lane>) {
        let lane = item[keys::WORK]["S"].as_str().and_then(|work| work.split('#').next());
        let name = expected.map(|lane| if lane == Lane::Due { "due" } else { "parked" });
        if lane != name || item.get(keys::DUE_AT).is_some() != expected.is_some() {
            self.fail(format!("{key}: in the index as {lane:?}, expected {name:?}"));
        }
    }

    /// Checks the end of a history: no work is left, exactly the issued rewards are booked, and acknowledged events
    /// took effect.
    pub(crate) fn at_rest(
        &mut self,
        referrals: &[Referral],
        reversals: &[Reversal],
        bookings: &BTreeMap<String, Booking>,
        acknowledged: &[Acknowledged],
    ) {
        for referral in referrals {
            let name = referral.referee.as_str();
            if let Some(work) = referral.work().filter(|work| work.lane == Lane::Due || referral.attention().is_none())
            {
                self.fail(format!("{name}: work is left at the end, due since {}", work.at));
            }
            for processed in acknowledged.iter().filter(|processed| processed.event["detail"]["user_id"] == name) {
                if let Some(problem) = self.missing_effect(referral, processed) {
                    self.fail(format!("{name}: {problem}: {}", processed.event["detail"]));
                }
            }
            self.check_void(referral);
            self.check_reward_stands(referral);
            self.check_attention_at_rest(referral);
            self.check_refused_orders(referral, acknowledged);
        }
        self.check_audit_at_rest();
        self.check_excess_at_rest();
        self.check_named_codes();
        self.check_books(referrals, reversals, bookings);
        self.check_flags_at_rest();
        self.check_quarantine_at_rest();
    }

    /// The effect that an acknowledged event should have had and did not.
    fn missing_effect(&self, referral: &Referral, processed: &Acknowledged) -> Option<&'static str> {
        let moments = self.moments.get(&format!("REFEREE#{}", referral.referee))?;
        let order = &processed.event["detail"]["order_id"];
        match processed.event["detail-type"].as_str()? {
            "order.completed" => {
                let came_later = processed.began > moments.created;
                let counts = self.counts(order.as_str()?, referral);
                let is_other = referral.conversion().is_none_or(|by| order != by.order.as_str());
                let is_open = match referral.state {
                    Phase::Pending => true,
                    // A second chance, after the first order was undone.
                    Phase::Voided { reason, .. } => reason.is_of_order() && !self.is_undone(order.as_str()?),
                    Phase::Converted { .. } | Phase::Rewarded { .. } | Phase::Reversed { .. } => false,
                };
                // While it was voided for good, it took no orders.
                let was_closed = referral.reopened > 0;
                (came_later && counts && is_other && is_open && !was_closed)
                    .then_some("an order was acknowledged but lost")
            }
            _ => None,
        }
    }
}

/// Whether a converted referral is converted by another order now.
fn is_converted_by_next(before: &Referral, after: &Referral) -> bool {
    let order = |referral: &Referral| referral.conversion().map(|conversion| conversion.order.clone());
    (before.status(), after.status()) == (Status::Converted, Status::Converted) && order(before) != order(after)
}

/// Whether the rewards of a referral are taken back.
fn is_reversed(before: &Referral, after: &Referral) -> bool {
    (before.status(), after.status()) == (Status::Rewarded, Status::Voided)
}

/// The amount of every order.
pub(crate) const ORDER_AMOUNT: u64 = 4200;

/// All allowed state transitions. Written here again, because the state machine is also under test.
const TRANSITIONS: [(Status, Status); 11] = [
    (Status::Pending, Status::Pending),
    (Status::Pending, Status::Converted),
    (Status::Pending, Status::Voided),
    (Status::Converted, Status::Rewarded),
    (Status::Converted, Status::Converted),
    (Status::Converted, Status::Voided),
    (Status::Voided, Status::Voided),
    (Status::Voided, Status::Converted),
    (Status::Voided, Status::Pending),
    (Status::Rewarded, Status::Rewarded),
    (Status::Rewarded, Status::Voided),
];

/// The key of a stream record's item.
pub(crate) fn key(record: &Value) -> (&str, &str) {
    let part = |name: &str| record["dynamodb"]["Keys"][name]["S"].as_str().unwrap_or_default();
    (part(keys::PK), part(keys::SK))
}

/// Parses a reversal from its item in DynamoDB JSON.
pub(crate) fn reversal(item: &Value) -> Result<Reversal, InvalidItem> {
    from_reversal_image(serde_json::from_value(item.clone()).unwrap_or_default())
}

/// Parses a referral from its item in DynamoDB JSON.
pub(crate) fn referral(item: &Value) -> Result<Referral, InvalidItem> {
    from_referral_image(serde_json::from_value(item.clone()).unwrap_or_default())
}
