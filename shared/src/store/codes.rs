//! Minting and looking up codes.

use super::{
    Store, StoreError, WriteResult, guard,
    items::code::{from_code_item, from_owner_item, to_code_item, to_owner_item},
    keys::{Item, Key},
    retry::Attempts,
    transact,
};
use crate::{
    domain::{
        code::{Code, ExpiryChange, OwnedCode},
        device::Device,
        id::{ProgramId, UserId},
    },
    mutant::Mutant,
};

/// The result of a mint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Minted {
    New(OwnedCode),
    /// The user already had this code in this program.
    Owned(OwnedCode),
    /// Another user has this code.
    Conflict,
}

impl Store {
    /// Writes a code, the item that names it as its owner's code, and the owner's device, in one transaction. The
    /// conditions ensure that a user has one code per program and a code has one owner.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn mint(&self, code: OwnedCode, device: Option<&Device>) -> Result<Minted, StoreError> {
        let mut writes = vec![
            guard::create(to_code_item(&code)?, Mutant::CodeOverwritten),
            guard::create(to_owner_item(&code)?, Mutant::CodeOverwritten),
        ];
        if let Some(device) = device {
            writes.push(guard::add_device(&Key::account(&code.owner), device));
        }
        let attempts = Attempts::default();
        let mut conflicts = match transact(&self.client, &self.table, writes, Some(&attempts)).await? {
            WriteResult::Written(()) => return Ok(Minted::New(code)),
            WriteResult::Conflict(conflicts) => conflicts,
        };
        // Write 1 is the owner's item. Without a conflict there, the user has no code, and the code belongs to another user.
        if !conflicts.is_at(1) {
            return Ok(Minted::Conflict);
        }
        let owned = self.owned(&code, conflicts.take_found(1)).await?;
        // If the answer to our own first attempt was lost, the table contains exactly what we wanted to write.
        if attempts.were_many() && owned == code {
            return Ok(Minted::New(owned));
        }
        if let Some(device) = device {
            self.remember_device(&code.owner, device).await?;
        }
        Ok(Minted::Owned(owned))
    }

    /// Reads the code that the user already has. `found` is the item that names it, as the conflict returned it.
    async fn owned(&self, wanted: &OwnedCode, found: Option<Item>) -> Result<OwnedCode, StoreError> {
        let owned = match found {
            Some(item) => self.code(&from_owner_item(item)?).await?,
            None => None,
        };
        owned.ok_or_else(|| StoreError::Contended(format!("the code of {}", wanted.owner.hashed())))
    }

    /// Looks up a code.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn code(&self, code: &Code) -> Result<Option<OwnedCode>, StoreError> {
        Ok(self.get(&Key::code(code)).await?.map(from_code_item).transpose()?)
    }

    /// Changes when a code expires, and returns the code after the change; `None` when there is no such code.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn change_expiry(&self, code: &Code, change: ExpiryChange) -> Result<Option<OwnedCode>, StoreError> {
        let found = match self.send(guard::change_expiry(&Key::code(code), change), None).await? {
            WriteResult::Written(changed) => changed,
            // The code had already expired, or does not exist.
            WriteResult::Conflict(found) => found,
        };
        Ok(found.map(from_code_item).transpose()?)
    }

    /// The code that this user has in this program.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn code_of(&self, user: &UserId, program: &ProgramId) -> Result<Option<OwnedCode>, StoreError> {
        match self.get(&Key::code_owner(user, program)).await? {
            Some(owner) => self.code(&from_owner_item(owner)?).await,
            None => Ok(None),
        }
    }
}
