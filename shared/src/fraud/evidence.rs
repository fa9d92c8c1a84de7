//! Evidence: what the fraud rules know about two users when they run.

use std::net::IpAddr;

use crate::domain::{account::Account, device::Device, id::UserId};

/// What the fraud rules know. The store reads the accounts and the referrer's own referral in one batch; the caller adds
/// what belongs to the sign-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    pub referrer: UserId,
    pub referee: UserId,
    pub referrer_account: Account,
    /// Read before the rewards are issued. At attribution it is not read, and it is empty.
    pub referee_account: Account,
    /// `None` if the referrer was not referred.
    pub referrers_own: Option<OwnReferral>,
    /// The device with which the referee signed up.
    pub device: Option<Device>,
    /// What else the product reported about the sign-up.
    pub reported: Reported,
}

/// The referral of a referrer who was referred too, as far as the rules read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnReferral {
    pub referrer: UserId,
    /// The device with which the referrer signed up.
    pub device: Option<Device>,
}

/// Properties of a sign-up as the product reported them. They are raw personal data: no rule reads them yet, they are
/// not stored, and a digest is to be computed only where a rule needs one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reported {
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub email: Option<String>,
}
