//! Evidence: the data about two users that the fraud rules read.

use std::net::IpAddr;

use crate::domain::{account::Account, device::Device, id::UserId};

/// The data that the fraud rules read. The store reads the accounts and the referrer's own referral in one batch, and
/// the caller adds the data of the sign-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    pub referrer: UserId,
    pub referee: UserId,
    pub referrer_account: Account,
    /// Read only before the rewards are issued. At attribution it is empty.
    pub referee_account: Account,
    /// `None` if the referrer was not referred.
    pub referrers_own: Option<OwnReferral>,
    /// The device with which the referee signed up.
    pub device: Option<Device>,
    /// The same device under the other keys that are valid while the key is rotated.
    pub device_aliases: Vec<Device>,
    /// The other properties of the sign-up that the product reported.
    pub reported: Reported,
}

/// The part of the referrer's own referral that the rules read. It exists if the referrer was referred, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnReferral {
    pub referrer: UserId,
    /// The device with which the referrer signed up.
    pub device: Option<Device>,
}

/// Properties of a sign-up as the product reported them. They are raw personal data: no rule reads them yet, and they
/// are not stored. Compute a digest only if a rule needs one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reported {
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub email: Option<String>,
}
