//! Checks of flags and clearances, whose times come from the product's clock, and of the quarantine of invalid events.

use std::time::Duration;

use referrals::store::keys;
use serde_json::Value;

use super::Oracle;
use crate::{clock, plan::MAX_SKEW};

/// A valid flag or clearance that the product published. Its time is between two limits, in milliseconds since the start of
/// the history.
#[derive(Clone, Debug)]
pub(super) struct FlagEvent {
    user: String,
    is_flag: bool,
    earliest: u64,
    latest: u64,
}

impl Oracle {
    /// Records a flag or a clearance. Its time is known if it has `occurred_at`.
    pub(crate) fn flag_published(&mut self, event: &Value, at: u64) {
        let user = event["detail"]["user_id"].as_str().unwrap_or_default().to_owned();
        let is_flag = event["detail-type"] == "account.flagged";
        self.flag_events.insert(id(event), FlagEvent { user, is_flag, earliest: at, latest: at });
    }

    /// Records that an event, not its delayed copy, was processed before `at`, by the function's clock. Without
    /// `occurred_at`, this is the latest time that it may have.
    pub(crate) fn received(&mut self, event: &Value, at: u64) {
        if let (Some(known), Value::Null) = (self.flag_events.get_mut(&id(event)), &event["detail"]["occurred_at"]) {
            known.latest = known.latest.max(at);
        }
    }

    /// Whether an acknowledged flag or clearance is missing: no change of its time or a later one is stored.
    pub(super) fn is_flag_lost(&self, event: &Value) -> bool {
        let Some(known) = self.flag_events.get(&id(event)) else { return false };
        let stored = self.flag_updates.get(&known.user);
        stored.is_none_or(|(at, _)| *at < clock::at(known.earliest).to_string())
    }

    /// Checks a flag update: the latest update wins, and of two at the same time the flag. No update is dated ahead of the
    /// function that stores it.
    pub(super) fn check_flag(&mut self, user: &str, account: &Value) {
        let Some(at) = account[keys::FLAG_AT]["S"].as_str() else { return };
        let latest = clock::now().plus(Duration::from_millis(MAX_SKEW)).to_string();
        if at > latest.as_str() {
            self.fail(format!("{user}: a flag update has a time in the future, {at}"));
        }
        let now = (at.to_owned(), account[keys::FLAGGED]["BOOL"] == true);
        let before = self.flag_updates.insert(user.to_owned(), now.clone());
        if before.is_some_and(|before| now < before) {
            self.fail(format!("{user}: an older flag update overwrote a later one"));
        }
    }

    /// Checks that the stored flags are the latest: each has an event that can be the latest one of its account.
    pub(super) fn check_flags_at_rest(&mut self) {
        let mut problems = Vec::new();
        for (user, (at, is_flag)) in &self.flag_updates {
            let of_user = |wanted: bool| {
                self.flag_events.values().filter(move |event| event.user == *user && event.is_flag == wanted)
            };
            let stored = of_user(*is_flag).map(|event| event.latest).max();
            let opposite = of_user(!is_flag).map(|event| event.earliest).max();
            if stored.is_none() || stored < opposite {
                problems.push(format!("{user}: flagged {is_flag} at {at}, but the opposite is later"));
            }
        }
        problems.into_iter().for_each(|problem| self.fail(problem));
    }

    /// Records an invalid event.
    pub(crate) fn invalid_published(&mut self, event: &Value) {
        self.invalid.insert(id(event), 0);
    }

    /// Whether an event is valid.
    pub(crate) fn is_valid(&self, event: &Value) -> bool {
        !self.invalid.contains_key(&id(event))
    }

    /// Checks a message to the quarantine: only invalid events and unclear adjustments arrive there, and not from their delayed copies.
    pub(crate) fn quarantined(&mut self, url: &str, body: &str, is_copy: bool) {
        let message: Value = serde_json::from_str(body).unwrap_or_default();
        let payload = &message["payload"];
        if self.is_for_operators(payload) && !is_copy {
            return self.unclear_quarantined(&id(payload));
        }
        match self.invalid.get_mut(&id(payload)) {
            Some(_) if is_copy => self.fail(format!("a delayed copy was quarantined: {body}")),
            Some(count) => *count += 1,
            None => self.fail(format!("quarantined: {url}: {body}")),
        }
    }

    /// Checks that every invalid event was quarantined.
    pub(super) fn check_quarantine_at_rest(&mut self) {
        let missing: Vec<_> = self.invalid.iter().filter(|(_, count)| **count == 0).map(|(id, _)| id.clone()).collect();
        missing.into_iter().for_each(|id| self.fail(format!("the invalid event {id} was not quarantined")));
    }
}

/// The id of an event.
fn id(event: &Value) -> String {
    event["id"].as_str().unwrap_or_default().to_owned()
}
