//! Changes when a code expires: disables it, sets an expiry, or removes the expiry. A member has at most one live code, so
//! a code is not revived while another one is live.

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    domain::{
        code::{Code, ExpiryChange, OwnedCode},
        id::{ProgramId, UserId},
        time::Timestamp,
    },
    lambda::http::{
        problem::Problem,
        request::{self, parse},
        response::json,
    },
    runtime::{Call, log_outcome::LogOutcome},
    store::ExpiryChanged,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    App,
    problem::{code_not_found, other_code_live},
};

/// The body of `PATCH /admin/codes/{code}`.
#[derive(Debug, Deserialize)]
struct ChangeBody {
    /// `null` removes the expiry; an absent field does not change it.
    #[serde(default, deserialize_with = "given")]
    expires_at: Option<Option<Timestamp>>,
    disabled: Option<bool>,
}

fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl ChangeBody {
    fn expiry_change(&self, now: Timestamp) -> Result<ExpiryChange, Problem> {
        match (self.expires_at, self.disabled) {
            (Some(Some(end)), None) if end <= now => Ok(ExpiryChange::Ended(end)),
            (Some(end), None) => Ok(ExpiryChange::Live(end)),
            (None, Some(true)) => Ok(ExpiryChange::Disabled(now)),
            _ => Err(Problem::invalid("body: expected either expires_at, or disabled, which is true")),
        }
    }
}

/// A code in the form that operators see.
#[derive(Serialize)]
struct CodeItem<'a> {
    code: &'a Code,
    user_id: &'a UserId,
    program: &'a ProgramId,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// Changes a code's expiry. The change takes effect as soon as it is written. The cache server, which landing uses, is
/// updated afterwards. If this update fails, the request fails and the operator has to repeat it.
pub(crate) async fn change(app: &App, code: &str, body: &[u8], call: &Call) -> Result<Response<Body>, Problem> {
    let code: Code = parse("code", code)?;
    let change = request::json::<ChangeBody>(body)?.expiry_change(call.now)?;
    let changed = match app.store.change_expiry(&code, change, call.now).await? {
        ExpiryChanged::Changed(code) => code,
        ExpiryChanged::NotFound => return Err(code_not_found()),
        ExpiryChanged::OtherLive => return Err(other_code_live()),
    };
    let expires_at = changed.expires_at.map(String::from);
    tracing::info!(outcome = LogOutcome::CodeChanged.as_str(), code = code.canonical(), expires_at);
    if let Some(server) = &app.cache {
        server.update(&app.store, changed.clone(), call).await.map_err(Problem::unavailable)?;
    }
    let OwnedCode { code, owner, program, created_at, expires_at } = &changed;
    let item = CodeItem { code, user_id: owner, program, created_at: *created_at, expires_at: *expires_at };
    Ok(json(StatusCode::OK, &item))
}
