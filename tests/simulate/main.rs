//! Random histories with faults over the real handlers and the real store, in virtual time, each reproducible from its
//! seed. The table, the bus, the queues, the stream and the subsystems are models that do what AWS allows. With `--proxy`
//! the table is the embedded DynamoDB, the wires are sockets, and time is real.

#![allow(clippy::disallowed_methods, reason = "its time is virtual, and what it measures is itself")]

mod clock;
mod faults;
mod history;
#[cfg(feature = "mutants")]
mod mutants;
mod oracle;
mod plan;
mod proxy;
mod rig;
mod shrink;
mod state;
mod table;
mod wires;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use referrals::runtime::Allocator;
use tokio::runtime::{Builder, Runtime};

use crate::{
    faults::{Faults, Kind},
    plan::Plan,
    rig::{FUNCTIONS, Rig, VARIANTS},
    shrink::Case,
    state::State,
};

/// A history is many small pieces of JSON: a quarter of its time was the system's allocator.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Random histories with faults, over the real handlers, in virtual time.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many histories, each with at least as many faults as `--faults` says.
    #[arg(long, default_value_t = 1_000)]
    histories: u64,
    /// The seed of the first; each further one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The least number of faults in a history that counts.
    #[arg(long, default_value_t = 6)]
    faults: usize,
    /// The least number of hits of each kind of fault in all, or it was no proof and is said to have failed.
    #[arg(long, default_value_t = 0)]
    hits: u64,
    /// Carry out the history of `--seed` alone, and tell what happens in it.
    #[arg(long)]
    tell: bool,
    /// Over real sockets and in real time, through a proxy that breaks calls, in front of the embedded DynamoDB.
    #[arg(long)]
    proxy: bool,
    /// How many histories are under way at once, with `--proxy`.
    #[arg(long, default_value_t = 32, requires = "proxy")]
    at_once: usize,
    #[cfg(feature = "mutants")]
    #[command(flatten)]
    mutants: mutants::Switches,
}

/// What all histories came to.
#[derive(Default)]
struct Figures {
    histories: u64,
    too_calm: u64,
    strikes: BTreeMap<Kind, u64>,
}

impl Figures {
    fn of(&self, kind: Kind) -> u64 {
        self.strikes.get(&kind).copied().unwrap_or_default()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    if let Some(code) = mutants::run(&arguments) {
        return code;
    }
    match (arguments.tell, arguments.proxy) {
        (true, false) => tell(arguments.seed, AGAIN),
        (true, true) => proxy::tell(arguments.seed),
        (false, false) => simulate(&arguments),
        (false, true) => proxy::simulate(&arguments),
    }
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap_or_else(|problem| unreachable!("no runtime: {problem}"))
}

fn rig() -> Rig {
    Rig::start().unwrap_or_else(|problem| unreachable!("settings of our own: {problem}"))
}

fn drawn(runtime: &Runtime, rig: &Rig, seed: u64) -> State {
    let plan = Plan::draw(seed, VARIANTS.len(), FUNCTIONS.len());
    runtime.block_on(history::run(rig, &plan, Faults::drawn(seed), false))
}

/// Carries a history out once more, with functions that remember nothing of the last time.
fn again(runtime: &Runtime, case: &Case, is_told: bool) -> State {
    runtime.block_on(history::run(&rig(), &case.plan, case.faults(), is_told))
}

fn simulate(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (figures, failed) = carry_out_all(arguments, workers, || {
        let (runtime, rig) = (runtime(), rig());
        move |seed| drawn(&runtime, &rig, seed)
    });
    match failed {
        Some((seed, _)) => tell(seed, AGAIN),
        None => report(&figures, began.elapsed(), arguments.hits),
    }
}

/// Carries histories out, each of so many workers one after another, until enough of them count or one goes wrong; that
/// one is given back with its seed.
fn carry_out_all<C>(
    arguments: &Arguments,
    workers: usize,
    begin: impl Fn() -> C + Sync,
) -> (Figures, Option<(u64, State)>)
where
    C: FnMut(u64) -> State,
{
    let bar = ProgressBar::new(arguments.histories);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} histories, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let (next, wrong, failed) = (AtomicU64::new(arguments.seed), AtomicBool::new(false), Mutex::new(None));
    let figures = Mutex::new(Figures::default());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut carry_out = begin();
                while !wrong.load(Ordering::Relaxed) {
                    if figures.lock().unwrap_or_else(PoisonError::into_inner).histories >= arguments.histories {
                        break;
                    }
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let state = carry_out(seed);
                    if !state.oracle.violations().is_empty() {
                        wrong.store(true, Ordering::Relaxed);
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, state));
                        break;
                    }
                    let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
                    let strikes = state.faults.struck();
                    if strikes.len() < arguments.faults {
                        figures.too_calm += 1;
                        continue;
                    }
                    figures.histories += 1;
                    for (kind, _) in strikes {
                        *figures.strikes.entry(*kind).or_default() += 1;
                    }
                    bar.set_position(figures.histories);
                }
            });
        }
    });
    bar.finish_and_clear();
    let figures = figures.into_inner().unwrap_or_else(PoisonError::into_inner);
    (figures, failed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn report(figures: &Figures, took: Duration, hits: u64) -> ExitCode {
    println!("{} histories without a violation in {:.1} s", figures.histories, took.as_secs_f64());
    println!("{} more had too few faults to count", figures.too_calm);
    for kind in Kind::ALL {
        println!("{:>10} {kind:?}", figures.of(kind));
    }
    let seldom: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| figures.of(*kind) < hits).collect();
    if seldom.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("fewer than {hits} hits of {seldom:?}");
    ExitCode::FAILURE
}

