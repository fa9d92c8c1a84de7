//! The report in words and tables.

use super::{MEASURES, Measure, Report, sql};
use crate::{
    Trouble,
    peers::costs::{Costs, Spread},
};

impl Report {
    /// `BENCHMARKS.md`.
    pub(crate) fn markdown(&self) -> Result<String, Trouble> {
        let Self { rounds, calls, latency_ms, .. } = self;
        let sections = [
            "# Benchmarks".to_owned(),
            format!(
                "The cost of this service compared with the code that its users would write instead: the same six steps of a \
                 referral, on the same table, with the same events and the same contracts ([tests/peers](tests/peers)). Written by \
                 `bash .ci/benchmarks`, which first checks that every contender does the steps: one referral from twenty \
                 concurrent sign-ups, one conversion from a repeated order, both rewards once, each delivered under its key \
                 with a valid signature.\n\n\
                 Each function is a process that is invoked as Lambda invokes it, through the vendor's own runtime interface \
                 client. DynamoDB, bus and subsystem are answers of the local service, recorded separately for each contender and \
                 replayed after {latency_ms} ms. All contenders take turns, in {rounds} rounds of {calls} warm calls. Values are \
                 medians of the rounds, with the minimum and the maximum in brackets. DynamoDB itself is not measured."
            ),
            "![CPU of a start, CPU of a warm call and memory of each contender](tests/peers/benchmarks.svg)".to_owned(),
            "## Summary\n\nMultiples of our own cost: the median of the steps, with the minimum and the maximum.".to_owned(),
            self.comparison(),
            self.targets(),
            "## Start and memory".to_owned(),
            "A start lasts from `exec` until the function requests its first event; the first call is added to it. Our functions \
             connect during the start, the others in their first call. CPU is the time of all threads. Memory is the maximum of the \
             process after all its calls. Steps of one function differ only in their calls."
                .to_owned(),
            self.starts(),
            "## Warm calls".to_owned(),
            "Excess: the time of a call without the time that it waited for answers. Its p99.9 is over all rounds. JavaScript is \
             compiled while it runs, so its first calls cost more than those of a process that has run for a while."
                .to_owned(),
            self.warm_calls(),
            self.postgres.as_ref().map_or_else(String::new, sql::section),
            self.conditions(),
        ];
        Ok(sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n\n") + "\n")
    }

    /// Our costs, and those of the peers as multiples of them.
    pub(crate) fn comparison(&self) -> String {
        let titles = self.titles();
        let (ours, peers) = titles.split_first().map_or(("", &[][..]), |(ours, peers)| (*ours, peers));
        let mut lines = vec![row(&[&["", ours], peers].concat()), rule(peers.len() + 2)];
        for Measure { name, unit, of, .. } in &MEASURES {
            let own = format!("{} {unit}", short(self.over_steps(ours, *of).median));
            let others = peers.iter().map(|title| times(self.ratio(title, *of)));
            let cells: Vec<String> = [(*name).to_owned(), own].into_iter().chain(others).collect();
            lines.push(row(&cells));
        }
        lines.join("\n")
    }

    /// The targets, and whether they are met.
    fn targets(&self) -> String {
        let titles = self.titles();
        let Some(peer) = titles.get(1) else { return String::new() };
        let lines = MEASURES.iter().filter_map(|Measure { name, target, of, .. }| {
            let (target, ratio) = ((*target)?, self.ratio(peer, *of));
            let is_met = if ratio.median >= target { "met" } else { "missed" };
            Some(format!("- {name}: target {target} times less, measured {}: {is_met}", short(ratio.median)))
        });
        format!("Targets compared with *{peer}*:\n\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    /// The costs of processes.
    pub(crate) fn starts(&self) -> String {
        let head = ["step", "", "start: CPU ms", "wall ms", "first call: CPU ms", "memory MB", "archive MB"];
        self.by_step(&head, |costs| {
            vec![
                spread(costs.start_cpu),
                spread(costs.start_wall),
                spread(costs.first_cpu),
                spread(costs.resident),
                short(costs.deployed),
            ]
        })
    }

    /// The costs of calls.
    pub(crate) fn warm_calls(&self) -> String {
        let head = [
            "step",
            "",
            "CPU ms",
            "p99",
            "first 20",
            "excess ms",
            "p99",
            "p99.9",
            "round trips",
            "units written",
            "units read",
        ];
        self.by_step(&head, |costs| {
            vec![
                spread(costs.cpu),
                spread(costs.cpu_p99),
                spread(costs.cpu_early),
                spread(costs.excess),
                spread(costs.excess_p99),
                short(costs.excess_p999),
                costs.traffic.round_trips.to_string(),
                costs.traffic.write_units.to_string(),
                costs.traffic.read_units.to_string(),
            ]
        })
    }

    /// One row per contender and step. Only the first row of a step names it.
    fn by_step(&self, head: &[&str], costs: impl Fn(&Costs) -> Vec<String>) -> String {
        let ours = self.titles().first().copied().unwrap_or_default();
        let lines = self.rows.iter().map(|found| {
            let step = if found.title == ours { found.step } else { "" };
            let cells = [step.to_owned(), found.title.clone()].into_iter().chain(costs(&found.costs));
            row(&cells.collect::<Vec<_>>())
        });
        [row(head), rule(head.len())].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    }

    fn conditions(&self) -> String {
        let list = |lines: &[String]| lines.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n");
        format!("{CONDITIONS}\n\n## The machine\n\n{}\n{}", list(&self.machine), list(&self.versions))
    }
}

const CONDITIONS: &str = "\
## What is compared, and what is not

- The peers do only the six steps: no cookie, no adjustment of orders, no sweep, no quarantine (input that they cannot read is an
  error, for a dead-letter queue). They have what a careful user of each stack writes: clients that are made at the start,
  connections that stay open, timeouts, codes in memory, conditional writes that return the stored item.
- Node.js is bundled and minified by esbuild, including the SDK; its heap is limited as for a function of 128 MB. Python's modules
  are compiled in advance, which in Lambda they often are not.
- An archive holds what is deployed: for Rust the whole program, for the others the code that Lambda's own runtime (not counted)
  runs. Python's archive holds boto3, which the runtime also has, in another version.
- Powertools keeps the events that it has seen in a table of its own: two more round trips and two more units for a new event, and
  one of each for a repeated event, which then costs nothing else.
- All calls use plain HTTP, so the cost of TLS is in none of the values.
- On Lambda a small function has a fraction of a processor. There, CPU time is waiting time, and longer than here.";

pub(super) fn row<T: AsRef<str>>(cells: &[T]) -> String {
    format!("| {} |", cells.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" | "))
}

pub(super) fn rule(columns: usize) -> String {
    format!("|{}", "---|".repeat(columns))
}

/// A number with about three significant digits.
pub(crate) fn short(value: f64) -> String {
    let places = match value.abs() {
        0.0 => 0,
        small if small < 1.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.places$}")
}

pub(super) fn spread(Spread { median, least, most }: Spread) -> String {
    format!("{} ({}–{})", short(median), short(least), short(most))
}

fn times(Spread { median, least, most }: Spread) -> String {
    format!("{}× ({}–{})", short(median), short(least), short(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits() {
        let numbers = [0.0, 0.1234, 1.234, 12.34, 123.4, 1234.0].map(short);
        assert_eq!(numbers, ["0", "0.12", "1.2", "12.3", "123", "1234"]);
    }

    #[test]
    fn a_rule_has_as_many_columns_as_its_row() {
        assert_eq!(row(&["a", "b"]), "| a | b |");
        assert_eq!(rule(2), "|---|---|");
    }
}
