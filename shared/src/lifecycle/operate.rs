//! Operate: what operators do with a referral. Each action is one step of the referral, and its audit entry is written in the same
//! transaction.

use crate::{
    domain::{
        adjustments::Adjustments,
        id::{OrderId, UserId},
        money::Money,
        order::{Order, OrderRecord},
        time::Timestamp,
    },
    fraud::{self, FraudReason, Gate},
    mutant::{self, Mutant},
    referral::{
        Referral, State, VoidReason,
        machine::{Command, Decision, Refusal, Transition},
        note::{Action, AuditEntry},
    },
    store::{Claimed, ResolvedOrder, Store, StoreError, WriteResult},
};

/// What an operator wants to do with a referral.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// End it. Rewards that were issued are taken back.
    Void,
    /// Continue it after a fraud rule or an operator has voided it.
    Reopen,
    /// Convert it by this order. Without an amount, the minimum of the terms counts as paid.
    Convert(OrderId, Option<Money>),
    /// Resolve what needs attention: ignore what is unclear about its order.
    Approve,
}

/// The result of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operated {
    Applied(Referral),
    /// It was done before, or there is nothing to do.
    Unchanged(Referral),
    NotFound,
    Refused(OperationRefusal),
}

/// Why an operation changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperationRefusal {
    /// The referral's state does not allow it.
    WrongState,
    /// This fraud rule would void the referral again.
    RuleBroken(FraudReason),
    /// The order belongs to another user.
    OrderClaimed,
    /// The order no longer stands.
    OrderUndone,
    /// The order does not meet the terms.
    NotQualifying,
}

impl Operation {
    /// The action in the audit entry.
    pub const fn action(&self) -> Action {
        match self {
            Self::Void => Action::Void,
            Self::Reopen => Action::Reopen,
            Self::Convert(..) => Action::Convert,
            Self::Approve => Action::Approve,
        }
    }
}

/// The type of the event that converts, if an operator does it.
const BY_OPERATOR: &str = "operator";

/// Carries out an operation.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable, or when concurrent writes cause too many conflicts.
pub async fn operate(
    store: &Store,
    referee: &UserId,
    operation: &Operation,
    audit: &AuditEntry,
) -> Result<Operated, StoreError> {
    let Some(mut referral) = store.referral(referee).await? else { return Ok(Operated::NotFound) };
    for _ in 0..Store::MAX_DECISIONS {
        let (decision, resolved) = match decide(store, &referral, operation, audit.at).await? {
            Ok(decided) => decided,
            Err(refusal) => return Ok(Operated::Refused(refusal)),
        };
        let (after, transition) = match decision {
            Decision::Apply(after, transition) => (after, transition),
            Decision::AlreadyDone => return Ok(Operated::Unchanged(referral)),
            Decision::Refuse(refusal) => return Ok(Operated::Refused(refused(refusal))),
        };
        let written = store.write_audited(&referral, *after, transition, audit, resolved.as_ref()).await?;
        referral = match written {
            WriteResult::Written(after) => return Ok(Operated::Applied(after)),
            WriteResult::Conflict(found) => found,
        };
    }
    Err(store.contended(&referral))
}

/// A decision, and the order that it resolves. `Err`: the operation is refused for a reason that is not in the referral.
type Decided = Result<(Decision, Option<ResolvedOrder>), OperationRefusal>;

async fn decide(
    store: &Store,
    referral: &Referral,
    operation: &Operation,
    now: Timestamp,
) -> Result<Decided, StoreError> {
    let without_order = |decision: Result<Decision, OperationRefusal>| decision.map(|decision| (decision, None));
    match operation {
        Operation::Void => Ok(Ok((referral.decide(&Command::Void(VoidReason::Operator), now), None))),
        Operation::Reopen => reopen(store, referral, now).await.map(without_order),
        Operation::Convert(order, paid) => {
            let order = order_by_operator(referral, order, paid.as_ref(), now);
            convert(store, referral, order, now).await.map(without_order)
        }
        Operation::Approve => approve(store, referral, now).await.map(Ok),
    }
}

async fn reopen(
    store: &Store,
    referral: &Referral,
    now: Timestamp,
) -> Result<Result<Decision, OperationRefusal>, StoreError> {
    let record = match &referral.state {
        State::Voided { conversion: Some(conversion), .. } => Some(store.order(&conversion.order).await?),
        _ => None,
    };
    let decision = referral.decide(&Command::Reopen(record.as_ref()), now);
    Ok(match decision {
        Decision::Apply(..) => match broken_rule(store, referral).await? {
            Some(reason) => Err(OperationRefusal::RuleBroken(reason)),
            None => Ok(decision),
        },
        Decision::AlreadyDone | Decision::Refuse(_) => Ok(decision),
    })
}

