//! Reads: the current codes, referrals and rewards.

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    domain::{
        code::Code,
        id::{ProgramId, UserId},
    },
    lambda::http::{
        problem::Problem,
        request::{PageQuery, parse},
        response::{PageView, json},
    },
    lifecycle::attribute::AttributionRefusal,
    referral::{Referral, reward::Side},
    store::ListCursor,
    view::{ReferralView, RewardView},
};

use crate::{
    App,
    problem::{referral_not_found, refused},
};

pub(crate) async fn code_of(app: &App, user: &str, wanted: Option<ProgramId>) -> Result<Response<Body>, Problem> {
    let user: UserId = parse("user_id", user)?;
    let program = &app.sign_ups.program.id;
    if wanted.is_some_and(|wanted| wanted != *program) {
        return Err(refused(AttributionRefusal::ProgramNotFound));
    }
    let owned =
        app.sign_ups.store.code_of(&user, program).await?.ok_or_else(|| refused(AttributionRefusal::CodeNotFound))?;
    Ok(json(StatusCode::OK, &app.links.show(&owned)))
}

pub(crate) async fn code(app: &App, code: &str) -> Result<Response<Body>, Problem> {
    let code: Code = parse("code", code)?;
    let owned = app.sign_ups.store.code(&code).await?.ok_or_else(|| refused(AttributionRefusal::CodeNotFound))?;
    Ok(json(StatusCode::OK, &app.links.show(&owned)))
}

pub(crate) async fn referral(app: &App, referee: &str) -> Result<Response<Body>, Problem> {
    let referee: UserId = parse("referee_id", referee)?;
    let referral = app.sign_ups.store.referral(&referee).await?.ok_or_else(referral_not_found)?;
    Ok(json(StatusCode::OK, &ReferralView::of(&referral)))
}

/// Lists the referrals with this user as referrer, or only those by one of the user's codes.
pub(crate) async fn referrals_of(
    app: &App,
    user: &str,
    code: Option<Code>,
    query: &PageQuery,
) -> Result<Response<Body>, Problem> {
    let user: UserId = parse("user_id", user)?;
    let page = app.sign_ups.store.referrals_by(&user, query.limit, place(query).as_ref()).await?;
    let is_wanted = |referral: &&Referral| code.as_ref().is_none_or(|code| referral.code == *code);
    let items = page.items.iter().filter(is_wanted).map(ReferralView::of).collect();
    Ok(json(StatusCode::OK, &PageView::new(items, page.next.map(String::from))))
}

pub(crate) async fn rewards_of(app: &App, user: &str, query: &PageQuery) -> Result<Response<Body>, Problem> {
    let user: UserId = parse("user_id", user)?;
    let page = app.sign_ups.store.referrals_with(&user, query.limit, place(query).as_ref()).await?;
    let items = page.items.iter().filter_map(|referral| reward_of(referral, &user)).collect();
    Ok(json(StatusCode::OK, &PageView::new(items, page.next.map(String::from))))
}

/// The reward that this user gets for this referral.
fn reward_of<'a>(referral: &'a Referral, user: &UserId) -> Option<RewardView<'a>> {
    let side = if referral.referee == *user { Side::Referee } else { Side::Referrer };
    RewardView::of(referral, side)
}

fn place(query: &PageQuery) -> Option<ListCursor> {
    query.cursor.as_ref().and_then(|cursor| cursor.place().parse().ok())
}
