//! The table in memory against the embedded DynamoDB: the same calls, and the same answers to each.

mod raw;
mod store;
mod twins;

pub(super) use self::{store::referral, twins::client};

use self::twins::Twins;

/// The same seeds each time, so that a difference that was found once is found again.
const SEEDS: u64 = 1;
const MOST_SEEDS: u64 = 12;
/// How often each shape of call has to be compared to count as covered.
const ENOUGH: usize = 2;

#[tokio::test]
async fn what_the_store_does_has_the_same_answers_and_leaves_the_same_table() {
    let (mut all, mut calls) = (twins::Seen::new(), 0);
    for seed in 0..MOST_SEEDS {
        // Rare shapes need more histories than the common ones do.
        if seed >= SEEDS && uncovered(&all).is_none() {
            break;
        }
        let twins = Twins::new(&format!("store-{seed}"));
        store::run(&twins, seed, 250).await;
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

/// A shape of call that the store makes and that was not compared often enough, answered and, if a guard is in it,
/// refused: a guard that was never seen to refuse was not compared.
fn uncovered(all: &twins::Seen) -> Option<String> {
    store::EXPECTED.iter().find_map(|expected| {
        let found = all.iter().filter(|(shape, _)| shape.contains(expected)).map(|(_, count)| *count);
        let (answered, refused) = found.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let is_guard = expected.contains("attribute_not_exists") || expected.contains("#rev");
        let is_covered = answered >= ENOUGH && (!is_guard || refused >= ENOUGH);
        (!is_covered).then(|| format!("{expected} was answered {answered} times and refused {refused} times"))
    })
}

#[tokio::test]
async fn whatever_is_asked_in_the_language_of_the_guards_has_the_same_answer() {
    for seed in 0..SEEDS {
        let twins = Twins::new(&format!("raw-{seed}"));
        raw::run(&twins, seed, 300).await;
        twins.compare_contents();
        let seen = twins.seen.lock().unwrap();
        let (answered, refused) = seen.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        println!("seed {seed}: {answered} answered, {refused} refused, {} shapes", seen.len());
    }
}
