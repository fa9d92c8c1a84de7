//! Sends rewards again with their original keys: one reward, or all of a type since a given time.

use std::time::Duration;

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    domain::time::Timestamp,
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
use tokio::time::{MissedTickBehavior, interval};

use super::list::{RewardItem, Selection};
use crate::{
    App,
    problem::{already_delivered, reward_not_found, reward_reversed},
    walk::{ResendRequest, Resent, Undelivered},
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
    let ResendRequest { status, r#type, since, start, limit, per_second } = request;
    // Without this limit, a reward that is refused again during the scan would be found and sent again without end.
    let selection = Selection { status, r#type: Some(r#type), since: Some(since), until: start.began_at };

    let mut pace = interval(Duration::from_secs(1) / per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut referrals, mut resent, mut next) = (0, 0, Some(start));
    while let Some(place) = next.take_if(|_| referrals < limit && !call.deadline.is_near()) {
        let (page, rest) = place.walk(&app.store, PAGE.min(limit - referrals), app.horizon(call)).await?;
        next = rest;
        for mut referral in page.referrals {
            let ids: Vec<InstructionId> = selection.of(&referral).collect();
            if ids.is_empty() || was_resent(app, status, &referral, place.began_at, call) {
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
    Ok(json(StatusCode::OK, &Resent::new(resent, next.map(|place| place.to_text()))))
}

/// Whether this scan has already sent this referral's rewards again. An undelivered reward stays undelivered when it is
/// sent again, and moves to a later position in the index, where the scan finds it a second time.
fn was_resent(app: &App, status: Undelivered, referral: &Referral, began_at: Timestamp, call: &Call) -> bool {
    let due_at = referral.work().map(|work| work.at);
    let of_this_scan = began_at.plus(app.grace)..=call.now.plus(app.grace);
    status == Undelivered::Issued && due_at.is_some_and(|due_at| of_this_scan.contains(&due_at))
}
