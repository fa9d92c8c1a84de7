//! Shows that the model can fail: each deliberate mistake violates the expected property.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{Protocol, Scope, actions::Action, faults::Mistake};

/// Checks the protocol with a mistake until it violates this property, and prints the shortest path to the violation.
///
/// The checker processes states in blocks and reports the last violation in a block. So the depth limit is raised step
/// by step: the first violation found is the shortest.
fn violates(mistake: Mistake, property: &'static str) {
    const MAX_DEPTH: usize = 30;
    let path = (2..MAX_DEPTH).find_map(|depth| {
        let protocol = Protocol { mistake: Some(mistake), scope: Scope { faults: 1, ..Scope::EVERYTHING } };
        let checker = protocol.checker().target_max_depth(depth);
        checker.finish_when(HasDiscoveries::AnyOf(BTreeSet::from([property]))).spawn_bfs().join().discovery(property)
    });
    let Some(path) = path else { panic!("{mistake:?} does not violate \"{property}\"") };
    // Printed in one call, because these tests run in parallel.
    let mut report = format!("{mistake:?} violates \"{property}\":\n");
    for (world, action) in path.into_vec() {
        report += &format!("      {world:?}\n");
        report += &action.map(|action| format!("  {}\n", describe(action))).unwrap_or_default();
    }
    println!("{report}");
}

/// An action as text, without the process's index.
fn describe(action: Action) -> String {
    match action {
        Action::Start(task) => format!("{task:?} starts"),
        Action::Run(_, task, step) => format!("{task:?}: {step:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_write_without_the_revision() {
    violates(Mistake::NoRevision, "a delivered reward stays delivered");
}

#[test]
fn an_unconditional_write() {
    violates(Mistake::NoCondition, "at most one conversion, or a second one after a cancellation");
}

#[test]
fn an_event_acknowledged_before_its_write() {
    violates(Mistake::AcknowledgedBeforeWrite, "no event is acknowledged without its effect");
}

#[test]
fn a_mark_before_the_call() {
    violates(Mistake::MarkedBeforeCall, "delivered only after booking");
}

#[test]
fn no_sweep() {
    violates(Mistake::NoSweep, "a finished referral has no open reward");
}

#[test]
fn a_sweep_without_a_claim() {
    violates(Mistake::NoClaim, "no announcement is repeated without a cause");
}

#[test]
fn an_issue_that_removes_the_referral_from_the_index() {
    violates(Mistake::UnlistedAtIssue, "the work index holds exactly the outstanding work");
}

#[test]
fn a_new_key_for_each_call() {
    violates(Mistake::NewKeyPerCall, "booked at most once");
}

#[test]
fn cached_accounts() {
    violates(Mistake::CachedAccounts, "no reward is issued if the issue read a flag");
}

#[test]
fn an_issue_before_the_hold_ends() {
    violates(Mistake::NoHold, "no reward is issued before the hold ends");
}

#[test]
fn a_void_after_the_issue_without_reversals() {
    violates(Mistake::NoReversal, "a finished referral has no open reward");
}

#[test]
fn a_call_that_is_not_recorded() {
    violates(Mistake::CallNotRecorded, "a finished referral has no open reward");
}

#[test]
fn a_reversal_that_is_sent_before_the_answer() {
    violates(Mistake::TakenBackBeforeAnswer, "taken back only after booking");
}

#[test]
fn an_order_that_is_not_kept() {
    violates(Mistake::NoCandidates, "an order that stands converts, now or after another one");
}