/// How this build is called.
const AGAIN: &str = "--bin simulate --";

/// Carries one history out again, cuts it down if it goes wrong, and tells it.
fn tell(seed: u64, by: &str) -> ExitCode {
    let runtime = runtime();
    let state = drawn(&runtime, &rig(), seed);
    let whole =
        Case { plan: Plan::draw(seed, VARIANTS.len(), FUNCTIONS.len()), strikes: state.faults.struck().to_vec() };
    let is_wrong = !state.oracle.violations().is_empty();
    let fails = |case: &Case| !again(&runtime, case, false).oracle.violations().is_empty();
    let case = if is_wrong { whole.shrunk(fails) } else { whole };
    let told = again(&runtime, &case, true);
    print(&case.plan, &told, state.oracle.violations());
    println!("again: cargo run -p tests {by} --tell --seed {seed}");
    if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What happened, for people.
fn print(plan: &Plan, told: &State, violations: &[String]) {
    println!("seed {}, {:?}, settings {}, skew {:?}", plan.seed, plan.mode, plan.variant, plan.skew);
    println!("faults {:?}", told.faults.struck());
    for (at, what) in &told.timeline {
        println!("{:>9.3} s  {what}", Duration::from_millis(*at).as_secs_f64());
    }
    for violation in violations {
        println!("violated: {violation}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, Mode, Step};

    /// A few in each build; CI carries out many in a build made for it.
    #[test]
    fn some_histories_keep_every_promise() {
        let (runtime, rig) = (runtime(), rig());
        for seed in 1..=60 {
            let state = drawn(&runtime, &rig, seed);
            assert_eq!(state.oracle.violations(), [""; 0], "seed {seed}");
        }
    }

    /// The referral of a sign-up whose call to write it is slow each time: who asks again finds it.
    #[test]
    fn the_work_of_a_slow_call_is_done() {
        let steps = vec![
            Step { at: 0, action: Action::Mint { user: 0 } },
            Step { at: 100, action: Action::Attribute { referee: 2, referrer: 0 } },
        ];
        let plan = Plan { seed: 1, mode: Mode::Stream, variant: 0, skew: None, steps };
        // A mint is one call, and a sign-up looks for the code and then for the people before it writes.
        let faults = Faults::given((4..=6).map(|chance| (Kind::SlowCall, chance)).collect());
        let state = runtime().block_on(history::run(&rig(), &plan, faults, true));
        assert_eq!(state.oracle.violations(), [""; 0]);
        assert_eq!(state.faults.struck().len(), 3);
        let answered: Vec<_> = state.timeline.iter().filter(|(_, what)| what.starts_with("POST")).collect();
        let is = |at: usize, status: &str| answered[at].1.ends_with(status);
        assert!(answered.len() == 2 && is(0, ": 503") && is(1, ": 200"), "{:?}", state.timeline);
    }

    /// Two sign-ups of one person in the same millisecond, of which one has to be sent again: it must not take the other's
    /// work for its own, as equal as they are.
    #[test]
    fn of_twins_one_is_new() {
        let sign_up = Step { at: 100, action: Action::Attribute { referee: 2, referrer: 0 } };
        let steps = vec![Step { at: 0, action: Action::Mint { user: 0 } }, sign_up.clone(), sign_up];
        let plan = Plan { seed: 1, mode: Mode::Stream, variant: 0, skew: None, steps };
        // A mint, one look for the code, one for the people each, and then the two that write.
        for late in [5, 6] {
            let faults = Faults::given(vec![(Kind::RequestLost, late)]);
            let state = runtime().block_on(history::run(&rig(), &plan, faults, true));
            assert_eq!(state.oracle.violations(), [""; 0]);
            let answered = |status: &str| {
                let is_it = |what: &str| what.starts_with("POST") && what.ends_with(status);
                state.timeline.iter().filter(|(_, what)| is_it(what)).count()
            };
            let met = (state.faults.struck().len(), answered(": 201"), answered(": 200"));
            assert_eq!(met, (1, 1, 1), "{:?}", state.timeline);
        }
    }

    #[test]
    fn a_seed_is_one_history() {
        let runtime = runtime();
        for seed in [3, 4, 5] {
            let (one, other) = (drawn(&runtime, &rig(), seed), drawn(&runtime, &rig(), seed));
            assert_eq!(one.faults.struck(), other.faults.struck());
            assert_eq!(one.table.records(), other.table.records());
        }
    }
}
