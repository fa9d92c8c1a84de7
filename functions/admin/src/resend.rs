//! Sending rewards again, under the keys that they always had: one, or all of a type since a time.

use std::time::Duration;

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    http::{
        answer::json,
        input::{self, Cursor},
        problem::Problem,
    },
    life::announce::reannouncement,
    machine::Event,
    referral::Referral,
    reward::{RewardId, RewardType, Side},
    runtime::Call,
    store::Stepped,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    App,
    place::Place,
    rewards::{RewardItem, Undelivered, Wanted},
};

/// Sends one reward again.
pub(crate) async fn one(app: &App, reward: &str, call: &Call) -> Result<Response<Body>, Problem> {
    let id =
        RewardId::try_from(reward.to_owned()).map_err(|problem| Problem::invalid(format!("reward_id: {problem}")))?;
    let found = app.store.referral(&id.referee).await?.filter(|referral| referral.rewards().is_some());
    let referral = found.ok_or_else(reward_not_found)?;
    match resend(app, referral, id.side, call).await? {
        Some(referral) => Ok(json(StatusCode::ACCEPTED, &RewardItem::of(&referral, id.side))),
        None => Err(Problem::new(StatusCode::CONFLICT, "already_delivered", "the subsystem has this reward")),
    }
}

fn reward_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "reward_not_found", "there is no such reward")
}

/// Makes a reward one that is on its way, and announces it; `None` when it was delivered meanwhile.
///
/// The write comes first: should the bus fail, the sweep announces after the grace.
async fn resend(app: &App, referral: Referral, side: Side, call: &Call) -> Result<Option<Referral>, Problem> {
    let event = Event::Resend(side, call.now.plus(app.grace));
    let resent = match app.store.step(referral, |found| found.after(&event, call.now)).await? {
        Stepped::Taken(resent) => resent,
        Stepped::Done(_) => return Ok(None),
        Stepped::Refused(..) => return Err(reward_not_found()),
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
    #[serde(default)]
    status: Undelivered,
    limit: Option<u32>,
    per_second: Option<u32>,
    cursor: Option<String>,
}

/// What a call came to.
#[derive(Serialize)]
struct Resent {
    resent: u32,
    next_cursor: Option<String>,
}

/// Sends all of a type again that were issued (or refused) since a time: `limit` referrals' in a call at most, or as
/// many as there is time for, at so many a second. The cursor says whether there are more.
pub(crate) async fn all(app: &App, body: &[u8], call: &Call) -> Result<Response<Body>, Problem> {
    let body: ResendBody = input::json(body)?;
    let limit = within("limit", body.limit, 100, 1000)?;
    let per_second = within("per_second", body.per_second, 10, 100)?;
    let lanes = body.status.lanes();
    let is_place = |place: &str| Place::from_text(place, lanes).is_some();
    let cursor = body.cursor.map(|text| input::cursor(&text, is_place)).transpose()?;
    let start = cursor.as_ref().map(Cursor::place).and_then(|place| Place::from_text(place, lanes));
    let wanted = Wanted { status: body.status, r#type: Some(body.r#type), since: Some(body.since) };

    let mut pace = interval(Duration::from_secs(1) / per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut resent, mut next) = (0, Some(start.unwrap_or_else(|| Place::start(lanes, call.now))));
    while let Some(place) = next.take_if(|_| resent < limit && !call.deadline.is_near()) {
        let began_at = place.began_at;
        // A page is done to its end, so it must be one that there is time for.
        let (page, rest) = place.walk(&app.store, per_second.min(limit - resent)).await?;
        next = rest;
        for referral in page.referrals.into_iter().filter(|referral| !was_resent(app, referral, began_at, call)) {
            for side in wanted.of(&referral).collect::<Vec<_>>() {
                pace.tick().await;
                resent += u32::from(resend(app, referral.clone(), side, call).await?.is_some());
            }
        }
    }
    Ok(json(StatusCode::OK, &Resent { resent, next_cursor: next.map(|place| Cursor::new(place.to_text()).to_text()) }))
}

/// Whether this walk has been here: what is sent again moves on in the index, to where the walk has yet to come.
fn was_resent(app: &App, referral: &Referral, began_at: Timestamp, call: &Call) -> bool {
    let due_at = referral.work().map(|work| work.at);
    due_at.is_some_and(|due_at| (began_at.plus(app.grace)..=call.now.plus(app.grace)).contains(&due_at))
}

fn within(name: &str, given: Option<u32>, default: u32, most: u32) -> Result<u32, Problem> {
    let number = given.unwrap_or(default);
    if (1..=most).contains(&number) {
        Ok(number)
    } else {
        Err(Problem::invalid(format!("{name}: expected a number from 1 to {most}")))
    }
}
