//! The documents list what the code has: log outcomes and error reasons, each exactly once.

use std::{fs, path::Path};

use referrals::{lambda::http::problem::Reason, runtime::log_outcome::LogOutcome};

/// The names in the first column of the table below this heading.
fn listed(document: &str, heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let section = lines.by_ref().take_while(|line| !line.starts_with('#'));
    let names = section.filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned()));
    names.collect()
}

#[test]
fn every_log_outcome_is_documented_in_order() {
    let outcomes: Vec<_> = LogOutcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    assert_eq!(listed("operations.md", "## Log outcomes"), outcomes);
}

#[test]
fn every_error_reason_is_documented_in_the_order_of_the_checks() {
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(listed("api.md", "### Error reasons"), reasons);
}
