//! A program's counters by day, and how many of the referrals attributed on a day have converted.

use std::collections::BTreeMap;

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    analytics::{
        Counters, LATEST_WEEK, TIME_TO_CONVERT,
        calendar::Day,
        counters::{self, ATTRIBUTED, CONVERTED, REWARDED},
    },
    domain::id::ProgramId,
    lambda::http::{problem::Problem, response::json},
    runtime::Call,
};
use serde::Serialize;

use super::{
    csv::{Cell, Columns, Csv},
    query::{Format, RewardsView, Span, Spans, program, require_known, rewards},
};
use crate::App;

const DAYS: Spans<Day> = Spans { default: 30, maximum: 366, plus: Day::plus, since: Day::since };

#[derive(Serialize)]
struct DailyView<'a> {
    program: &'a ProgramId,
    from: String,
    to: String,
    days: Vec<DayView>,
    total: CountersView,
}

#[derive(Serialize)]
struct DayView {
    date: String,
    figures: CountersView,
}

/// What happened on one day, or on several.
#[derive(Serialize)]
struct CountersView {
    attributed: i128,
    converted: i128,
    /// How many of the referrals attributed on these days have converted since.
    converted_since: i128,
    /// `converted_since` divided by `attributed`; `None` if nothing was attributed.
    conversion_rate: Option<f64>,
    rewarded: i128,
    voided: BTreeMap<String, i128>,
    time_to_convert: Vec<BucketView>,
    rewards: Vec<RewardsView>,
}

/// A bucket of the histogram: the conversions whose time since the attribution is less than `below`, and not less than the
/// bound of the previous bucket.
#[derive(Serialize)]
struct BucketView {
    below: Option<&'static str>,
    count: i128,
}

/// Answers with every day of the range, including days without counters.
pub(crate) async fn daily(app: &App, program: &str, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let (program, format) = (self::program(program)?, Format::of(request)?);
    let span = DAYS.parse(request, Day::of(call.now))?;
    require_known(app, &program).await?;
    let mut found = app.analytics.days(&program, span.from, span.to).await?;
    let days: Vec<_> = DAYS.each(span).map(|day| (day, found.remove(&day).unwrap_or_default())).collect();
    match format {
        Format::Json => Ok(json(StatusCode::OK, &view(&program, span, &days))),
        Format::Csv { raw } => csv(&days, &Columns::of(&app.program)).respond(raw),
    }
}

fn view<'a>(program: &'a ProgramId, span: Span<Day>, days: &[(Day, Counters)]) -> DailyView<'a> {
    let mut total = Counters::default();
    days.iter().for_each(|(_, counters)| total.add_all(counters, 1));
    let day = |(day, counters): &(Day, Counters)| DayView { date: day.to_string(), figures: counters.into() };
    let (from, to) = (span.from.to_string(), span.to.to_string());
    DailyView { program, from, to, days: days.iter().map(day).collect(), total: (&total).into() }
}

impl From<&Counters> for CountersView {
    fn from(counters: &Counters) -> Self {
        let bounds = TIME_TO_CONVERT.iter().map(|(below, _)| Some(*below)).chain([None]).enumerate();
        Self {
            attributed: counters.get(ATTRIBUTED),
            converted: counters.get(CONVERTED),
            converted_since: converted_since(counters),
            conversion_rate: rate(converted_since(counters), counters.get(ATTRIBUTED)),
            rewarded: counters.get(REWARDED),
            voided: counters.voided().map(|(reason, count)| (reason.to_owned(), count)).collect(),
            time_to_convert: bounds
                .map(|(place, below)| BucketView { below, count: counters.get(&counters::time_to_convert(place)) })
                .collect(),
            rewards: rewards(counters),
        }
    }
}

fn converted_since(counters: &Counters) -> i128 {
    (0..=LATEST_WEEK).map(|week| counters.get(&counters::converted_after_weeks(week))).sum()
}

/// Rounded to four decimals; `None` if `of` is zero.
fn rate(part: i128, of: i128) -> Option<f64> {
    let rounded = part.saturating_mul(10_000).saturating_add(of / 2).checked_div(of)?;
    Some(f64::from(i32::try_from(rounded).ok()?) / 10_000.0)
}

fn csv(days: &[(Day, Counters)], more: &Columns) -> Csv {
    let columns = ["date", "attributed", "converted", "converted_since", "rewarded"].map(str::to_owned);
    let bounds = TIME_TO_CONVERT.iter().map(|(below, _)| format!("time_to_convert_below_{below}"));
    let longest = TIME_TO_CONVERT.last().map(|(below, _)| format!("time_to_convert_{below}_or_more"));
    let row = |(day, counters): &(Day, Counters)| {
        let counts =
            [counters.get(ATTRIBUTED), counters.get(CONVERTED), converted_since(counters), counters.get(REWARDED)];
        let times = (0..=TIME_TO_CONVERT.len()).map(|place| counters.get(&counters::time_to_convert(place)));
        let counts = counts.into_iter().chain(times).chain(more.counts(counters)).map(Cell::Number);
        std::iter::once(Cell::Text(day.to_string())).chain(counts).collect()
    };
    Csv {
        columns: columns.into_iter().chain(bounds).chain(longest).chain(more.names()).collect(),
        rows: days.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_rounded_and_missing_without_attributions() {
        for (part, of, expected) in
            [(1, 3, Some(0.3333)), (2, 3, Some(0.6667)), (3, 3, Some(1.0)), (0, 7, Some(0.0)), (0, 0, None)]
        {
            assert_eq!(rate(part, of), expected, "{part} of {of}");
        }
    }
}
