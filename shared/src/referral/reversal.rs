//! Reversals: instructions that take rewards back. A step that reverses rewards writes them with the referral.

use super::{
    Referral, Rewards, State,
    reward::{Benefit, Delivery, InstructionId, InstructionKind, RewardStatus, Side},
};
use crate::{
    domain::{id::UserId, money::Amount, time::Timestamp},
    mutant::{self, Mutant},
};

/// An instruction that takes back a reward. The subsystem gets it only after it has accepted the reward.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reversal {
    pub id: InstructionId,
    /// The user who got the reward.
    pub user: UserId,
    /// What is taken back.
    pub benefit: Benefit,
    /// The referral's, as in log lines and events.
    pub correlation_id: String,
    /// When the reversal was decided.
    pub issued_at: Timestamp,
    /// When the reward was issued.
    pub reward_issued_at: Timestamp,
    /// When the reward was delivered, as far as it was known at the decision.
    pub reward_delivered_at: Option<Timestamp>,
    pub delivery: Delivery,
    /// When it was closed without a call, because its reward was never called or failed.
    pub closed_at: Option<Timestamp>,
    /// The time of the sweep's next check, while the subsystem has not answered.
    pub due_at: Timestamp,
}

/// How far a reversal has progressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReversalStatus {
    /// Decided, and not answered yet.
    Issued,
    /// The subsystem answered 2xx.
    Delivered,
    /// The subsystem refused it permanently. An operator has to act.
    Failed,
    /// Nothing has to be taken back, because the reward was never given.
    Closed,
}

impl ReversalStatus {
    /// The name in the API and in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

/// What has to be done with a reversal, after its reward's delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// The reward was delivered: send the reversal.
    Send,
    /// A call that grants the reward has no answer yet.
    Wait,
    /// The reward was never given.
    Close,
}

impl Reversal {
    /// The status that follows from the facts.
    pub fn status(&self) -> ReversalStatus {
        match (self.delivery.status(), self.closed_at) {
            (RewardStatus::Delivered, _) => ReversalStatus::Delivered,
            (_, Some(_)) => ReversalStatus::Closed,
            (RewardStatus::Failed, _) => ReversalStatus::Failed,
            (RewardStatus::Issued | RewardStatus::Reversed, None) => ReversalStatus::Issued,
        }
    }

    /// The id of the reward that it takes back.
    pub fn reward_id(&self) -> InstructionId {
        InstructionId { kind: InstructionKind::Grant, ..self.id.clone() }
    }
}

impl Rewards {
    /// What has to be done with the reversal of this side's reward.
    pub fn readiness(&self, side: Side) -> Readiness {
        let reward = self.of(side);
        let is_unanswered = self.unanswered().any(|unanswered| unanswered == side);
        match reward.delivery.status() {
            // A restored table can contain the reversal before the referral that it belongs to.
            _ if reward.reversed.is_none() => Readiness::Wait,
            RewardStatus::Delivered | RewardStatus::Reversed => Readiness::Send,
            RewardStatus::Failed if mutant::is(Mutant::FailedRewardReversed) => Readiness::Send,
            RewardStatus::Issued if mutant::is(Mutant::ReversalSentBeforeAnswer) => Readiness::Send,
            RewardStatus::Issued if is_unanswered => Readiness::Wait,
            RewardStatus::Issued | RewardStatus::Failed => Readiness::Close,
        }
    }
}

impl Referral {
    /// The reversals of this referral, as they were decided. Each of them is open: its delivery sends or closes it.
    pub(crate) fn reversals(&self) -> Vec<Reversal> {
        let delivered_at = |side| self.rewards()?.of(side).delivery.delivered_at;
        Side::BOTH.into_iter().filter_map(|side| self.reversal(side, delivered_at(side))).collect()
    }

    /// The reversal of this side's reward, as it was decided; `None` if nothing is taken back.
    fn reversal(&self, side: Side, reward_delivered_at: Option<Timestamp>) -> Option<Reversal> {
        let State::Reversed { at, rewards, .. } = &self.state else { return None };
        let reward = rewards.of(side);
        let amount = reward.reversed.filter(|amount| *amount > Amount::ZERO)?;
        Some(Reversal {
            id: InstructionId { kind: InstructionKind::FullReversal, ..self.reward_id(side) },
            user: self.user_id(side).clone(),
            benefit: reward.benefit.of_amount(amount),
            correlation_id: self.correlation_id(),
            issued_at: *at,
            reward_issued_at: rewards.issued_at,
            reward_delivered_at,
            delivery: Delivery::default(),
            closed_at: None,
            due_at: *at,
        })
    }
}

