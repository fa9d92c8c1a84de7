//! Reversals for operators: list those that have no answer or were refused, and send them again.

mod list;
mod resend;

pub(crate) use list::list;
pub(crate) use resend::{all as resend_all, one as resend_one};
