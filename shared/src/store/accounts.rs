//! Accounts: flags and devices.

use aws_sdk_dynamodb::{error::SdkError, operation::update_item::UpdateItemError};

use super::{Store, StoreError, guard};
use crate::{account::Standing, device::Device, id::UserId, table::Key};

impl Store {
    /// Flags or clears an account; `false` when the same or later news had come before.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn set_standing(&self, user: &UserId, standing: &Standing) -> Result<bool, StoreError> {
        let write = guard::standing(&self.client, &Key::account(user), standing).table_name(&self.table);
        held(write.send().await)
    }

    /// Adds a device to an account; `false` when it has too many.
    pub(super) async fn remember_device(&self, user: &UserId, device: &Device) -> Result<bool, StoreError> {
        let write = guard::remember_device(&self.client, &Key::account(user), device).table_name(&self.table);
        held(write.send().await)
    }
}

/// Whether the write's condition held.
fn held<T, R: std::fmt::Debug + 'static>(answer: Result<T, SdkError<UpdateItemError, R>>) -> Result<bool, StoreError> {
    match answer {
        Ok(_) => Ok(true),
        Err(problem) => match problem.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
            Some(_) | None => Err(problem.into()),
        },
    }
}
