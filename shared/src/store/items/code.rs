//! The two items of a code: the code itself, and the item that names it as the code of its owner.

use serde::{Deserialize, Deserializer, Serialize};

use super::{InvalidItem, from_image, to_item};
use crate::{
    domain::{
        code::{Code, OwnedCode},
        id::{ProgramId, UserId},
        time::{StoredTimestamp, Timestamp},
    },
    store::keys::{Item, Key},
};

#[derive(Serialize, Deserialize)]
struct CodeItem {
    code: Code,
    owner: UserId,
    program: ProgramId,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "stored_time")]
    expires_at: Option<Timestamp>,
}

/// The time was in a request of any version.
fn stored_time<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<StoredTimestamp>::deserialize(value)?.map(|StoredTimestamp(moment)| moment))
}

/// The owner's item names only the code. The code's own item holds the rest.
#[derive(Serialize, Deserialize)]
struct CodeOwnerItem {
    code: Code,
}

/// The item of a code.
///
/// # Errors
/// Returns an error when the code cannot be serialized.
pub fn to_code_item(code: &OwnedCode) -> Result<Item, InvalidItem> {
    let OwnedCode { code: display, owner, program, created_at, expires_at } = code.clone();
    let item = CodeItem { code: display, owner, program, created_at, expires_at };
    to_item(&Key::code(&code.code), &item)
}

/// Reads a code from its item.
///
/// # Errors
/// Returns an error when the item is not a code.
pub fn from_code_item(item: Item) -> Result<OwnedCode, InvalidItem> {
    let CodeItem { code, owner, program, created_at, expires_at } = from_image(item.into())?;
    Ok(OwnedCode { code, owner, program, created_at, expires_at })
}

/// The item that names this code as the code of its owner.
///
/// # Errors
/// Returns an error when the code cannot be serialized.
pub fn to_owner_item(code: &OwnedCode) -> Result<Item, InvalidItem> {
    to_item(&Key::code_owner(&code.owner, &code.program), &CodeOwnerItem { code: code.code.clone() })
}

/// Reads which code its owner has.
///
/// # Errors
/// Returns an error when the item does not name a code.
pub fn from_owner_item(item: Item) -> Result<Code, InvalidItem> {
    from_image::<CodeOwnerItem>(item.into()).map(|owner| owner.code)
}
