//! People by number. All names are equally long, so that what is done for one is done for each.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::Trouble;

/// The people of one referral.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    pub(crate) referrer: String,
    pub(crate) code: String,
    pub(crate) referee: String,
}

impl Cast {
    /// Those in the files of `events/`.
    const IN_FILES: [&str; 3] = ["alice", "ALICE-2026", "bob"];

    /// The referrer and the referee with these numbers.
    pub(crate) fn of(referrer: usize, referee: usize) -> Self {
        Self {
            referrer: format!("a1d9c8b2-6a1e-4bb0-8f2e-{referrer:012}"),
            code: format!("GATE{referrer:08}"),
            referee: format!("b0b5c8d2-7b2f-4cc1-9a3f-{referee:012}"),
        }
    }

    /// A text about `others`, told about these.
    pub(crate) fn instead(&self, others: &Self, text: &str) -> String {
        self.in_place([&others.referrer, &others.code, &others.referee], text)
    }

    fn in_place(&self, [referrer, code, referee]: [&str; 3], text: &str) -> String {
        text.replace(code, &self.code).replace(referrer, &self.referrer).replace(referee, &self.referee)
    }

    /// A file of `events/`, as if these were the people in it.
    pub(crate) fn event(&self, file: &str) -> Result<Value, Trouble> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events").join(format!("{file}.json"));
        Ok(serde_json::from_str(&self.in_place(Self::IN_FILES, &fs::read_to_string(path)?))?)
    }
}
