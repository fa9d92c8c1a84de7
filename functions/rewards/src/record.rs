//! A stream record: which referral changed, from what to what.

use aws_lambda_events::dynamodb::EventRecord;
use referrals::{
    referral::Referral,
    store::items::{
        InvalidItem,
        referral::{from_referral_image, is_referral_key},
    },
};
use serde::Deserialize;
use serde_json::Value;

/// What reading a record came to.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A referral was written.
    Changed(Box<Change>),
    /// Not a referral, or a write that changed nothing of it.
    NothingNew,
    /// It cannot be read, for this reason.
    Broken(String),
}

/// A referral before and after a write.
#[derive(Debug)]
pub(crate) struct Change {
    /// `None`: it is new.
    pub(crate) before: Option<Referral>,
    pub(crate) after: Referral,
}

pub(crate) fn read(record: &Value) -> Reading {
    let record = match EventRecord::deserialize(record) {
        Ok(record) => record.change,
        Err(problem) => return Reading::Broken(problem.to_string()),
    };
    // A referral that was taken out by hand leaves an empty image behind.
    if !is_referral_key(&record.keys) || record.new_image.is_empty() {
        return Reading::NothingNew;
    }
    match change(record.old_image, record.new_image) {
        Ok(change) if change.before.as_ref() == Some(&change.after) => Reading::NothingNew,
        Ok(change) => Reading::Changed(Box::new(change)),
        Err(problem) => Reading::Broken(problem.to_string()),
    }
}

fn change(old: serde_dynamo::Item, new: serde_dynamo::Item) -> Result<Change, InvalidItem> {
    let before = (!old.is_empty()).then(|| from_referral_image(old)).transpose()?;
    Ok(Change { before, after: from_referral_image(new)? })
}
