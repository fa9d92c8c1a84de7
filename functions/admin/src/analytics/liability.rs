//! The rewards that are owed now, by type and currency.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    analytics::counters::{Kind, Stage, Sum},
    domain::money::Currency,
    lambda::http::{problem::Problem, response::json},
    referral::reward::RewardType,
};
use serde::Serialize;

use super::{
    csv::{Cell, Csv},
    query::{ByKind, Format},
};
use crate::App;

#[derive(Serialize)]
struct LiabilityView {
    items: Vec<OwedView>,
}

#[derive(Serialize)]
struct OwedView {
    r#type: RewardType,
    currency: Option<Currency>,
    currency_exponent: Option<u16>,
    /// Rewards of converted referrals whose hold has not ended.
    held: Sum,
    /// Issued, without an answer of the subsystem yet.
    issued: Sum,
    /// Refused permanently; an operator can send them again.
    failed: Sum,
    /// The sum of all stages.
    total: Sum,
}

/// Answers with the rewards that are owed.
pub(crate) async fn liability(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let format = Format::of(request)?;
    let items = ByKind::of(&app.analytics.liability().await?).each(owed);
    match format {
        Format::Json => Ok(json(StatusCode::OK, &LiabilityView { items })),
        Format::Csv { raw } => csv(&items).respond(raw),
    }
}

fn owed(Kind { r#type, currency }: Kind, at: &dyn Fn(Stage) -> Sum) -> OwedView {
    let [held, issued, failed] = [Stage::Held, Stage::Issued, Stage::Failed].map(at);
    let all = |of: fn(Sum) -> i128| [held, issued, failed].into_iter().map(of).sum();
    let total = Sum { count: all(|sum| sum.count), amount: all(|sum| sum.amount) };
    OwedView { r#type, currency, currency_exponent: currency.and_then(Currency::exponent), held, issued, failed, total }
}

fn csv(items: &[OwedView]) -> Csv {
    let stages = ["held", "issued", "failed", "total"];
    let of = |name: &str| [format!("{name}_count"), format!("{name}_amount")];
    let row = |owed: &OwedView| {
        let currency = owed.currency.map(|currency| currency.to_string()).unwrap_or_default();
        let sums = [owed.held, owed.issued, owed.failed, owed.total];
        let sums = sums.into_iter().flat_map(|sum| [sum.count, sum.amount].map(Cell::Number));
        [Cell::Text(owed.r#type.as_str().to_owned()), Cell::Text(currency)].into_iter().chain(sums).collect()
    };
    Csv {
        columns: ["type", "currency"].map(str::to_owned).into_iter().chain(stages.into_iter().flat_map(of)).collect(),
        rows: items.iter().map(row).collect(),
    }
}
