//! Announce: what subscribers are told of a change, as a pure function of the item before and after it.
//!
//! A later write of the same referral shows a reward that was there before, and so announces nothing again.

use serde::Serialize;
use serde_json::Value;

use crate::{
    referral::{Referral, State},
    reward::Side,
    view::{ReferralView, RewardView},
};

/// An event of ours, for the bus.
#[derive(Clone, PartialEq, Debug)]
pub struct Announcement {
    /// Its type, such as `reward.issued`.
    pub detail_type: &'static str,
    /// The referral or the reward, with the event's id.
    pub detail: Value,
}

/// A detail: what it is about, and an id that is the same however often it is told.
#[derive(Serialize)]
struct Detail<T> {
    event_id: String,
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
        let facts = [
            (before.is_none(), "reward.issued"),
            (now.delivered_at.is_some() && before.is_none_or(|was| was.delivered_at.is_none()), "reward.delivered"),
            (now.failed_at.is_some() && before.is_none_or(|was| was.failed_at.is_none()), "reward.failed"),
        ];
        news.extend(facts.into_iter().filter_map(|(new, what)| new.then(|| of_reward(after, side, what)).flatten()));
    }
    news
}

/// The rewards that are on their way, announced once more.
pub fn reannouncements(referral: &Referral) -> Vec<Announcement> {
    let sides = referral.rewards().into_iter().flat_map(crate::referral::Rewards::on_their_way);
    sides.filter_map(|side| of_reward(referral, side, "reward.issued")).collect()
}

fn of_referral(referral: &Referral) -> Announcement {
    let detail_type = match referral.state {
        State::Pending => "referral.attributed",
        State::Converted { .. } => "referral.converted",
        State::Rewarded { .. } => "referral.rewarded",
        State::Voided { .. } => "referral.voided",
    };
    announcement(detail_type, referral.referee.as_str(), ReferralView::of(referral))
}

fn of_reward(referral: &Referral, side: Side, detail_type: &'static str) -> Option<Announcement> {
    let reward = RewardView::of(referral, side)?;
    let (id, referee_id) = (reward.reward_id.to_string(), referral.referee.as_str());
    Some(announcement(detail_type, &id, OfReferee { referee_id, reward }))
}

/// The id is the subject and the past tense: `bob:referrer:issued`, `bob:converted`.
fn announcement(detail_type: &'static str, subject: &str, about: impl Serialize) -> Announcement {
    let tense = detail_type.rsplit('.').next().unwrap_or(detail_type);
    let detail = Detail { event_id: format!("{subject}:{tense}"), about };
    Announcement { detail_type, detail: serde_json::to_value(detail).unwrap_or_default() }
}
