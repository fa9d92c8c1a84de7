//! Checks from the outside: answers, acknowledgements, events and rewards; and that one fault is tolerated.

use referrals::{
    domain::{correlation::CorrelationId, time::Timestamp},
    referral::reward::Side,
};
use serde_json::Value;

use super::{Given, Oracle, codes::key_of};
use crate::{clock, faults::Kind};

/// The types of events that adjust an order, in addition to those of payments.
const ADJUSTMENTS: [&str; 3] = ["order.cancelled", "order.refunded", "order.refund_failed"];

impl Oracle {
    // ----- The product -----------------------------------------------------------------------------------------------

    /// Checks the API's answer to a mint or an attribution.
    pub(crate) fn answered(&mut self, path: &str, body: &Value, given: &Given) {
        let by = &given.by;
        let code = body["code"].as_str().and_then(key_of).and_then(|code| self.codes.get(&code).cloned());
        let code = code.as_ref();
        let signed_up_at = body["signed_up_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let is_member =
            code.zip(signed_up_at).is_some_and(|(code, at)| at.plus(Timestamp::TOLERANCE) < clock::at(code.at));
        match (body["referee_id"].as_str(), given.status) {
            (Some(referee), 201) if is_member => {
                self.fail(format!("{referee}: referred although they signed up before the code existed"));
            }
            (Some(referee), 201) if !self.created.insert(referee.to_owned()) => {
                self.fail(format!("{referee}: reported as new twice"));
            }
            (Some(referee), 201) if !self.is_signed_up_at(referee, signed_up_at, given.now) => {
                self.fail(format!("{referee}: the time of the sign-up is not {signed_up_at:?}"));
            }
            (Some(referee), 200) => {
                let moments = self.moments.get(&format!("REFEREE#{referee}"));
                if moments.is_some_and(|moments| moments.by == Some(by.id)) {
                    self.fail(format!("{referee}: reported as existing by the call that created it"));
                }
            }
            (Some(_), 404) if code.is_some_and(|code| code.at < by.began) => {
                self.fail(format!("{}: reported as an unknown code", body["code"]));
            }
            (None, 200) if code.is_some_and(|code| code.by == Some(by.id)) => {
                self.fail(format!("{}: reported as existing by the call that created it", body["code"]));
            }
            (None, 200) if self.is_ended_code(given) => {
                self.fail(format!("{}: handed out although it had ended", given.body["code"]));
            }
            // A member does not get an ended code again.
            (None, 409) if code.is_none_or(|code| path.contains(&code.owner) && !code.had_ended) => {
                self.fail(format!("{}: reported as another user's code", body["code"]));
            }
            _ => {}
        }
    }

    /// Checks an acknowledgement: the event's effect must be stored by now.
    pub(crate) fn acknowledged(&mut self, event: &Value, began: u64) {
        let user = event["detail"]["user_id"].as_str().unwrap_or_default();
        let referral = self.referrals.get(user);
        let moments = self.moments.get(&format!("REFEREE#{user}")).copied().unwrap_or_default();
        let is_lost = match event["detail-type"].as_str() {
            Some("order.completed") => {
                let order = event["detail"]["order_id"].as_str().unwrap_or_default();
                referral.is_some_and(|referral| self.is_order_lost(order, referral)) && moments.created < began
            }
            Some(kind) if kind.starts_with("payment.") || ADJUSTMENTS.contains(&kind) => {
                return self.adjustment_acknowledged(event);
            }
            Some("account.flagged" | "account.cleared") => self.is_flag_lost(event),
            _ => false,
        };
        if is_lost {
            self.fail(format!("{user}: acknowledged too early: {} {}", event["detail-type"], event["detail"]));
        }
    }

    // ----- Subscribers and subsystems --------------------------------------------------------------------------------

    /// Checks an event accepted by the bus: an event that is published again must be identical.
    pub(crate) fn check_published(&mut self, event: &Value) {
        let (kind, detail) = (event["detail-type"].as_str().unwrap_or_default(), &event["detail"]);
        let id = detail["event_id"].as_str().unwrap_or_default();
        if *self.published.entry(id.to_owned()).or_insert_with(|| detail.clone()) != *detail {
            self.fail(format!("{id}: published again with another content: {detail}"));
        }
        let referee = detail["referee_id"].as_str().and_then(|referee| self.referrals.get(referee));
        let stored = referee.and_then(|referral| referral.correlation_id.as_ref()).map(CorrelationId::as_str);
        if detail["correlation_id"].as_str() != stored {
            self.fail(format!("{id}: its correlation id is not {stored:?}, which is stored: {detail}"));
        }
        let Some(reward) = detail["reward_id"].as_str().filter(|_| kind == "reward.issued") else { return };
        if *self.event_ids.entry(reward.to_owned()).or_insert_with(|| id.to_owned()) != id {
            self.fail(format!("{reward}: issued under another event id, {id}"));
        }
    }

    /// Checks a booking: the reward was issued, a reversal takes back what was given, and the idempotency key never changes.
    pub(crate) fn booked(&mut self, id: &str, amount: i64, key: &str) {
        let (referee, side) = id.split_once(':').unwrap_or_default();
        let side = side.strip_suffix(":reversal").unwrap_or(side);
        let is_issued = self.referrals.get(referee).is_some_and(|referral| referral.rewards().is_some());
        if !is_issued || !Side::BOTH.iter().any(|known| side == known.as_str()) {
            self.fail(format!("{id} was booked but not issued"));
        }
        if amount < 0 {
            self.check_taken_back(id, amount);
        }
        if *self.keys.entry(id.to_owned()).or_insert_with(|| key.to_owned()) != key {
            self.fail(format!("{id} was booked under a second key, {key}"));
        }
    }

    /// Records that a subsystem refused a reward or a reversal permanently.
    pub(crate) fn refused(&mut self, id: &str) {
        self.refused.insert(id.to_owned());
    }

    // ----- Faults ----------------------------------------------------------------------------------------------------

    /// Records that a fault struck this invocation.
    pub(crate) fn struck(&mut self, invocation: u64, kind: Kind) {
        let met = self.met.entry(invocation).or_default();
        *met += match kind {
            Kind::AnswerLost
            | Kind::RequestLost
            | Kind::Throttled
            | Kind::Conflict
            | Kind::InternalError
            | Kind::SlowCall
            | Kind::BatchCut => 1,
            Kind::Crash | Kind::BusLosesEntry | Kind::SubsystemFails | Kind::SubsystemAnswerLost => {
                Self::TOO_MANY_FAULTS
            }
            _ => 0,
        };
    }

    /// Records that an invocation may fail without a fault.
    pub(crate) fn may_fail(&mut self, invocation: u64) {
        *self.met.entry(invocation).or_default() += Self::TOO_MANY_FAULTS;
    }

    /// Checks a failed invocation: a single transient fault must not make it fail.
    pub(crate) fn check_failure(&mut self, invocation: u64) {
        let met = self.met.get(&invocation).copied().unwrap_or_default();
        if met < Self::TOO_MANY_FAULTS {
            self.fail(format!("an invocation failed after {met} transient faults"));
        }
    }

    /// From this number of transient faults on, an invocation may fail.
    const TOO_MANY_FAULTS: u32 = 2;
}
