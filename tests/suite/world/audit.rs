//! The audit: rules for the table, deliveries and events that must hold at the end of every test.

use std::collections::{BTreeMap, BTreeSet};

use referrals::{
    aws::bus::SOURCE,
    domain::time::Timestamp,
    referral::{
        Lane, Referral, Status,
        reversal::{Reversal, ReversalStatus},
        reward::{RewardStatus, Side},
    },
    store::{
        items::{referral::from_referral_item, reversal::from_reversal_item},
        keys,
    },
};
use serde_json::Value;

use super::{SCHEMAS, StandIn, World, plain, recount};

/// The leftovers that a test declared.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) unprocessed: u64,
    /// Allows any number of dead letters for delivered rewards.
    pub(super) obsolete_dead_letters: bool,
    pub(super) outstanding: bool,
    /// Allows calls with another `issued_at`: a restored referral is issued again.
    pub(super) reissued: bool,
}

impl World {
    /// Checks all rules.
    pub(super) async fn audit(&self) {
        assert!(self.wire.is_mended(), "an injected fault never happened: {:?}", self.wire);
        let items = self.items().await;
        let (referrals, reversals) = (referrals(&items), reversals(&items));
        codes_have_one_owner(&items);
        self.no_work_is_left(&referrals, &reversals);
        self.counters_equal_a_recount(&referrals).await;
        self.bookings_match_rewards(&referrals, &reversals).await;
        self.events_match_their_schemas(&referrals).await;
        let unprocessed = self.get("/_local/parked").await.with(200);
        let obsolete_dead_letters = self.obsolete_dead_letters(&unprocessed, &referrals);
        assert_eq!(
            unprocessed["count"],
            self.expected.unprocessed + obsolete_dead_letters,
            "quarantined or dead letters: {unprocessed:#}"
        );
    }

    /// How many of the dead letters belong to a reward that a later message delivered; 0 unless the test allows them.
    fn obsolete_dead_letters(&self, unprocessed: &Value, referrals: &[Referral]) -> u64 {
        let delivered: BTreeSet<String> = referrals.iter().flat_map(delivered).collect();
        let items =
            unprocessed["items"].as_array().into_iter().flatten().filter(|_| self.expected.obsolete_dead_letters);
        let obsolete_dead_letters = items.filter(|item| {
            let reward = item["body"]["detail"]["reward_id"].as_str();
            item["queue"].as_str().unwrap().ends_with("DeadLetterQueue")
                && reward.is_some_and(|reward| delivered.contains(reward))
        });
        obsolete_dead_letters.count() as u64
    }

    /// Checked when all work is done, if the stream was on.
    async fn counters_equal_a_recount(&self, referrals: &[Referral]) {
        if self.expected.outstanding || !self.streams {
            return;
        }
        let counted = recount::counted(&self.analytics_items().await);
        assert_eq!(recount::difference(&counted, &recount::recount(referrals)), [""; 0]);
    }

    fn no_work_is_left(&self, referrals: &[Referral], reversals: &[Reversal]) {
        if self.expected.outstanding {
            return;
        }
        let now = Timestamp::from(chrono::Utc::now());
        for referral in referrals {
            let is_late = referral.status() == Status::Converted && referral.work().is_some_and(|work| work.at <= now);
            assert!(!is_late, "due but not issued: {referral:?}");
            assert_eq!(referral.undelivered(), [], "undelivered at the end: {referral:?}");
        }
        for reversal in reversals {
            assert_ne!(reversal.status(), ReversalStatus::Issued, "undelivered at the end: {reversal:?}");
        }
    }

