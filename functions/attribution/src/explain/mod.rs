//! Explain: every decision about a referral so far, with its inputs, from what the table has.

mod decision;

use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    domain::id::{OrderId, UserId},
    lambda::http::{problem::Problem, request::parse, response::json},
    referral::note::{Note, OrderRefusal, RefusedOrder},
    store::History,
};
use serde::Serialize;

use self::decision::{Decision, decisions};
use crate::{App, problem::referral_not_found};

#[derive(Serialize)]
struct Explanation<'a> {
    referee_id: &'a UserId,
    decisions: Vec<Decision<'a>>,
}

/// `GET /v1/referrals/{referee_id}/explain`: the decisions, the oldest first.
pub(crate) async fn explain(app: &App, referee: &str) -> Result<Response<Body>, Problem> {
    let referee: UserId = parse("referee_id", referee)?;
    let store = &app.sign_ups.store;
    let history = store.history(&referee).await?.ok_or_else(referral_not_found)?;
    let orders: Vec<OrderId> = known_orders(&history).collect();
    let orders = store.orders(&orders).await?;
    Ok(json(StatusCode::OK, &Explanation { referee_id: &referee, decisions: decisions(&history, &orders) }))
}

/// The orders whose adjustments mattered: those that the referral has, and those that its issue passed over.
fn known_orders(history: &History) -> impl Iterator<Item = OrderId> {
    let kept = history.referral.orders().map(|known| known.order.clone());
    let passed_over = history.notes.iter().filter_map(|note| match note {
        Note::Order(RefusedOrder { order_id, reason, .. }) => {
            let was_kept = matches!(reason, OrderRefusal::OrderUndone | OrderRefusal::OtherOrderRewarded);
            was_kept.then(|| order_id.clone())
        }
        Note::Operator(_) => None,
    });
    kept.chain(passed_over)
}
