//! Requests of operators: list undelivered rewards or reversals, or send all of them again.

use std::time::Duration;

use lambda_http::Request;
use referrals::{
    domain::time::Timestamp,
    lambda::http::{
        problem::Problem,
        request::{self, Cursor},
    },
    referral::reward::RewardType,
    runtime::Call,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Lanes, Selection, Undelivered, walk::WalkCursor};
use crate::{App, number::within};

/// A request for a page of undelivered rewards or reversals.
pub(crate) struct ListRequest {
    pub(crate) selection: Selection,
    pub(crate) start: WalkCursor,
    pub(crate) limit: u32,
}

impl ListRequest {
    /// Reads the parameters of the request. `lanes` returns the lanes to walk through.
    pub(crate) fn read(request: &Request, lanes: fn(Undelivered) -> Lanes, call: &Call) -> Result<Self, Problem> {
        let status: Undelivered = request::parameter(request, "status")?.unwrap_or_default();
        let r#type = request::parameter(request, "type")?;
        let since = request::parameter(request, "since")?;
        let lanes = lanes(status);
        let query = request::page(request, |place| WalkCursor::from_text(place, lanes).is_some())?;
        let selection = Selection { status, r#type, since, until: Timestamp::LAST };
        let start = WalkCursor::start_at(query.cursor.as_ref(), lanes, call);
        Ok(Self { selection, start, limit: query.limit })
    }
}

/// The body of `POST /admin/rewards/resend` and `POST /admin/reversals/resend`.
#[derive(Debug, Deserialize)]
struct ResendBody {
    r#type: RewardType,
    since: Timestamp,
    status: Option<Undelivered>,
    limit: Option<f64>,
    per_second: Option<f64>,
    cursor: Option<String>,
}

/// A request to send all rewards or reversals of a type again.
pub(crate) struct ResendRequest {
    pub(crate) selection: Selection,
    pub(crate) start: WalkCursor,
    pub(crate) limit: u32,
    per_second: u32,
}

impl ResendRequest {
    /// Reads the body of the request. `lanes` returns the lanes to walk through.
    pub(crate) fn read(body: &[u8], lanes: fn(Undelivered) -> Lanes, call: &Call) -> Result<Self, Problem> {
        let body: ResendBody = request::json(body)?;
        let (limit, per_second) =
            (within("limit", body.limit, 100, 1000)?, within("per_second", body.per_second, 10, 100)?);
        let status = body.status.unwrap_or_default();
        let lanes = lanes(status);
        let is_place = |place: &str| WalkCursor::from_text(place, lanes).is_some();
        let cursor = body.cursor.map(|text| request::cursor(&text, is_place)).transpose()?;
        let start = WalkCursor::start_at(cursor.as_ref(), lanes, call);
        // Without the latest time, what is refused again during the scan would be found and sent again without end.
        let (r#type, since, until) = (Some(body.r#type), Some(body.since), start.began_at);
        Ok(Self { selection: Selection { status, r#type, since, until }, start, limit, per_second })
    }

    /// Ticks once for each reward or reversal that may be sent.
    pub(crate) fn pace(&self) -> Interval {
        let mut pace = interval(Duration::from_secs(1) / self.per_second);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace
    }

    /// Whether this scan has already sent again what is due at this time. An undelivered reward or reversal stays undelivered when
    /// it is sent again, and moves to a later position in the index, where the scan finds it a second time.
    pub(crate) fn was_resent(&self, app: &App, due_at: Option<Timestamp>, call: &Call) -> bool {
        let of_this_scan = self.start.began_at.plus(app.grace)..=call.now.plus(app.grace);
        self.selection.status == Undelivered::Issued && due_at.is_some_and(|due_at| of_this_scan.contains(&due_at))
    }
}

/// The answer to such a request.
#[derive(Serialize)]
pub(crate) struct Resent {
    /// The number of rewards or reversals that were sent again.
    resent: u32,
    next_cursor: Option<String>,
}

impl Resent {
    /// `next` is the position of the next walk.
    pub(crate) fn new(resent: u32, next: Option<&WalkCursor>) -> Self {
        Self { resent, next_cursor: next.map(|next| Cursor::new(next.to_text()).to_text()) }
    }
}
