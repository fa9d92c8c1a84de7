//! Announce: what subscribers are told of a change, as a pure function of the item before and after it.
//!
//! A later write of the same referral shows a reward that was there before, and so announces nothing again. What is
//! told twice is told in the same words, for all of it comes from the item. `schemas/` says what each type holds.

use serde::Serialize;
use serde_json::Value;

use crate::{
    mutant::{self, Mutant},
    referral::{Referral, State},
    reward::Side,
    time::Timestamp,
    view::{ReferralView, RewardView},
};

/// An event of ours, for the bus.
#[derive(Clone, PartialEq, Debug)]
pub struct Announcement {
    /// Its type, such as `reward.issued`.
    pub detail_type: &'static str,
    /// When it came to pass, however late it is told.
    pub occurred_at: Timestamp,
    /// The referral or the reward, with the event's id and time.
    pub detail: Value,
}

/// A detail: what it is about, and an id that is the same however often it is told.
#[derive(Serialize)]
struct Detail<T> {
    event_id: String,
    occurred_at: Timestamp,
    /// The referee's id, hashed as log lines show it. A referee has one referral for ever, so this names all of its
    /// life: every event of it, and the lines that every function wrote of the referee.
    correlation_id: String,
    #[serde(flatten)]
    about: T,
}

/// A reward does not say in its API form whose referral it comes from.
#[derive(Serialize)]
struct OfReferee<'a> {
    referee_id: &'a str,
    #[serde(flatten)]
    reward: RewardView<'a>,
}

/// What is to be told when a referral changes from `before` (nothing, when it is new) to `after`.
pub fn announcements(before: Option<&Referral>, after: &Referral) -> Vec<Announcement> {
    let mut news = Vec::new();
    if before.map(Referral::status) != Some(after.status()) {
        news.push(of_referral(after));
    }
    let was = |side| before.and_then(Referral::rewards).map(|rewards| rewards.of(side));
    let Some(rewards) = after.rewards() else { return news };
    for side in Side::BOTH {
        let (before, now) = (was(side), rewards.of(side));
        let is_delivered = before.is_some_and(|was| was.delivered_at.is_some());
        let has_failed = before.is_some_and(|was| was.failed_at.is_some());
        let facts = [
            ("reward.issued", before.is_none().then_some(rewards.issued_at)),
            ("reward.delivered", now.delivered_at.filter(|_| !is_delivered)),
            ("reward.failed", now.failed_at.filter(|_| !has_failed)),
        ];
        news.extend(facts.into_iter().filter_map(|(what, new)| of_reward(after, side, what, new?)));
    }
    news
}

/// The rewards that are on their way, announced once more.
pub fn reannouncements(referral: &Referral) -> Vec<Announcement> {
    let sides = referral.rewards().into_iter().flat_map(crate::referral::Rewards::on_their_way);
    sides.filter_map(|side| reannouncement(referral, side)).collect()
}

/// This side's reward, announced once more.
pub fn reannouncement(referral: &Referral, side: Side) -> Option<Announcement> {
    let at = if mutant::is(Mutant::RepetitionRedated) { referral.work()?.at } else { referral.rewards()?.issued_at };
    of_reward(referral, side, "reward.issued", at)
}

fn of_referral(referral: &Referral) -> Announcement {
    let (detail_type, occurred_at) = match &referral.state {
        State::Pending { .. } => ("referral.attributed", referral.created_at),
        State::Converted { conversion, .. } => ("referral.converted", conversion.at),
        State::Rewarded { rewards, .. } => ("referral.rewarded", rewards.issued_at),
        State::Voided { at, .. } => ("referral.voided", *at),
    };
    let id = event_id(referral.referee.as_str(), detail_type);
    announcement(detail_type, occurred_at, referral, id, ReferralView::of(referral))
}

fn of_reward(
    referral: &Referral,
    side: Side,
    detail_type: &'static str,
    occurred_at: Timestamp,
) -> Option<Announcement> {
    let reward = RewardView::of(referral, side)?;
    let id = event_id(&reward.reward_id.to_string(), detail_type);
    // What was sent again can be refused again: another fact, by another name.
    let id = match referral.rewards()?.of(side).resent {
        again @ 1.. if detail_type == "reward.failed" => format!("{id}:{again}"),
        _ => id,
    };
    let id = if mutant::is(Mutant::EventNamedByRevision) { format!("{id}:{}", referral.rev) } else { id };
    let about = OfReferee { referee_id: referral.referee.as_str(), reward };
    Some(announcement(detail_type, occurred_at, referral, id, about))
}

/// The id is the subject and the past tense: `bob:referrer:issued`, `bob:converted`.
fn event_id(subject: &str, detail_type: &'static str) -> String {
    format!("{subject}:{}", detail_type.rsplit('.').next().unwrap_or(detail_type))
}

