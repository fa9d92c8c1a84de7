//! Announce: the events to publish for a change of a referral, computed as a pure function of the item before and after
//! the change.
//!
//! A later write of the same referral contains the same rewards, but their events are not published again. A repeated
//! event is identical to the first one, because everything in it comes from the item. `schemas/` describes the detail
//! of each type. [`reversal`] has the events of reversals.

pub mod reversal;

use std::borrow::Cow;

use serde::Serialize;

use crate::{
    aws::Announcement,
    domain::{money::Amount, time::Timestamp},
    lambda::stream::Change,
    mutant::{self, Mutant},
    referral::{
        Referral, Rewards, State, Status,
        reward::{InstructionId, Reward, Side},
    },
    view::{ReferralView, RewardView},
};

/// The detail of an event. Its id stays the same when the event is published again.
#[derive(Serialize)]
struct Detail<T> {
    event_id: String,
    occurred_at: Timestamp,
    /// The referral's stored id, as in log lines.
    correlation_id: String,
    #[serde(flatten)]
    subject: T,
}

/// A reward and its referee's id. The API form of a reward does not contain this id.
#[derive(Serialize)]
struct RewardOfReferee<'a> {
    referee_id: &'a str,
    #[serde(flatten)]
    reward: RewardView<'a>,
}

/// The events for a change in the table.
pub fn of_change(change: &Change) -> Vec<Announcement> {
    match change {
        Change::Referral { before, after } => announcements(before.as_ref(), after),
        Change::Reversal { before, after } => reversal::announcements(before.as_ref(), after),
    }
}

/// The events for the change of a referral from `before` (`None` if it is new) to `after`.
pub fn announcements(before: Option<&Referral>, after: &Referral) -> Vec<Announcement> {
    let mut events = Vec::new();
    let is_issue = before.and_then(Referral::rewards).is_none();
    let issued = if is_issue { as_issued(after) } else { Cow::Borrowed(after) };
    let step = |referral: &Referral| (referral.status(), referral.life());
    if before.map(step) != Some(step(after)) {
        let is_rewarded = after.status() == Status::Rewarded;
        events.push(of_referral(if is_rewarded { &issued } else { after }));
    }
    let Some(rewards) = after.rewards() else { return events };
    for id in Side::BOTH.map(|side| after.reward_id(side)) {
        let Some(now) = after.delivery(&id) else { continue };
        let was = before.and_then(|before| before.delivery(&id));
        let was_delivered = was.is_some_and(|was| was.delivered_at.is_some());
        let had_failed = was.is_some_and(|was| was.failed_at.is_some());
        let facts = [
            ("reward.issued", was.is_none().then_some(rewards.issued_at), &*issued),
            ("reward.delivered", now.delivered_at.filter(|_| !was_delivered), after),
            ("reward.failed", now.failed_at.filter(|_| !had_failed), after),
        ];
        events.extend(facts.into_iter().filter_map(|(detail_type, at, of)| of_reward(of, &id, detail_type, at?)));
    }
    events
}

/// The referral as it was when its rewards were issued. The first record of a restored item already contains later answers,
/// but its events have to equal the first ones.
fn as_issued(referral: &Referral) -> Cow<'_, Referral> {
    let (conversion, rewards, due_at) = match &referral.state {
        State::Rewarded { conversion, rewards, due_at } | State::Reversed { conversion, rewards, due_at, .. } => {
            (conversion, rewards, due_at)
        }
        State::Pending | State::Converted { .. } | State::Voided { .. } => return Cow::Borrowed(referral),
    };
    let reset = |reward: &Reward| Reward::issued(reward.benefit);
    if referral.status() == Status::Rewarded
        && Side::BOTH.iter().all(|side| reset(rewards.of(*side)) == *rewards.of(*side))
    {
        return Cow::Borrowed(referral);
    }
    let (referrer, referee) = (reset(&rewards.referrer), reset(&rewards.referee));
    let rewards = Rewards { referrer, referee, ..rewards.clone() };
    let state = State::Rewarded { conversion: conversion.clone(), rewards, due_at: *due_at };
    Cow::Owned(Referral { state, ..referral.clone() })
}

/// The instruction events of all undelivered rewards, to be published again.
pub fn reannouncements(referral: &Referral) -> Vec<Announcement> {
    referral.undelivered().iter().filter_map(|id| reannouncement(referral, id)).collect()
}

/// The event of this instruction, to be published again.
pub fn reannouncement(referral: &Referral, id: &InstructionId) -> Option<Announcement> {
    let at = if mutant::is(Mutant::RepetitionRedated) { referral.work()?.at } else { referral.rewards()?.issued_at };
    of_reward(&as_issued(referral), id, "reward.issued", at)
}

