//! Lists reversals: still being delivered, or permanently refused.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    domain::{money::Currency, time::Timestamp},
    lambda::http::{
        problem::Problem,
        response::{PageView, json},
    },
    referral::reversal::{Reversal, ReversalStatus},
    runtime::Call,
    view::ReversalView,
};
use serde::Serialize;

use crate::{
    App,
    undelivered::{Found, ListRequest, Selection, Undelivered, collect},
};

/// Whether this reversal is selected.
pub(super) fn is_selected(selection: Selection, reversal: &Reversal) -> bool {
    let status = match reversal.status() {
        ReversalStatus::Issued => Some(Undelivered::Issued),
        ReversalStatus::Failed => Some(Undelivered::Failed),
        ReversalStatus::Delivered | ReversalStatus::Closed => None,
    };
    let at = reversal.delivery.failed_at.unwrap_or(reversal.issued_at);
    selection.contains(status, reversal.benefit.kind(), at)
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
    let ListRequest { selection, start, limit } = ListRequest::read(request, Undelivered::lane, call)?;
    let is_selected = |reversal: &Reversal| is_selected(selection, reversal);
    let select = |page: Found| page.reversals.into_iter().filter(is_selected).collect();
    let (found, next) = collect(app, call, start, limit, app.horizon(call), select).await?;
    let items: Vec<_> = found.iter().map(ReversalEntry::of).collect();
    Ok(json(StatusCode::OK, &PageView::new(items, next.map(|place| place.to_text()))))
}
