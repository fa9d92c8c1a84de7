//! Cohorts: of those attributed in one week, how many converted in which week after.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    analytics::{
        Figures, LATEST_WEEK,
        calendar::{Day, Week},
        counters::{self, ATTRIBUTED},
    },
    http::{answer::json, problem::Problem},
    id::ProgramId,
    runtime::Call,
};
use serde::Serialize;

use crate::{
    App,
    analytics::{Format, Spans, program},
    sheet::Sheet,
};

const WEEKS: Spans<Week> = Spans { usual: 12, most: 53, plus: Week::plus, since: Week::since };

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
    /// In the same week, in the next, and so on, as far as weeks have begun; the last is also for all that come later.
    converted: Vec<i128>,
}

/// Answers with a cohort for each week of the span.
pub(crate) async fn cohorts(app: &App, asked: &str, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    let (program, format) = (program(asked)?, Format::of(request)?);
    let now = Week::of(Day::of(call.now));
    let span = WEEKS.asked(request, now)?;
    let days = app.metrics.days(&program, span.from.monday(), span.to.sunday()).await?;
    let cohort = |week: Week| {
        let mut sum = Figures::default();
        days.range(week.monday()..=week.sunday()).for_each(|(_, figures)| sum.add_all(figures, 1));
        cohort(week, &sum, now)
    };
    let weeks: Vec<_> = WEEKS.each(span).map(cohort).collect();
    match format {
        Format::Json => {
            let (from, to) = (span.from.to_string(), span.to.to_string());
            Ok(json(StatusCode::OK, &CohortsView { program: &program, from, to, weeks }))
        }
        Format::Csv => sheet(&weeks).respond(),
    }
}

fn cohort(week: Week, figures: &Figures, now: Week) -> CohortView {
    let begun = usize::try_from(now.since(week).saturating_add(1)).unwrap_or_default().min(LATEST_WEEK + 1);
    let converted = (0..begun).map(|after| figures.get(&counters::after(after))).collect();
    CohortView { week: week.to_string(), attributed: figures.get(ATTRIBUTED), converted }
}

fn sheet(weeks: &[CohortView]) -> Sheet {
    let after = (0..LATEST_WEEK).map(|after| format!("week_{after}")).chain([format!("week_{LATEST_WEEK}_or_later")]);
    let row = |cohort: &CohortView| {
        let converted =
            (0..=LATEST_WEEK).map(|after| cohort.converted.get(after).map(i128::to_string).unwrap_or_default());
        [cohort.week.clone(), cohort.attributed.to_string()].into_iter().chain(converted).collect()
    };
    Sheet {
        columns: ["week", "attributed"].map(str::to_owned).into_iter().chain(after).collect(),
        rows: weeks.iter().map(row).collect(),
    }
}
