//! Convert: a qualifying order turns `pending` into `converted`. Withdraw: the news that it does not stand after all
//! turns `converted` into `voided`.

use crate::{
    id::UserId,
    machine::{Event, Step},
    order::{Order, Withdrawal},
    referral::Referral,
    store::{Stepped, Store, StoreError},
    time::Timestamp,
};

/// Takes an order in; `None` when its user was never referred.
///
/// # Errors
/// When the table does not answer.
pub async fn convert(store: &Store, order: &Order, now: Timestamp) -> Result<Option<Stepped>, StoreError> {
    let decide = |referral: &Referral| referral.after(&Event::Convert(order), now);
    step_of(store, &order.user, decide).await
}

/// Takes the news in that an order does not stand any more; `None` when its user was never referred.
///
/// # Errors
/// When the table does not answer.
pub async fn withdraw(store: &Store, withdrawal: &Withdrawal, now: Timestamp) -> Result<Option<Stepped>, StoreError> {
    let decide = |referral: &Referral| referral.after(&Event::Withdraw(withdrawal), now);
    step_of(store, &withdrawal.user, decide).await
}

async fn step_of(
    store: &Store,
    referee: &UserId,
    decide: impl Fn(&Referral) -> Step + Send,
) -> Result<Option<Stepped>, StoreError> {
    match store.referral(referee).await? {
        Some(referral) => store.step(referral, decide).await.map(Some),
        None => Ok(None),
    }
}
