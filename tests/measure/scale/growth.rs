//! What operations cost at one size and at the next, and whether that is the same.

use std::fmt::{Display, Write};

use crate::store::Store;

/// What an operation costs at one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    round_trips: usize,
    write_units: f64,
    read_units: f64,
    /// Items and entries of indexes that were read.
    items: u64,
    bytes: usize,
    instructions: u64,
}

impl Figures {
    /// Of the first call, which has everything yet to look up; the instructions are those of a warm one.
    pub(crate) fn of(store: &Store, instructions: u64) -> Self {
        let items = store.exchanges.iter().map(|exchange| {
            let batches = exchange.answer["Responses"].as_object().into_iter().flat_map(serde_json::Map::values);
            let batched: usize = batches.filter_map(|items| Some(items.as_array()?.len())).sum();
            exchange.answer["Count"].as_u64().unwrap_or_default() + batched as u64
        });
        Self {
            round_trips: store.first.round_trips,
            write_units: store.first.write_units,
            read_units: store.first.read_units,
            items: items.sum(),
            bytes: store.first.bytes,
            instructions,
        }
    }
}

/// How figures go as something grows.
pub(crate) struct Growth {
    title: &'static str,
    what: &'static str,
    sizes: Vec<usize>,
    /// By operation; none where there is not enough for it.
    rows: Vec<(&'static str, Vec<Option<Figures>>)>,
}

impl Growth {
    /// So far from one another two counts of instructions may be, in a hundred.
    const TOLERANCE: u64 = 2;

    pub(crate) fn new(title: &'static str, what: &'static str) -> Self {
        Self { title, what, sizes: Vec::new(), rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, size: usize, figures: Vec<(&'static str, Figures)>) {
        for (name, figures) in figures {
            let place = self.rows.iter().position(|(row, _)| *row == name).unwrap_or_else(|| {
                self.rows.push((name, Vec::new()));
                self.rows.len() - 1
            });
            self.rows[place].1.resize(self.sizes.len(), None);
            self.rows[place].1.push(Some(figures));
        }
        self.sizes.push(size);
    }

    /// Whether everything costs the same at every size.
    pub(crate) fn is_flat(&self) -> bool {
        self.rows.iter().all(|(_, figures)| is_flat(figures))
    }

    pub(crate) fn to_markdown(&self) -> String {
        let (title, what) = (self.title, self.what);
        let sizes: Vec<String> = self.sizes.iter().copied().map(grouped).collect();
        let rule = sizes.iter().map(|_| "--:|").collect::<String>();
        let mut text = format!("\n## {title}\n\n{what}: {}.\n\n", sizes.join(", "));
        let _infallible = writeln!(
            text,
            "| | round trips | write units | read units | items read | KB sent | thousand instructions at {} | |\n\
             |---|--:|--:|--:|--:|--:|{rule}---|",
            sizes.join(" | ")
        );
        for (name, figures) in &self.rows {
            let series = |of: &dyn Fn(&Figures) -> String| series(figures.iter().flatten().map(of));
            let instructions: Vec<String> = (0..self.sizes.len())
                .map(|size| {
                    figures
                        .get(size)
                        .copied()
                        .flatten()
                        .map_or("–".to_owned(), |found| (found.instructions / 1000).to_string())
                })
                .collect();
            let _infallible = writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {} | {} | {} |",
                series(&|found| found.round_trips.to_string()),
                series(&|found| found.write_units.to_string()),
                series(&|found| found.read_units.to_string()),
                series(&|found| found.items.to_string()),
                series(&|found| format!("{:.1}", found.bytes as f64 / 1000.0)),
                instructions.join(" | "),
                if is_flat(figures) { "flat" } else { "**not flat**" },
            );
        }
        text
    }
}

/// Whether round trips and units are the same, and instructions nearly.
fn is_flat(figures: &[Option<Figures>]) -> bool {
    let mut found = figures.iter().flatten();
    let Some(first) = found.next() else { return true };
    found.all(|next| {
        let units =
            |figures: &Figures| (figures.round_trips, figures.write_units.to_bits(), figures.read_units.to_bits());
        let off = first.instructions.abs_diff(next.instructions);
        units(first) == units(next) && off * 100 <= first.instructions * Growth::TOLERANCE
    })
}

/// One value where all are the same, and else each.
fn series(values: impl Iterator<Item = String>) -> String {
    let mut values: Vec<String> = values.collect();
    if values.iter().all(|value| *value == values[0]) {
        values.truncate(1);
    }
    values.join(" → ")
}

/// `1000000` as people write it.
pub(crate) fn grouped(number: impl Display) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(round_trips: usize, instructions: u64) -> Figures {
        Figures { round_trips, write_units: 2.0, read_units: 4.0, items: 3, bytes: 900, instructions }
    }

    #[test]
    fn what_costs_more_at_a_larger_size_is_not_flat() {
        for (second, flat) in [(figures(2, 102_000), true), (figures(2, 103_000), false), (figures(3, 100_000), false)]
        {
            let mut growth = Growth::new("As it grows", "things");
            growth.add(1, vec![("attribute", figures(2, 100_000))]);
            growth.add(1000, vec![("attribute", second), ("a page", figures(2, 1))]);
            assert_eq!(growth.is_flat(), flat, "{second:?}");
            assert_eq!(growth.to_markdown().contains("not flat"), !flat);
            assert!(growth.to_markdown().contains("| a page | 2 | 2 | 4 | 3 | 0.9 | – | 0 | flat |"));
        }
    }

    #[test]
    fn a_number_is_written_in_groups() {
        assert_eq!([7, 1000, 1_000_000].map(grouped), ["7", "1,000", "1,000,000"]);
    }
}
