//! Orders: which user's referral an order may convert.

use super::{
    Store, StoreError, WriteResult, guard,
    items::order::{claimed_by, to_paid},
    keys::Key,
};
use crate::{
    domain::{
        id::{OrderId, UserId},
        money::Money,
    },
    mutant::{self, Mutant},
};

/// The result of claiming an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The order belongs to its user now, or did so before.
    Ours,
    /// Another user has claimed it.
    By(UserId),
}

impl Store {
    /// Claims an order for a user. A claim is never released. So an order converts one referral, and a repetition after a
    /// crash continues.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn claim(&self, order: &OrderId, user: &UserId, paid: &Money) -> Result<Claimed, StoreError> {
        let write = guard::claim_order(&Key::order(order), user, to_paid(paid)?);
        let found = match self.send(write, None).await? {
            WriteResult::Written(_) => return Ok(Claimed::Ours),
            WriteResult::Conflict(found) => found.map(claimed_by).transpose()?.flatten(),
        };
        match found {
            Some(found) if found != *user || mutant::is(Mutant::OwnClaimNotRecognised) => Ok(Claimed::By(found)),
            Some(_) => Ok(Claimed::Ours),
            // Only a claimed order refuses the write, and a claim is never released.
            None => Err(StoreError::Contended("an order".to_owned())),
        }
    }
}