/// The reversals that the step from `before` to `after` decides, or opens again because a reward that seemed to be never given was
/// delivered after all.
pub fn decided(before: &Referral, after: &Referral) -> Vec<Reversal> {
    let State::Reversed { rewards: was, .. } = &before.state else {
        // Only an issue that is reversed has rewards before.
        return if before.rewards().is_some() { after.reversals() } else { Vec::new() };
    };
    let reopened = |side: Side| {
        let is = after.rewards()?;
        let delivered_at = is.of(side).delivery.delivered_at.filter(|_| was.readiness(side) == Readiness::Close)?;
        Some(Reversal { due_at: delivered_at, ..after.reversal(side, None)? })
    };
    Side::BOTH.into_iter().filter_map(reopened).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::order::OrderRecord,
        referral::{
            Status,
            machine::{Command, Decision},
        },
        sample::{applied, at, cancelled, convert, disputed, grant, order, refunded, rewarded},
    };

    fn after(referral: &Referral, command: &Command<'_>) -> Referral {
        applied(referral.decide(command, at(50)))
    }

    fn called(side: Side) -> Referral {
        after(&rewarded(), &Command::MarkCalled(&grant(side)))
    }

    fn cancelled_after(referral: &Referral) -> Referral {
        after(referral, &Command::Adjust(&cancelled("o-1"), None))
    }

    /// What has to be done with the referrer's and the referee's reversal.
    fn readiness(before: &Referral) -> [Readiness; 2] {
        let reversed = cancelled_after(before);
        Side::BOTH.map(|side| reversed.rewards().unwrap().readiness(side))
    }

    #[test]
    fn a_reward_that_was_never_given_has_nothing_to_take_back() {
        use Readiness::{Close, Send, Wait};
        let failed = after(&called(Side::Referrer), &Command::MarkFailed(&grant(Side::Referrer), "400", 0));
        let delivered = after(&called(Side::Referrer), &Command::MarkDelivered(&grant(Side::Referrer)));
        assert_eq!(readiness(&rewarded()), [Close, Close]);
        assert_eq!(readiness(&called(Side::Referrer)), [Wait, Close]);
        assert_eq!(readiness(&failed), [Close, Close]);
        assert_eq!(readiness(&delivered), [Send, Close]);
        // Sent again by an operator, and not answered yet.
        let resent = after(&failed, &Command::Resend(&grant(Side::Referrer), at(60)));
        assert_eq!(readiness(&resent), [Wait, Close]);
        // Without a reversal in the referral, its item must not be sent or closed.
        assert_eq!(delivered.rewards().map(|rewards| rewards.readiness(Side::Referrer)), Some(Wait));
    }

    /// Earlier versions did not record calls.
    #[test]
    fn a_reward_whose_calls_were_not_recorded_may_have_been_given() {
        let mut old = rewarded();
        if let State::Rewarded { rewards, .. } = &mut old.state {
            rewards.records_calls = false;
        }
        assert_eq!(readiness(&old), [Readiness::Wait; 2]);
        assert_eq!(cancelled_after(&old).undelivered(), Side::BOTH.map(grant));
    }

    #[test]
    fn both_rewards_are_taken_back_in_full_and_once() {
        let before = called(Side::Referrer);
        let reversed = cancelled_after(&before);
        assert_eq!(reversed.status(), Status::Voided);
        let rewards = reversed.rewards().unwrap();
        assert_eq!(Side::BOTH.map(|side| rewards.of(side).status()), [RewardStatus::Reversed; 2]);
        let all = decided(&before, &reversed);
        let facts = |all: &Reversal| (all.id.to_string(), all.user.to_string(), u64::from(all.benefit.amount()));
        assert_eq!(facts(&all[0]), ("bob:referrer:reversal".to_owned(), "alice".to_owned(), 1000));
        assert_eq!(facts(&all[1]), ("bob:referee:reversal".to_owned(), "bob".to_owned(), 1000));
        assert_eq!((all[0].issued_at, all[0].reward_issued_at, all[0].due_at), (at(50), at(20), at(50)));
        assert_eq!(all, reversed.reversals());
        let again = after(&reversed, &Command::Adjust(&refunded_later(), None));
        assert_eq!(decided(&reversed, &again), []);
    }

    fn refunded_later() -> OrderRecord {
        let mut record = refunded(500);
        record.adjustments.version = 2;
        record
    }

    #[test]
    fn only_a_call_that_was_made_is_answered_after_a_reversal() {
        let reversed = cancelled_after(&called(Side::Referrer));
        assert_eq!(reversed.undelivered(), [grant(Side::Referrer)]);
        assert!(reversed.work().is_some());
        let uncalled = reversed.decide(&Command::MarkCalled(&grant(Side::Referee)), at(60));
        assert!(matches!(uncalled, Decision::Refuse(_)));
        let delivered = after(&reversed, &Command::MarkDelivered(&grant(Side::Referrer)));
        assert_eq!((delivered.work(), delivered.undelivered()), (None, vec![]));
        assert_eq!(delivered.rewards().map(|rewards| rewards.readiness(Side::Referrer)), Some(Readiness::Send));
    }

    #[test]
    fn a_closed_reversal_is_opened_when_its_reward_was_given_after_all() {
        let failed = after(&called(Side::Referrer), &Command::MarkFailed(&grant(Side::Referrer), "400", 0));
        let reversed = cancelled_after(&failed);
        let delivered = after(&reversed, &Command::MarkDelivered(&grant(Side::Referrer)));
        let opened = decided(&reversed, &delivered);
        assert_eq!(opened.iter().map(|opened| opened.id.side).collect::<Vec<_>>(), [Side::Referrer]);
        assert_eq!((opened[0].closed_at, opened[0].reward_delivered_at, opened[0].due_at), (None, None, at(50)));
        let waited = cancelled_after(&called(Side::Referrer));
        let delivered = after(&waited, &Command::MarkDelivered(&grant(Side::Referrer)));
        assert_eq!(decided(&waited, &delivered), [], "it was never closed");
    }

    #[test]
    fn nothing_is_granted_again_after_a_reversal() {
        let before = after(&rewarded(), &Command::Adjust(&disputed(1, true), None));
        let won = after(&before, &Command::Adjust(&disputed(2, false), None));
        assert_eq!((won.status(), won.rewards()), (Status::Voided, before.rewards()));
        for order in [order("o-1"), order("o-2")] {
            assert!(!matches!(won.decide(&convert(&order), at(60)), Decision::Apply(..)));
        }
        let resend = won.decide(&Command::Resend(&grant(Side::Referrer), at(60)), at(60));
        assert!(matches!(resend, Decision::Refuse(_)));
    }
}
