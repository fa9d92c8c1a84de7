//! Delivers the grant of a reward. The call is recorded before it is made, so that a reversal knows whether the subsystem may have
//! given the reward.

use referrals::{
    domain::{
        money::{Amount, Currency},
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::{
        Referral, Status,
        machine::Command,
        reward::{InstructionId, RewardStatus, RewardType, Side},
    },
    runtime::{Call, log_outcome::LogOutcome},
    store::Outcome,
    view::RewardView,
};
use serde::Serialize;

use crate::{
    App, nothing_to_deliver,
    subsystem::{Answer, Retry},
};

/// The body of the call.
#[derive(Serialize)]
struct RewardRequest<'a> {
    reward_id: &'a InstructionId,
    referee_id: &'a str,
    side: Side,
    user_id: &'a str,
    r#type: RewardType,
    amount: Amount,
    currency: Option<Currency>,
    issued_at: Timestamp,
}

pub(crate) async fn deliver(app: &App, id: &InstructionId, call: Call) -> Result<(), Retry> {
    let Some(referral) = app.store.referral(&id.referee).await? else {
        // A retry, so that the message ends in the dead-letter queue, where operators see it.
        return Err("there is no referral for this reward".into());
    };
    let correlation_id = referral.correlation_id();
    let Some(referral) = called(app, referral, id, call).await? else {
        nothing_to_deliver(&correlation_id);
        return Ok(());
    };
    let (Some(delivery), Some(reward)) = (referral.delivery(id), RewardView::of(&referral, id.side)) else {
        nothing_to_deliver(&correlation_id);
        return Ok(());
    };
    let delivered = Command::MarkDelivered(id);
    if mutant::is(Mutant::MarkedBeforeTheCall) {
        mark(app, &referral, &reward, &delivered, call).await?;
    }
    let body = RewardRequest {
        reward_id: id,
        referee_id: referral.referee.as_str(),
        side: reward.side,
        user_id: reward.user_id.as_str(),
        r#type: reward.r#type,
        amount: reward.amount,
        currency: reward.currency,
        issued_at: reward.issued_at,
    };
    match app.subsystems.send(id, reward.r#type, &body, call.now).await {
        Answer::Accepted => mark(app, &referral, &reward, &delivered, call).await,
        Answer::Refused(answer) => {
            mark(app, &referral, &reward, &Command::MarkFailed(id, &answer, delivery.resent), call).await
        }
        Answer::Retry(_) if mutant::is(Mutant::MarkedWithoutAnAnswer) => {
            mark(app, &referral, &reward, &delivered, call).await
        }
        Answer::Retry(retry) => Err(retry),
    }
}

/// Records the call, if it is the first one. `None`: there is nothing to deliver.
async fn called(app: &App, referral: Referral, id: &InstructionId, call: Call) -> Result<Option<Referral>, Retry> {
    let is_wanted = |referral: &Referral| {
        let is_open = referral.delivery(id).is_some_and(|delivery| delivery.status() == RewardStatus::Issued);
        referral.undelivered().contains(id) || (is_open && mutant::is(Mutant::ReversedRewardSent))
    };
    if !is_wanted(&referral) {
        return Ok(None);
    }
    if let Some(reward) = RewardView::of(&referral, id.side) {
        app.subsystems.require(reward.r#type)?;
    }
    let is_recorded = referral.delivery(id).is_some_and(|delivery| delivery.called_at.is_some());
    if is_recorded || mutant::is(Mutant::CallNotRecorded) || mutant::is(Mutant::ReversedRewardSent) {
        return Ok(Some(referral));
    }
    let command = Command::MarkCalled(id);
    Ok(match app.store.apply(referral, |found| found.decide(&command, call.now)).await? {
        Outcome::Applied(referral, _) | Outcome::AlreadyDone(referral) => Some(referral).filter(is_wanted),
        Outcome::Refused(..) => None,
    })
}

/// Records the subsystem's answer and logs it with its metrics.
async fn mark(
    app: &App,
    referral: &Referral,
    reward: &RewardView<'_>,
    command: &Command<'_>,
    call: Call,
) -> Result<(), Retry> {
    let (correlation_id, side, r#type) = (referral.correlation_id(), reward.side.as_str(), reward.r#type.as_str());
    match app.store.apply(referral.clone(), |found| found.decide(command, call.now)).await? {
        // The reward was taken back meanwhile, so that an operator has nothing to do.
        Outcome::Applied(found, _)
            if matches!(command, Command::MarkFailed(..)) && found.status() == Status::Voided =>
        {
            tracing::info!(outcome = LogOutcome::RefusedPermanently.as_str(), correlation_id, side, r#type);
        }
        Outcome::Applied(..) if matches!(command, Command::MarkFailed(..)) => {
            let outcome = LogOutcome::RefusedPermanently.as_str();
            tracing::error!(outcome, correlation_id, side, r#type, failed = 1);
        }
        Outcome::Applied(..) => {
            let outcome = LogOutcome::Delivered.as_str();
            let delivery_age = call.now.since(reward.issued_at).as_secs_f64();
            tracing::info!(outcome, correlation_id, side, r#type, delivered = 1, delivery_age);
        }
        Outcome::AlreadyDone(_) => {
            tracing::info!(outcome = LogOutcome::AlreadyMarked.as_str(), correlation_id, side);
        }
        Outcome::Refused(..) => tracing::warn!(outcome = LogOutcome::MarkRefused.as_str(), correlation_id, side),
    }
    Ok(())
}
