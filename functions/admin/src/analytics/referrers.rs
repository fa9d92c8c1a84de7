//! The leaderboard: the referrers of a program by net conversions, in a month or for all time.

use std::collections::BTreeMap;

use lambda_http::{
    Body, Request, Response,
    http::{StatusCode, header::LINK},
};
use referrals::{
    analytics::{
        Board, Counters, Period, Rank, Ranked,
        calendar::{Day, Month},
        counters::{ATTRIBUTED, CONVERTED, NET_CONVERSIONS, REWARDED},
    },
    domain::id::UserId,
    lambda::http::{
        problem::Problem,
        request::{self, Cursor},
        response::{PageView, json},
    },
    runtime::Call,
};
use serde::Serialize;

use super::{
    csv::{Cell, Columns, Csv},
    query::{Format, RewardsView, link_to_next, program, require_known, rewards},
};
use crate::App;

#[derive(Serialize)]
struct ReferrerView<'a> {
    referrer_id: &'a UserId,
    /// Converted and not voided. The list is ranked by it.
    net_conversions: i128,
    attributed: i128,
    converted: i128,
    rewarded: i128,
    voided: BTreeMap<&'a str, i128>,
    /// The rewards that they earned as referrer.
    rewards: Vec<RewardsView>,
}

/// Answers with a page of the leaderboard.
pub(crate) async fn referrers(
    app: &App,
    program: &str,
    request: &Request,
    call: &Call,
) -> Result<Response<Body>, Problem> {
    let (program, format) = (self::program(program)?, Format::of(request)?);
    let this_month = Period::Month(Month::of(Day::of(call.now)));
    let period = request::parameter(request, "period")?.unwrap_or(this_month);
    let query = request::page(request, |place| Rank::from_text(place).is_some())?;
    let after = query.cursor.and_then(|cursor| Rank::from_text(cursor.place()));
    require_known(app, &program).await?;
    let board = Board { program, period };
    let Ranked { referrers, next } = app.analytics.ranked(&board, query.limit, after.as_ref()).await?;
    let next = next.map(|rank| rank.to_text());
    match format {
        Format::Json => Ok(json(StatusCode::OK, &PageView::new(referrers.iter().map(view).collect(), next))),
        Format::Csv { raw } => {
            let mut response = csv(&referrers, &Columns::of(&app.program)).respond(raw)?;
            let cursor = next.map(|place| Cursor::new(place).to_text());
            let more = |cursor| format!("period={period}&limit={}&format=csv&raw={raw}&cursor={cursor}", query.limit);
            if let Some(link) = cursor.and_then(|cursor| link_to_next(&more(cursor))) {
                response.headers_mut().insert(LINK, link);
            }
            Ok(response)
        }
    }
}

fn view((referrer_id, counters): &(UserId, Counters)) -> ReferrerView<'_> {
    ReferrerView {
        referrer_id,
        net_conversions: counters.get(NET_CONVERSIONS),
        attributed: counters.get(ATTRIBUTED),
        converted: counters.get(CONVERTED),
        rewarded: counters.get(REWARDED),
        voided: counters.voided().collect(),
        rewards: rewards(counters),
    }
}

fn csv(referrers: &[(UserId, Counters)], more: &Columns) -> Csv {
    const COUNTED: [&str; 4] = [NET_CONVERSIONS, ATTRIBUTED, CONVERTED, REWARDED];
    let columns = ["referrer_id"].into_iter().chain(COUNTED).map(str::to_owned);
    let row = |(referrer, counters): &(UserId, Counters)| {
        let counts = COUNTED.map(|name| counters.get(name)).into_iter().chain(more.counts(counters));
        std::iter::once(Cell::Text(referrer.to_string())).chain(counts.map(Cell::Number)).collect()
    };
    Csv { columns: columns.chain(more.names()).collect(), rows: referrers.iter().map(row).collect() }
}
