//! The events of a reversal.

use serde::Serialize;

use super::{Detail, event_id};
use crate::{
    aws::Announcement,
    domain::time::Timestamp,
    mutant::{self, Mutant},
    referral::{
        reversal::{Reversal, ReversalStatus},
        reward::{InstructionId, RewardStatus},
    },
    view::{ReversalView, RewardView},
};

/// A reward, of which this reversal takes back the amount.
#[derive(Serialize)]
struct ReversedReward<'a> {
    referee_id: &'a str,
    reversal_id: &'a InstructionId,
    #[serde(flatten)]
    reward: RewardView<'a>,
}

/// The events for the change of a reversal from `before` (`None` if it is new) to `after`.
pub fn announcements(before: Option<&Reversal>, after: &Reversal) -> Vec<Announcement> {
    let was_closed = before.is_some_and(|before| before.status() == ReversalStatus::Closed);
    let is_reopened = was_closed && after.status() != ReversalStatus::Closed;
    let was = before.map(|before| &before.delivery);
    let was_delivered = was.is_some_and(|was| was.delivered_at.is_some());
    let had_failed = was.is_some_and(|was| was.failed_at.is_some());
    let decided = (before.is_none() || is_reopened).then(|| reannouncement(after));
    let delivered = after.delivery.delivered_at.filter(|_| !was_delivered);
    let failed = after.delivery.failed_at.filter(|_| !had_failed);
    let delivered = delivered.map(|at| of_reversal(after, "reversal.delivered", at));
    let failed = failed.map(|at| of_reversal(after, "reversal.failed", at));
    let decided = decided.filter(|_| !mutant::is(Mutant::ReversalNotAnnounced));
    [decided, delivered, failed].into_iter().flatten().collect()
}

/// The instruction event of a reversal, also to be published again.
pub fn reannouncement(reversal: &Reversal) -> Announcement {
    let subject = ReversedReward {
        referee_id: reversal.id.referee.as_str(),
        reversal_id: &reversal.id,
        reward: RewardView {
            reward_id: reversal.reward_id(),
            side: reversal.id.side,
            user_id: &reversal.user,
            r#type: reversal.benefit.kind(),
            amount: reversal.benefit.amount(),
            reversed_amount: reversal.benefit.amount(),
            currency: reversal.benefit.currency(),
            status: RewardStatus::Reversed,
            issued_at: reversal.reward_issued_at,
            delivered_at: reversal.reward_delivered_at,
        },
    };
    announcement(reversal, "reward.reversed", reversal.issued_at, subject)
}

fn of_reversal(reversal: &Reversal, detail_type: &'static str, at: Timestamp) -> Announcement {
    announcement(reversal, detail_type, at, ReversalView::of(reversal))
}

fn announcement(
    reversal: &Reversal,
    detail_type: &'static str,
    occurred_at: Timestamp,
    subject: impl Serialize,
) -> Announcement {
    let event_id = event_id(&reversal.id.to_string(), detail_type);
    // A refusal after a resend is a new fact, so it needs a new id.
    let event_id = match reversal.delivery.resent {
        resent @ 1.. if detail_type == "reversal.failed" => format!("{event_id}:{resent}"),
        _ => event_id,
    };
    let detail = Detail { event_id, occurred_at, correlation_id: reversal.correlation_id.clone(), subject };
    Announcement { detail_type, occurred_at, detail: serde_json::to_value(detail).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        referral::{Referral, machine::Command, reversal::decided, reward::Side},
        sample::{applied, at, cancelled, grant, rewarded},
    };

    /// The referrer's reversal, after this reward's call was recorded.
    fn reversal() -> Reversal {
        let called = applied(rewarded().decide(&Command::MarkCalled(&grant(Side::Referrer)), at(30)));
        let delivered = applied(called.decide(&Command::MarkDelivered(&grant(Side::Referrer)), at(40)));
        let reversed: Referral = applied(delivered.decide(&Command::Adjust(&cancelled("o-1"), None), at(50)));
        decided(&delivered, &reversed).remove(0)
    }

    fn ids(before: Option<&Reversal>, after: &Reversal) -> Vec<(&'static str, String)> {
        let id = |event: &Announcement| event.detail["event_id"].as_str().unwrap_or_default().to_owned();
        announcements(before, after).iter().map(|event| (event.detail_type, id(event))).collect()
    }

    #[test]
    fn each_change_of_a_reversal_is_published_once() {
        let new = reversal();
        assert_eq!(ids(None, &new), [("reward.reversed", "bob:referrer:reversal:reversed".to_owned())]);
        let mut failed = new.clone();
        failed.delivery.failed_at = Some(at(60));
        assert_eq!(ids(Some(&new), &failed), [("reversal.failed", "bob:referrer:reversal:failed".to_owned())]);
        let mut again = failed.clone();
        (again.delivery.failed_at, again.delivery.resent) = (None, 1);
        assert_eq!(ids(Some(&failed), &again), []);
        let mut refused = again.clone();
        refused.delivery.failed_at = Some(at(70));
        assert_eq!(ids(Some(&again), &refused), [("reversal.failed", "bob:referrer:reversal:failed:1".to_owned())]);
        let mut delivered = new.clone();
        delivered.delivery.delivered_at = Some(at(60));
        assert_eq!(ids(Some(&new), &delivered), [("reversal.delivered", "bob:referrer:reversal:delivered".to_owned())]);
    }

    #[test]
    fn a_reversal_that_is_opened_again_is_published_again() {
        let new = reversal();
        let closed = Reversal { closed_at: Some(at(50)), ..new.clone() };
        assert_eq!(ids(Some(&closed), &new), ids(None, &new));
        assert_eq!(announcements(None, &closed), announcements(None, &new));
    }

    #[test]
    fn the_event_names_the_reward_and_the_amount_that_is_taken_back() {
        let detail = reannouncement(&reversal()).detail;
        assert_eq!(
            (&detail["reward_id"], &detail["reversal_id"]),
            (&"bob:referrer".into(), &"bob:referrer:reversal".into())
        );
        assert_eq!((&detail["amount"], &detail["status"]), (&1000.into(), &"reversed".into()));
        assert_eq!(
            (&detail["issued_at"], &detail["delivered_at"]),
            (&at(20).to_string().into(), &at(40).to_string().into())
        );
        assert_eq!(detail["occurred_at"], at(50).to_string());
    }
}
