//! A model of the protocol that is checked exhaustively: every order in which the functions, external events and a
//! number of faults can interleave.
//!
//! **Real code**: the item in the model's table is a [`Referral`]. Every step is `Referral::decide`, every condition
//! comes from `Transition::allowed_from`, outstanding work from `Referral::work`, due times from `due_for_sweep`, and
//! announced events from `announcements` and `reannouncements`. **Rewritten** in `actions.rs` are the parts around it
//! that need AWS: `Store::apply`, `Store::write`, the issue, the claim and the handlers. When you change one of those,
//! change it there too.
//!
//! | modelled | how |
//! |---|---|
//! | the table | one item; a write is applied if revision and status allow it, else it returns the existing item |
//! | `conversion` | two orders and a cancellation: read, decide, write, acknowledge; they can interleave |
//! | index and stream | updated by each write |
//! | `rewards` | the item's records in order; a record stays until it is acknowledged |
//! | `sweep` | runs when the index shows something due: issue or void, or claim and announce |
//! | `delivery` | per message: read, call, mark; any number of them can interleave |
//! | operator | resends a failed reward once |
//! | accounts | the referrer is flagged and cleared at any time |
//! | bus, queues | deliver messages in any order and with any delay |
//! | reversals | decided and reopened by the real code; a message about one arrives at any time once its reward has an answer |
//! | subsystem | books by key, and may permanently refuse what it has not booked, until an operator sends it again |
//! | time | jumps to the next time at which something is due; with and without a hold |
//! | faults | see [`faults::Fault`]; a budget limits their number |
//!
//! **Not modelled**: mint, land and attribute (uniqueness is an address, and `suite` tests races for it); reciprocal
//! referrals and the referee's account, which are read together with the referrer's account; partial refunds, the
//! minimum and the cancellation of the other order, which the state machine's own tests cover; the order of an account's
//! flag updates; batches and running out of time; several referrals, which share no state; the limit of five decisions; a
//! write that is lost before it reaches the table, which equals a write that was not made yet; a lagging index, which
//! equals a later sweep. An invocation's time equals the model's time: it is at most ten seconds old. The delayed copy
//! from the delay queue is an event that the bus delivers twice. A temporary refusal by a subsystem is a process that
//! dies at its call.
//!
//! **Bounds**: `cargo test` allows two faults. `MODEL_FAULTS=3 cargo test -p tests --test model promises` allows three
//! and takes three minutes on two cores. Fewer than two faults cannot reach every state that must be reachable.
//! States visited, none of which violates a property:
//!
//! | faults | states | steps | longest path |
//! |---|---|---|---|
//! | 0 | 3 583 | 9 137 | 27 |
//! | 1 | 78 000 | 266 000 | 38 |
//! | 2 | 1 071 000 | 4 806 000 | 42 |
//! | 3 | 11 277 000 | 64 714 000 | 47 |
//!
//! (The longest path is that of the paths on which states were first found. It varies by a few steps, because two
//! threads search. With faults, the numbers vary by some tenths of a percent: a few states that count as one differ in what can
//! follow, and only the first one of them is continued.)
//!
//! There are few states because states without an observable difference are one state (`World::signature`), and changes
//! that no one can observe separately are one step ([`state::Step`]). Without most of these reductions a single fault
//! led to 77 482 states, with the same result. `mistakes.rs` shows that the properties can fail: it breaks the protocol
//! in fourteen ways, and the checker finds each. `cargo test -p tests --test model -- --nocapture` prints how.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "the bound comes from the environment")]

mod actions;
mod faults;
mod mistakes;
mod properties;
mod state;

use std::{
    collections::HashSet,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use referrals::{
    domain::{money::Money, order::Order, time::Timestamp},
    program::Program,
    referral::{Referral, State},
    runtime::Env,
};
use stateright::{Checker, Model, Property};

use crate::{
    actions::Action,
    faults::Mistake,
    state::{BySide, History, World},
};

/// How long a reward may be undelivered before it is announced again.
const GRACE: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);
/// A day in seconds.
const DAY: u32 = 24 * 60 * 60;

