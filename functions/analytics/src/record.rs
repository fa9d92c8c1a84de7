//! A stream record: the facts of a referral as it is after a write.

use aws_lambda_events::dynamodb::EventRecord;
use referrals::{
    analytics::Facts,
    store::items::referral::{from_referral_image, is_referral_key},
};
use serde::Deserialize;
use serde_json::Value;

/// What reading a record came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// A referral was written.
    Written(Box<Facts>),
    /// Not a referral, or one that was taken out by hand.
    NothingNew,
    /// It cannot be read.
    Broken,
}

pub(crate) fn read(record: &Value) -> Reading {
    let Ok(EventRecord { change, .. }) = EventRecord::deserialize(record) else { return Reading::Broken };
    if !is_referral_key(&change.keys) || change.new_image.is_empty() {
        return Reading::NothingNew;
    }
    match from_referral_image(change.new_image) {
        Ok(referral) => Reading::Written(Box::new(Facts::from(&referral))),
        Err(_unreadable) => Reading::Broken,
    }
}
