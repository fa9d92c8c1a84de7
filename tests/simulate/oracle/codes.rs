//! Checks of codes: a code never changes its owner, a member has at most one code without an end, the owner's item names
//! it, and an ended code is not handed out.

use referrals::{domain::code::Code, store::keys};
use serde_json::Value;

use super::{Given, Invocation, Oracle};
use crate::clock;

/// A code in the table.
#[derive(Clone, Debug)]
pub(super) struct KnownCode {
    pub(super) owner: String,
    /// When it was written, in milliseconds since the start of the history, and by which invocation.
    pub(super) at: u64,
    pub(super) by: Option<u64>,
    /// When its end was last changed, in milliseconds since the start of the history.
    changed: u64,
    /// Its end, as the table has it.
    end: Option<String>,
    /// Whether it ever had an end.
    pub(super) had_ended: bool,
}

/// The key of this code's item, or `None` if the text is not a code.
pub(super) fn key_of(code: &str) -> Option<String> {
    code.parse::<Code>().ok().map(|code| format!("CODE#{}", code.canonical()))
}

impl Oracle {
    /// Checks a write of a code or of an owner's item.
    pub(super) fn check_code(&mut self, key: &str, sk: &str, record: &Value, by: Option<&Invocation>) {
        let (old, new) = (&record["dynamodb"]["OldImage"], &record["dynamodb"]["NewImage"]);
        if sk == "CODE" {
            self.check_code_item(key, old, new, by);
        } else {
            self.check_owner_item(key, old, new);
        }
    }

    fn check_code_item(&mut self, key: &str, old: &Value, new: &Value, by: Option<&Invocation>) {
        let fixed = |image: &Value| {
            let mut image = image.clone();
            image.as_object_mut().map(|image| image.remove(keys::EXPIRES_AT));
            image
        };
        if !old.is_null() && fixed(old) != fixed(new) {
            self.fail(format!("{key}: more than the end of the code changed"));
        }
        let owner = new["owner"]["S"].as_str().unwrap_or_default().to_owned();
        let end = new[keys::EXPIRES_AT]["S"].as_str().map(str::to_owned);
        let now = clock::millis();
        let before = self.codes.get(key);
        let known = KnownCode {
            at: before.map_or(now, |before| before.at),
            by: before.map_or_else(|| by.map(|by| by.id), |before| before.by),
            changed: now,
            had_ended: end.is_some() || before.is_some_and(|before| before.had_ended),
            owner,
            end,
        };
        let is_live = |code: &KnownCode| code.end.is_none() && code.owner == known.owner;
        let other = self.codes.iter().find(|(other, code)| *other != key && is_live(code));
        if let (None, Some((other, _))) = (&known.end, other) {
            let other = other.clone();
            self.fail(format!("{key}: live while {other} of the same member is live"));
        }
        self.codes.insert(key.to_owned(), known);
    }

    fn check_owner_item(&mut self, key: &str, old: &Value, new: &Value) {
        let named = |image: &Value| image[keys::CODE]["S"].as_str().and_then(key_of);
        let (before, after) = (named(old), named(new));
        let Some(after) = after else { return self.fail(format!("{key}: names no code")) };
        let owner = self.codes.get(&after).map(|code| code.owner.as_str());
        if key.strip_prefix("USER#") != owner {
            self.fail(format!("{key}: names {after}, which belongs to {owner:?}"));
        }
        let before = before.filter(|before| *before != after);
        if before.is_some_and(|before| self.codes.get(&before).is_none_or(|code| code.end.is_none())) {
            self.fail(format!("{key}: names another code while the former one is live"));
        }
        self.named.insert(key.to_owned(), after);
    }

    /// Checks the end of a history: the owner's item names the live code.
    pub(super) fn check_named_codes(&mut self) {
        let live = self.codes.iter().filter(|(_, code)| code.end.is_none());
        let wrong = live.filter(|(key, code)| self.named.get(&format!("USER#{}", code.owner)) != Some(*key));
        let wrong: Vec<String> = wrong.map(|(key, _)| key.clone()).collect();
        for key in wrong {
            self.fail(format!("{key}: live, but its owner's item names another code"));
        }
    }

    /// Whether the answer contains a code that had ended, for the invocation's own clock too, before the invocation began.
    pub(super) fn is_ended_code(&self, given: &Given) -> bool {
        let code = given.body["code"].as_str().and_then(key_of);
        let code = code.and_then(|code| self.codes.get(&code));
        code.is_some_and(|code| {
            let ended = code.end.as_ref().is_some_and(|end| *end <= given.now.to_string());
            ended && code.changed < given.by.began
        })
    }

    /// Checks the API's answer to a change of a code's expiry.
    pub(crate) fn code_changed(&mut self, path: &str, body: &Value, given: &Given) {
        let code = path.rsplit('/').next().and_then(key_of).unwrap_or_default();
        let known = self.codes.get(&code);
        let is_alone =
            known.is_some_and(|known| self.codes.values().filter(|other| other.owner == known.owner).count() == 1);
        let is_wrong = match given.status {
            404 => known.is_some_and(|known| known.at < given.by.began),
            // Only another code of the same member refuses a change, and only a revival.
            409 => is_alone || body["disabled"] == true,
            _ => false,
        };
        if is_wrong {
            self.fail(format!("{code}: the change {body} was answered by {}", given.status));
        }
    }
}
