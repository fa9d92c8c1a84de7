//! Accounts: operators flag or clear a user.

use std::time::Duration;

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    domain::{account::AccountFlag, id::UserId, time::Timestamp},
    lambda::http::{
        problem::Problem,
        request::{self, parse},
        response::json,
    },
    referral::note::{Action, AuditEntry, Note},
    runtime::{Call, log_outcome::LogOutcome},
};
use serde::{Deserialize, Serialize};

use crate::{
    App,
    audit::{Because, operator},
};

/// The body of `PUT /admin/accounts/{user_id}/flag`.
#[derive(Debug, Deserialize)]
struct FlagBody {
    flagged: bool,
}

#[derive(Serialize)]
struct FlagView<'a> {
    user_id: &'a UserId,
    flagged: bool,
    reason: &'a str,
    changed_at: Timestamp,
}

/// How often a concurrent change may win before the request fails.
const ATTEMPTS: usize = 5;

/// Flags or clears an account. The operator's decision replaces earlier ones, also those whose time is slightly ahead. If the
/// account is flagged for the same reason already, or was cleared already, nothing is written.
pub(crate) async fn set_flag(app: &App, user: &str, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let user_id: UserId = parse("user_id", user)?;
    let body = request::bounded(request.body())?;
    let (FlagBody { flagged }, Because { reason }) = (request::json(body)?, Because::read(body)?);
    for _ in 0..ATTEMPTS {
        let stored = app.store.flag(&user_id).await?;
        let wanted = flagged.then(|| reason.clone());
        if let Some(same) = stored.as_ref().filter(|stored| stored.reason == wanted) {
            return Ok(answer(&user_id, flagged, &reason, same.at));
        }
        let flag = AccountFlag { reason: wanted, at: after(stored.as_ref(), call.now) };
        let action = if flagged { Action::Flag } else { Action::Clear };
        let entry = AuditEntry { at: flag.at, action, operator: operator(request), reason: reason.clone() };
        if app.store.set_flag_with(&user_id, &flag, &Note::Operator(entry), call.now).await? {
            let outcome =
                if flagged { LogOutcome::AccountFlaggedByOperator } else { LogOutcome::AccountClearedByOperator };
            tracing::info!(outcome = outcome.as_str());
            return Ok(answer(&user_id, flagged, &reason, flag.at));
        }
    }
    Err(Problem::unavailable("the flag of an account changes too often"))
}

/// The time of the change: now, or just after a change whose time is slightly ahead. One that is further ahead is an error of an
/// earlier version, and any change replaces it.
fn after(stored: Option<&AccountFlag>, now: Timestamp) -> Timestamp {
    let valid = stored.filter(|stored| stored.at <= now.plus(Timestamp::TOLERANCE));
    valid.map_or(now, |stored| now.max(stored.at.plus(Duration::from_millis(1))))
}

fn answer(user_id: &UserId, flagged: bool, reason: &str, changed_at: Timestamp) -> Response<Body> {
    json(StatusCode::OK, &FlagView { user_id, flagged, reason, changed_at })
}
