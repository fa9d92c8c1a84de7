//! Delivers a reversal: takes back a reward that its subsystem has accepted. A reversal waits while its reward has no answer, and is
//! closed without a call if the reward was never given.

use referrals::{
    domain::{
        money::{Amount, Currency},
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::{
        Referral,
        reversal::{Readiness, Reversal, ReversalStatus},
        reward::{InstructionId, RewardType, Side},
    },
    runtime::{Call, log_outcome::LogOutcome},
    store::ReversalOutcome,
};
use serde::Serialize;

use crate::{
    App, nothing_to_deliver,
    subsystem::{Answer, Retry},
};

/// The body of the call.
#[derive(Serialize)]
struct ReversalRequest<'a> {
    reversal_id: &'a InstructionId,
    /// The id of the reward that is taken back.
    reverses: InstructionId,
    referee_id: &'a str,
    side: Side,
    user_id: &'a str,
    r#type: RewardType,
    amount: Amount,
    currency: Option<Currency>,
    issued_at: Timestamp,
}

impl<'a> ReversalRequest<'a> {
    fn of(reversal: &'a Reversal) -> Self {
        Self {
            reversal_id: &reversal.id,
            reverses: reversal.reward_id(),
            referee_id: reversal.id.referee.as_str(),
            side: reversal.id.side,
            user_id: reversal.user.as_str(),
            r#type: reversal.benefit.kind(),
            amount: reversal.benefit.amount(),
            currency: reversal.benefit.currency(),
            issued_at: reversal.issued_at,
        }
    }
}

pub(crate) async fn deliver(app: &App, id: &InstructionId, call: Call) -> Result<(), Retry> {
    let Some((referral, reversal)) = app.store.reversal(id).await? else {
        // A retry, so that the message ends in the dead-letter queue, where operators see it.
        return Err("there is no such reversal".into());
    };
    let is_open = match reversal.status() {
        ReversalStatus::Issued => true,
        ReversalStatus::Closed => mutant::is(Mutant::ClosedReversalSent),
        ReversalStatus::Delivered | ReversalStatus::Failed => false,
    };
    if !is_open {
        nothing_to_deliver(&reversal.correlation_id);
        return Ok(());
    }
    match readiness(&referral, &reversal) {
        Readiness::Send => send(app, &reversal, call).await,
        Readiness::Close => close(app, &reversal, call).await,
        Readiness::Wait => Err("the reward that it takes back has no answer yet".into()),
    }
}

fn readiness(referral: &Referral, reversal: &Reversal) -> Readiness {
    if mutant::is(Mutant::ClosedReversalSent) {
        return Readiness::Send;
    }
    // A restored table can contain the reversal before the referral that it belongs to.
    referral.rewards().map_or(Readiness::Wait, |rewards| rewards.readiness(reversal.id.side))
}

async fn send(app: &App, reversal: &Reversal, call: Call) -> Result<(), Retry> {
    let id = &reversal.id;
    if mutant::is(Mutant::ReversalMarkedBeforeCall) {
        app.store.mark_reversal_delivered(reversal, call.now).await?;
    }
    match app.subsystems.send(id, reversal.benefit.kind(), &ReversalRequest::of(reversal), call.now).await {
        Answer::Accepted => {
            log(app.store.mark_reversal_delivered(reversal, call.now).await?, LogOutcome::ReversalDelivered, reversal)
        }
        Answer::Refused(answer) => log(
            app.store.mark_reversal_failed(reversal, &answer, call.now).await?,
            LogOutcome::ReversalRefused,
            reversal,
        ),
        Answer::Retry(retry) => return Err(retry),
    }
    Ok(())
}

async fn close(app: &App, reversal: &Reversal, call: Call) -> Result<(), Retry> {
    match app.store.close_reversal(reversal, call.now).await? {
        ReversalOutcome::Unchanged(found) if found.status() == ReversalStatus::Issued => {
            Err("it changed while it was closed".into())
        }
        outcome => {
            log(outcome, LogOutcome::ReversalClosed, reversal);
            Ok(())
        }
    }
}

/// Logs the result with its metrics.
fn log(written: ReversalOutcome, applied: LogOutcome, reversal: &Reversal) {
    let (correlation_id, side, r#type) =
        (&reversal.correlation_id, reversal.id.side.as_str(), reversal.benefit.kind().as_str());
    match (written, applied) {
        (ReversalOutcome::Applied(_), LogOutcome::ReversalRefused) => {
            tracing::error!(outcome = applied.as_str(), correlation_id, side, r#type, failed = 1);
        }
        (ReversalOutcome::Applied(_), _) => tracing::info!(outcome = applied.as_str(), correlation_id, side, r#type),
        (ReversalOutcome::Unchanged(_), _) => {
            tracing::info!(outcome = LogOutcome::AlreadyMarked.as_str(), correlation_id, side);
        }
        (ReversalOutcome::Missing, _) => {
            tracing::warn!(outcome = LogOutcome::MarkRefused.as_str(), correlation_id, side);
        }
    }
}
