//! Lists referrals that are held or need a decision, and shows one.

use std::str::FromStr;

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    domain::{id::UserId, time::Timestamp},
    lambda::http::{
        problem::Problem,
        request::{self, parse},
        response::{PageView, json},
    },
    referral::{Lane, Referral, Status},
    runtime::Call,
};

use super::entry::{ReferralEntry, ReferralWithNotes};
use crate::{
    App,
    problem::referral_not_found,
    undelivered::{Found, Lanes, WalkCursor, collect},
};

/// Which referrals are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Wanted {
    /// Converted, and issued when the hold ends.
    #[default]
    Held,
    /// An operator has to decide.
    Attention,
}

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "held" => Ok(Self::Held),
            "attention" => Ok(Self::Attention),
            _ => Err("expected held or attention"),
        }
    }
}

impl Wanted {
    /// The lanes with these referrals. One that needs a decision is listed while its rewards are being delivered, too.
    fn lanes(self) -> Lanes {
        match self {
            Self::Held => Lanes::Due,
            Self::Attention => Lanes::AttentionAndDue,
        }
    }

    /// The latest time at which such a referral can be due.
    fn horizon(self, app: &App, call: &Call) -> Timestamp {
        match self {
            Self::Held => Timestamp::LAST,
            Self::Attention => app.horizon(call),
        }
    }

    fn contains(self, referral: &Referral) -> bool {
        let is_due = referral.work().is_some_and(|work| work.lane == Lane::Due);
        match self {
            Self::Held => referral.status() == Status::Converted && is_due,
            Self::Attention => referral.attention().is_some(),
        }
    }
}

/// `GET /admin/referrals`: a page of referrals, the earliest of each index partition first.
pub(crate) async fn list(app: &App, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let wanted: Wanted = request::parameter(request, "status")?.unwrap_or_default();
    let lanes = wanted.lanes();
    let query = request::page(request, |place| WalkCursor::from_text(place, lanes).is_some())?;
    let start = WalkCursor::start_at(query.cursor.as_ref(), lanes, call);
    let is_wanted = |found: &Referral| wanted.contains(found);
    let select = |page: Found| page.referrals.into_iter().filter(is_wanted).collect();
    let (found, next) = collect(app, call, start, query.limit, wanted.horizon(app, call), select).await?;
    let items = found.iter().map(ReferralEntry::of).collect();
    Ok(json(StatusCode::OK, &PageView::new(items, next.map(|next| next.to_text()))))
}

/// `GET /admin/referrals/{referee_id}`: a referral with its audit entries.
pub(crate) async fn one(app: &App, referee: &str) -> Result<Response<Body>, Problem> {
    let referee: UserId = parse("referee_id", referee)?;
    let history = app.store.history(&referee).await?.ok_or_else(referral_not_found)?;
    Ok(json(StatusCode::OK, &ReferralWithNotes::of(&history.referral, &history.notes)))
}
