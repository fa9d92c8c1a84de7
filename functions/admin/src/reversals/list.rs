//! Lists reversals: still being delivered, or permanently refused.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    domain::{money::Currency, time::Timestamp},
    lambda::http::{
        problem::Problem,
        request,
        response::{PageView, json},
    },
    referral::{
        reversal::{Reversal, ReversalStatus},
        reward::RewardType,
    },
    runtime::Call,
    view::ReversalView,
};
use serde::Serialize;

use crate::{
    App,
    walk::{Found, Undelivered, WalkCursor, collect},
};

/// Selects reversals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection {
    pub(super) status: Undelivered,
    pub(super) r#type: Option<RewardType>,
    /// The earliest time of the decision or refusal.
    pub(super) since: Option<Timestamp>,
    /// The latest time of the decision or refusal.
    pub(super) until: Timestamp,
}

impl Selection {
    /// Whether this reversal is selected.
    pub(super) fn contains(self, reversal: &Reversal) -> bool {
        let at = reversal.delivery.failed_at.unwrap_or(reversal.issued_at);
        let status = match self.status {
            Undelivered::Issued => ReversalStatus::Issued,
            Undelivered::Failed => ReversalStatus::Failed,
        };
        reversal.status() == status
            && self.r#type.is_none_or(|r#type| reversal.benefit.kind() == r#type)
            && self.since.is_none_or(|since| at >= since)
            && at <= self.until
    }
}

/// A reversal in the form that operators see.
#[derive(Serialize)]
pub(super) struct ReversalEntry<'a> {
    #[serde(flatten)]
    reversal: ReversalView<'a>,
    currency_exponent: Option<u16>,
    failed_at: Option<Timestamp>,
    /// The subsystem's refusal: status and the beginning of the body.
    failure: Option<&'a str>,
}

impl<'a> ReversalEntry<'a> {
    pub(super) fn of(reversal: &'a Reversal) -> Self {
        let view = ReversalView::of(reversal);
        Self {
            currency_exponent: view.currency.and_then(Currency::exponent),
            reversal: view,
            failed_at: reversal.delivery.failed_at,
            failure: reversal.delivery.failure.as_deref(),
        }
    }
}

/// `GET /admin/reversals`: a page of reversals without an answer, or refused ones, the oldest of each index partition first.
pub(crate) async fn list(app: &App, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let status: Undelivered = request::parameter(request, "status")?.unwrap_or_default();
    let r#type = request::parameter(request, "type")?;
    let selection = Selection { status, r#type, since: request::parameter(request, "since")?, until: Timestamp::LAST };
    // A refused reversal has no other work, unlike a referral with two rewards.
    let lanes = status.lane();
    let query = request::page(request, |place| WalkCursor::from_text(place, lanes).is_some())?;
    let start = query.cursor.and_then(|cursor| WalkCursor::from_text(cursor.place(), lanes));

    let start = start.unwrap_or_else(|| WalkCursor::start(lanes, call.now));
    let select = |page: Found| page.reversals.into_iter().filter(|reversal| selection.contains(reversal)).collect();
    let (found, next) = collect(app, call, start, query.limit, select).await?;
    let items: Vec<_> = found.iter().map(ReversalEntry::of).collect();
    Ok(json(StatusCode::OK, &PageView::new(items, next.map(|place| place.to_text()))))
}
