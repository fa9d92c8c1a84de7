//! Undelivered rewards for operators: list them, and send them again.

mod list;
mod resend;

pub(crate) use list::{RewardItem, list};
pub(crate) use resend::{all as resend_all, one as resend_one};
