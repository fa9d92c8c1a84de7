//! The report in words and tables.

use super::{MEASURES, Measure, Report, sql};
use crate::{
    Trouble,
    peers::figures::{Figures, Spread},
};

impl Report {
    /// `BENCHMARKS.md`.
    pub(crate) fn markdown(&self) -> Result<String, Trouble> {
        let Self { rounds, calls, latency_ms, .. } = self;
        let sections = [
            "# Benchmarks".to_owned(),
            format!(
                "What this service costs beside what its users would write instead: the same six steps of a referral's life, on \
                 the same table, by the same events, held to the same contracts ([tests/peers](tests/peers)). Written by \
                 `bash .ci/benchmarks`, which first checks that every contender does the steps: one referral from twenty \
                 sign-ups at once, one conversion from an order that comes again, both rewards once, each delivered under its \
                 key and signature.\n\n\
                 Each function is a process that is invoked as Lambda does it, by the vendor's own runtime interface client; \
                 DynamoDB, bus and subsystem are answers of the local service, recorded for each contender apart and played \
                 back after {latency_ms} ms. All take turns, in {rounds} rounds of {calls} warm calls; figures are medians \
                 of the rounds, and in brackets the least and the most of them. None of this says how fast DynamoDB is."
            ),
            "![CPU of a start, CPU of a warm call and memory of each contender](tests/peers/benchmarks.svg)".to_owned(),
            "## In short\n\nHow many times ours: the median of the steps, and the least and the most of them.".to_owned(),
            self.comparison(),
            self.targets(),
            "## Start and memory".to_owned(),
            "A start lasts from `exec` until the function asks for its first event; the first call comes on top. Ours connects \
             in its start, the others in their first call. CPU is that of all threads. Memory is the most that the process had after all its calls. Steps of one function differ by their \
             calls alone."
                .to_owned(),
            self.starts(),
            "## Warm calls".to_owned(),
            "Beyond the store: a call's time without what it waited for others. Its p99.9 is over all rounds. JavaScript is \
             compiled as it runs, so its first calls cost more than those of a process that lives long."
                .to_owned(),
            self.warm_calls(),
            self.postgres.as_ref().map_or_else(String::new, sql::section),
            self.conditions(),
        ];
        Ok(sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n\n") + "\n")
    }

    /// Ours, and how many times as much the others'.
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

    /// What we set out for, and what came of it.
    fn targets(&self) -> String {
        let titles = self.titles();
        let Some(peer) = titles.get(1) else { return String::new() };
        let lines = MEASURES.iter().filter_map(|Measure { name, target, of, .. }| {
            let (target, ratio) = ((*target)?, self.ratio(peer, *of));
            let is_met = if ratio.median >= target { "met" } else { "missed" };
            Some(format!("- {name}: {target} times less wanted, {} found: {is_met}", short(ratio.median)))
        });
        format!("Against *{peer}* we set out for:\n\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    /// Every figure of processes.
    pub(crate) fn starts(&self) -> String {
        let head = ["step", "", "start: CPU ms", "wall ms", "first call: CPU ms", "memory MB", "archive MB"];
        self.by_step(&head, |figures| {
            vec![
                spread(figures.start_cpu),
                spread(figures.start_wall),
                spread(figures.first_cpu),
                spread(figures.resident),
                short(figures.deployed),
            ]
        })
    }

    /// Every figure of calls.
    pub(crate) fn warm_calls(&self) -> String {
        let head = [
            "step",
            "",
            "CPU ms",
            "p99",
            "of the first 20",
            "beyond the store ms",
            "p99",
            "p99.9",
            "round trips",
            "units written",
            "units read",
        ];
        self.by_step(&head, |figures| {
            vec![
                spread(figures.cpu),
                spread(figures.cpu_p99),
                spread(figures.cpu_early),
                spread(figures.excess),
                spread(figures.excess_p99),
                short(figures.excess_p999),
                figures.traffic.round_trips.to_string(),
                figures.traffic.write_units.to_string(),
                figures.traffic.read_units.to_string(),
            ]
        })
    }

    /// A line for each contender at each step, which is named in the first of them.
    fn by_step(&self, head: &[&str], figures: impl Fn(&Figures) -> Vec<String>) -> String {
        let ours = self.titles().first().copied().unwrap_or_default();
        let lines = self.rows.iter().map(|found| {
            let step = if found.title == ours { found.step } else { "" };
            let cells = [step.to_owned(), found.title.clone()].into_iter().chain(figures(&found.figures));
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

- The peers do the six steps and no more: no cookie, no withdrawal, no sweep, no quarantine (what they cannot read is an
  error, for a dead-letter queue). They have what a careful user of each stack has: clients made at the start, connections
  kept, timeouts, a memory of codes, conditional writes that bring what they found.
- Node.js is bundled and minified by esbuild, SDK included; its heap is bounded as for a function of 128 MB. Python's modules
  are compiled before, which in Lambda they often are not.
- An archive holds what is deployed: for Rust the whole program, for the others what Lambda's own runtime (not counted) runs.
  Python's holds boto3, which the runtime has too, in another version.
- Powertools keeps what it has seen in a table of its own: two more round trips and two more units for what is new, and one
  of each for what it has seen, which then costs nothing else.
- All calls go over plain HTTP, so what TLS takes is in nobody's figures.
- On Lambda a small function has a fraction of a processor, so there CPU is time, and more of it than here.";

pub(super) fn row<T: AsRef<str>>(cells: &[T]) -> String {
    format!("| {} |", cells.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" | "))
}

pub(super) fn rule(columns: usize) -> String {
    format!("|{}", "---|".repeat(columns))
}

/// Three figures of a number, as far as they say something.
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
    fn numbers_are_cut_to_what_they_say() {
        let numbers = [0.0, 0.1234, 1.234, 12.34, 123.4, 1234.0].map(short);
        assert_eq!(numbers, ["0", "0.12", "1.2", "12.3", "123", "1234"]);
    }

    #[test]
    fn a_row_has_a_rule_of_its_width() {
        assert_eq!(row(&["a", "b"]), "| a | b |");
        assert_eq!(rule(2), "|---|---|");
    }
}
