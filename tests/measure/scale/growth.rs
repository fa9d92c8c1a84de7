//! The cost of operations at several sizes, and whether it is the same at all of them.

use std::fmt::{Display, Write};

use crate::store::Store;

/// The cost of an operation at one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    round_trips: usize,
    write_units: f64,
    read_units: f64,
    /// Items and index entries that were read.
    items: u64,
    bytes: usize,
    instructions: u64,
}

impl Costs {
    /// The cost of the first call, which has nothing in memory yet; the instructions are those of a warm call.
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

/// Costs as something grows.
pub(crate) struct Growth {
    title: &'static str,
    what: &'static str,
    sizes: Vec<usize>,
    /// By operation. `None` if there are too few items for the operation at that size.
    rows: Vec<(&'static str, Vec<Option<Costs>>)>,
}

impl Growth {
    /// The allowed difference between two counts of instructions, in percent.
    const TOLERANCE: u64 = 2;

    pub(crate) fn new(title: &'static str, what: &'static str) -> Self {
        Self { title, what, sizes: Vec::new(), rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, size: usize, costs: Vec<(&'static str, Costs)>) {
        for (name, costs) in costs {
            let place = self.rows.iter().position(|(row, _)| *row == name).unwrap_or_else(|| {
                self.rows.push((name, Vec::new()));
                self.rows.len() - 1
            });
            self.rows[place].1.resize(self.sizes.len(), None);
            self.rows[place].1.push(Some(costs));
        }
        self.sizes.push(size);
    }

    /// Whether every operation costs the same at every size.
    pub(crate) fn is_flat(&self) -> bool {
        self.rows.iter().all(|(_, costs)| is_flat(costs))
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
        for (name, costs) in &self.rows {
            let series = |of: &dyn Fn(&Costs) -> String| series(costs.iter().flatten().map(of));
            let instructions: Vec<String> = (0..self.sizes.len())
                .map(|size| {
                    costs
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
                if is_flat(costs) { "flat" } else { "**not flat**" },
            );
        }
        text
    }
}

/// Whether round trips and units are equal, and instructions within the tolerance.
fn is_flat(costs: &[Option<Costs>]) -> bool {
    let mut found = costs.iter().flatten();
    let Some(first) = found.next() else { return true };
    found.all(|next| {
        let units = |costs: &Costs| (costs.round_trips, costs.write_units.to_bits(), costs.read_units.to_bits());
        let off = first.instructions.abs_diff(next.instructions);
        units(first) == units(next) && off * 100 <= first.instructions * Growth::TOLERANCE
    })
}

/// One value if all are equal, otherwise all of them.
fn series(values: impl Iterator<Item = String>) -> String {
    let mut values: Vec<String> = values.collect();
    if values.iter().all(|value| *value == values[0]) {
        values.truncate(1);
    }
    values.join(" → ")
}

/// A number with separators: `1,000,000`.
pub(crate) fn grouped(number: impl Display) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(round_trips: usize, instructions: u64) -> Costs {
        Costs { round_trips, write_units: 2.0, read_units: 4.0, items: 3, bytes: 900, instructions }
    }

    #[test]
    fn an_operation_that_costs_more_at_a_larger_size_is_not_flat() {
        for (second, flat) in [(costs(2, 102_000), true), (costs(2, 103_000), false), (costs(3, 100_000), false)] {
            let mut growth = Growth::new("As it grows", "things");
            growth.add(1, vec![("attribute", costs(2, 100_000))]);
            growth.add(1000, vec![("attribute", second), ("a page", costs(2, 1))]);
            assert_eq!(growth.is_flat(), flat, "{second:?}");
            assert_eq!(growth.to_markdown().contains("not flat"), !flat);
            assert!(growth.to_markdown().contains("| a page | 2 | 2 | 4 | 3 | 0.9 | – | 0 | flat |"));
        }
    }

    #[test]
    fn a_number_is_written_with_separators() {
        assert_eq!([7, 1000, 1_000_000].map(grouped), ["7", "1,000", "1,000,000"]);
    }
}
