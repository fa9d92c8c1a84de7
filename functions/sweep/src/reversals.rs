//! Announces reversals again that have no answer.

use futures_util::{StreamExt, stream};
use lambda_runtime::Error;
use referrals::{
    domain::time::Timestamp,
    lifecycle::{announce::reversal::reannouncement, issue::pause_after},
    mutant::{self, Mutant},
    referral::reversal::{Reversal, ReversalStatus},
    runtime::Call,
    store::ReversalOutcome,
};

use crate::{AT_ONCE, App, Swept, within_time};

/// Processes the reversals of a page.
pub(crate) async fn sweep(app: &App, reversals: Vec<Reversal>, call: &Call) -> Swept {
    let work = reversals.into_iter().filter_map(|reversal| Some((due_since(app, &reversal, call)?, reversal)));
    let work = work.map(|(since, reversal)| async move {
        let undelivered_seconds = call.now.since(reversal.issued_at).as_secs();
        let done = within_time(call, announce(app, reversal, call)).await;
        let lag_seconds = call.now.since(since).as_secs();
        done.and(Swept { due: 1, lag_seconds, undelivered_seconds, ..Swept::default() })
    });
    stream::iter(work).buffer_unordered(AT_ONCE).fold(Swept::default(), async |sum, one| sum.and(one)).await
}

/// Since when a reversal has waited for the sweep; `None` when it is not due yet. The stream announces it first.
fn due_since(app: &App, reversal: &Reversal, call: &Call) -> Option<Timestamp> {
    let since = reversal.due_at.max(reversal.issued_at.plus(app.grace));
    let is_due = reversal.status() == ReversalStatus::Issued && since <= call.now;
    (is_due && !mutant::is(Mutant::SweepForgetsReversals)).then_some(since)
}

/// Claims a reversal and announces it again. Another invocation can do it first.
async fn announce(app: &App, reversal: Reversal, call: &Call) -> Result<Swept, Error> {
    let until = call.now.plus(pause_after(call.now.since(reversal.issued_at), app.grace));
    let ReversalOutcome::Applied(claimed) = app.store.claim_reversal(&reversal, until).await? else {
        return Ok(Swept::default());
    };
    if let Err(problem) = app.bus.publish(&[reannouncement(&claimed)]).await {
        // The same claim, shortened so that a sweep tries again after a minute and not hours later.
        app.store.claim_reversal(&claimed, call.now.plus(crate::MINUTE)).await?;
        return Err(problem.into());
    }
    Ok(Swept { announced: 1, ..Swept::default() })
}
