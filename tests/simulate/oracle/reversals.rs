//! Checks of reversals: what is taken back was given before, once, and the books agree at the end.

use std::collections::BTreeMap;

use referrals::referral::{
    Lane, Referral, Status,
    reversal::{Reversal, ReversalStatus},
    reward::Side,
};
use serde_json::Value;

use super::{Oracle, reversal};
use crate::state::Booking;

impl Oracle {
    /// Checks the step that takes rewards back: both of them, in full.
    pub(super) fn check_reversed(&mut self, key: &str, after: &Referral) {
        let Some(rewards) = after.rewards() else { return self.fail(format!("{key}: voided without its rewards")) };
        for side in Side::BOTH {
            let reward = rewards.of(side);
            if reward.reversed != Some(reward.benefit.amount()) {
                self.fail(format!("{key}: of the {side:?}'s reward {:?} is taken back", reward.reversed));
            }
        }
    }

    /// Checks a committed write of a reversal.
    pub(super) fn check_reversal(&mut self, key: &str, old: &Value, new: &Value) {
        let before = (!old.is_null()).then(|| reversal(old)).transpose();
        let (before, after) = match (before, reversal(new)) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(problem), _) | (_, Err(problem)) => return self.fail(format!("{key}: {problem}")),
        };
        let id = after.id.to_string();
        let status = after.status();
        let lane = match status {
            ReversalStatus::Issued => Some(Lane::Due),
            ReversalStatus::Failed => Some(Lane::Attention),
            ReversalStatus::Delivered | ReversalStatus::Closed => None,
        };
        self.check_lane(&id, new, lane);
        let was = before.as_ref().map(Reversal::status);
        if was == Some(ReversalStatus::Delivered) && before.as_ref() != Some(&after) {
            self.fail(format!("{id}: changed after its delivery"));
        }
        match status {
            ReversalStatus::Delivered if !self.keys.contains_key(&id) => {
                self.fail(format!("{id}: marked delivered, but it was not booked"));
            }
            ReversalStatus::Closed if self.keys.contains_key(&after.reward_id().to_string()) => {
                self.fail(format!("{id}: closed, but the reward was given"));
            }
            ReversalStatus::Failed if !self.refused.contains(&id) => {
                self.fail(format!("{id}: marked failed, but no subsystem refused it"));
            }
            _ => {}
        }
        let facts = |reversal: &Reversal| (reversal.benefit, reversal.user.clone(), reversal.issued_at);
        if before.is_some_and(|before| facts(&before) != facts(&after)) {
            self.fail(format!("{id}: changed"));
        }
    }

    /// Whether this message asks for a reversal whose reward was called and has no answer.
    pub(crate) fn waits(&self, message: &str) -> bool {
        let event: Value = serde_json::from_str(message).unwrap_or_default();
        let detail = &event["detail"];
        let referral = detail["referee_id"].as_str().and_then(|referee| self.referrals.get(referee));
        let side = Side::BOTH.into_iter().find(|side| detail["side"] == side.as_str());
        let (Some(rewards), Some(side)) = (referral.and_then(Referral::rewards), side) else { return false };
        let delivery = &rewards.of(side).delivery;
        event["detail-type"] == "reward.reversed"
            && delivery.called_at.is_some()
            && delivery.delivered_at.is_none()
            && delivery.failed_at.is_none()
    }

    /// Checks that a reversal takes back what was given before, and not more.
    pub(super) fn check_taken_back(&mut self, id: &str, amount: i64) {
        let reward = id.strip_suffix(":reversal").unwrap_or(id);
        if !self.keys.contains_key(reward) {
            self.fail(format!("{id}: {amount} was taken back, but the reward was never given"));
        }
    }

    /// Checks the books at the end: what each user keeps of a reward is what was issued and not taken back.
    pub(super) fn check_books(
        &mut self,
        referrals: &[Referral],
        reversals: &[Reversal],
        bookings: &BTreeMap<String, Booking>,
    ) {
        for reversal in reversals {
            if matches!(reversal.status(), ReversalStatus::Issued | ReversalStatus::Failed) {
                self.fail(format!("{}: not answered at the end", reversal.id));
            }
        }
        let (mut expected, mut booked) = (BTreeMap::new(), BTreeMap::<String, i64>::new());
        for referral in referrals {
            for side in referral.rewards().into_iter().flat_map(|_| Side::BOTH) {
                let amount = referral.rewards().map_or(0, |rewards| u64::from(rewards.of(side).benefit.amount()));
                let kept = if referral.status() == Status::Voided { 0 } else { amount };
                expected.insert(referral.reward_id(side).to_string(), kept.cast_signed());
            }
        }
        for (key, booking) in bookings {
            let reward = key.strip_suffix(":reversal").unwrap_or(key);
            *booked.entry(reward.to_owned()).or_default() += booking.amount;
        }
        expected.retain(|_, amount| *amount != 0);
        booked.retain(|_, amount| *amount != 0);
        if booked != expected {
            self.fail(format!("booked {booked:?}, but issued and not taken back {expected:?}"));
        }
    }
}
