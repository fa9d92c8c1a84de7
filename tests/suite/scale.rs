//! Scale: no operation costs more in a larger table, or for a referrer with more referees. `measure scale` checks the same
//! with a million referrals, and also counts instructions.

#[allow(dead_code, unused_imports, reason = "`measure` uses more of it")]
#[path = "../measure/scale/population/mod.rs"]
mod population;

use std::path::PathBuf;

use local::Service;
use population::{Filled, OPERATIONS, Operation, Population, Scene, Stage, serve};

use crate::world::{Call, Wire};

/// Calls, write units, read units.
type Cost = (usize, f64, f64);

/// A filled table in its own folder, with a wire in front of it.
struct Bench {
    folder: PathBuf,
    wire: Wire,
    filled: Filled,
    service: Service,
}

impl Bench {
    async fn of(population: Population) -> Self {
        let (folder, wire) = (std::env::temp_dir().join(format!("scale.{}", uuid::Uuid::new_v4())), Wire::default());
        let filled = population.fill(&folder).await.unwrap();
        let service = serve(&folder, |options| options.connector = Some(wire.connector())).await.unwrap();
        Self { folder, wire, filled, service }
    }

    /// The cost of each of these operations, run in sequence with the code of this referrer.
    async fn costs(&self, referrer: usize, is_wanted: impl Fn(&Operation) -> bool) -> Vec<(&'static str, Cost)> {
        let scene = Scene::of(&self.filled, referrer);
        let mut costs = Vec::new();
        for operation in OPERATIONS.iter().filter(|operation| is_wanted(operation)) {
            let event = operation.prepare(&self.service, &scene).await.unwrap();
            self.calls();
            let answer = self.service.invoke(&operation.logical_id(), event).await.unwrap();
            assert!(answer["statusCode"].as_u64().is_none_or(|status| status < 400), "{}: {answer}", operation.name);
            let is_done = answer["batchItemFailures"].as_array().is_none_or(Vec::is_empty);
            assert!(is_done, "{}: {answer}", operation.name);
            costs.push((operation.name, cost(&self.calls())));
        }
        costs
    }

    fn calls(&self) -> Vec<Call> {
        [self.wire.take_calls(), self.wire.take_analytics_calls()].concat()
    }

    async fn end(self) {
        self.service.stop().await;
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn cost(calls: &[Call]) -> Cost {
    let units = |write: bool| calls.iter().filter(|call| call.is_write() == write).map(|call| call.units).sum();
    (calls.len(), units(true), units(false))
}

#[tokio::test]
async fn no_operation_costs_more_in_a_larger_table() {
    let mut all = Vec::new();
    for size in [1_000, 2_000] {
        let bench = Bench::of(Population::of(size)).await;
        all.push(bench.costs(0, |operation| operation.fits_among(bench.filled.population.referrers())).await);
        bench.end().await;
    }
    assert_eq!(all[0], all[1]);
    assert!(all[0].iter().all(|(_, (calls, ..))| *calls > 0), "{:?}", all[0]);
}

#[tokio::test]
async fn no_operation_costs_more_with_a_larger_circle() {
    let bench = Bench::of(Population::of_referrers(vec![1, 100, 1_000])).await;
    let of_one = bench.costs(0, |operation| operation.is_of_referrer() && operation.fits(1)).await;
    let of_hundred = bench.costs(1, Operation::is_of_referrer).await;
    let of_thousand = bench.costs(2, Operation::is_of_referrer).await;
    assert_eq!(of_hundred, of_thousand);
    let fitting = of_thousand.iter().filter(|(name, _)| of_one.iter().any(|(other, _)| name == other));
    assert_eq!(of_one.iter().collect::<Vec<_>>(), fitting.collect::<Vec<_>>());
    assert!(of_one.len() > 5 && of_thousand.len() > of_one.len(), "{of_one:?}");
    bench.end().await;
}

#[tokio::test]
async fn the_sweep_costs_only_for_what_is_due() {
    let bench = Bench::of(Population::due(200)).await;
    assert_eq!(bench.filled.population.at_stage(Stage::Due).count(), 200);
    let sweep = async || {
        bench.calls();
        bench.service.sweep_now().await.unwrap();
        cost(&bench.calls())
    };
    let (calls, writes, _) = sweep().await;
    // Twenty queries of the index, ten pages of items, and per referral the evidence and the write.
    assert_eq!((calls, writes), (20 + 10 + 2 * 200, 200.0));
    // Issued and undelivered referrals are read again, page by page, and not written again.
    let (calls, writes, reads) = sweep().await;
    assert_eq!((calls, writes), (20 + 10, 0.0));
    assert!(reads >= 200.0, "{reads}");
    bench.end().await;
}
