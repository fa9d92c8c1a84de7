//! Accounts: flags and devices.

use super::{Store, StoreError, WriteResult, guard, keys::Key};
use crate::domain::{account::AccountFlag, device::Device, id::UserId, time::Timestamp};

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

    /// Adds a device to an account, unless the account has the maximum number of devices.
    pub(super) async fn remember_device(&self, user: &UserId, device: &Device) -> Result<(), StoreError> {
        self.send(guard::remember_device(&Key::account(user), device), None).await.map(drop)
    }
}
