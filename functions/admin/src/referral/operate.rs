//! Actions of operators on a referral. Each needs a reason, which is kept in an audit entry.

use lambda_http::{Body, Request, Response, http::StatusCode};
use referrals::{
    domain::{
        id::{OrderId, UserId},
        money::{Amount, Currency, Money},
    },
    lambda::http::{
        problem::Problem,
        request::{self, parse},
        response::json,
    },
    lifecycle::operate::{Operated, Operation, OperationRefusal, operate},
    referral::{
        Referral,
        note::{Action, AuditEntry},
    },
    runtime::{Call, log_outcome::LogOutcome},
};
use serde::Deserialize;

use super::entry::ReferralEntry;
use crate::{
    App,
    audit::{Because, operator},
    problem::{order_claimed, order_not_qualifying, order_undone, referral_not_found, rule_broken, wrong_state},
};

/// The body of `POST /admin/referrals/{referee_id}/convert`.
#[derive(Debug, Deserialize)]
struct ConvertBody {
    order_id: OrderId,
    amount: Option<Amount>,
    currency: Option<Currency>,
}

/// `POST /admin/referrals/{referee_id}/void`
pub(crate) async fn void(app: &App, referee: &str, request: &Request, call: &Call) -> Result<Response<Body>, Problem> {
    act(app, referee, &Operation::Void, request, call).await
}

/// `POST /admin/referrals/{referee_id}/reopen`
pub(crate) async fn reopen(
    app: &App,
    referee: &str,
    request: &Request,
    call: &Call,
) -> Result<Response<Body>, Problem> {
    act(app, referee, &Operation::Reopen, request, call).await
}

/// `POST /admin/referrals/{referee_id}/convert`
pub(crate) async fn convert(
    app: &App,
    referee: &str,
    request: &Request,
    call: &Call,
) -> Result<Response<Body>, Problem> {
    let ConvertBody { order_id, amount, currency } = request::json(request::bounded(request.body())?)?;
    let paid = match (amount, currency) {
        (Some(amount), Some(currency)) => Some(Money { amount, currency }),
        (None, None) => None,
        _ => return Err(Problem::invalid("body: expected both amount and currency, or none of them")),
    };
    act(app, referee, &Operation::Convert(order_id, paid), request, call).await
}

/// `POST /admin/reviews/{referee_id}/approve`
pub(crate) async fn approve(
    app: &App,
    referee: &str,
    request: &Request,
    call: &Call,
) -> Result<Response<Body>, Problem> {
    act(app, referee, &Operation::Approve, request, call).await
}

async fn act(
    app: &App,
    referee: &str,
    operation: &Operation,
    request: &Request,
    call: &Call,
) -> Result<Response<Body>, Problem> {
    let referee: UserId = parse("referee_id", referee)?;
    let reason = Because::read(request::bounded(request.body())?)?.reason;
    let audit = AuditEntry { at: call.now, action: operation.action(), operator: operator(request), reason };
    match operate(&app.store, &referee, operation, &audit).await? {
        Operated::Applied(referral) => {
            tracing::info!(outcome = outcome(audit.action).as_str(), correlation_id = referral.correlation_id());
            Ok(answer(&referral))
        }
        Operated::Unchanged(referral) => Ok(answer(&referral)),
        Operated::NotFound => Err(referral_not_found()),
        Operated::Refused(refusal) => Err(problem(refusal)),
    }
}

fn answer(referral: &Referral) -> Response<Body> {
    json(StatusCode::OK, &ReferralEntry::of(referral))
}

fn outcome(action: Action) -> LogOutcome {
    match action {
        Action::Void => LogOutcome::OperatorVoided,
        Action::Reopen => LogOutcome::OperatorReopened,
        Action::Convert => LogOutcome::OperatorConverted,
        Action::Approve => LogOutcome::OperatorApproved,
        Action::Flag => LogOutcome::AccountFlaggedByOperator,
        Action::Clear => LogOutcome::AccountClearedByOperator,
    }
}

fn problem(refusal: OperationRefusal) -> Problem {
    match refusal {
        OperationRefusal::WrongState => wrong_state(),
        OperationRefusal::RuleBroken(reason) => rule_broken(reason),
        OperationRefusal::OrderClaimed => order_claimed(),
        OperationRefusal::OrderUndone => order_undone(),
        OperationRefusal::NotQualifying => order_not_qualifying(),
    }
}
