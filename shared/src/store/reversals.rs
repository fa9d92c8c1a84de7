//! Reversals: the writes of their delivery. The step that decides them writes them with the referral.

use super::{
    Store, StoreError, WriteResult,
    guard::reversals,
    items::reversal::{from_reversal_item, to_reversal_item},
    keys::Key,
    retry::Attempts,
    take,
    write::Write,
};
use crate::{
    domain::time::Timestamp,
    mutant::{self, Mutant},
    referral::{
        Referral,
        reversal::{self, Reversal},
        reward::InstructionId,
    },
    store::items::referral::from_referral_item,
};

/// The result of a write to a reversal. It contains the reversal as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReversalOutcome {
    /// It was written.
    Applied(Reversal),
    /// The reversal's state does not allow it, or it was written before.
    Unchanged(Reversal),
    /// There is no such reversal.
    Missing,
}

impl Store {
    /// A reversal and its referral. `None`: one of them does not exist.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or an item is invalid.
    pub async fn reversal(&self, id: &InstructionId) -> Result<Option<(Referral, Reversal)>, StoreError> {
        let (referral, reversal) = (Key::referral(&id.referee), Key::reversal(id));
        let mut items = self.get_all([referral.clone(), reversal.clone()]).await?;
        let (referral, reversal) = (take(&mut items, &referral), take(&mut items, &reversal));
        let (Some(referral), Some(reversal)) = (referral, reversal) else { return Ok(None) };
        Ok(Some((from_referral_item(referral)?, from_reversal_item(reversal)?)))
    }

    /// Records that the subsystem accepted a reversal.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn mark_reversal_delivered(
        &self,
        read: &Reversal,
        now: Timestamp,
    ) -> Result<ReversalOutcome, StoreError> {
        let is_ours = |found: &Reversal| found.delivery.delivered_at == Some(now);
        self.change_reversal(reversals::mark_delivered(&read.id, now), is_ours).await
    }

    /// Records that the subsystem refused a reversal, unless it was sent again since it was read.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn mark_reversal_failed(
        &self,
        read: &Reversal,
        answer: &str,
        now: Timestamp,
    ) -> Result<ReversalOutcome, StoreError> {
        let is_ours = |found: &Reversal| found.delivery.failed_at == Some(now);
        self.change_reversal(reversals::mark_failed(read, answer, now), is_ours).await
    }

    /// Closes a reversal without a call, unless its reward was delivered since it was read.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn close_reversal(&self, read: &Reversal, now: Timestamp) -> Result<ReversalOutcome, StoreError> {
        let is_ours = |found: &Reversal| found.closed_at == Some(now);
        self.change_reversal(reversals::close(read, now), is_ours).await
    }

    /// Claims the right to announce a reversal again, by moving its due time.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn claim_reversal(&self, read: &Reversal, until: Timestamp) -> Result<ReversalOutcome, StoreError> {
        self.change_reversal(reversals::claim(read, until), |found| found.due_at == until).await
    }

    /// Removes a refusal, unless it was sent again since it was read. The sweep does not announce the reversal before `until`.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn resend_reversal(&self, read: &Reversal, until: Timestamp) -> Result<ReversalOutcome, StoreError> {
        let is_ours = |found: &Reversal| found.delivery.resent == read.delivery.resent + 1 && found.due_at == until;
        self.change_reversal(reversals::resend(read, until), is_ours).await
    }

    /// Sends a write. If the answer to the first attempt was lost, `is_ours` recognises its result.
    async fn change_reversal(
        &self,
        write: Write,
        is_ours: impl Fn(&Reversal) -> bool,
    ) -> Result<ReversalOutcome, StoreError> {
        let attempts = Attempts::default();
        Ok(match self.send(write, Some(&attempts)).await? {
            WriteResult::Written(item) => ReversalOutcome::Applied(from_reversal_item(item.unwrap_or_default())?),
            WriteResult::Conflict(Some(item)) => {
                let found = from_reversal_item(item)?;
                if attempts.were_many() && is_ours(&found) {
                    return Ok(ReversalOutcome::Applied(found));
                }
                ReversalOutcome::Unchanged(found)
            }
            WriteResult::Conflict(None) => ReversalOutcome::Missing,
        })
    }
}

/// The writes of reversals that belong to a step's transaction. They have no condition, because the step's own condition lets it
/// happen once.
pub(super) fn writes_of_step(before: &Referral, after: &Referral) -> Result<Vec<Write>, StoreError> {
    if mutant::is(Mutant::ReversalForgotten) {
        return Ok(Vec::new());
    }
    let items = reversal::decided(before, after);
    Ok(items.iter().map(|decided| to_reversal_item(decided).map(Write::put)).collect::<Result<_, _>>()?)
}
