//! Accounts: flags and devices.

use super::{Store, StoreError, WriteResult, guard, keys::Key};
use crate::domain::{account::AccountFlag, device::Device, id::UserId};

impl Store {
    /// Flags or clears an account. Returns `false` when a change of the same time or a later one is stored.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn set_flag(&self, user: &UserId, flag: &AccountFlag) -> Result<bool, StoreError> {
        let written = self.send(guard::set_flag(&Key::account(user), flag), None).await?;
        Ok(matches!(written, WriteResult::Written(_)))
    }

    /// Adds a device to an account, unless the account has the maximum number of devices.
    pub(super) async fn remember_device(&self, user: &UserId, device: &Device) -> Result<(), StoreError> {
        self.send(guard::remember_device(&Key::account(user), device), None).await.map(drop)
    }
}
