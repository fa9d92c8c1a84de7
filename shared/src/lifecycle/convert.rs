//! Convert: a qualifying order turns `pending` into `converted`. The order is claimed first, so that the same order, reported for
//! another user too, does not convert a second referral. Adjust: a cancellation, refund or dispute is first written to its order.
//! If the order converted a referral and no longer stands, the next order converts it. Without one, `converted` turns into
//! `voided`, and back if the order stands again.

use crate::{
    domain::{
        adjustments::{Adjustments, OrderAdjustment},
        order::Order,
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::{
        Referral,
        machine::{Command, Decision, Refusal},
    },
    store::{Adjusted, Claimed, Outcome, Store, StoreError, WriteResult},
};

/// Applies an order to the referral of its user. `None`: the user was never referred.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable, or when concurrent writes cause too many conflicts.
pub async fn convert(store: &Store, order: &Order, now: Timestamp) -> Result<Option<Outcome>, StoreError> {
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
pub enum Effect {
    /// It is kept with the order, which belongs to no referral so far.
    Kept,
    /// It is kept, and this is the outcome for the referral of the order's user.
    Referral(Box<Outcome>),
    /// The order has too many adjustments. It is not kept.
    Full,
}

/// Writes an adjustment to its order, and applies it to the referral of the order's user.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable, or when concurrent writes cause too many conflicts.
pub async fn adjust(store: &Store, adjustment: &OrderAdjustment, now: Timestamp) -> Result<Effect, StoreError> {
    let Adjusted::Kept(record) = store.adjust(&adjustment.order, &adjustment.adjustment, now).await? else {
        return Ok(Effect::Full);
    };
    // An order that an earlier version converted may be unclaimed. Then the event's user counts.
    let Some(user) = record.claimed_by.as_ref().or(adjustment.user.as_ref()) else { return Ok(Effect::Kept) };
    let Some(referral) = store.referral(user).await? else { return Ok(Effect::Kept) };
    let decide = |referral: &Referral| referral.decide(&Command::Adjust(&record, adjustment.hold_until), now);
    Ok(Effect::Referral(Box::new(store.apply(referral, decide).await?)))
}
