//! Compares the in-memory table with the embedded DynamoDB: the same calls must have the same answers.

mod raw;
mod store;
mod twins;

pub(super) use self::{store::referral, twins::client};

use self::twins::Twins;

/// Fixed seeds, so that a difference can be reproduced.
const SEEDS: u64 = 1;
const MAX_SEEDS: u64 = 12;
/// How often each shape of call must be compared to count as covered.
const MIN_COMPARISONS: usize = 2;

#[tokio::test]
async fn the_stores_calls_have_the_same_answers_and_the_same_effects() {
    let (mut all, mut calls) = (twins::Seen::new(), 0);
    for seed in 0..MAX_SEEDS {
        // Rare shapes need more histories.
        if seed >= SEEDS && uncovered(&all).is_none() {
            break;
        }
        let twins = Twins::new(&format!("store-{seed}"));
        store::run(&twins, seed, 320).await;
        twins.compare_contents();
        for (shape, (answered, refused)) in std::mem::take(&mut *twins.seen.lock().unwrap()) {
            let count = all.entry(shape).or_default();
            count.0 += answered;
            count.1 += refused;
            calls += answered + refused;
        }
    }
    println!("{calls} calls of {} shapes compared", all.len());
    for (shape, (answered, refused)) in &all {
        println!("{answered:6} answered {refused:6} refused  {shape}");
    }
    assert_eq!(uncovered(&all), None);
}

/// A shape of call that the store makes and that was not compared often enough: answered and, if it has a condition,
/// refused. A condition that never failed was not compared.
fn uncovered(all: &twins::Seen) -> Option<String> {
    store::EXPECTED.iter().find_map(|expected| {
        let found = all.iter().filter(|(shape, _)| shape.contains(expected)).map(|(_, count)| *count);
        let (answered, refused) = found.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let is_guard = expected.contains("attribute_not_exists") || expected.contains("#rev");
        let is_covered = answered >= MIN_COMPARISONS && (!is_guard || refused >= MIN_COMPARISONS);
        (!is_covered).then(|| format!("{expected} was answered {answered} times and refused {refused} times"))
    })
}

#[tokio::test]
async fn random_expressions_have_the_same_answers() {
    for seed in 0..SEEDS {
        let twins = Twins::new(&format!("raw-{seed}"));
        raw::run(&twins, seed, 300).await;
        twins.compare_contents();
        let seen = twins.seen.lock().unwrap();
        let (answered, refused) = seen.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        println!("seed {seed}: {answered} answered, {refused} refused, {} shapes", seen.len());
    }
}
