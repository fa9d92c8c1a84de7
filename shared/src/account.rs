//! Accounts: what is known of a user apart from their referrals.

use crate::{device::Device, time::Timestamp};

/// A user's account. One of whom nothing is known is in good standing and has no devices.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Whether the account is flagged now.
    pub flagged: bool,
    /// The devices reported when its codes were minted.
    pub devices: Vec<Device>,
}

impl Account {
    /// How many devices are remembered; a person has a handful, and an item must not grow without bound.
    pub const MAX_DEVICES: usize = 20;
}

/// News of an account's standing. Whatever the order of arrival, the latest by `at` holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Flagged, and why; or cleared.
    pub flag: Option<String>,
    /// When it was decided.
    pub at: Timestamp,
}