fn of_referral(referral: &Referral) -> Announcement {
    let (detail_type, occurred_at) = match &referral.state {
        State::Pending => ("referral.attributed", referral.created_at),
        State::Converted { conversion, .. } => ("referral.converted", conversion.at),
        State::Rewarded { rewards, .. } => ("referral.rewarded", rewards.issued_at),
        State::Voided { at, .. } | State::Reversed { at, .. } => ("referral.voided", *at),
    };
    let id = event_id(referral.referee.as_str(), detail_type);
    // A referral can convert, be voided or be reopened again, which needs a new id.
    let id = match (referral.status(), referral.life()) {
        (Status::Pending | Status::Converted | Status::Voided, number @ 2..)
            if !mutant::is(Mutant::LaterConversionNotNumbered) =>
        {
            format!("{id}:{number}")
        }
        _ => id,
    };
    announcement(detail_type, occurred_at, referral, id, ReferralView::of(referral))
}

fn of_reward(
    referral: &Referral,
    id: &InstructionId,
    detail_type: &'static str,
    occurred_at: Timestamp,
) -> Option<Announcement> {
    let delivery = referral.delivery(id)?;
    let event_id = event_id(&id.to_string(), detail_type);
    // A refusal after a resend is a new fact, so it needs a new id.
    let event_id = match delivery.resent {
        resent @ 1.. if detail_type == "reward.failed" => format!("{event_id}:{resent}"),
        _ => event_id,
    };
    let event_id =
        if mutant::is(Mutant::EventNamedByRevision) { format!("{event_id}:{}", referral.rev) } else { event_id };
    // The state of the grant, whether or not the reward is taken back by now.
    let reward =
        RewardView { status: delivery.status(), reversed_amount: Amount::ZERO, ..RewardView::of(referral, id.side)? };
    let subject = RewardOfReferee { referee_id: referral.referee.as_str(), reward };
    Some(announcement(detail_type, occurred_at, referral, event_id, subject))
}

/// The id consists of the subject's id and the last part of the type: `bob:referrer:issued`, `bob:converted`.
fn event_id(subject: &str, detail_type: &'static str) -> String {
    format!("{subject}:{}", detail_type.rsplit('.').next().unwrap_or(detail_type))
}