fn announcement(
    detail_type: &'static str,
    occurred_at: Timestamp,
    referral: &Referral,
    event_id: String,
    about: impl Serialize,
) -> Announcement {
    let correlation_id = referral.referee.hashed();
    let detail = Detail { event_id, occurred_at, correlation_id, about };
    Announcement { detail_type, occurred_at, detail: serde_json::to_value(detail).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::Command,
        order::{AdjustmentCause, OrderAdjustment},
        sample,
    };

    fn after(referral: &Referral, event: &Command<'_>) -> Referral {
        sample::taken(referral.decide(event, sample::at(50)))
    }

    fn told(before: Option<&Referral>, after: &Referral) -> Vec<(&'static str, String)> {
        let id = |news: &Announcement| news.detail["event_id"].as_str().unwrap().to_owned();
        announcements(before, after).iter().map(|news| (news.detail_type, id(news))).collect()
    }

    fn names<const N: usize>(expected: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
        expected.map(|(kind, id)| (kind, id.to_owned())).to_vec()
    }

    #[test]
    fn each_change_is_told_once() {
        let (pending, converted, rewarded) = (sample::pending(), sample::converted(), sample::rewarded());
        assert_eq!(told(None, &pending), names([("referral.attributed", "bob:attributed")]));
        assert_eq!(told(Some(&pending), &converted), names([("referral.converted", "bob:converted")]));
        assert_eq!(
            told(Some(&converted), &rewarded),
            names([
                ("referral.rewarded", "bob:rewarded"),
                ("reward.issued", "bob:referrer:issued"),
                ("reward.issued", "bob:referee:issued"),
            ])
        );
        let delivered = after(&rewarded, &Command::MarkDelivered(Side::Referee));
        assert_eq!(told(Some(&rewarded), &delivered), names([("reward.delivered", "bob:referee:delivered")]));
        let failed = after(&delivered, &Command::MarkFailed(Side::Referrer, "400", 0));
        assert_eq!(told(Some(&delivered), &failed), names([("reward.failed", "bob:referrer:failed")]));
        let claimed = after(&rewarded, &Command::Claim(sample::at(99)));
        assert_eq!(told(Some(&rewarded), &claimed), names([]));
    }

    #[test]
    fn each_fact_has_its_own_time() {
        let (pending, converted, rewarded) = (sample::pending(), sample::converted(), sample::rewarded());
        let order = sample::order("o-1");
        let cancelled = OrderAdjustment { order: order.id, user: order.user, cause: AdjustmentCause::Cancelled };
        let voided = after(&converted, &Command::Adjust(&cancelled));
        let delivered = after(&rewarded, &Command::MarkDelivered(Side::Referee));
        let failed = after(&rewarded, &Command::MarkFailed(Side::Referrer, "400", 0));
        for (before, after, millis) in [
            (None, &pending, 0),
            (Some(&pending), &converted, 10),
            (Some(&converted), &rewarded, 20),
            (Some(&converted), &voided, 50),
            (Some(&rewarded), &delivered, 50),
            (Some(&rewarded), &failed, 50),
        ] {
            for news in announcements(before, after) {
                assert_eq!(news.occurred_at, sample::at(millis), "{news:?}");
                assert_eq!(news.detail["occurred_at"], sample::at(millis).to_string());
                assert_eq!(news.detail["correlation_id"], pending.referee.hashed());
            }
        }
    }

    #[test]
    fn what_is_refused_again_is_another_fact() {
        let refused = after(&sample::rewarded(), &Command::MarkFailed(Side::Referrer, "400", 0));
        let resent = after(&refused, &Command::Resend(Side::Referrer, sample::at(60)));
        let again = after(&resent, &Command::MarkFailed(Side::Referrer, "400", 1));
        assert_eq!(told(Some(&resent), &again), names([("reward.failed", "bob:referrer:failed:1")]));
        let delivered = after(&resent, &Command::MarkDelivered(Side::Referrer));
        assert_eq!(told(Some(&resent), &delivered), names([("reward.delivered", "bob:referrer:delivered")]));
    }

    #[test]
    fn a_record_that_skips_steps_still_tells_of_the_rewards() {
        let told = told(None, &sample::rewarded());
        assert_eq!(told.iter().filter(|(kind, _)| *kind == "reward.issued").count(), 2);
    }

    #[test]
    fn only_what_is_on_its_way_is_told_again() {
        assert_eq!(reannouncements(&sample::converted()), []);
        // In the words of the first time.
        let first = announcements(Some(&sample::converted()), &sample::rewarded());
        let issued = first.into_iter().filter(|news| news.detail_type == "reward.issued");
        assert_eq!(reannouncements(&sample::rewarded()), issued.collect::<Vec<_>>());
        let delivered = after(&sample::rewarded(), &Command::MarkDelivered(Side::Referee));
        let again = reannouncements(&delivered);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].detail["reward_id"], "bob:referrer");
        assert_eq!(again[0].detail["referee_id"], "bob");
    }
}
