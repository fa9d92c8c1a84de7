//! A program's figures by day, and how many of those who were attributed converted.

use std::collections::BTreeMap;

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    analytics::{
        Figures, LATEST_WEEK, TOOK,
        calendar::Day,
        counters::{self, ATTRIBUTED, CONVERTED, REWARDED},
    },
    http::{answer::json, problem::Problem},
    id::ProgramId,
    runtime::Call,
};
use serde::Serialize;

use crate::{
    App,
    analytics::{Format, RewardsView, Span, Spans, program, rewards},
    sheet::{Columns, Sheet},
};

const DAYS: Spans<Day> = Spans { usual: 30, most: 366, plus: Day::plus, since: Day::since };

#[derive(Serialize)]
struct DailyView<'a> {
    program: &'a ProgramId,
    from: String,
    to: String,
    days: Vec<DayView>,
    total: FiguresView,
}

#[derive(Serialize)]
struct DayView {
    date: String,
    figures: FiguresView,
}

/// What came to pass, on a day or on several.
#[derive(Serialize)]
struct FiguresView {
    attributed: i128,
    converted: i128,
    /// Of those attributed then, how many have converted since.
    converted_since: i128,
    /// Their share.
    conversion_rate: Option<f64>,
    rewarded: i128,
    voided: BTreeMap<String, i128>,
    took: Vec<TookView>,
    rewards: Vec<RewardsView>,
}

/// How many conversions came within a time of the attribution, and not within the one before it.
#[derive(Serialize)]
struct TookView {
    below: Option<&'static str>,
    count: i128,
}

/// Answers with a day for each of the span, those without figures too.
pub(crate) async fn daily(app: &App, asked: &str, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let (program, format) = (program(asked)?, Format::of(request)?);
    let span = DAYS.asked(request, Day::of(call.now))?;
    let mut found = app.metrics.days(&program, span.from, span.to).await?;
    let days: Vec<_> = DAYS.each(span).map(|day| (day, found.remove(&day).unwrap_or_default())).collect();
    match format {
        Format::Json => Ok(json(StatusCode::OK, &view(&program, span, &days))),
        Format::Csv => sheet(&days).respond(),
    }
}

fn view<'a>(program: &'a ProgramId, span: Span<Day>, days: &[(Day, Figures)]) -> DailyView<'a> {
    let mut total = Figures::default();
    days.iter().for_each(|(_, figures)| total.add_all(figures, 1));
    let day = |(day, figures): &(Day, Figures)| DayView { date: day.to_string(), figures: figures.into() };
    let (from, to) = (span.from.to_string(), span.to.to_string());
    DailyView { program, from, to, days: days.iter().map(day).collect(), total: (&total).into() }
}

impl From<&Figures> for FiguresView {
    fn from(figures: &Figures) -> Self {
        let bounds = TOOK.iter().map(|(below, _)| Some(*below)).chain([None]).enumerate();
        Self {
            attributed: figures.get(ATTRIBUTED),
            converted: figures.get(CONVERTED),
            converted_since: converted_since(figures),
            conversion_rate: rate(converted_since(figures), figures.get(ATTRIBUTED)),
            rewarded: figures.get(REWARDED),
            voided: figures.voided().map(|(reason, count)| (reason.to_owned(), count)).collect(),
            took: bounds.map(|(place, below)| TookView { below, count: figures.get(&counters::took(place)) }).collect(),
            rewards: rewards(figures),
        }
    }
}

fn converted_since(figures: &Figures) -> i128 {
    (0..=LATEST_WEEK).map(|week| figures.get(&counters::after(week))).sum()
}

/// To four decimals; of nothing there is no share.
fn rate(part: i128, of: i128) -> Option<f64> {
    let rounded = part.saturating_mul(10_000).saturating_add(of / 2).checked_div(of)?;
    Some(f64::from(i32::try_from(rounded).ok()?) / 10_000.0)
}

fn sheet(days: &[(Day, Figures)]) -> Sheet {
    let more = Columns::of(days.iter().map(|(_, figures)| figures));
    let columns = ["date", "attributed", "converted", "converted_since", "rewarded"].map(str::to_owned);
    let bounds = TOOK.iter().map(|(below, _)| format!("took_below_{below}"));
    let longest = TOOK.last().map(|(below, _)| format!("took_{below}_or_more"));
    let row = |(day, figures): &(Day, Figures)| {
        let counts = [figures.get(ATTRIBUTED), figures.get(CONVERTED), converted_since(figures), figures.get(REWARDED)];
        let took = (0..=TOOK.len()).map(|place| figures.get(&counters::took(place)));
        let counts = counts.into_iter().chain(took).map(|count| count.to_string());
        std::iter::once(day.to_string()).chain(counts).chain(more.cells(figures)).collect()
    };
    Sheet {
        columns: columns.into_iter().chain(bounds).chain(longest).chain(more.names()).collect(),
        rows: days.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_rounded_and_of_nothing_there_is_none() {
        for (part, of, expected) in
            [(1, 3, Some(0.3333)), (2, 3, Some(0.6667)), (3, 3, Some(1.0)), (0, 7, Some(0.0)), (0, 0, None)]
        {
            assert_eq!(rate(part, of), expected, "{part} of {of}");
        }
    }
}
