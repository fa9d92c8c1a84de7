//! Runs random histories with injected faults over the real handlers and the real store, in virtual time. A seed
//! reproduces its history exactly. The table, bus, queues, stream and reward endpoints are models that do what AWS
//! allows. With `--proxy` the table is the embedded DynamoDB, calls use real sockets, and time is real.

#![allow(clippy::disallowed_methods, reason = "its time is virtual, and only its own run time is measured")]

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
mod transport;

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

/// A history processes many small JSON documents: a quarter of its run time was spent in the system's allocator.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Runs random histories with injected faults over the real handlers, in virtual time.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many histories to run, each with at least `--faults` faults.
    #[arg(long, default_value_t = 1_000)]
    histories: u64,
    /// The seed of the first history; each next history uses the next seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The least number of faults for a history to count.
    #[arg(long, default_value_t = 6)]
    faults: usize,
    /// The least number of hits of each kind of fault in total. With fewer hits the run fails, because it tested too
    /// little.
    #[arg(long, default_value_t = 0)]
    hits: u64,
    /// Run only the history of `--seed`, and print what happens in it.
    #[arg(long)]
    tell: bool,
    /// Use real sockets and real time, through a proxy that breaks calls, with the embedded DynamoDB.
    #[arg(long)]
    proxy: bool,
    /// How many histories run at the same time, with `--proxy`.
    #[arg(long, default_value_t = 32, requires = "proxy")]
    at_once: usize,
    #[cfg(feature = "mutants")]
    #[command(flatten)]
    mutants: mutants::Switches,
}

/// Totals over all histories.
#[derive(Default)]
struct Totals {
    histories: u64,
    too_few_faults: u64,
    strikes: BTreeMap<Kind, u64>,
}

