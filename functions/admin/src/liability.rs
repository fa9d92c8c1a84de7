//! What is owed now, by type and currency.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    analytics::counters::{Kind, Stage, Sum},
    http::{answer::json, problem::Problem},
    money::Currency,
    reward::RewardType,
};
use serde::Serialize;

use crate::{
    App,
    analytics::{ByKind, Format},
    sheet::Sheet,
};

#[derive(Serialize)]
struct LiabilityView {
    items: Vec<OwedView>,
}

#[derive(Serialize)]
struct OwedView {
    r#type: RewardType,
    currency: Option<Currency>,
    /// Of referrals that are converted, until the hold ends.
    held: Sum,
    /// On their way.
    issued: Sum,
    /// Refused for good; an operator may have them sent again.
    failed: Sum,
    /// All of these.
    total: Sum,
}

/// Answers with what is owed.
pub(crate) async fn liability(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let format = Format::of(request)?;
    let items = ByKind::of(&app.metrics.liability().await?).each(owed);
    match format {
        Format::Json => Ok(json(StatusCode::OK, &LiabilityView { items })),
        Format::Csv => sheet(&items).respond(),
    }
}

fn owed(Kind { r#type, currency }: Kind, at: &dyn Fn(Stage) -> Sum) -> OwedView {
    let [held, issued, failed] = [Stage::Held, Stage::Issued, Stage::Failed].map(at);
    let all = |of: fn(Sum) -> i128| [held, issued, failed].into_iter().map(of).sum();
    let total = Sum { count: all(|sum| sum.count), amount: all(|sum| sum.amount) };
    OwedView { r#type, currency, held, issued, failed, total }
}

fn sheet(items: &[OwedView]) -> Sheet {
    let stages = ["held", "issued", "failed", "total"];
    let of = |name: &str| [format!("{name}_count"), format!("{name}_amount")];
    let row = |owed: &OwedView| {
        let currency = owed.currency.map(|currency| currency.to_string()).unwrap_or_default();
        let sums = [owed.held, owed.issued, owed.failed, owed.total];
        let sums = sums.into_iter().flat_map(|sum| [sum.count.to_string(), sum.amount.to_string()]);
        [owed.r#type.as_str().to_owned(), currency].into_iter().chain(sums).collect()
    };
    Sheet {
        columns: ["type", "currency"].map(str::to_owned).into_iter().chain(stages.into_iter().flat_map(of)).collect(),
        rows: items.iter().map(row).collect(),
    }
}
