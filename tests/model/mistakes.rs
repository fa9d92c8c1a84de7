//! The model can fail: each deliberate mistake in the protocol is found, by the property that it breaks.

use stateright::{Checker, HasDiscoveries, Model};

use crate::{Protocol, Scope, actions::Action, faults::Mistake};

/// Checks the protocol with a mistake until a property breaks, and prints the shortest way there.
fn breaks(mistake: Mistake, expected: &str) {
    let protocol = Protocol { mistake: Some(mistake), scope: Scope::EVERYTHING };
    let checker = protocol.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let properties = checker.model().properties();
    let is_broken = |name: &&str| {
        let property = properties.iter().find(|property| property.name == *name);
        property.is_some_and(|property| property.expectation.discovery_is_failure())
    };
    let found = checker.discoveries();
    let Some(name) = found.keys().copied().find(is_broken) else { panic!("nothing was found with {mistake:?}") };
    println!("{mistake:?} breaks \"{name}\":");
    for (world, action) in found[name].clone().into_vec() {
        println!("    {world:?}");
        let Some(action) = action else { continue };
        println!("  {}", told(action));
    }
    assert_eq!(name, expected);
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
    breaks(Mistake::NoCondition, "x");
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