impl Totals {
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
        (true, false) => replay(arguments.seed, REPLAY_ARGS),
        (true, true) => proxy::replay(arguments.seed),
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

fn run_seed(runtime: &Runtime, rig: &Rig, seed: u64) -> State {
    let plan = Plan::random(seed, VARIANTS.len(), FUNCTIONS.len());
    runtime.block_on(history::run(rig, &plan, Faults::random(seed), false))
}

/// Runs a history again on new functions, so that no cache from the first run affects it.
fn run_case(runtime: &Runtime, case: &Case, keeps_timeline: bool) -> State {
    runtime.block_on(history::run(&rig(), &case.plan, case.faults(), keeps_timeline))
}

fn simulate(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (totals, failed) = run_all(arguments, workers, || {
        let (runtime, rig) = (runtime(), rig());
        move |seed| run_seed(&runtime, &rig, seed)
    });
    match failed {
        Some((seed, _)) => replay(seed, REPLAY_ARGS),
        None => report(&totals, began.elapsed(), arguments.hits, &Kind::ALL),
    }
}

/// Runs histories on this many workers until enough of them count or one violates a rule. Returns that one with its
/// seed.
fn run_all<C>(arguments: &Arguments, workers: usize, start: impl Fn() -> C + Sync) -> (Totals, Option<(u64, State)>)
where
    C: FnMut(u64) -> State,
{
    let bar = ProgressBar::new(arguments.histories);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} histories, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let (next, stop, failed) = (AtomicU64::new(arguments.seed), AtomicBool::new(false), Mutex::new(None));
    let totals = Mutex::new(Totals::default());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut run = start();
                while !stop.load(Ordering::Relaxed) {
                    if totals.lock().unwrap_or_else(PoisonError::into_inner).histories >= arguments.histories {
                        break;
                    }
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let state = run(seed);
                    if !state.oracle.violations().is_empty() {
                        stop.store(true, Ordering::Relaxed);
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, state));
                        break;
                    }
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    let strikes = state.faults.struck();
                    if strikes.len() < arguments.faults {
                        totals.too_few_faults += 1;
                        continue;
                    }
                    totals.histories += 1;
                    for (kind, _) in strikes {
                        *totals.strikes.entry(*kind).or_default() += 1;
                    }
                    bar.set_position(totals.histories);
                }
            });
        }
    });
    bar.finish_and_clear();
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    (totals, failed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Prints the totals. Fails if one of the kinds that are possible in this run has too few hits.
fn report(totals: &Totals, took: Duration, hits: u64, possible: &[Kind]) -> ExitCode {
    println!("{} histories without a violation in {:.1} s", totals.histories, took.as_secs_f64());
    println!("{} more had too few faults to count", totals.too_few_faults);
    for kind in Kind::ALL {
        println!("{:>10} {kind:?}", totals.of(kind));
    }
    let too_rare: Vec<_> = possible.iter().filter(|kind| totals.of(**kind) < hits).collect();
    if too_rare.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("fewer than {hits} hits of {too_rare:?}");
    ExitCode::FAILURE
}

/// The cargo arguments that replay a history with this build.
const REPLAY_ARGS: &str = "--bin simulate --";

/// Runs one history again, shrinks it if it violates a rule, and prints it.
fn replay(seed: u64, args: &str) -> ExitCode {
    let runtime = runtime();
    let state = run_seed(&runtime, &rig(), seed);
    let full =
        Case { plan: Plan::random(seed, VARIANTS.len(), FUNCTIONS.len()), strikes: state.faults.struck().to_vec() };
    let is_wrong = !state.oracle.violations().is_empty();
    let fails = |case: &Case| !run_case(&runtime, case, false).oracle.violations().is_empty();
    let case = if is_wrong { full.shrunk(fails) } else { full };
    let replayed = run_case(&runtime, &case, true);
    print(&case.plan, &replayed, state.oracle.violations());
    println!("replay with: cargo run -p tests {args} --tell --seed {seed}");
    if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints a history.
fn print(plan: &Plan, replayed: &State, violations: &[String]) {
    println!("seed {}, {:?}, settings {}, skew {:?}", plan.seed, plan.mode, plan.variant, plan.skew);
    println!("faults {:?}", replayed.faults.struck());
    for (at, what) in &replayed.timeline {
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

    /// A small number in every build. CI runs many histories in an optimised build.
    #[test]
    fn some_histories_have_no_violations() {
        let (runtime, rig) = (runtime(), rig());
        for seed in 1..=60 {
            let state = run_seed(&runtime, &rig, seed);
            assert_eq!(state.oracle.violations(), [""; 0], "seed {seed}");
        }
    }

    /// A sign-up whose table write is slow three times: the client's retry finds the referral.
    #[test]
    fn a_slow_write_completes_and_the_retry_finds_it() {
        let steps = vec![
            Step { at: 0, action: Action::Mint { user: 0 } },
            Step { at: 100, action: Action::Attribute { referee: 2, referrer: 0 } },
        ];
        let plan = Plan { seed: 1, mode: Mode::Stream, variant: 0, skew: None, steps };
        // Minting is one call. A sign-up first reads the code, then the accounts and referrals, then writes.
        let faults = Faults::only((4..=6).map(|chance| (Kind::SlowCall, chance)).collect());
        let state = runtime().block_on(history::run(&rig(), &plan, faults, true));
        assert_eq!(state.oracle.violations(), [""; 0]);
        assert_eq!(state.faults.struck().len(), 3);
        let answered: Vec<_> = state.timeline.iter().filter(|(_, what)| what.starts_with("POST")).collect();
        let is = |at: usize, status: &str| answered[at].1.ends_with(status);
        assert!(answered.len() == 2 && is(0, ": 503") && is(1, ": 200"), "{:?}", state.timeline);
    }

    /// Two identical sign-ups of one user in the same millisecond, of which one must be retried. The retry must not
    /// recognise the other one's write as its own.
    #[test]
    fn of_two_identical_sign_ups_only_one_is_new() {
        let sign_up = Step { at: 100, action: Action::Attribute { referee: 2, referrer: 0 } };
        let steps = vec![Step { at: 0, action: Action::Mint { user: 0 } }, sign_up.clone(), sign_up];
        let plan = Plan { seed: 1, mode: Mode::Stream, variant: 0, skew: None, steps };
        // One call to mint, one read of the code, one read of the accounts for each sign-up, then the two writes.
        for late in [5, 6] {
            let faults = Faults::only(vec![(Kind::RequestLost, late)]);
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
    fn a_seed_always_gives_the_same_history() {
        let runtime = runtime();
        for seed in [3, 4, 5] {
            let (one, other) = (run_seed(&runtime, &rig(), seed), run_seed(&runtime, &rig(), seed));
            assert_eq!(one.faults.struck(), other.faults.struck());
            assert_eq!(one.table.records(), other.table.records());
        }
    }
}
