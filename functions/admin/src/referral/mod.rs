//! Referrals: lists what is held or needs a decision, shows one, and does what an operator wants.

mod entry;
mod list;
mod operate;

pub(crate) use self::{
    list::{list, one},
    operate::{approve, convert, reopen, void},
};
