//! The report: all measurements compared with ours, as a table on the terminal and as `BENCHMARKS.md`.

mod sql;
mod text;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    Trouble,
    peers::{
        Peers,
        costs::{Costs, Spread},
        machine,
        plot::{self, Bar, Panel},
        postgres::Postgres,
        rounds::Entry,
    },
};

pub(crate) use self::text::short;

/// The file of the plot.
pub(crate) const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/benchmarks.svg");

/// All measurements.
pub(crate) struct Report {
    rows: Vec<Row>,
    postgres: Option<Postgres>,
    machine: Vec<String>,
    versions: Vec<String>,
    rounds: usize,
    calls: usize,
    latency_ms: u64,
}

/// A contender at a step.
struct Row {
    step: &'static str,
    title: String,
    costs: Costs,
}

/// A value by which contenders are compared.
struct Measure {
    name: &'static str,
    unit: &'static str,
    /// The multiple of our value that we want the first peer's value to be.
    target: Option<f64>,
    of: fn(&Costs) -> f64,
}

const MEASURES: [Measure; 7] = [
    Measure { name: "CPU of a start", unit: "ms", target: Some(30.0), of: |costs| costs.start_cpu.median },
    Measure { name: "CPU of a start with the first call", unit: "ms", target: None, of: |costs| costs.cold_cpu.median },
    Measure { name: "CPU of a warm call", unit: "ms", target: Some(5.0), of: |costs| costs.cpu.median },
    Measure {
        name: "CPU of one of the first 20 warm calls",
        unit: "ms",
        target: None,
        of: |costs| costs.cpu_early.median,
    },
    Measure { name: "excess time of a warm call", unit: "ms", target: None, of: |costs| costs.excess.median },
    Measure { name: "memory", unit: "MB", target: Some(8.0), of: |costs| costs.resident.median },
    Measure { name: "deployed archive", unit: "MB", target: None, of: |costs| costs.deployed },
];

impl Report {
    pub(crate) fn of(entries: &[Entry<'_>], postgres: Option<Postgres>, peers: &Peers) -> Result<Self, Trouble> {
        let rows = entries.iter().map(|entry| {
            let costs = Costs::of(entry)?;
            Ok(Row { step: entry.step.name, title: entry.contender.title.clone(), costs })
        });
        Ok(Self {
            rows: rows.collect::<Result<_, Trouble>>()?,
            postgres,
            machine: machine::describe()?,
            versions: versions(entries)?,
            rounds: peers.rounds,
            calls: peers.calls,
            latency_ms: peers.latency_ms,
        })
    }

    /// The titles of all contenders, ours first.
    fn titles(&self) -> Vec<&str> {
        let mut titles: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !titles.contains(&row.title.as_str()) {
                titles.push(&row.title);
            }
        }
        titles
    }

    fn steps(&self) -> Vec<&'static str> {
        let mut steps: Vec<_> = self.rows.iter().map(|row| row.step).collect();
        steps.dedup();
        steps
    }

    fn of_contender<'a>(&'a self, title: &'a str) -> impl Iterator<Item = &'a Costs> {
        self.rows.iter().filter(move |row| row.title == title).map(|row| &row.costs)
    }

    /// A contender's value over all steps.
    fn over_steps(&self, title: &str, value: fn(&Costs) -> f64) -> Spread {
        Spread::of(self.of_contender(title).map(value))
    }

    /// A contender's value as a multiple of ours, over all steps.
    fn ratio(&self, title: &str, value: fn(&Costs) -> f64) -> Spread {
        let ours = self.titles().first().copied().unwrap_or_default();
        let pairs = self.of_contender(title).zip(self.of_contender(ours));
        Spread::of(pairs.map(|(theirs, ours)| value(theirs) / value(ours)))
    }

    /// The tables for the terminal.
    pub(crate) fn table(&self) -> String {
        [self.comparison(), self.starts(), self.warm_calls()].join("\n\n")
    }

    pub(crate) fn plot(&self) -> String {
        let bar = |title: &str, spread: Spread| Bar { title: title.to_owned(), spread };
        let titles = self.titles();
        let start = titles.iter().map(|title| bar(title, self.over_steps(title, |costs| costs.start_cpu.median)));
        let memory = titles.iter().map(|title| bar(title, self.over_steps(title, |costs| costs.resident.median)));
        let mut calls: BTreeMap<usize, Vec<Bar>> = BTreeMap::new();
        for row in &self.rows {
            let place = self.steps().iter().position(|step| *step == row.step).unwrap_or_default();
            calls.entry(place).or_default().push(bar(&row.title, row.costs.cpu));
        }
        let named = |(place, bars): (usize, Vec<Bar>)| (self.steps()[place].to_owned(), bars);
        plot::draw(&[
            Panel { title: "CPU of a start, ms", groups: vec![(String::new(), start.collect())] },
            Panel { title: "CPU of a warm call, ms", groups: calls.into_iter().map(named).collect() },
            Panel { title: "Memory, MB", groups: vec![(String::new(), memory.collect())] },
        ])
    }
}

/// The locked versions of the peers' runtimes and libraries.
fn versions(entries: &[Entry<'_>]) -> Result<Vec<String>, Trouble> {
    let mut versions = Vec::new();
    for entry in entries {
        versions.extend(entry.contender.runtime(entry.step)?.filter(|version| !versions.contains(version)));
    }
    let package: Value = serde_json::from_str(include_str!("../../peers/node/package.json"))?;
    for kind in ["dependencies", "devDependencies"] {
        let names = package[kind].as_object().into_iter().flatten();
        versions.extend(names.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default())));
    }
    let wanted = ["aws-lambda-powertools", "boto3", "awslambdaric"];
    let pinned = [
        include_str!("../../../.ci/requirements/peers.txt"),
        include_str!("../../../.ci/requirements/peers-runtime.txt"),
    ];
    let pinned = pinned.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once("=="));
    let pinned = pinned.filter(|(name, _)| wanted.contains(name)).map(|(name, version)| format!("{name} {version}"));
    versions.extend(pinned);
    Ok(versions)
}