    /// Checks bookings by key: exactly the delivered rewards and reversals, with the contents of the table, regardless of the
    /// number of calls. Each reversal takes back what was given before.
    async fn bookings_match_rewards(&self, referrals: &[Referral], reversals: &[Reversal]) {
        let mut booked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let own = self.stand_ins.iter().flat_map(StandIn::deliveries);
        for delivery in self.deliveries().await.into_iter().chain(own) {
            let id = delivery["headers"]["idempotency-key"].as_str().unwrap();
            let named = if delivery["body"]["reversal_id"].is_null() { "reward_id" } else { "reversal_id" };
            assert_eq!(delivery["body"][named], id, "{delivery}");
            assert_eq!(delivery["headers"]["idempotency-key"], id, "{delivery}");
            assert_eq!(delivery["headers"]["webhook-id"], id, "{delivery}");
            if delivery["status"] == 200 {
                let mut body = delivery["body"].clone();
                if let Some(body) = body.as_object_mut().filter(|_| self.expected.reissued) {
                    body.remove("issued_at");
                }
                booked.entry(id.to_owned()).or_default().insert(body.to_string());
            }
        }
        for reversal in reversals {
            let (id, reward) = (reversal.id.to_string(), reversal.reward_id().to_string());
            let bodies = booked.remove(&id).unwrap_or_default();
            let is_delivered = reversal.status() == ReversalStatus::Delivered;
            assert!(bodies.len() <= 1, "one reversal with different bodies: {bodies:?}");
            assert!(!is_delivered || !bodies.is_empty(), "delivered without a call: {reversal:?}");
            assert!(bodies.is_empty() || booked.contains_key(&reward), "taken back, but never given: {reversal:?}");
            let is_closed = reversal.status() == ReversalStatus::Closed;
            assert!(!is_closed || !booked.contains_key(&reward), "given, and not taken back: {reversal:?}");
            for body in bodies.iter().map(|body| serde_json::from_str::<Value>(body).unwrap()) {
                assert_eq!(
                    (&body["reverses"], &body["amount"]),
                    (&reward.as_str().into(), &u64::from(reversal.benefit.amount()).into())
                );
            }
        }
        for referral in referrals {
            for side in Side::BOTH {
                let id = referral.reward_id(side).to_string();
                let bodies = booked.remove(&id);
                let Some(reward) = referral.rewards().map(|rewards| rewards.of(side)) else {
                    assert_eq!(bodies, None, "paid without a reward: {referral:?}");
                    continue;
                };
                let Some(bodies) = bodies else {
                    assert_eq!(reward.delivery.delivered_at, None, "delivered without a call: {referral:?}");
                    continue;
                };
                assert_eq!(bodies.len(), 1, "one reward with different bodies: {bodies:?}");
                let body: Value = serde_json::from_str(bodies.first().unwrap()).unwrap();
                assert_eq!(body["amount"], u64::from(reward.benefit.amount()), "{id}");
                assert_eq!(body["user_id"], referral.user_id(side).as_str(), "{id}");
            }
        }
        assert!(booked.is_empty(), "paid without a referral: {booked:?}");
    }

    /// Checks published events: they are valid, `time` and `correlation_id` are right, and repeated events are
    /// identical.
    async fn events_match_their_schemas(&self, referrals: &[Referral]) {
        let mut published: BTreeMap<String, Value> = BTreeMap::new();
        for mut event in self.events().await {
            let id = event["id"].as_str().unwrap();
            if event["source"] != SOURCE || self.ignored.lock().unwrap().contains(id) {
                continue;
            }
            let schema = SCHEMAS.get(event["detail-type"].as_str().unwrap());
            let schema = schema.unwrap_or_else(|| panic!("there is no schema for {event:#}"));
            assert_eq!(schema.problems(&event), [""; 0], "{event:#}");

            let text = |name: &str| event["detail"][name].as_str().unwrap();
            let (seconds, _) = text("occurred_at").split_once('.').unwrap();
            assert_eq!(event["time"], format!("{seconds}Z"), "{event:#}");
            let referral = referrals.iter().find(|referral| referral.referee.as_str() == text("referee_id"));
            let expected = match referral.map(|referral| (&referral.correlation_id, &referral.referee)) {
                Some((Some(stored), _)) => stored.as_str().to_owned(),
                Some((None, referee)) => referee.hashed(),
                None => panic!("an event without a referral: {event:#}"),
            };
            assert_eq!(text("correlation_id"), expected, "{event:#}");

            // The envelope's id comes from the bus and is new each time.
            let event_id = text("event_id").to_owned();
            event.as_object_mut().unwrap().remove("id");
            let first = published.entry(event_id).or_insert_with(|| event.clone());
            assert_eq!(*first, event, "one id with different contents");
        }
    }
}

