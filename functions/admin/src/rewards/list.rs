//! Lists undelivered rewards: still being delivered, or permanently refused.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    domain::{id::UserId, money::Currency, time::Timestamp},
    lambda::http::{
        problem::Problem,
        response::{PageView, json},
    },
    referral::{
        Referral,
        reward::{InstructionId, RewardStatus, Side},
    },
    runtime::Call,
    view::RewardView,
};
use serde::Serialize;

use crate::{
    App,
    undelivered::{Found, ListRequest, Selection, Undelivered, collect},
};

/// The ids of this referral's selected rewards.
pub(super) fn selected(selection: Selection, referral: &Referral) -> impl Iterator<Item = InstructionId> {
    Side::BOTH.into_iter().map(|side| referral.reward_id(side)).filter(move |id| {
        let Some(rewards) = referral.rewards() else { return false };
        let reward = rewards.of(id.side);
        let status = match reward.status() {
            RewardStatus::Issued => Some(Undelivered::Issued),
            RewardStatus::Failed => Some(Undelivered::Failed),
            RewardStatus::Delivered | RewardStatus::Reversed => None,
        };
        let at = reward.delivery.failed_at.unwrap_or(rewards.issued_at);
        selection.contains(status, reward.benefit.kind(), at)
    })
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
    let ListRequest { selection, start, limit } = ListRequest::read(request, Undelivered::lanes, call)?;
    let is_selected = |referral: &Referral| selected(selection, referral).next().is_some();
    let select = |page: Found| page.referrals.into_iter().filter(is_selected).collect();
    let (found, next) = collect(app, call, start, limit, app.horizon(call), select).await?;
    let item = |referral| selected(selection, referral).filter_map(|id| RewardItem::of(referral, &id));
    let items = found.iter().flat_map(item).collect();
    Ok(json(StatusCode::OK, &PageView::new(items, next.map(|place| place.to_text()))))
}
