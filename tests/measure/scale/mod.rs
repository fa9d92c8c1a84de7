//! The cost of operations as the table grows and as one referrer's list grows, the capacity of one partition key, and the time
//! that a backlog of a million takes.

mod backlog;
mod growth;
mod partitions;
mod population;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use local::Service;

use self::{
    growth::{Costs, Growth},
    population::{Filled, OPERATIONS, Operation, Population, Scene, serve},
};
use crate::{
    Trouble, callgrind,
    function::Function,
    scratch::Scratch,
    store::{Store, settings},
};

#[derive(Args)]
pub(crate) struct Scale {
    /// The numbers of referrals in the table.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    referrals: Vec<usize>,
    /// The numbers of referees of one referrer.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 1_000, 100_000])]
    referees: Vec<usize>,
    /// The number of waiting referrals, or stream records.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    backlog: usize,
    /// The number of records that are sent to one process.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    records: usize,
    /// The report to write.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../SCALE.md"))]
    report: PathBuf,
}

/// Measures `table`, `referrer`, `sweep` and `stream`, or only the parts in `only`, and writes the report. Returns whether every
/// operation costs the same at every size.
pub(crate) async fn measure(arguments: &Scale, functions: &Path, only: &[String]) -> Result<bool, Trouble> {
    let is_wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    let (mut report, mut is_flat) = (Report::open(&arguments.report), true);
    if is_wanted("table") {
        let growth = by_table(&arguments.referrals, functions).await?;
        report.add(&growth.to_markdown())?;
        is_flat &= growth.is_flat();
    }
    if is_wanted("referrer") {
        let (growth, loads) = by_referrer(&arguments.referees, functions).await?;
        report.add(&growth.to_markdown())?;
        report.add(&partitions::report(&loads))?;
        is_flat &= growth.is_flat();
    }
    if is_wanted("sweep") {
        report.add(&backlog::sweep(arguments.backlog, functions).await?)?;
    }
    if is_wanted("stream") {
        report.add(&backlog::stream(arguments.backlog, arguments.records, functions).await?)?;
    }
    Ok(is_flat)
}

/// The report, which is written after each part. A part that is not measured keeps its last result.
struct Report<'a> {
    path: &'a Path,
    parts: Vec<String>,
}

impl<'a> Report<'a> {
    /// The beginning of a part.
    const HEADING: &'static str = "\n## ";

    fn open(path: &'a Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        Self { path, parts: text.split(Self::HEADING).skip(1).map(str::to_owned).collect() }
    }

    fn add(&mut self, part: &str) -> Result<(), Trouble> {
        println!("{part}");
        let part = part.trim_start_matches(Self::HEADING).to_owned();
        let title = part.lines().next();
        match self.parts.iter().position(|known| known.lines().next() == title) {
            Some(place) => self.parts[place] = part,
            None => self.parts.push(part),
        }
        let parts = self.parts.iter().flat_map(|part| [Self::HEADING, part]);
        Ok(fs::write(self.path, std::iter::once(include_str!("head.md")).chain(parts).collect::<String>())?)
    }
}

async fn by_table(sizes: &[usize], functions: &Path) -> Result<Growth, Trouble> {
    let mut growth = Growth::new("As the table grows", "Referrals in the table");
    for size in sizes {
        let recorded = on(Population::of(*size), async |service, filled| {
            let is_wanted = |operation: &Operation| operation.fits_among(filled.population.referrers());
            recorded(service, functions, &Scene::of(filled, 0), is_wanted).await
        });
        growth.add(*size, counted(recorded.await?).await?);
    }
    Ok(growth)
}

/// All referrers are in one table, so that nothing else differs.
async fn by_referrer(sizes: &[usize], functions: &Path) -> Result<(Growth, partitions::Loads), Trouble> {
    let mut growth = Growth::new("As one referrer's list grows", "Referees of the one referrer");
    let (all, loads) = on(Population::of_referrers(sizes.to_vec()), async |service, filled| {
        let (mut all, mut loads) = (Vec::new(), partitions::Loads::default());
        for referrer in 0..sizes.len() {
            let scene = Scene::of(filled, referrer);
            let is_wanted = |operation: &Operation| operation.is_of_referrer() && operation.fits(scene.referees());
            let recorded = recorded(service, functions, &scene, is_wanted).await?;
            loads = partitions::loads(service, &scene.cast, &recorded).await?;
            all.push(recorded);
        }
        Ok((all, loads))
    })
    .await?;
    for (size, recorded) in sizes.iter().zip(all) {
        growth.add(*size, counted(recorded).await?);
    }
    Ok((growth, loads))
}

/// Does `work` on a temporary table with this population.
async fn on<T>(
    population: Population,
    work: impl AsyncFnOnce(&Service, &Filled) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let folder = Scratch::new();
    let (referrals, began) = (population.referrals(), Instant::now());
    let filled = population.fill(folder.path()).await?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{referrals} referrals: {} items written in {seconds:.1} s", filled.items);
    let service = serve(folder.path(), |_| ()).await?;
    let done = work(&service, &filled).await;
    service.stop().await;
    done
}

/// An operation that was done once and recorded, so that it can be replayed.
pub(crate) struct Recorded {
    operation: &'static Operation,
    function: Function,
    store: Store,
}

/// Does the operations in sequence and records them.
async fn recorded(
    service: &Service,
    functions: &Path,
    scene: &Scene<'_>,
    is_wanted: impl Fn(&Operation) -> bool,
) -> Result<Vec<Recorded>, Trouble> {
    let mut recorded = Vec::new();
    for operation in OPERATIONS.iter().filter(|operation| is_wanted(operation)) {
        let function = Function::named(functions, operation.function, &operation.logical_id())?;
        let event = operation.prepare(service, scene).await?.to_string();
        let store = Store::of(&function, service, settings(service, &operation.logical_id())?, event).await;
        let store = store.map_err(|problem| format!("{}: {problem}", operation.name))?;
        recorded.push(Recorded { operation, function, store });
    }
    Ok(recorded)
}

/// Counts their costs. Unlike time, instructions may be counted concurrently.
async fn counted(recorded: Vec<Recorded>) -> Result<Vec<(&'static str, Costs)>, Trouble> {
    let costs = recorded.iter().map(async |Recorded { operation, function, store }| {
        let instructions = callgrind::warm(function, store).await;
        let instructions = instructions.map_err(|problem| format!("{}: {problem}", operation.name))?;
        Ok::<_, Trouble>((operation.name, Costs::of(store, instructions)))
    });
    stream::iter(costs).buffered(2).try_collect().await
}
