//! Convert: a qualifying order turns `pending` into `converted`. Adjust: a cancellation, full refund or dispute of that
//! order turns `converted` into `voided`.

use crate::{
    domain::{
        id::UserId,
        order::{Order, OrderAdjustment},
        time::Timestamp,
    },
    referral::{
        Referral,
        machine::{Command, Decision},
    },
    store::{Outcome, Store, StoreError},
};

/// Applies an order to the referral of its user. `None`: the user was never referred.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable.
pub async fn convert(store: &Store, order: &Order, now: Timestamp) -> Result<Option<Outcome>, StoreError> {
    let decide = |referral: &Referral| referral.decide(&Command::Convert(order), now);
    apply(store, &order.user, decide).await
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
    let decide = |referral: &Referral| referral.decide(&Command::Adjust(adjustment), now);
    apply(store, &adjustment.user, decide).await
}

async fn apply(
    store: &Store,
    referee: &UserId,
    decide: impl Fn(&Referral) -> Decision + Send,
) -> Result<Option<Outcome>, StoreError> {
    match store.referral(referee).await? {
        Some(referral) => store.apply(referral, decide).await.map(Some),
        None => Ok(None),
    }
}
