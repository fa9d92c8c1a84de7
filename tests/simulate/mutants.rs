//! Mutants: every deliberate mistake in the code (`referrals::mutant`) must be detected by some history.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use clap::Args;
use referrals::mutant::{Mutant, turn_on};

use crate::{replay, rig, run_seed, runtime};

/// Options that exist only with the feature `mutants`.
#[derive(Args)]
pub(crate) struct Switches {
    /// Enable this mutant, and print the shortest history that detects it.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<Mutant>,
    /// Test every mutant, and fail if one is not detected in `--histories` histories.
    #[arg(long)]
    mutants: bool,
}

fn parse_mutant(name: &str) -> Result<Mutant, String> {
    let known = Mutant::ALL.iter().copied();
    let names = || known.clone().map(|mutant| format!("{mutant:?}")).collect::<Vec<_>>().join(", ");
    known.clone().find(|mutant| format!("{mutant:?}") == name).ok_or_else(|| format!("known are {}", names()))
}

/// The history that detected a mutant.
struct Caught {
    seed: u64,
    violation: String,
}

/// Runs the mutant options; returns `None` if none is set.
pub(crate) fn run(arguments: &crate::Arguments) -> Option<ExitCode> {
    if arguments.mutants.mutants {
        let left = survivors(arguments.seed, arguments.histories);
        println!("{} of {} mutants were caught", Mutant::ALL.len() - left.len(), Mutant::ALL.len());
        return Some(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mutant = arguments.mutants.mutant?;
    println!("{mutant:?}: {}", mutant.mistake().trim());
    let seed = if arguments.tell {
        arguments.seed
    } else {
        match catch(mutant, arguments.seed, arguments.histories) {
            Some(caught) => caught.seed,
            None => {
                println!("was not caught in {} histories", arguments.histories);
                return Some(ExitCode::FAILURE);
            }
        }
    };
    turn_on(Some(mutant));
    Some(replay(seed, &format!("--features mutants --bin simulate -- --mutant {mutant:?}")))
}

/// Enables a mutant on this thread and runs histories until one has a violation.
fn catch(mutant: Mutant, first: u64, histories: u64) -> Option<Caught> {
    turn_on(Some(mutant));
    let (runtime, rig) = (runtime(), rig());
    let caught = (first..first + histories).find_map(|seed| {
        let state = run_seed(&runtime, &rig, seed);
        state.oracle.violations().first().cloned().map(|violation| Caught { seed, violation })
    });
    turn_on(None);
    caught
}

/// Tests every mutant, several in parallel, and prints each result. Returns those that were not caught.
fn survivors(first: u64, histories: u64) -> Vec<Mutant> {
    let (next, left) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match catch(*mutant, first, histories) {
                        Some(Caught { seed, violation }) => {
                            println!("{mutant:?}: caught in history {}: {violation}", seed - first + 1);
                        }
                        None => {
                            println!("{mutant:?}: NOT CAUGHT in {histories} histories");
                            left.lock().unwrap_or_else(PoisonError::into_inner).push(*mutant);
                        }
                    }
                }
            });
        }
    });
    left.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every mutant must be caught within this many histories.
    const HISTORIES: u64 = 3_000;

    #[test]
    fn every_mutant_is_caught() {
        assert_eq!(survivors(1, HISTORIES), []);
    }

    /// The same histories, which are the ones that catch the mutants, have no violations without a mutant.
    #[test]
    fn without_a_mutant_the_same_histories_have_no_violations() {
        let (runtime, rig) = (runtime(), rig());
        for seed in 1..=120 {
            assert_eq!(run_seed(&runtime, &rig, seed).oracle.violations(), [""; 0], "seed {seed}");
        }
    }
}
