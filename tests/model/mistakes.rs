//! The model can fail: each deliberate mistake in the protocol is found, by the property that it breaks.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{Protocol, Scope, actions::Action, faults::Mistake};

/// Checks the protocol with a mistake until it breaks this property, and prints the shortest way there.
///
/// The checker looks at states in blocks, and of a block tells the last that breaks a property. So it is asked for
/// longer and longer ways: the first that it finds is the shortest.
fn breaks(mistake: Mistake, property: &'static str) {
    const LONGEST: usize = 20;
    let way = (2..LONGEST).find_map(|depth| {
        let protocol = Protocol { mistake: Some(mistake), scope: Scope { faults: 1, ..Scope::EVERYTHING } };
        let checker = protocol.checker().target_max_depth(depth);
        checker.finish_when(HasDiscoveries::AnyOf(BTreeSet::from([property]))).spawn_bfs().join().discovery(property)
    });
    let Some(way) = way else { panic!("{mistake:?} does not break \"{property}\"") };
    // In one piece, for these tests run side by side.
    let mut story = format!("{mistake:?} breaks \"{property}\":\n");
    for (world, action) in way.into_vec() {
        story += &format!("      {world:?}\n");
        story += &action.map(|action| format!("  {}\n", told(action))).unwrap_or_default();
    }
    println!("{story}");
}

/// An action for reading; where in the list a process stands says nothing.
fn told(action: Action) -> String {
    match action {
        Action::Begin(task) => format!("{task:?} begins"),
        Action::Go(_, task, point) => format!("{task:?}: {point:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_write_that_demands_no_revision() {
    breaks(Mistake::NoRevision, "what was marked delivered stays so");
}

#[test]
fn a_write_that_demands_nothing() {
    breaks(Mistake::NoCondition, "one conversion at most");
}

#[test]
fn an_event_that_is_acknowledged_before_its_write() {
    breaks(Mistake::AcknowledgedBeforeWrite, "no event is acknowledged without its effect");
}

#[test]
fn a_mark_before_the_call() {
    breaks(Mistake::MarkedBeforeCall, "marked delivered only after it was booked");
}

#[test]
fn no_sweep() {
    breaks(Mistake::NoSweep, "at rest, all that is owed is settled");
}

#[test]
fn a_sweep_that_does_not_claim() {
    breaks(Mistake::NoClaim, "nothing is announced again without cause");
}

#[test]
fn an_issue_that_takes_the_referral_out_of_the_index() {
    breaks(Mistake::UnlistedAtIssue, "what is owed is in the index of work, and nothing else is");
}

#[test]
fn a_new_key_with_each_call() {
    breaks(Mistake::NewKeyPerCall, "booked once at most");
}

#[test]
fn accounts_as_they_once_stood() {
    breaks(Mistake::CachedAccounts, "nothing is issued to whom the issue saw flagged");
}

#[test]
fn an_issue_that_does_not_wait() {
    breaks(Mistake::NoHold, "nothing is issued before the hold is over");
}
