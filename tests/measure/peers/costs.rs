//! The measurements of a contender at a step: the median of all rounds, with their minimum and maximum.

use std::time::Duration;

use crate::{
    Trouble,
    function::Call,
    peers::rounds::{Entry, Run},
    speed::quantile,
    store::Traffic,
};

/// A value over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// The cost of a step for a contender. Times are in milliseconds.
pub(crate) struct Costs {
    pub(crate) start_cpu: Spread,
    pub(crate) start_wall: Spread,
    /// The first call only, without the start.
    pub(crate) first_cpu: Spread,
    /// Start and first call together.
    pub(crate) cold_cpu: Spread,
    pub(crate) cpu: Spread,
    pub(crate) cpu_p99: Spread,
    /// The first twenty warm calls, when a just-in-time compiler has not compiled much yet.
    pub(crate) cpu_early: Spread,
    /// Wall time without the time of the store, which is the same for all.
    pub(crate) excess: Spread,
    pub(crate) excess_p99: Spread,
    /// Over all rounds, because one round has too few calls.
    pub(crate) excess_p999: f64,
    /// In MB.
    pub(crate) resident: Spread,
    /// The size of the archive, in MB.
    pub(crate) deployed: f64,
    pub(crate) traffic: Traffic,
}

const EARLY: usize = 20;

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or_default();
        let middle = (at(values.len() / 2) + at(values.len().saturating_sub(1) / 2)) / 2.0;
        Self { median: middle, least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}

impl Costs {
    pub(crate) fn of(entry: &Entry<'_>) -> Result<Self, Trouble> {
        let runs = &entry.runs;
        let each = |value: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(value));
        let at =
            |run: &Run, what: fn(&Call) -> Duration, per_mille| millis(quantile(run.warm.iter().map(what), per_mille));
        Ok(Self {
            start_cpu: each(&|run| millis(run.start.cpu)),
            start_wall: each(&|run| millis(run.start.wall)),
            first_cpu: each(&|run| millis(run.first.cost.cpu)),
            cold_cpu: each(&|run| millis(run.start.cpu + run.first.cost.cpu)),
            cpu: each(&|run| at(run, cpu, 500)),
            cpu_p99: each(&|run| at(run, cpu, 990)),
            cpu_early: each(&|run| millis(quantile(run.warm.iter().take(EARLY).map(cpu), 500))),
            excess: each(&|run| at(run, Call::excess, 500)),
            excess_p99: each(&|run| at(run, Call::excess, 990)),
            excess_p999: millis(quantile(runs.iter().flat_map(|run| &run.warm).map(Call::excess), 999)),
            resident: each(&|run| megabytes(run.resident)),
            deployed: megabytes(entry.contender.deployed(entry.step)?),
            traffic: entry.store.warm,
        })
    }
}

fn cpu(call: &Call) -> Duration {
    call.cost.cpu
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "a number of ten digits")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_between_the_extremes() {
        assert_eq!(Spread::of([3.0, 1.0, 9.0]), Spread { median: 3.0, least: 1.0, most: 9.0 });
        assert_eq!(Spread::of([4.0, 2.0]), Spread { median: 3.0, least: 2.0, most: 4.0 });
        assert_eq!(Spread::of([]), Spread { median: 0.0, least: 0.0, most: 0.0 });
    }
}
