//! Sending rewards again, under the keys that they always had: one, or all of a type since a time.

use std::time::Duration;

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    http::{
        answer::json,
        input::{self, Cursor},
        problem::Problem,
    },
    lifecycle::announce::reannouncement,
    machine::Command,
    referral::Referral,
    reward::{RewardId, RewardType, Side},
    runtime::Call,
    store::Outcome,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    App,
    place::Place,
    problem::{already_delivered, reward_not_found},
    rewards::{RewardItem, Undelivered, Wanted},
    whole::within,
};

/// Sends one reward again.
pub(crate) async fn one(app: &App, reward: &str, call: &Call) -> Result<Response<Body>, Problem> {
    let id = RewardId::try_from(reward.to_owned());
    let id =
        id.map_err(|_| Problem::invalid("reward_id: expected a referee's id, a colon, and referrer or referee"))?;
    let found = app.store.referral(&id.referee).await?.filter(|referral| referral.rewards().is_some());
    let referral = found.ok_or_else(reward_not_found)?;
    match resend(app, referral, id.side, call).await? {
        Some(referral) => Ok(json(StatusCode::ACCEPTED, &RewardItem::of(&referral, id.side))),
        None => Err(already_delivered()),
    }
}

/// Makes a reward one that is on its way, and announces it; `None` when it was delivered meanwhile.
///
/// The write comes first: should the bus fail, the sweep announces after the grace.
async fn resend(app: &App, referral: Referral, side: Side, call: &Call) -> Result<Option<Referral>, Problem> {
    let event = Command::Resend(side, call.now.plus(app.grace));
    let resent = match app.store.apply(referral, |found| found.decide(&event, call.now)).await? {
        Outcome::Applied(resent) => resent,
        Outcome::AlreadyDone(_) => return Ok(None),
        Outcome::Refused(..) => return Err(reward_not_found()),
    };
    let news: Vec<_> = reannouncement(&resent, side).into_iter().collect();
    app.bus.publish(&news).await.map_err(Problem::unavailable)?;
    tracing::info!(outcome = "sent again", correlation_id = resent.referee.hashed(), side = side.as_str());
    Ok(Some(resent))
}

/// The body of `POST /admin/rewards/resend`.
#[derive(Debug, Deserialize)]
struct ResendBody {
    r#type: RewardType,
    since: Timestamp,
    status: Option<Undelivered>,
    limit: Option<f64>,
    per_second: Option<f64>,
    cursor: Option<String>,
}

/// What a call came to.
#[derive(Serialize)]
struct Resent {
    /// How many rewards were sent again.
    resent: u32,
    next_cursor: Option<String>,
}

/// Sends all of a type again that were issued (or refused) since a time: those of `limit` referrals in a call at most,
/// or of as many as there is time for, at so many rewards a second. The cursor says whether there are more.
pub(crate) async fn all(app: &App, body: &[u8], call: &Call) -> Result<Response<Body>, Problem> {
    const PAGE: u32 = 100;
    let body: ResendBody = input::json(body)?;
    let (limit, per_second) =
        (within("limit", body.limit, 100, 1000)?, within("per_second", body.per_second, 10, 100)?);
    let status = body.status.unwrap_or_default();
    let lanes = status.lanes();
    let is_place = |place: &str| Place::from_text(place, lanes).is_some();
    let cursor = body.cursor.map(|text| input::cursor(&text, is_place)).transpose()?;
    let start = cursor.as_ref().map(Cursor::place).and_then(|place| Place::from_text(place, lanes));
    let start = start.unwrap_or_else(|| Place::start(lanes, call.now));
    // What is refused again while the walk is under way would be met again, and sent again without end.
    let wanted = Wanted { status, r#type: Some(body.r#type), since: Some(body.since), until: start.began_at };

    let mut pace = interval(Duration::from_secs(1) / per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut referrals, mut resent, mut next) = (0, 0, Some(start));
    while let Some(place) = next.take_if(|_| referrals < limit && !call.deadline.is_near()) {
        let (page, rest) = place.walk(&app.store, PAGE.min(limit - referrals), app.horizon(call)).await?;
        next = rest;
        for mut referral in page {
            let sides: Vec<Side> = wanted.of(&referral).collect();
            if sides.is_empty() || was_resent(app, status, &referral, place.began_at, call) {
                continue;
            }
            // Both sides' pauses come first: whoever is begun with is done with.
            for _ in &sides {
                pace.tick().await;
            }
            if call.deadline.is_near() {
                // This page once more: what was sent again is not wanted any longer.
                next = Some(place);
                break;
            }
            for side in sides {
                if let Some(sent) = resend(app, referral.clone(), side, call).await? {
                    (referral, resent) = (sent, resent + 1);
                }
            }
            referrals += 1;
        }
    }
    Ok(json(StatusCode::OK, &Resent { resent, next_cursor: next.map(|place| Cursor::new(place.to_text()).to_text()) }))
}

/// Whether this walk has been here: what is on its way and is sent again stays that, and moves on in the index, to where
/// the walk has yet to come.
fn was_resent(app: &App, status: Undelivered, referral: &Referral, began_at: Timestamp, call: &Call) -> bool {
    let due_at = referral.work().map(|work| work.at);
    let of_this_walk = began_at.plus(app.grace)..=call.now.plus(app.grace);
    status == Undelivered::Issued && due_at.is_some_and(|due_at| of_this_walk.contains(&due_at))
}
