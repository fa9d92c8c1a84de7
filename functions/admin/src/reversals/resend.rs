//! Sends reversals again with their original keys: one, or all of a type since a given time.

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    lambda::http::{problem::Problem, response::json},
    lifecycle::announce::reversal::reannouncement,
    referral::{
        reversal::Reversal,
        reward::{InstructionId, InstructionKind},
    },
    runtime::{Call, log_outcome::LogOutcome},
    store::ReversalOutcome,
};

use super::list::{ReversalEntry, is_selected};
use crate::{
    App,
    problem::{reversal_done, reversal_not_found},
    undelivered::{ResendRequest, Resent, Undelivered},
};

/// `POST /admin/reversals/{reversal_id}/resend`: sends one reversal again.
pub(crate) async fn one(app: &App, reversal: &str, call: &Call) -> Result<Response<Body>, Problem> {
    let id = InstructionId::try_from(reversal.to_owned()).ok().filter(|id| id.kind != InstructionKind::Grant);
    let id = id.ok_or_else(|| Problem::invalid("reversal_id: expected the id of a reward, followed by :reversal"))?;
    let (_, read) = app.store.reversal(&id).await?.ok_or_else(reversal_not_found)?;
    match resend(app, &read, call).await? {
        Some(reversal) => Ok(json(StatusCode::ACCEPTED, &ReversalEntry::of(&reversal))),
        None => Err(reversal_done()),
    }
}

/// Marks a reversal as undelivered and publishes its event again. The write comes first. If the bus fails, the sweep publishes the
/// event after the grace period. `None`: it is delivered or closed, or another operator has sent it again.
async fn resend(app: &App, read: &Reversal, call: &Call) -> Result<Option<Reversal>, Problem> {
    let ReversalOutcome::Applied(reversal) = app.store.resend_reversal(read, call.now.plus(app.grace)).await? else {
        return Ok(None);
    };
    app.bus.publish(&[reannouncement(&reversal)]).await.map_err(Problem::unavailable)?;
    let (correlation_id, side) = (&reversal.correlation_id, reversal.id.side.as_str());
    tracing::info!(outcome = LogOutcome::ReversalResent.as_str(), correlation_id, side);
    Ok(Some(reversal))
}

/// `POST /admin/reversals/resend`: sends again all reversals of a type that were decided (or refused) since a given time, like the
/// same call for rewards.
pub(crate) async fn all(app: &App, body: &[u8], call: &Call) -> Result<Response<Body>, Problem> {
    const PAGE: u32 = 100;
    let request = ResendRequest::read(body, Undelivered::lane, call)?;
    let (limit, mut pace) = (request.limit, request.pace());
    let (mut resent, mut next) = (0, Some(request.start.clone()));
    while let Some(place) = next.take_if(|_| resent < limit && !call.deadline.is_near()) {
        let (page, rest) = place.walk(&app.store, PAGE.min(limit - resent), app.horizon(call)).await?;
        next = rest;
        let is_wanted = |reversal: &&Reversal| {
            is_selected(request.selection, reversal) && !request.was_resent(app, Some(reversal.due_at), call)
        };
        for reversal in page.reversals.iter().filter(is_wanted) {
            pace.tick().await;
            if call.deadline.is_near() {
                // Repeat this page in the next call. It skips the reversals that were already sent again.
                next = Some(place);
                break;
            }
            resent += u32::from(resend(app, reversal, call).await?.is_some());
        }
    }
    Ok(json(StatusCode::OK, &Resent::new(resent, next.as_ref())))
}
