//! Rewards that are not delivered: on their way, or refused for good.

use std::str::FromStr;

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    http::{
        answer::{PageView, json},
        input,
        problem::Problem,
    },
    id::UserId,
    referral::Referral,
    reward::{RewardStatus, RewardType, Side},
    runtime::Call,
    time::Timestamp,
    view::RewardView,
};
use serde::{Deserialize, Serialize};

use crate::{
    App,
    place::{Lanes, Place},
};

/// Which of them are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Undelivered {
    /// On their way. The sweep sends them again by itself.
    Issued,
    /// Refused for good. They wait for an operator.
    #[default]
    Failed,
}

impl FromStr for Undelivered {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "issued" => Ok(Self::Issued),
            "failed" => Ok(Self::Failed),
            _ => Err("expected issued or failed"),
        }
    }
}

impl Undelivered {
    pub(crate) fn lanes(self) -> Lanes {
        match self {
            Self::Issued => Lanes::Due,
            Self::Failed => Lanes::ParkedAndDue,
        }
    }

    fn status(self) -> RewardStatus {
        match self {
            Self::Issued => RewardStatus::Issued,
            Self::Failed => RewardStatus::Failed,
        }
    }
}

/// Which rewards are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) status: Undelivered,
    pub(crate) r#type: Option<RewardType>,
    /// Issued, or refused, at this time or later.
    pub(crate) since: Option<Timestamp>,
    /// And not after this one.
    pub(crate) until: Timestamp,
}

impl Wanted {
    /// The sides of this referral whose reward is wanted.
    pub(crate) fn of(self, referral: &Referral) -> impl Iterator<Item = Side> {
        Side::BOTH.into_iter().filter(move |side| {
            let Some(rewards) = referral.rewards() else { return false };
            let reward = rewards.of(*side);
            let at = reward.failed_at.unwrap_or(rewards.issued_at);
            reward.status() == self.status.status()
                && self.r#type.is_none_or(|wanted| reward.benefit.kind() == wanted)
                && self.since.is_none_or(|since| at >= since)
                && at <= self.until
        })
    }
}

/// A reward as an operator sees it.
#[derive(Serialize)]
pub(crate) struct RewardItem<'a> {
    #[serde(flatten)]
    reward: RewardView<'a>,
    referee_id: &'a UserId,
    failed_at: Option<Timestamp>,
    /// What the subsystem said: status and a short excerpt.
    failure: Option<&'a str>,
}

impl<'a> RewardItem<'a> {
    /// Shows this side's reward, once there is one.
    pub(crate) fn of(referral: &'a Referral, side: Side) -> Option<Self> {
        let reward = referral.rewards()?.of(side);
        Some(Self {
            reward: RewardView::of(referral, side)?,
            referee_id: &referral.referee,
            failed_at: reward.failed_at,
            failure: reward.failure.as_deref(),
        })
    }
}

/// A page of them, the longest waiting of each partition of the index first. `limit` counts referrals, each of which may
/// bring two.
pub(crate) async fn list(app: &App, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let status: Undelivered = input::parameter(request, "status")?.unwrap_or_default();
    let r#type = input::parameter(request, "type")?;
    let wanted = Wanted { status, r#type, since: input::parameter(request, "since")?, until: Timestamp::LAST };
    let lanes = status.lanes();
    let query = input::page(request, |place| Place::from_text(place, lanes).is_some())?;
    let start = query.cursor.and_then(|cursor| Place::from_text(cursor.place(), lanes));

    let (mut found, mut next) = (Vec::new(), Some(start.unwrap_or_else(|| Place::start(lanes, call.now))));
    while let Some(place) = next.take_if(|_| found.len() < query.limit as usize && !call.deadline.is_near()) {
        let left = query.limit - u32::try_from(found.len()).unwrap_or(query.limit);
        let (page, rest) = place.walk(&app.store, left, app.horizon(call)).await?;
        found.extend(page.into_iter().filter(|referral| wanted.of(referral).next().is_some()));
        next = rest;
    }
    let items = found.iter().flat_map(|referral| wanted.of(referral).map(move |side| RewardItem::of(referral, side)));
    Ok(json(StatusCode::OK, &PageView::new(items.flatten().collect(), next.map(|place| place.to_text()))))
}
