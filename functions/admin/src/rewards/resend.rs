//! Sends rewards again with their original keys: one reward, or all of a type since a given time.

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    lambda::http::{problem::Problem, response::json},
    lifecycle::announce::reannouncement,
    referral::{
        Referral,
        machine::Command,
        reward::{InstructionId, InstructionKind},
    },
    runtime::{Call, log_outcome::LogOutcome},
    store::Outcome,
};

use super::list::{RewardItem, selected};
use crate::{
    App,
    problem::{already_delivered, reward_not_found, reward_reversed},
    undelivered::{ResendRequest, Resent, Undelivered},
};

/// `POST /admin/rewards/{reward_id}/resend`: sends one reward again.
pub(crate) async fn one(app: &App, reward: &str, call: &Call) -> Result<Response<Body>, Problem> {
    let id = InstructionId::try_from(reward.to_owned()).ok().filter(|id| id.kind == InstructionKind::Grant);
    let id =
        id.ok_or_else(|| Problem::invalid("reward_id: expected a referee's id, a colon, and referrer or referee"))?;
    let found = app.store.referral(&id.referee).await?.filter(|referral| referral.rewards().is_some());
    let referral = found.ok_or_else(reward_not_found)?;
    match resend(app, referral, &id, call).await? {
        Resend::Sent(referral) => Ok(json(StatusCode::ACCEPTED, &RewardItem::of(&referral, &id))),
        Resend::Delivered => Err(already_delivered()),
        Resend::Reversed => Err(reward_reversed()),
    }
}

/// The result of sending a reward again.
enum Resend {
    Sent(Box<Referral>),
    /// It has been delivered meanwhile.
    Delivered,
    /// It has been taken back meanwhile.
    Reversed,
}

/// Marks a reward as undelivered and publishes its event again.
///
/// The write comes first. If the bus fails, the sweep publishes the event after the grace period.
async fn resend(app: &App, referral: Referral, id: &InstructionId, call: &Call) -> Result<Resend, Problem> {
    let command = Command::Resend(id, call.now.plus(app.grace));
    let resent = match app.store.apply(referral, |found| found.decide(&command, call.now)).await? {
        Outcome::Applied(resent, _) => resent,
        Outcome::AlreadyDone(_) => return Ok(Resend::Delivered),
        Outcome::Refused(_, found) if found.rewards().is_some() => return Ok(Resend::Reversed),
        Outcome::Refused(..) => return Err(reward_not_found()),
    };
    let events: Vec<_> = reannouncement(&resent, id).into_iter().collect();
    app.bus.publish(&events).await.map_err(Problem::unavailable)?;
    let (correlation_id, side) = (resent.correlation_id(), id.side.as_str());
    tracing::info!(outcome = LogOutcome::RewardResent.as_str(), correlation_id, side);
    Ok(Resend::Sent(Box::new(resent)))
}

/// `POST /admin/rewards/resend`: sends again all rewards of a type that were issued (or refused) since a given time, at most
/// `per_second` rewards per second. A call processes at most `limit` referrals, and fewer if its time runs out. The answer
/// has a cursor if more referrals are left.
pub(crate) async fn all(app: &App, body: &[u8], call: &Call) -> Result<Response<Body>, Problem> {
    const PAGE: u32 = 100;
    let request = ResendRequest::read(body, Undelivered::lanes, call)?;
    let (limit, mut pace) = (request.limit, request.pace());
    let (mut referrals, mut resent, mut next) = (0, 0, Some(request.start.clone()));
    while let Some(place) = next.take_if(|_| referrals < limit && !call.deadline.is_near()) {
        let (page, rest) = place.walk(&app.store, PAGE.min(limit - referrals), app.horizon(call)).await?;
        next = rest;
        for mut referral in page.referrals {
            let ids: Vec<InstructionId> = selected(request.selection, &referral).collect();
            if ids.is_empty() || request.was_resent(app, referral.work().map(|work| work.at), call) {
                continue;
            }
            // Wait for all rewards of the referral first, so that a started referral is always completed.
            for _ in &ids {
                pace.tick().await;
            }
            if call.deadline.is_near() {
                // Repeat this page in the next call. It skips the rewards that were already sent again.
                next = Some(place);
                break;
            }
            for id in ids {
                if let Resend::Sent(sent) = resend(app, referral.clone(), &id, call).await? {
                    (referral, resent) = (*sent, resent + 1);
                }
            }
            referrals += 1;
        }
    }
    Ok(json(StatusCode::OK, &Resent::new(resent, next.as_ref())))
}