fn announcement(
    detail_type: &'static str,
    occurred_at: Timestamp,
    referral: &Referral,
    event_id: String,
    subject: impl Serialize,
) -> Announcement {
    let correlation_id = referral.correlation_id();
    let detail = Detail { event_id, occurred_at, correlation_id, subject };
    Announcement { detail_type, occurred_at, detail: serde_json::to_value(detail).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        referral::machine::Command,
        sample::{self, grant},
    };

    fn after(referral: &Referral, command: &Command<'_>) -> Referral {
        sample::applied(referral.decide(command, sample::at(50)))
    }

    fn published(before: Option<&Referral>, after: &Referral) -> Vec<(&'static str, String)> {
        let id = |event: &Announcement| event.detail["event_id"].as_str().unwrap().to_owned();
        announcements(before, after).iter().map(|event| (event.detail_type, id(event))).collect()
    }

    fn names<const N: usize>(expected: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
        expected.map(|(kind, id)| (kind, id.to_owned())).to_vec()
    }

    #[test]
    fn each_change_is_published_once() {
        let (pending, converted, rewarded) = (sample::pending(), sample::converted(), sample::rewarded());
        assert_eq!(published(None, &pending), names([("referral.attributed", "bob:attributed")]));
        assert_eq!(published(Some(&pending), &converted), names([("referral.converted", "bob:converted")]));
        assert_eq!(
            published(Some(&converted), &rewarded),
            names([
                ("referral.rewarded", "bob:rewarded"),
                ("reward.issued", "bob:referrer:issued"),
                ("reward.issued", "bob:referee:issued"),
            ])
        );
        let delivered = after(&rewarded, &Command::MarkDelivered(&grant(Side::Referee)));
        assert_eq!(published(Some(&rewarded), &delivered), names([("reward.delivered", "bob:referee:delivered")]));
        let failed = after(&delivered, &Command::MarkFailed(&grant(Side::Referrer), "400", 0));
        assert_eq!(published(Some(&delivered), &failed), names([("reward.failed", "bob:referrer:failed")]));
        let claimed = after(&rewarded, &Command::Claim(sample::at(99)));
        assert_eq!(published(Some(&rewarded), &claimed), names([]));
    }

    #[test]
    fn a_later_conversion_and_its_void_have_other_ids() {
        let first = after(&sample::converted(), &Command::Adjust(&sample::disputed(1, true), None));
        assert_eq!(published(Some(&sample::converted()), &first), names([("referral.voided", "bob:voided")]));
        let restored = after(&first, &Command::Adjust(&sample::disputed(2, false), None));
        assert_eq!(published(Some(&first), &restored), names([("referral.converted", "bob:converted:2")]));
        let second = after(&restored, &Command::Adjust(&sample::disputed(3, true), None));
        assert_eq!(published(Some(&restored), &second), names([("referral.voided", "bob:voided:2")]));
    }

    #[test]
    fn another_conversion_is_published() {
        let other = sample::order("o-2");
        let kept = after(&sample::converted(), &sample::convert(&other));
        assert_eq!(published(Some(&sample::converted()), &kept), names([]));
        let next = after(&kept, &Command::Adjust(&sample::cancelled("o-1"), None));
        assert_eq!(published(Some(&kept), &next), names([("referral.converted", "bob:converted:2")]));
    }

    #[test]
    fn each_fact_has_its_own_time() {
        let (pending, converted, rewarded) = (sample::pending(), sample::converted(), sample::rewarded());
        let voided = after(&converted, &Command::Adjust(&sample::disputed(1, true), None));
        let delivered = after(&rewarded, &Command::MarkDelivered(&grant(Side::Referee)));
        let failed = after(&rewarded, &Command::MarkFailed(&grant(Side::Referrer), "400", 0));
        for (before, after, millis) in [
            (None, &pending, 0),
            (Some(&pending), &converted, 10),
            (Some(&converted), &rewarded, 20),
            (Some(&converted), &voided, 50),
            (Some(&rewarded), &delivered, 50),
            (Some(&rewarded), &failed, 50),
        ] {
            for event in announcements(before, after) {
                assert_eq!(event.occurred_at, sample::at(millis), "{event:?}");
                assert_eq!(event.detail["occurred_at"], sample::at(millis).to_string());
                assert_eq!(event.detail["correlation_id"], "0123456789abcdef");
            }
        }
    }

    /// Version 0.1.0 stored no correlation id.
    #[test]
    fn a_referral_without_a_stored_id_keeps_its_hash() {
        let old = Referral { correlation_id: None, ..sample::pending() };
        for event in announcements(None, &old) {
            assert_eq!(event.detail["correlation_id"], old.referee.hashed());
        }
    }

    #[test]
    fn a_second_refusal_has_another_event_id() {
        let refused = after(&sample::rewarded(), &Command::MarkFailed(&grant(Side::Referrer), "400", 0));
        let resent = after(&refused, &Command::Resend(&grant(Side::Referrer), sample::at(60)));
        let again = after(&resent, &Command::MarkFailed(&grant(Side::Referrer), "400", 1));
        assert_eq!(published(Some(&resent), &again), names([("reward.failed", "bob:referrer:failed:1")]));
        let delivered = after(&resent, &Command::MarkDelivered(&grant(Side::Referrer)));
        assert_eq!(published(Some(&resent), &delivered), names([("reward.delivered", "bob:referrer:delivered")]));
    }

    #[test]
    fn a_record_that_skips_states_publishes_the_rewards() {
        let published = published(None, &sample::rewarded());
        assert_eq!(published.iter().filter(|(kind, _)| *kind == "reward.issued").count(), 2);
    }

    #[test]
    fn a_record_of_a_restored_item_repeats_the_first_events() {
        let first = announcements(Some(&sample::converted()), &sample::rewarded());
        let delivered = after(&sample::rewarded(), &Command::MarkDelivered(&grant(Side::Referee)));
        let restored = announcements(None, &delivered);
        assert_eq!(first.iter().filter(|event| !restored.contains(event)).collect::<Vec<_>>(), [&first[0]; 0]);
        assert_eq!(published(None, &delivered).last().unwrap().1, "bob:referee:delivered");
        assert_eq!(restored.len(), first.len() + 1);
    }

    #[test]
    fn only_undelivered_rewards_are_published_again() {
        assert_eq!(reannouncements(&sample::converted()), []);
        // The repeated events are identical to the first ones.
        let first = announcements(Some(&sample::converted()), &sample::rewarded());
        let issued = first.into_iter().filter(|event| event.detail_type == "reward.issued");
        assert_eq!(reannouncements(&sample::rewarded()), issued.collect::<Vec<_>>());
        let delivered = after(&sample::rewarded(), &Command::MarkDelivered(&grant(Side::Referee)));
        let again = reannouncements(&delivered);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].detail["reward_id"], "bob:referrer");
        assert_eq!(again[0].detail["referee_id"], "bob");
    }
}
