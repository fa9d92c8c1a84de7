//! Accounts: flags and devices.

use super::{
    Store, StoreError, Write, WriteResult, guard,
    items::{account, note::to_note_item},
    keys::Key,
    transact,
};
use crate::{
    domain::{account::AccountFlag, device::Device, id::UserId, time::Timestamp},
    referral::note::{Note, Subject},
};

impl Store {
    /// Flags or clears an account. Returns `false` when a change of the same time or a later one is stored. A stored time
    /// that is too far ahead of `now` is an error of an earlier version, and does not count.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn set_flag(&self, user: &UserId, flag: &AccountFlag, now: Timestamp) -> Result<bool, StoreError> {
        let written = self.send(guard::set_flag(&Key::account(user), flag, now), None).await?;
        Ok(matches!(written, WriteResult::Written(_)))
    }

    /// Flags or clears an account together with an audit entry. Returns `false` when a change of the same time or a later one is
    /// stored.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn set_flag_with(
        &self,
        user: &UserId,
        flag: &AccountFlag,
        note: &Note,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let flag = guard::set_flag(&Key::account(user), flag, now);
        let note = Write::put(to_note_item(&Subject::Account(user.clone()), note)?);
        let written = transact(&self.client, &self.table, vec![flag, note], None).await?;
        Ok(matches!(written, WriteResult::Written(())))
    }

    /// The last change of an account's flag; `None` if it never changed.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn flag(&self, user: &UserId) -> Result<Option<AccountFlag>, StoreError> {
        let item = self.get(&Key::account(user)).await?;
        Ok(item.map(account::flag).transpose()?.flatten())
    }

    /// Adds a device to an account, unless the account has the maximum number of devices.
    pub(super) async fn remember_device(&self, user: &UserId, device: &Device) -> Result<(), StoreError> {
        self.send(guard::remember_device(&Key::account(user), device), None).await.map(drop)
    }
}