/// The ids of this referral's delivered rewards.
fn delivered(referral: &Referral) -> impl Iterator<Item = String> {
    let rewards = referral.rewards().into_iter();
    let of_both = rewards.flat_map(|rewards| Side::BOTH.map(|side| (side, rewards.of(side).delivery.status())));
    of_both
        .filter(|(_, status)| *status == RewardStatus::Delivered)
        .map(|(side, _)| referral.reward_id(side).to_string())
}

/// Every referral in the table. Each must be readable, and in the work index exactly if it has outstanding work.
fn referrals(items: &[keys::Item]) -> Vec<Referral> {
    let referrals = items.iter().filter(|item| plain(item)["sk"] == "REFERRAL");
    referrals
        .map(|item| {
            let referral = from_referral_item(item.clone()).unwrap();
            let raw = plain(item);
            match referral.work() {
                None => assert!(raw.get("work").is_none() && raw.get("due_at").is_none(), "has no work: {raw:#}"),
                Some(work) => {
                    let lane = if work.lane == Lane::Due { "due#" } else { "parked#" };
                    assert!(raw["work"].as_str().unwrap().starts_with(lane), "{raw:#}");
                    assert_eq!(raw["due_at"], work.at.to_string(), "{raw:#}");
                }
            }
            let is_issued =
                raw["status"] == "rewarded" || referral.status() == Status::Voided && referral.rewards().is_some();
            assert_eq!(is_issued, raw.get("rewards").is_some(), "{raw:#}");
            assert_ne!(referral.referee, referral.referrer, "{raw:#}");
            referral
        })
        .collect()
}

/// Every reversal in the table. Each must be in the work index exactly if it has outstanding work, and belong to a reward that is
/// taken back.
fn reversals(items: &[keys::Item]) -> Vec<Reversal> {
    let of_reversals = items.iter().filter(|item| plain(item)["sk"].as_str().unwrap().starts_with("REVERSAL#"));
    of_reversals
        .map(|item| {
            let (reversal, raw) = (from_reversal_item(item.clone()).unwrap(), plain(item));
            let lane = match reversal.status() {
                ReversalStatus::Issued => Some("due"),
                ReversalStatus::Failed => Some("parked"),
                ReversalStatus::Delivered | ReversalStatus::Closed => None,
            };
            assert_eq!(raw["work"].as_str().map(|work| work.split_once('#').unwrap().0), lane, "{raw:#}");
            assert_eq!(raw["due_at"].is_string(), lane.is_some(), "{raw:#}");
            reversal
        })
        .collect()
}

/// Checks that each owner's item names a code of that owner, and that no other code of that owner is live.
fn codes_have_one_owner(items: &[keys::Item]) {
    let now = Timestamp::from(chrono::Utc::now()).to_string();
    let (mut codes, mut live, mut named) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for item in items {
        let item = plain(item);
        let (pk, sk) = (item["pk"].as_str().unwrap(), item["sk"].as_str().unwrap());
        let text = |name: &str| item[name].as_str().unwrap().to_owned();
        if sk == "CODE" {
            let code = (text("owner"), text("program"), text("code"));
            if item["expires_at"].as_str().is_none_or(|end| end > now.as_str()) {
                live.insert(code.clone());
            }
            assert!(codes.insert(code), "{item}");
        } else if let (Some(user), Some(program)) = (pk.strip_prefix("USER#"), sk.strip_prefix("CODE#")) {
            named.insert((user.to_owned(), program.to_owned(), text("code")));
        }
    }
    let owners = |codes: &BTreeSet<(String, String, String)>| -> BTreeSet<(String, String)> {
        codes.iter().map(|(user, program, _)| (user.clone(), program.clone())).collect()
    };
    assert!(
        named.is_subset(&codes),
        "an owner's item names a code that does not belong to the owner: {named:?} {codes:?}"
    );
    assert!(live.is_subset(&named), "a code is live, but its owner's item names another one: {live:?} {named:?}");
    assert_eq!(owners(&codes), owners(&named));
}
