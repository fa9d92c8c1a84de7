//! Convert: a qualifying order turns `pending` into `converted`. The order is claimed first, so that the same order, reported for
//! another user too, does not convert a second referral. Adjust: a cancellation, full refund or dispute of that
//! order turns `converted` into `voided`.

use crate::{
    domain::{
        order::{Order, OrderAdjustment},
        time::Timestamp,
    },
    mutant::{self, Mutant},
    referral::{
        Referral,
        machine::{Command, Decision, Refusal},
    },
    store::{Claimed, Outcome, Store, StoreError},
};

/// Applies an order to the referral of its user. `None`: the user was never referred.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable.
pub async fn convert(store: &Store, order: &Order, now: Timestamp) -> Result<Option<Outcome>, StoreError> {
    let Some(referral) = store.referral(&order.user).await? else { return Ok(None) };
    let decide = |referral: &Referral| referral.decide(&Command::Convert(order), now);
    let converts = matches!(decide(&referral), Decision::Apply(..));
    if converts
        && store.claim(&order.id, &order.user, &order.paid).await? != Claimed::Ours
        && !mutant::is(Mutant::ClaimIgnored)
    {
        return Ok(Some(Outcome::Refused(Refusal::OtherUser, referral)));
    }
    store.apply(referral, decide).await.map(Some)
}

/// Applies an adjustment to the referral of its user. `None`: the user was never referred.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable.
pub async fn adjust(
    store: &Store,
    adjustment: &OrderAdjustment,
    now: Timestamp,
) -> Result<Option<Outcome>, StoreError> {
    let Some(referral) = store.referral(&adjustment.user).await? else { return Ok(None) };
    let decide = |referral: &Referral| referral.decide(&Command::Adjust(adjustment), now);
    store.apply(referral, decide).await.map(Some)
}
