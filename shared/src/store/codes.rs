//! Minting and looking up codes.

use super::{
    Store, StoreError, WriteResult, guard,
    items::code::{from_code_item, from_owner_item, to_code_item, to_owner_item},
    keys::Key,
    retry::Attempts,
    transact,
};
use crate::{
    domain::{
        code::{Code, ExpiryChange, OwnedCode},
        device::Device,
        id::{ProgramId, UserId},
        time::Timestamp,
    },
    mutant::Mutant,
};

/// The result of a mint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Minted {
    New(OwnedCode),
    /// The code that the user already has in this program: the live one, or else the last one.
    Owned(OwnedCode),
    /// The code exists: it belongs to another user, or it is an ended code of this user.
    Conflict,
}

/// The result of a change of a code's expiry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExpiryChanged {
    /// The code as it is now.
    Changed(OwnedCode),
    /// There is no such code.
    NotFound,
    /// The code was not revived, because another code of its owner is live.
    OtherLive,
}

impl Store {
    /// Writes the first code of a user in a program, the item that names it as its owner's code, and the owner's device,
    /// in one transaction. The conditions ensure that a code has one owner and that the owner's item is written once.
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
        let owned = match conflicts.take_found(1) {
            Some(owner) => self.code(&from_owner_item(owner)?).await?,
            None => None,
        };
        let minted = recognised(owned, code, &attempts)?;
        if let (Minted::Owned(owned), Some(device)) = (&minted, device) {
            self.remember_device(&owned.owner, device).await?;
        }
        Ok(minted)
    }

    /// Writes another code of a user whose code `ended` has ended, and names it in the owner's item, in one transaction.
    /// It fails if the owner's item names another code by now, or if `ended` was revived; then the result is the user's
    /// present code.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn replace(&self, code: OwnedCode, ended: &Code) -> Result<Minted, StoreError> {
        // DynamoDB rejects a transaction that contains a key twice.
        if code.code == *ended {
            return Ok(Minted::Conflict);
        }
        let writes = vec![
            guard::create(to_code_item(&code)?, Mutant::CodeOverwritten),
            guard::name_code(&Key::code_owner(&code.owner, &code.program), &code.code, ended),
            guard::has_ended(&Key::code(ended), code.created_at),
        ];
        let attempts = Attempts::default();
        let conflicts = match transact(&self.client, &self.table, writes, Some(&attempts)).await? {
            WriteResult::Written(()) => return Ok(Minted::New(code)),
            WriteResult::Conflict(conflicts) => conflicts,
        };
        if !conflicts.is_at(1) && !conflicts.is_at(2) {
            return Ok(Minted::Conflict);
        }
        recognised(self.code_of(&code.owner, &code.program).await?, code, &attempts)
    }

    /// Looks up a code.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn code(&self, code: &Code) -> Result<Option<OwnedCode>, StoreError> {
        Ok(self.get(&Key::code(code)).await?.map(from_code_item).transpose()?)
    }

    /// Changes when a code expires. A user has at most one live code per program.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or an item is invalid.
    pub async fn change_expiry(
        &self,
        code: &Code,
        change: ExpiryChange,
        now: Timestamp,
    ) -> Result<ExpiryChanged, StoreError> {
        let write = match change {
            ExpiryChange::Live(end) => return self.revive(code, end, now).await,
            ExpiryChange::Ended(end) => guard::end_code(&Key::code(code), end),
            ExpiryChange::Disabled(now) => guard::disable_code(&Key::code(code), now),
        };
        let found = match self.send(write, None).await? {
            WriteResult::Written(changed) => changed,
            // The code had already ended, or does not exist.
            WriteResult::Conflict(found) => found,
        };
        Ok(match found.map(from_code_item).transpose()? {
            Some(changed) => ExpiryChanged::Changed(changed),
            None => ExpiryChanged::NotFound,
        })
    }

    /// Makes a code live and names it in its owner's item, in one transaction, unless the owner has another live code.
    async fn revive(&self, code: &Code, end: Option<Timestamp>, now: Timestamp) -> Result<ExpiryChanged, StoreError> {
        let Some(owned) = self.code(code).await? else { return Ok(ExpiryChanged::NotFound) };
        // The code that the owner's item names: this one, or another one that has ended.
        let mut named = owned.code.clone();
        for _ in 0..Self::MAX_DECISIONS {
            let mut writes = vec![
                guard::revive_code(&Key::code(code), end),
                guard::name_code(&Key::code_owner(&owned.owner, &owned.program), &owned.code, &named),
            ];
            if named != owned.code {
                writes.push(guard::has_ended(&Key::code(&named), now));
            }
            if let WriteResult::Written(()) = transact(&self.client, &self.table, writes, None).await? {
                return Ok(ExpiryChanged::Changed(OwnedCode { expires_at: end, ..owned }));
            }
            match self.code_of(&owned.owner, &owned.program).await? {
                Some(other) if other.code != owned.code && other.is_live(now) => return Ok(ExpiryChanged::OtherLive),
                Some(other) => named = other.code,
                None => named.clone_from(&owned.code),
            }
        }
        Err(contended(&owned))
    }

    /// The code of this user in this program: the live one, or else the last one.
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

/// The result of a mint of `wanted` whose condition failed, when `found` is the code that the user has. If the answer to
/// our own first attempt was lost, the table contains exactly what we wanted to write.
fn recognised(found: Option<OwnedCode>, wanted: OwnedCode, attempts: &Attempts) -> Result<Minted, StoreError> {
    match found {
        Some(found) if attempts.were_many() && found == wanted => Ok(Minted::New(found)),
        Some(found) => Ok(Minted::Owned(found)),
        None => Err(contended(&wanted)),
    }
}

fn contended(code: &OwnedCode) -> StoreError {
    StoreError::Contended(format!("the code {}", code.code.canonical()))
}
