//! The referrers of a program, those first whose referrals last: in a month, or for all time.

use std::collections::BTreeMap;

use lambda_http::{
    Body, Request, Response,
    http::{StatusCode, header::LINK},
};
use referrals::{
    analytics::{
        Board, Figures, Period, Rank, Ranked,
        calendar::{Day, Month},
        counters::{ATTRIBUTED, CONVERTED, LASTING, REWARDED},
    },
    http::{
        answer::{PageView, json},
        input::{self, Cursor},
        problem::Problem,
    },
    id::UserId,
    runtime::Call,
};
use serde::Serialize;

use crate::{
    App,
    analytics::{Format, RewardsView, link_to_next, program, rewards},
    sheet::{Columns, Sheet},
};

#[derive(Serialize)]
struct ReferrerView<'a> {
    referrer_id: &'a UserId,
    /// Converted and not voided: what they are ranked by.
    lasting: i128,
    attributed: i128,
    converted: i128,
    rewarded: i128,
    voided: BTreeMap<&'a str, i128>,
    /// Their own.
    rewards: Vec<RewardsView>,
}

/// Answers with a page of them.
pub(crate) async fn referrers(
    app: &App,
    asked: &str,
    request: &Request,
    call: &Call,
) -> Result<Response<Body>, Problem> {
    let (program, format) = (program(asked)?, Format::of(request)?);
    let this_month = Period::Month(Month::of(Day::of(call.now)));
    let period = input::parameter(request, "period")?.unwrap_or(this_month);
    let query = input::page(request, |place| Rank::from_text(place).is_some())?;
    let after = query.cursor.and_then(|cursor| Rank::from_text(cursor.place()));
    let board = Board { program, period };
    let Ranked { referrers, next } = app.metrics.ranked(&board, query.limit, after.as_ref()).await?;
    let next = next.map(|rank| rank.to_text());
    match format {
        Format::Json => Ok(json(StatusCode::OK, &PageView::new(referrers.iter().map(view).collect(), next))),
        Format::Csv => {
            let mut response = sheet(&referrers).respond()?;
            let cursor = next.map(|place| Cursor::new(place).to_text());
            let more = |cursor| format!("period={period}&limit={}&format=csv&cursor={cursor}", query.limit);
            if let Some(link) = cursor.and_then(|cursor| link_to_next(&more(cursor))) {
                response.headers_mut().insert(LINK, link);
            }
            Ok(response)
        }
    }
}

fn view((referrer_id, figures): &(UserId, Figures)) -> ReferrerView<'_> {
    ReferrerView {
        referrer_id,
        lasting: figures.get(LASTING),
        attributed: figures.get(ATTRIBUTED),
        converted: figures.get(CONVERTED),
        rewarded: figures.get(REWARDED),
        voided: figures.voided().collect(),
        rewards: rewards(figures),
    }
}

fn sheet(referrers: &[(UserId, Figures)]) -> Sheet {
    const COUNTED: [&str; 4] = [LASTING, ATTRIBUTED, CONVERTED, REWARDED];
    let more = Columns::of(referrers.iter().map(|(_, figures)| figures));
    let columns = ["referrer_id"].into_iter().chain(COUNTED).map(str::to_owned);
    let row = |(referrer, figures): &(UserId, Figures)| {
        let counts = COUNTED.map(|name| figures.get(name).to_string());
        std::iter::once(referrer.to_string()).chain(counts).chain(more.cells(figures)).collect()
    };
    Sheet { columns: columns.chain(more.names()).collect(), rows: referrers.iter().map(row).collect() }
}
