//! Minting and looking up codes.

use super::{Store, StoreError, WriteResult, guard, retry::Attempts, write};
use crate::{
    code::{Code, Ending, OwnedCode},
    device::Device,
    id::{ProgramId, UserId},
    mutant::Mutant,
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
            guard::create(table::code_item(&code)?, Mutant::CodeOverwritten),
            guard::create(table::code_owner_item(&code)?, Mutant::CodeOverwritten),
        ];
        if let Some(device) = device {
            writes.push(guard::add_device(&Key::account(&code.owner), device));
        }
        let attempts = Attempts::default();
        let mut conflicts = match write::transact(&self.client, &self.table, writes, Some(&attempts)).await? {
            WriteResult::Written(()) => return Ok(Minted::New(code)),
            WriteResult::Conflict(conflicts) => conflicts,
        };
        if !conflicts.is_at(1) {
            return Ok(Minted::Taken);
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

    /// The code that the user has already, of which the refusal says which it is.
    async fn owned(&self, wanted: &OwnedCode, found: Option<Item>) -> Result<OwnedCode, StoreError> {
        let owned = match found {
            Some(item) => self.code(&table::owned_code_from(item)?).await?,
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
        let found = match self.send(guard::end_code(&Key::code(code), ending), None).await? {
            WriteResult::Written(changed) => changed,
            // The code had ended before, or does not exist.
            WriteResult::Conflict(found) => found,
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