/// The protocol of the service, correct or with a mistake, within a scope.
pub(crate) struct Protocol {
    mistake: Option<Mistake>,
    scope: Scope,
}

/// Limits on what can happen.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    faults: u8,
    /// How often the product publishes each event.
    events: [u8; 3],
    /// How often the account is flagged or cleared.
    flag_changes: u8,
    /// How often the operator resends.
    resends: u8,
    /// The holds to check, in seconds.
    holds: &'static [u32],
}

impl Scope {
    /// All events, both holds, two faults.
    const EVERYTHING: Self = Self { faults: 2, events: [1; 3], flag_changes: 2, resends: 1, holds: &[0, DAY] };
}

impl Protocol {
    fn choices(&self, world: &World) -> Vec<Action> {
        let mut choices = Vec::new();
        self.possible(world, &mut choices);
        choices
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.scope
            .holds
            .iter()
            .map(|hold| {
                let item = Arc::new(pending(*hold));
                World {
                    now: at(10),
                    indexed: item.work(),
                    item,
                    flagged: false,
                    stream: Vec::new(),
                    queued: BySide::default(),
                    running: Vec::new(),
                    booked: BySide::default(),
                    refuses: BySide::default(),
                    reversals: BySide::default(),
                    taken_back: BySide::default(),
                    pending_events: self.scope.events,
                    flag_changes: self.scope.flag_changes,
                    resends: self.scope.resends,
                    faults: self.scope.faults,
                    history: History::default(),
                }
            })
            .collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.possible(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(self.after(world, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).unwrap()
}

fn pending(hold: u32) -> Referral {
    let env = Env::default().with("HOLD_SECONDS", hold.to_string());
    Referral {
        referee: "bob".parse().unwrap(),
        referrer: "alice".parse().unwrap(),
        code: "ALICE".parse().unwrap(),
        program: "default".parse().unwrap(),
        terms: Program::from_env(&env).unwrap().terms,
        device: None,
        correlation_id: None,
        created_at: at(0),
        signed_up_at: None,
        mark: None,
        notes: Vec::new(),
        candidates: Vec::new(),
        adjusted_order: None,
        reopened: 0,
        rev: 1,
        state: State::Pending,
    }
}

fn order(id: &str) -> Order {
    Order {
        id: id.parse().unwrap(),
        event: "order.completed".to_owned(),
        user: "bob".parse().unwrap(),
        paid: Money { amount: 500.try_into().unwrap(), currency: "USD".parse().unwrap() },
        placed_at: at(0),
        is_by_operator: false,
        latest_sign_up: at(0),
        hold_until: None,
    }
}

/// The environment variable that sets the number of faults.
const FAULTS: &str = "MODEL_FAULTS";

#[test]
fn the_protocol_keeps_its_promises() {
    let faults = std::env::var(FAULTS).ok();
    let faults = faults.map_or(Scope::EVERYTHING.faults, |faults| faults.parse().unwrap());
    let protocol = Protocol { mistake: None, scope: Scope { faults, ..Scope::EVERYTHING } };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{faults} faults: {states} states, {steps} steps, longest path {depth}");
    checker.assert_properties();
}

/// Every path ends, and at its end the service has no work left. Without this test, properties of finished states could
/// hold because there are none.
#[test]
fn every_path_ends_in_a_finished_state() {
    let protocol = Protocol { mistake: None, scope: Scope::EVERYTHING };
    let fingerprint = BuildHasherDefault::<DefaultHasher>::default();
    for first in protocol.init_states() {
        let (mut ancestors, mut done) = (HashSet::new(), HashSet::new());
        let mut path = vec![(fingerprint.hash_one(&first), protocol.choices(&first), first)];
        ancestors.insert(path[0].0);
        while let Some((here, choices, world)) = path.last_mut() {
            let Some(action) = choices.pop() else {
                ancestors.remove(here);
                done.insert(*here);
                path.pop();
                continue;
            };
            let next = protocol.after(world, action);
            let there = fingerprint.hash_one(&next);
            assert!(!ancestors.contains(&there), "{action:?} leads back to {next:?}");
            if !done.contains(&there) {
                ancestors.insert(there);
                path.push((there, protocol.choices(&next), next));
            }
        }
    }
}
