//! The time of an event: what its envelope says, but never later than its receipt, because the product's clock may be
//! wrong.

use referrals::{
    domain::time::Timestamp,
    mutant::{self, Mutant},
};
use serde::Deserialize;
use serde_json::Value;

/// The times by which an event is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EventTime {
    /// When the event was sent: its envelope's time, but at most the time of its receipt.
    pub(crate) sent_at: Timestamp,
    received_at: Timestamp,
    pub(crate) now: Timestamp,
    /// Whether the event comes from the delay queue, a dead-letter queue or the archive.
    pub(crate) is_late: bool,
    /// Whether the event comes from the archive with a time in the future, so that it is unknown when it was sent.
    is_undated_replay: bool,
}

/// A flag or a clearance with such a time would override every change of the account until that time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("occurred_at is more than five minutes in the future")]
pub(crate) struct InTheFuture;

impl EventTime {
    /// The times of an event that was received first at `received_at`. Without a time in its envelope, it was sent then.
    pub(crate) fn of(event: &Value, received_at: Timestamp, now: Timestamp, is_delayed: bool) -> Self {
        let envelope = Timestamp::deserialize(&event["time"]).unwrap_or(received_at);
        let sent_at = if mutant::is(Mutant::FutureEnvelopeAccepted) { envelope } else { envelope.min(received_at) };
        let is_replay = event.get("replay-name").is_some();
        let is_undated_replay = is_replay && envelope > received_at;
        Self { sent_at, received_at, now, is_late: is_delayed || is_replay, is_undated_replay }
    }

    /// The time of an order: `occurred_at`, or else the time at which the event was sent, but at most the time of its receipt.
    pub(crate) fn of_order(self, occurred_at: Option<Timestamp>) -> Timestamp {
        let occurred_at = occurred_at.filter(|_| !mutant::is(Mutant::OrderTimeIgnored));
        occurred_at.map_or(self.sent_at, |at| at.min(self.received_at))
    }

    /// The time of a state, of which the latest counts (of an account's flag or a dispute): `occurred_at`, or else the time at
    /// which the event was sent. An event of a replay whose time is unknown has the earliest time, so that it overrides nothing.
    ///
    /// # Errors
    /// Returns an error when `occurred_at` is too far in the future.
    pub(crate) fn of_state(self, occurred_at: Option<Timestamp>) -> Result<Timestamp, InTheFuture> {
        let latest = self.received_at.plus(Timestamp::TOLERANCE);
        match occurred_at {
            Some(at) if at > latest && !mutant::is(Mutant::FutureFlagAccepted) => Err(InTheFuture),
            Some(at) => Ok(at),
            None if self.is_undated_replay => Ok(Timestamp::FIRST),
            None => Ok(self.sent_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The event is received at 9:30.
    fn received(event: &Value) -> EventTime {
        let now = at("2026-01-31T09:30:00Z");
        EventTime::of(event, now, now, false)
    }

    #[test]
    fn an_event_is_not_sent_after_its_receipt() {
        for (time, sent_at) in [
            (json!("2026-01-31T09:29:59Z"), "2026-01-31T09:29:59Z"),
            (json!("2026-01-31T09:30:01Z"), "2026-01-31T09:30:00Z"),
            (json!("2036-01-01T00:00:00Z"), "2026-01-31T09:30:00Z"),
            // Outside the years that this service can store.
            (json!("1969-12-31T23:59:59Z"), "2026-01-31T09:30:00Z"),
            (json!("+10000-01-01T00:00:00Z"), "2026-01-31T09:30:00Z"),
            (json!(null), "2026-01-31T09:30:00Z"),
        ] {
            assert_eq!(received(&json!({ "time": time })).sent_at, at(sent_at), "{time}");
        }
        assert_eq!(received(&json!({})).sent_at, at("2026-01-31T09:30:00Z"));
    }

    #[test]
    fn the_time_of_a_flag_may_be_five_minutes_ahead_of_the_receipt() {
        for envelope in ["2026-01-01T00:00:00Z", "2026-01-31T09:30:00Z", "2036-01-01T00:00:00Z"] {
            let time = received(&json!({ "time": envelope }));
            for good in ["2026-01-30T00:00:00Z", "2026-01-31T09:35:00Z"] {
                assert_eq!(time.of_state(Some(at(good))), Ok(at(good)), "{envelope} {good}");
            }
            for bad in ["2026-01-31T09:35:00.001Z", "2036-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
                assert_eq!(time.of_state(Some(at(bad))), Err(InTheFuture), "{envelope} {bad}");
            }
        }
    }

    #[test]
    fn a_flag_in_a_replay_overrides_nothing_if_its_time_is_unknown() {
        let flagged_at = |event: Value, occurred_at| received(&event).of_state(occurred_at);
        let future = "2036-01-01T00:00:00Z";
        assert_eq!(flagged_at(json!({"time": future}), None), Ok(at("2026-01-31T09:30:00Z")));
        assert_eq!(flagged_at(json!({"time": future, "replay-name": "noon"}), None), Ok(Timestamp::FIRST));
        let known = at("2026-01-30T00:00:00Z");
        assert_eq!(flagged_at(json!({"time": future, "replay-name": "noon"}), Some(known)), Ok(known));
        assert_eq!(flagged_at(json!({"time": "2026-01-30T00:00:00Z", "replay-name": "noon"}), None), Ok(known));
    }
}
