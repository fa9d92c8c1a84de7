//! Cohorts: of the referrals attributed in one week, how many converted in each week after it.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    analytics::{
        Counters, LATEST_WEEK,
        calendar::{Day, Week},
        counters::{self, ATTRIBUTED},
    },
    domain::id::ProgramId,
    lambda::http::{problem::Problem, response::json},
    runtime::Call,
};
use serde::Serialize;

use super::{
    csv::{Cell, Csv},
    query::{Format, Spans, program, require_known},
};
use crate::App;

const WEEKS: Spans<Week> = Spans { default: 12, maximum: 53, plus: Week::plus, since: Week::since };

#[derive(Serialize)]
struct CohortsView<'a> {
    program: &'a ProgramId,
    from: String,
    to: String,
    weeks: Vec<CohortView>,
}

#[derive(Serialize)]
struct CohortView {
    week: String,
    attributed: i128,
    /// Conversions in the same week, in the next week, and so on, up to the current week. The last entry of a full list
    /// also contains all later conversions.
    converted_by_week: Vec<i128>,
}

/// Answers with one cohort per week of the range.
pub(crate) async fn cohorts(
    app: &App,
    program: &str,
    request: &Request,
    call: &Call,
) -> Result<Response<Body>, Problem> {
    let (program, format) = (self::program(program)?, Format::of(request)?);
    let now = Week::of(Day::of(call.now));
    let span = WEEKS.parse(request, now)?;
    require_known(app, &program).await?;
    let days = app.analytics.days(&program, span.from.monday(), span.to.sunday()).await?;
    let cohort = |week: Week| {
        let mut sum = Counters::default();
        days.range(week.monday()..=week.sunday()).for_each(|(_, counters)| sum.add_all(counters, 1));
        cohort(week, &sum, now)
    };
    let weeks: Vec<_> = WEEKS.each(span).map(cohort).collect();
    match format {
        Format::Json => {
            let (from, to) = (span.from.to_string(), span.to.to_string());
            Ok(json(StatusCode::OK, &CohortsView { program: &program, from, to, weeks }))
        }
        Format::Csv { raw } => csv(&weeks).respond(raw),
    }
}

fn cohort(week: Week, counts: &Counters, now: Week) -> CohortView {
    let weeks = usize::try_from(now.since(week).saturating_add(1)).unwrap_or_default().min(LATEST_WEEK + 1);
    let converted_by_week = (0..weeks).map(|week| counts.get(&counters::converted_after_weeks(week))).collect();
    CohortView { week: week.to_string(), attributed: counts.get(ATTRIBUTED), converted_by_week }
}

fn csv(weeks: &[CohortView]) -> Csv {
    let weeks_later =
        (0..LATEST_WEEK).map(|week| format!("week_{week}")).chain([format!("week_{LATEST_WEEK}_or_later")]);
    let row = |cohort: &CohortView| {
        // The cell of a week that has not come yet is empty.
        let converted = |week| cohort.converted_by_week.get(week).map_or(Cell::Empty, |count| Cell::Number(*count));
        let first = [Cell::Text(cohort.week.clone()), Cell::Number(cohort.attributed)];
        first.into_iter().chain((0..=LATEST_WEEK).map(converted)).collect()
    };
    Csv {
        columns: ["week", "attributed"].map(str::to_owned).into_iter().chain(weeks_later).collect(),
        rows: weeks.iter().map(row).collect(),
    }
}
