//! Convert: a qualifying order turns `pending` into `converted`. The order is claimed first, so that the same order, reported for
//! another user too, does not convert a second referral. Adjust: a cancellation, refund or dispute is first written to its order.
//! If the order converted a referral and no longer stands, the next order converts it. Without one, `converted` turns into
//! `voided`, and back if the order stands again.

use crate::{
    domain::{
        adjustments::{Adjustment, Adjustments, OrderAdjustment},
        order::{Order, OrderRecord},
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::{
        Attention, Referral,
        machine::{Command, Decision, Refusal},
        note::{Note, OrderRefusal, RefusedOrder, Subject},
    },
    store::{Adjusted, Claimed, Outcome, Store, StoreError, WriteResult},
};

/// Applies an order to the referral of its user. `None`: the user was never referred.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable, or when concurrent writes cause too many conflicts.
pub async fn convert(store: &Store, order: &Order, now: Timestamp) -> Result<Option<Outcome>, StoreError> {
    let outcome = decide(store, order, now).await?;
    if let Some(Outcome::Refused(refusal, referral)) = &outcome {
        note(store, referral, order, *refusal, now).await?;
    }
    Ok(outcome)
}

/// Notes why an order did not convert a referral that could have converted.
async fn note(
    store: &Store,
    referral: &Referral,
    order: &Order,
    refusal: Refusal,
    now: Timestamp,
) -> Result<(), StoreError> {
    let reason = OrderRefusal::of(refusal, referral, order);
    let Some(reason) = reason.filter(|_| !mutant::is(Mutant::RefusedOrderNotNoted)) else { return Ok(()) };
    let note = Note::Order(RefusedOrder::of(order, reason, now));
    store.note(&Subject::Referral(referral.referee.clone()), &note).await
}

async fn decide(store: &Store, order: &Order, now: Timestamp) -> Result<Option<Outcome>, StoreError> {
    let Some(mut referral) = store.referral(&order.user).await? else { return Ok(None) };
    let mut claimed = None;
    for _ in 0..Store::MAX_DECISIONS {
        // An order that cannot convert is not claimed.
        if let Some(outcome) = unchanged(&referral, order, Adjustments::NONE, now) {
            return Ok(Some(outcome));
        }
        // A conflicting write may have noted another adjustment of this order, so the order is read again.
        if claimed.is_none() || !mutant::is(Mutant::OrderNotReadAgain) {
            claimed = claim(store, order).await?;
        }
        let Some((order, adjustments)) = &claimed else {
            return Ok(Some(Outcome::Refused(Refusal::OtherUser, referral)));
        };
        let Decision::Apply(after, transition) = referral.decide(&Command::Convert(order, adjustments), now) else {
            return Ok(unchanged(&referral, order, adjustments, now));
        };
        referral = match store.write(&referral, *after, transition).await? {
            WriteResult::Written(after) => return Ok(Some(Outcome::Applied(after, transition))),
            WriteResult::Conflict(found) => found,
        };
    }
    Err(store.contended(&referral))
}

/// The outcome, if the order changes nothing.
fn unchanged(referral: &Referral, order: &Order, adjustments: &Adjustments, now: Timestamp) -> Option<Outcome> {
    match referral.decide(&Command::Convert(order, adjustments), now) {
        Decision::Apply(..) => None,
        Decision::AlreadyDone => Some(Outcome::AlreadyDone(referral.clone())),
        Decision::Refuse(reason) => Some(Outcome::Refused(reason, referral.clone())),
    }
}

/// Claims the order. Returns it with its adjustments, or `None` if another user has claimed it. If an order is reported with
/// different amounts, the first one counts.
async fn claim(store: &Store, order: &Order) -> Result<Option<(Order, Adjustments)>, StoreError> {
    Ok(match store.claim(&order.id, &order.user, &order.paid).await? {
        Claimed::Ours(record) => {
            Some((Order { paid: record.paid.unwrap_or(order.paid), ..order.clone() }, record.adjustments))
        }
        Claimed::By(_) => mutant::is(Mutant::ClaimIgnored).then(|| (order.clone(), Adjustments::default())),
    })
}

/// The effect of an adjustment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    /// The outcome for the referral of the order's user. `None`: the order belongs to no referral so far.
    pub outcome: Option<Outcome>,
    /// Why an operator has to look at this adjustment.
    pub attention: Option<Attention>,
}

/// Writes an adjustment to its order, and applies it to the referral of the order's user.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable, or when concurrent writes cause too many conflicts.
pub async fn adjust(store: &Store, adjustment: &OrderAdjustment, now: Timestamp) -> Result<Effect, StoreError> {
    let (record, is_full) = match store.adjust(&adjustment.order, &adjustment.adjustment, now).await? {
        Adjusted::Kept(record) => (record, false),
        Adjusted::Full(record) => (record, true),
    };
    // An order that an earlier version converted may be unclaimed. Then the event's user counts.
    let user = record.claimed_by.as_ref().or(adjustment.user.as_ref());
    let referral = match user {
        Some(user) => store.referral(user).await?,
        None => None,
    };
    let outcome = match referral {
        Some(referral) => {
            let decide = |referral: &Referral| referral.decide(&Command::Adjust(&record, adjustment.hold_until), now);
            Some(store.apply(referral, decide).await?)
        }
        None => None,
    };
    let is_foreign = is_foreign(&adjustment.adjustment, &record, outcome.as_ref());
    let attention = match (is_full, is_foreign) {
        (true, _) => Some(Attention::TooManyAdjustments),
        (false, true) => Some(Attention::RefundInOtherCurrency),
        (false, false) => None,
    };
    Ok(Effect { outcome, attention })
}

/// Whether this is a refund in another currency than that of its order, as far as the order is known.
fn is_foreign(adjustment: &Adjustment, record: &OrderRecord, outcome: Option<&Outcome>) -> bool {
    let Adjustment::Refunded(id, refund) = adjustment else { return false };
    let converted = outcome.and_then(|outcome| outcome.referral().orders().find(|known| known.order == record.id));
    let paid = record.paid.or(converted.map(|known| known.paid));
    paid.is_some_and(|paid| paid.currency != refund.currency) && !record.adjustments.failed_refunds.contains(id)
}
