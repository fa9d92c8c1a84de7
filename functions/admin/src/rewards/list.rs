//! Lists undelivered rewards: still being delivered, or permanently refused.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    domain::{id::UserId, money::Currency, time::Timestamp},
    lambda::http::{
        problem::Problem,
        request,
        response::{PageView, json},
    },
    referral::{
        Referral,
        reward::{InstructionId, RewardStatus, RewardType, Side},
    },
    runtime::Call,
    view::RewardView,
};
use serde::Serialize;

use crate::{
    App,
    walk::{Found, Undelivered, WalkCursor, collect},
};

/// Selects undelivered rewards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection {
    pub(crate) status: Undelivered,
    pub(crate) r#type: Option<RewardType>,
    /// The earliest time of the issue or refusal.
    pub(crate) since: Option<Timestamp>,
    /// The latest time of the issue or refusal.
    pub(crate) until: Timestamp,
}

impl Selection {
    /// The ids of this referral's selected rewards.
    pub(crate) fn of(self, referral: &Referral) -> impl Iterator<Item = InstructionId> {
        Side::BOTH.into_iter().map(|side| referral.reward_id(side)).filter(move |id| {
            let Some(rewards) = referral.rewards() else { return false };
            let reward = rewards.of(id.side);
            let at = reward.delivery.failed_at.unwrap_or(rewards.issued_at);
            let status = match self.status {
                Undelivered::Issued => RewardStatus::Issued,
                Undelivered::Failed => RewardStatus::Failed,
            };
            reward.status() == status
                && self.r#type.is_none_or(|r#type| reward.benefit.kind() == r#type)
                && self.since.is_none_or(|since| at >= since)
                && at <= self.until
        })
    }
}

/// A reward in the form that operators see.
#[derive(Serialize)]
pub(crate) struct RewardItem<'a> {
    #[serde(flatten)]
    reward: RewardView<'a>,
    currency_exponent: Option<u16>,
    referee_id: &'a UserId,
    failed_at: Option<Timestamp>,
    /// The subsystem's refusal: status and the beginning of the body.
    failure: Option<&'a str>,
}

impl<'a> RewardItem<'a> {
    /// The view of this reward, or `None` if the referral has no such reward.
    pub(crate) fn of(referral: &'a Referral, id: &InstructionId) -> Option<Self> {
        let delivery = referral.delivery(id)?;
        let reward = RewardView::of(referral, id.side)?;
        Some(Self {
            currency_exponent: reward.currency.and_then(Currency::exponent),
            reward,
            referee_id: &referral.referee,
            failed_at: delivery.failed_at,
            failure: delivery.failure.as_deref(),
        })
    }
}

/// `GET /admin/rewards`: a page of undelivered rewards, the oldest of each index partition first. `limit` counts referrals,
/// and each can have two rewards.
pub(crate) async fn list(app: &App, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let status: Undelivered = request::parameter(request, "status")?.unwrap_or_default();
    let r#type = request::parameter(request, "type")?;
    let selection = Selection { status, r#type, since: request::parameter(request, "since")?, until: Timestamp::LAST };
    let lanes = status.lanes();
    let query = request::page(request, |place| WalkCursor::from_text(place, lanes).is_some())?;
    let start = query.cursor.and_then(|cursor| WalkCursor::from_text(cursor.place(), lanes));

    let start = start.unwrap_or_else(|| WalkCursor::start(lanes, call.now));
    let is_selected = |referral: &Referral| selection.of(referral).next().is_some();
    let select = |page: Found| page.referrals.into_iter().filter(is_selected).collect();
    let (found, next) = collect(app, call, start, query.limit, select).await?;
    let items = found.iter().flat_map(|referral| selection.of(referral).filter_map(|id| RewardItem::of(referral, &id)));
    Ok(json(StatusCode::OK, &PageView::new(items.collect(), next.map(|place| place.to_text()))))
}
