//! Time and CPU of calls, with concurrent processes as Lambda runs them. The results depend on the machine and its load.

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::{
    Trouble,
    function::{Call, Cost, Function, Running},
    steps::Step,
    store::Store,
};

/// Distributes `calls` calls over `concurrency` processes and prints their times.
pub(crate) async fn measure(
    function: &Function,
    step: &Step,
    store: &Store,
    latency: u64,
    concurrency: usize,
    calls: usize,
) -> Result<(), Trouble> {
    let one = || async {
        let line = store.play(Duration::from_millis(latency)).await?;
        let mut running = Running::start(function, &[], &store.settings, line).await?;
        let first = running.call(&store.event).await?;
        let mut warm = Vec::new();
        for _ in 0..calls.div_ceil(concurrency) {
            warm.push(running.call(&store.event).await?);
        }
        let start = running.start;
        running.end().await?;
        Ok::<_, Trouble>((start, first, warm))
    };
    let all = try_join_all((0..concurrency).map(|_| one())).await?;
    let start = all.iter().map(|(start, ..)| *start).min_by_key(|start| start.wall).unwrap_or_default();
    let firsts: Vec<&Call> = all.iter().map(|(_, first, _)| first).collect();
    let warm: Vec<&Call> = all.iter().flat_map(|(.., warm)| warm).collect();
    print(step, latency, concurrency, start, &firsts, &warm);
    Ok(())
}

fn print(step: &Step, latency: u64, concurrency: usize, start: Cost, firsts: &[&Call], warm: &[&Call]) {
    let wall = |call: &&Call| call.cost.wall;
    let cpu = |call: &&Call| call.cost.cpu;
    let excess = |call: &&Call| call.excess();
    println!(
        "{:10} {latency:>4} {concurrency:>3}  {:>8} {:>8}  {:>8} {:>8} {:>8}  {:>8} {:>8}  {:>8}  {:>8}",
        step.name,
        millis(start.wall),
        millis(start.cpu),
        millis(quantile(warm.iter().map(wall), 500)),
        millis(quantile(warm.iter().map(wall), 990)),
        millis(quantile(warm.iter().map(wall), 999)),
        millis(quantile(warm.iter().map(cpu), 500)),
        millis(quantile(warm.iter().map(cpu), 990)),
        millis(quantile(warm.iter().map(excess), 500)),
        millis(quantile(firsts.iter().map(excess), 500).saturating_sub(quantile(warm.iter().map(excess), 500))),
    );
}

pub(crate) const HEAD: &str = "step         ms   n     start      cpu       p50      p99    p99.9   cpu p50      p99    \
                               excess   +first   (ms; excess: p50 without the time of the store)";

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

/// The value below which `per_mille` of a thousand values are.
pub(crate) fn quantile(values: impl Iterator<Item = Duration>, per_mille: usize) -> Duration {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get((values.len() * per_mille / 1000).min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}
