//! A model of the protocol, checked exhaustively: every order in which the functions, the world and a number of faults
//! can follow upon each other.
//!
//! **Real** is the machine: the item in the model's table is a [`Referral`], every step is `Referral::after`, every
//! condition comes from `Verb::allowed_from`, what is owed from `Referral::work`, what is due from `due_for_sweep`, and
//! what is announced from `announcements` and `reannouncements`. **Retold** in `actions.rs` are the functions around
//! it, for the real ones need AWS: `Store::step` and `Store::write`, `advance`, `claim`, and the handlers. Whoever
//! changes one of those changes it there too.
//!
//! | modelled | how |
//! |---|---|
//! | the table | one item; a write lands if revision and status allow it, or brings what is there |
//! | `conversion` | two orders and a cancellation, each read, decided, written, acknowledged, side by side |
//! | index and stream | move with each write |
//! | `rewards` | the records of the item in their order; a record stays until it is acknowledged |
//! | `sweep` | whenever the index shows something due: advance, or claim and announce |
//! | `delivery` | per message: read, call, mark; any number of them side by side |
//! | operator | sends what was refused again, once |
//! | accounts | the referrer is flagged and cleared at any moment |
//! | bus, queues | bring messages in any order and as late as they like |
//! | subsystem | books by key, and may refuse for good what it has not booked |
//! | time | jumps to the next moment at which something is due; with and without a hold |
//! | faults | see [`faults::Fault`]; a budget says how many |
//!
//! **Not modelled**: mint, land and attribute (uniqueness is an address, and `suite` races for it); reciprocal
//! referrals and the referee's account, which stand beside the referrer's in one read; partial refunds and the minimum,
//! which are the machine's own tests; the order among an account's news; batches and their time running out; several
//! referrals, which share nothing; the bound of five decisions; a write that got lost on its way to the table, which is
//! one that was not made yet; an index that lags, which is a sweep that comes later. An invocation's time is taken for
//! the world's: it is ten seconds old at most. The echo by the delay queue is an event that the bus brings twice. A
//! subsystem's passing refusal is a process that dies at its call.
//!
//! **Bounds**: `cargo test` allows two faults. `MODEL_FAULTS=4 cargo test -p tests --test model promises` allows four;
//! it takes about five minutes on two cores. Fewer than two do not reach all that must be reached. States seen, none of
//! which breaks a property:
//!
//! | faults | states | steps | longest way |
//! |---|---|---|---|
//! | 0 | 178 | 374 | 16 |
//! | 1 | 2 361 | 7 178 | 21 |
//! | 2 | 22 567 | 94 069 | 26 |
//! | 3 | 182 159 | 992 146 | 34 |
//! | 4 | 1 246 948 | 8 553 499 | 39 |
//!
//! (The longest of the ways by which a state was first found; it differs by a few steps, for two threads race.)
//!
//! States are few because what nobody can tell apart is one state (`World::signature`), and what nobody can see happen
//! is no step of its own ([`state::Point`]). Without most of these savings one fault alone made 77 482 states, with the
//! same result. That the properties can break at all is what `mistakes.rs` is for: it breaks the protocol in ten ways,
//! and each is found. `cargo test -p tests --test model -- --nocapture` shows how.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, and its helpers too")]
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
    money::Money,
    order::Order,
    program::Program,
    referral::{Referral, State},
    runtime::Env,
    time::Timestamp,
};
use stateright::{Checker, Model, Property};

use crate::{
    actions::Action,
    faults::Mistake,
    state::{Each, Memory, World},
};

/// How long a reward may be on its way before it is announced again.
const GRACE: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);
/// In seconds.
const DAY: u32 = 24 * 60 * 60;

/// The service as it is, or with a mistake, in a scope.
pub(crate) struct Protocol {
    mistake: Option<Mistake>,
    scope: Scope,
}

/// How much may happen.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    faults: u8,
    /// How often each event comes by itself.
    news: [u8; 3],
    /// How often the account is flagged or cleared.
    turns: u8,
    /// How often the operator sends again.
    resends: u8,
    /// The holds, in seconds.
    holds: &'static [u32],
}

impl Scope {
    /// All kinds of news, both holds, two faults.
    const EVERYTHING: Self = Self { faults: 2, news: [1; 3], turns: 2, resends: 1, holds: &[0, DAY] };
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
                    listed: item.work(),
                    item,
                    flagged: false,
                    stream: Vec::new(),
                    queued: Each::default(),
                    running: Vec::new(),
                    booked: Each::default(),
                    to_come: self.scope.news,
                    turns: self.scope.turns,
                    resends: self.scope.resends,
                    faults: self.scope.faults,
                    memory: Memory::default(),
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
        created_at: at(0),
        mark: None,
        rev: 1,
        state: State::Pending { adjustments: Vec::new() },
    }
}

fn order(id: &str) -> Order {
    Order {
        id: id.parse().unwrap(),
        event: "order.completed".to_owned(),
        user: "bob".parse().unwrap(),
        paid: Money { amount: 500.try_into().unwrap(), currency: "USD".parse().unwrap() },
    }
}

/// How many faults the long check allows.
const FAULTS: &str = "MODEL_FAULTS";

#[test]
fn the_protocol_keeps_its_promises() {
    let faults = std::env::var(FAULTS).ok();
    let faults = faults.map_or(Scope::EVERYTHING.faults, |faults| faults.parse().unwrap());
    let protocol = Protocol { mistake: None, scope: Scope { faults, ..Scope::EVERYTHING } };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{faults} faults: {states} states, {steps} steps, the longest way has {depth}");
    checker.assert_properties();
}

/// No way leads in a circle, so each comes to its end, and where it ends the service has nothing left to do. Without
/// this, what is said of states at rest could be said of none.
#[test]
fn every_way_comes_to_rest() {
    let protocol = Protocol { mistake: None, scope: Scope::EVERYTHING };
    let fingerprint = BuildHasherDefault::<DefaultHasher>::default();
    for first in protocol.init_states() {
        let (mut behind, mut done) = (HashSet::new(), HashSet::new());
        let mut way = vec![(fingerprint.hash_one(&first), protocol.choices(&first), first)];
        behind.insert(way[0].0);
        while let Some((here, choices, world)) = way.last_mut() {
            let Some(action) = choices.pop() else {
                behind.remove(here);
                done.insert(*here);
                way.pop();
                continue;
            };
            let next = protocol.after(world, action);
            let there = fingerprint.hash_one(&next);
            assert!(!behind.contains(&there), "{action:?} leads back to {next:?}");
            if !done.contains(&there) {
                behind.insert(there);
                way.push((there, protocol.choices(&next), next));
            }
        }
    }
}
