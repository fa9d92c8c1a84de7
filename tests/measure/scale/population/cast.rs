//! Ids by number. All ids have the same length, so that the work does not depend on the number.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::Trouble;

/// The ids of one referral.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    pub(crate) referrer: String,
    pub(crate) code: String,
    pub(crate) referee: String,
    /// The order that converts the referral.
    order: String,
}

impl Cast {
    /// The ids in the files of `events/`.
    const IN_FILES: [&str; 4] = ["alice", "ALICE-2026", "bob", "order-1001"];

    /// The referrer and the referee with these numbers.
    pub(crate) fn of(referrer: usize, referee: usize) -> Self {
        Self {
            referrer: format!("a1d9c8b2-6a1e-4bb0-8f2e-{referrer:012}"),
            code: format!("GATE{referrer:08}"),
            referee: format!("b0b5c8d2-7b2f-4cc1-9a3f-{referee:012}"),
            order: format!("c0c5c8d2-7b2f-4cc1-9a3f-{referee:012}"),
        }
    }

    /// Replaces the ids of `others` in a text.
    pub(crate) fn replace(&self, others: &Self, text: &str) -> String {
        self.replace_ids([&others.referrer, &others.code, &others.referee, &others.order], text)
    }

    fn replace_ids(&self, [referrer, code, referee, order]: [&str; 4], text: &str) -> String {
        let text = text.replace(code, &self.code).replace(referrer, &self.referrer);
        text.replace(referee, &self.referee).replace(order, &self.order)
    }

    /// A file of `events/`, with these ids.
    pub(crate) fn event(&self, file: &str) -> Result<Value, Trouble> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events").join(format!("{file}.json"));
        Ok(serde_json::from_str(&self.replace_ids(Self::IN_FILES, &fs::read_to_string(path)?))?)
    }
}
