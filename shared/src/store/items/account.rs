//! The item of an account. The store changes it by update expressions only, so it is read and never written as a whole.

use serde::Deserialize;

use super::{InvalidItem, from_image};
use crate::{
    domain::{
        account::{Account, AccountFlag},
        device::Device,
        time::Timestamp,
    },
    store::keys::Item,
};

#[derive(Deserialize)]
struct AccountItem {
    #[serde(default)]
    flagged: bool,
    #[serde(default)]
    flag_reason: Option<String>,
    #[serde(default)]
    flag_at: Option<Timestamp>,
    #[serde(default)]
    devices: Vec<Device>,
}

/// Reads an account from its item.
///
/// # Errors
/// Returns an error when the item is not an account.
pub fn from_item(item: Item) -> Result<Account, InvalidItem> {
    let AccountItem { flagged, devices, .. } = from_image(item.into())?;
    Ok(Account { flagged, devices })
}

/// Reads the last change of an account's flag; `None` if it never changed.
///
/// # Errors
/// Returns an error when the item is not an account.
pub fn flag(item: Item) -> Result<Option<AccountFlag>, InvalidItem> {
    let AccountItem { flagged, flag_reason, flag_at, .. } = from_image(item.into())?;
    let reason = flagged.then(|| flag_reason.unwrap_or_default());
    Ok(flag_at.map(|at| AccountFlag { reason, at }))
}
