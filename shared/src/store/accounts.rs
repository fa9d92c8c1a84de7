//! Accounts: flags and devices.

use super::{Store, StoreError, WriteResult, guard};
use crate::{account::Standing, device::Device, id::UserId, table::Key};

impl Store {
    /// Flags or clears an account. Returns `false` when the same or later news had come before.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn set_standing(&self, user: &UserId, standing: &Standing) -> Result<bool, StoreError> {
        let written = self.send(guard::standing(&Key::account(user), standing), None).await?;
        Ok(matches!(written, WriteResult::Written(_)))
    }

    /// Adds a device to an account, unless the account has the maximum number of devices.
    pub(super) async fn remember_device(&self, user: &UserId, device: &Device) -> Result<(), StoreError> {
        self.send(guard::remember_device(&Key::account(user), device), None).await.map(drop)
    }
}
