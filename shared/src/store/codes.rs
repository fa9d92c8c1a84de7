//! Minting and looking up codes.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{CancellationReason, TransactWriteItem},
};

use super::{Store, StoreError, guard, retry::Attempts};
use crate::{
    code::{Code, Ending, OwnedCode},
    device::Device,
    id::{ProgramId, UserId},
    mutant::{self, Mutant},
    runtime,
    table::{self, Item, Key},
};

/// What a mint came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Minted {
    /// The code is new.
    New(OwnedCode),
    /// The user had a code in this program: this one.
    Owned(OwnedCode),
    /// The code is somebody else's.
    Taken,
}

impl Store {
    /// Writes a code and that its owner has it, in one transaction, and the owner's device with them: one code per user
    /// and program, one owner per code.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn mint(&self, code: OwnedCode, device: Option<&Device>) -> Result<Minted, StoreError> {
        let mut writes = vec![
            TransactWriteItem::builder().set_put(guard::create_in(&self.table, table::code_item(&code)?)).build(),
            TransactWriteItem::builder().set_put(guard::create_in(&self.table, table::code_owner_item(&code)?)).build(),
        ];
        if let Some(device) = device {
            let remember = guard::remember_device_in(&self.table, &Key::account(&code.owner), device);
            writes.push(TransactWriteItem::builder().set_update(remember).build());
        }
        let attempts = Attempts::default();
        let write = self.client.transact_write_items().set_transact_items(Some(writes));
        let answer = write.customize().interceptor(attempts.clone()).send().await;
        let Err(problem) = answer else { return Ok(Minted::New(code)) };
        match refusals(&problem) {
            Some([_, owner, ..]) if is_refused(owner) => {
                let owned = self.owned(&code, owner.item()).await?;
                // Our own write, whose first answer got lost, looks like this: exactly what we wanted is there.
                if attempts.were_many() && owned == code {
                    return Ok(Minted::New(owned));
                }
                if let Some(device) = device {
                    self.remember_device(&code.owner, device).await?;
                }
                Ok(Minted::Owned(owned))
            }
            Some([taken, ..]) if is_refused(taken) => Ok(Minted::Taken),
            Some(_) | None => Err(problem.into()),
        }
    }

    /// The code that the user has already, of which the refusal says which it is.
    async fn owned(&self, wanted: &OwnedCode, found: Option<&Item>) -> Result<OwnedCode, StoreError> {
        let owned = match found {
            Some(item) => self.code(&table::owned_code_from(item.clone())?).await?,
            None => None,
        };
        owned.ok_or_else(|| StoreError::Contended(format!("the code of {}", wanted.owner.hashed())))
    }

    /// Looks a code up.
    ///
    /// # Errors
    /// When the table does not answer, or holds something else there.
    pub async fn code(&self, code: &Code) -> Result<Option<OwnedCode>, StoreError> {
        Ok(self.get(&Key::code(code)).await?.map(table::code_from).transpose()?)
    }

    /// Changes when a code ends, and gives the code as it is then; `None` when nobody has it.
    ///
    /// # Errors
    /// When the table does not answer, or holds something else there.
    pub async fn end_code(&self, code: &Code, ending: Ending) -> Result<Option<OwnedCode>, StoreError> {
        let write = guard::end_code(&self.client, &Key::code(code), ending).table_name(&self.table);
        let found = match write.send().await {
            Ok(changed) => changed.attributes,
            Err(SdkError::ServiceError(refusal)) => match refusal.into_err() {
                // It had ended before, or is not there.
                UpdateItemError::ConditionalCheckFailedException(refusal) => refusal.item,
                other => return Err(StoreError::Unavailable(runtime::explain(&other))),
            },
            Err(problem) => return Err(problem.into()),
        };
        Ok(found.map(table::code_from).transpose()?)
    }

    /// The code that this user has in this program.
    ///
    /// # Errors
    /// When the table does not answer, or holds something else there.
    pub async fn code_of(&self, user: &UserId, program: &ProgramId) -> Result<Option<OwnedCode>, StoreError> {
        match self.get(&Key::code_owner(user, program)).await? {
            Some(owner) => self.code(&table::owned_code_from(owner)?).await,
            None => Ok(None),
        }
    }
}

/// Why a transaction was refused, write by write; `None` when it failed otherwise.
fn refusals<R>(problem: &SdkError<TransactWriteItemsError, R>) -> Option<&[CancellationReason]> {
    match problem.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(canceled) => Some(canceled.cancellation_reasons()),
        _ => None,
    }
}

fn is_refused(reason: &CancellationReason) -> bool {
    let is_conflict = reason.code() == Some("TransactionConflict");
    reason.code() == Some("ConditionalCheckFailed") || (is_conflict && mutant::is(Mutant::ConflictTakenForRefusal))
}
