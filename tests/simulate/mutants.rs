//! Mutants: each deliberate mistake in our own code (`referrals::mutant`) has to be caught by some history.

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

use crate::{drawn, rig, runtime, tell};

/// What is there with the mutants alone.
#[derive(Args)]
pub(crate) struct Switches {
    /// Make this mistake, and tell the shortest history that it spoils.
    #[arg(long, value_parser = named)]
    mutant: Option<Mutant>,
    /// Make each mistake in turn, and fail if one of them spoils none of `--histories`.
    #[arg(long)]
    mutants: bool,
}

fn named(name: &str) -> Result<Mutant, String> {
    let known = Mutant::ALL.iter().copied();
    let names = || known.clone().map(|mutant| format!("{mutant:?}")).collect::<Vec<_>>().join(", ");
    known.clone().find(|mutant| format!("{mutant:?}") == name).ok_or_else(|| format!("known are {}", names()))
}

/// A history that a mistake spoiled.
struct Caught {
    seed: u64,
    violation: String,
}

/// Does what is asked of mutants; `None` when nothing is.
pub(crate) fn run(arguments: &crate::Arguments) -> Option<ExitCode> {
    if arguments.mutants.mutants {
        let left = survivors(arguments.seed, arguments.histories);
        println!("{} of {} mistakes were caught", Mutant::ALL.len() - left.len(), Mutant::ALL.len());
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
    Some(tell(seed, &format!("--features mutants --bin simulate -- --mutant {mutant:?}")))
}

/// Makes a mistake on this thread, in one history after another, until one is spoiled.
fn catch(mutant: Mutant, first: u64, histories: u64) -> Option<Caught> {
    turn_on(Some(mutant));
    let (runtime, rig) = (runtime(), rig());
    let caught = (first..first + histories).find_map(|seed| {
        let state = drawn(&runtime, &rig, seed);
        state.oracle.violations().first().cloned().map(|violation| Caught { seed, violation })
    });
    turn_on(None);
    caught
}

/// Makes every mistake, several side by side, and tells of each how it came out. Those that were not caught.
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

    /// Within so many each is to be caught.
    const HISTORIES: u64 = 3_000;

    #[test]
    fn each_mistake_is_caught() {
        assert_eq!(survivors(1, HISTORIES), []);
    }

    /// The histories that catch them, which are among the first, must not blame the code as it is.
    #[test]
    fn without_a_mistake_the_same_histories_keep_every_promise() {
        let (runtime, rig) = (runtime(), rig());
        for seed in 1..=120 {
            assert_eq!(drawn(&runtime, &rig, seed).oracle.violations(), [""; 0], "seed {seed}");
        }
    }
}
