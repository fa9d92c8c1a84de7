//! Convert: a qualifying order turns `pending` into `converted`. Withdraw: the news that it does not stand after all
//! turns `converted` into `voided`.

use crate::{
    id::UserId,
    machine::{Command, Decision},
    order::{Order, OrderAdjustment},
    referral::Referral,
    store::{Outcome, Store, StoreError},
    time::Timestamp,
};

/// Takes an order in; `None` when its user was never referred.
///
/// # Errors
/// When the table does not answer.
pub async fn convert(store: &Store, order: &Order, now: Timestamp) -> Result<Option<Outcome>, StoreError> {
    let decide = |referral: &Referral| referral.decide(&Command::Convert(order), now);
    step_of(store, &order.user, decide).await
}

/// Takes the news in that an order does not stand any more; `None` when its user was never referred.
///
/// # Errors
/// When the table does not answer.
pub async fn adjust(
    store: &Store,
    adjustment: &OrderAdjustment,
    now: Timestamp,
) -> Result<Option<Outcome>, StoreError> {
    let decide = |referral: &Referral| referral.decide(&Command::Adjust(adjustment), now);
    step_of(store, &adjustment.user, decide).await
}

async fn step_of(
    store: &Store,
    referee: &UserId,
    decide: impl Fn(&Referral) -> Decision + Send,
) -> Result<Option<Outcome>, StoreError> {
    match store.referral(referee).await? {
        Some(referral) => store.apply(referral, decide).await.map(Some),
        None => Ok(None),
    }
}