/// The fraud rule that would void the referral when its hold ends.
async fn broken_rule(store: &Store, referral: &Referral) -> Result<Option<FraudReason>, StoreError> {
    if mutant::is(Mutant::ReopenedUnchecked) {
        return Ok(None);
    }
    Ok(fraud::check(Gate::Issue, &store.issue_evidence(referral).await?))
}

fn order_by_operator(referral: &Referral, id: &OrderId, paid: Option<&Money>, now: Timestamp) -> Order {
    Order {
        id: id.clone(),
        event: BY_OPERATOR.to_owned(),
        user: referral.referee.clone(),
        paid: paid.copied().unwrap_or(referral.terms.minimum),
        placed_at: now,
        is_by_operator: true,
        latest_sign_up: Timestamp::LAST,
        hold_until: None,
    }
}

/// Converts by an order, which is claimed first. Other than an event, it does not become a candidate, and it does not void a
/// referral if it no longer stands.
async fn convert(
    store: &Store,
    referral: &Referral,
    order: Order,
    now: Timestamp,
) -> Result<Result<Decision, OperationRefusal>, StoreError> {
    let first = referral.decide(&Command::Convert(&order, Adjustments::NONE), now);
    match first {
        Decision::Apply(_, Transition::Convert) => {}
        Decision::AlreadyDone => return Ok(known_order(referral, &order.id)),
        other => return Ok(without_candidates(other)),
    }
    if let Some(reason) = broken_rule(store, referral).await? {
        return Ok(Err(OperationRefusal::RuleBroken(reason)));
    }
    let claimed = if mutant::is(Mutant::OperatorOrderNotClaimed) {
        Claimed::Ours(store.order(&order.id).await?)
    } else {
        store.claim(&order.id, &order.user, &order.paid).await?
    };
    let Claimed::Ours(OrderRecord { paid, adjustments, .. }) = claimed else {
        return Ok(Err(OperationRefusal::OrderClaimed));
    };
    let order = Order { paid: paid.unwrap_or(order.paid), ..order };
    Ok(without_candidates(referral.decide(&Command::Convert(&order, &adjustments), now)))
}

/// The referral knows this order: it has converted the referral, is a candidate, or fell.
fn known_order(referral: &Referral, order: &OrderId) -> Result<Decision, OperationRefusal> {
    let is_by = referral.conversion().is_some_and(|conversion| conversion.order == *order);
    match (&referral.state, is_by) {
        (State::Converted { .. } | State::Rewarded { .. }, true) => Ok(Decision::AlreadyDone),
        (State::Voided { reason, .. } | State::Reversed { reason, .. }, _) if reason.is_of_order() => {
            Err(OperationRefusal::OrderUndone)
        }
        (State::Voided { .. } | State::Reversed { .. }, _) => Err(OperationRefusal::WrongState),
        (State::Pending | State::Converted { .. } | State::Rewarded { .. }, _) => Err(OperationRefusal::WrongState),
    }
}

fn without_candidates(decision: Decision) -> Result<Decision, OperationRefusal> {
    match decision {
        Decision::Apply(after, Transition::KeepCandidate) => {
            let is_undone = after.candidates.last().is_some_and(|kept| kept.is_undone);
            Err(if is_undone { OperationRefusal::OrderUndone } else { OperationRefusal::WrongState })
        }
        Decision::Apply(_, Transition::Void) => Err(OperationRefusal::OrderUndone),
        other => Ok(other),
    }
}

/// Resolves the order in the transaction of the step, if it has the adjustments that were read.
async fn approve(
    store: &Store,
    referral: &Referral,
    now: Timestamp,
) -> Result<(Decision, Option<ResolvedOrder>), StoreError> {
    let (Some(_), Some(conversion)) = (referral.attention(), referral.conversion()) else {
        return Ok((Decision::AlreadyDone, None));
    };
    let read = store.order(&conversion.order).await?;
    let resolved = match &referral.state {
        // Nothing is granted again, whatever is unclear about the order.
        State::Reversed { .. } => None,
        _ => read.adjustments.resolved(&conversion.paid),
    };
    let Some(adjustments) = resolved else { return Ok((referral.decide(&Command::Resolve(&read), now), None)) };
    let resolved = OrderRecord { adjustments, ..read.clone() };
    let decision = referral.decide(&Command::Resolve(&resolved), now);
    Ok((decision, Some(ResolvedOrder { read, resolved })))
}

fn refused(refusal: Refusal) -> OperationRefusal {
    match refusal {
        Refusal::Unqualified => OperationRefusal::NotQualifying,
        Refusal::OtherUser => OperationRefusal::OrderClaimed,
        Refusal::OrderUndone => OperationRefusal::OrderUndone,
        Refusal::Status(_)
        | Refusal::BeforeSignUp
        | Refusal::OtherOrder
        | Refusal::NotDue
        | Refusal::NeedsAttention => OperationRefusal::WrongState,
    }
}
