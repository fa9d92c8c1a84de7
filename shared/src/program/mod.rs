//! The referral program: which orders qualify, what it promises each side, and how long a touch is valid.

pub mod benefit;
mod settings;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::benefit::Promise;
pub use self::settings::QualifyingEvents;
use crate::domain::{id::ProgramId, money::Money, order::Order};

/// What a program promises. A copy is stored with each referral at attribution, so a later change of the program does not
/// change promises already made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The event type that converts.
    pub qualifying_event: String,
    /// The minimum value of the order.
    pub minimum: Money,
    /// The time between conversion and issue.
    pub hold_seconds: u32,
    pub referrer: Promise,
    pub referee: Promise,
}

impl Terms {
    /// Whether this order converts a referral that has these terms.
    pub fn qualifies(&self, order: &Order) -> bool {
        (order.event == self.qualifying_event || order.is_by_operator) && order.paid.covers(&self.minimum)
    }

    /// The time between conversion and issue.
    pub fn hold(&self) -> Duration {
        Duration::from_secs(self.hold_seconds.into())
    }
}

/// The program that this stack runs.
#[derive(Clone, Debug)]
pub struct Program {
    pub id: ProgramId,
    /// The terms of new referrals.
    pub terms: Terms,
    /// How long a touch counts.
    pub window: Duration,
    /// How long after its sign-up a user is new. `None`: always.
    pub new_within: Option<Duration>,
}
