//! Accounts: what the service stores about a user, apart from referrals.

use crate::domain::{device::Device, time::Timestamp};

/// A user's account. A user without an item is not flagged and has no devices.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Account {
    pub flagged: bool,
    /// The devices that were reported when the user's codes were minted.
    pub devices: Vec<Device>,
}

impl Account {
    /// The maximum number of stored devices. A user has a few, and an item must not grow without bound.
    pub const MAX_DEVICES: usize = 20;
}

/// A change of an account's flag. The change with the latest `at` counts, regardless of the order of arrival.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountFlag {
    /// Why the account is flagged; `None` clears the flag.
    pub reason: Option<String>,
    /// When the change was decided.
    pub at: Timestamp,
}
