//! The item of an account. The store changes it by update expressions only, so it is read and never written as a whole.

use serde::Deserialize;

use super::{InvalidItem, from_image};
use crate::{
    domain::{account::Account, device::Device},
    store::keys::Item,
};

#[derive(Deserialize)]
struct AccountItem {
    #[serde(default)]
    flagged: bool,
    #[serde(default)]
    devices: Vec<Device>,
}

/// Reads an account from its item.
///
/// # Errors
/// Returns an error when the item is not an account.
pub fn from_item(item: Item) -> Result<Account, InvalidItem> {
    let AccountItem { flagged, devices } = from_image(item.into())?;
    Ok(Account { flagged, devices })
}
