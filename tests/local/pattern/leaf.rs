//! The leaves of an event: what a pattern is compared with.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

/// The element that each list is read from, by the list's number.
pub(super) type Positions = BTreeMap<usize, usize>;

/// A text, number, boolean or `null` in an event. Objects and lists are not leaves, so an empty list has none.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Leaf {
    /// The names of the fields that lead to it, separated by dots. A dot in a name is not different from a separator.
    pub(super) path: String,
    /// The value as JSON, without escapes in texts.
    pub(super) json: String,
    /// The value, if it is a number that can be compared.
    pub(super) number: Option<f64>,
    /// The list elements that contain it. The elements of a list are leaves themselves, and in no element.
    pub(super) positions: Positions,
}

/// The leaves of an event whose paths are wanted.
pub(super) fn leaves(event: &Value, is_wanted: impl Fn(&str) -> bool) -> Vec<Leaf> {
    let mut reader = Reader { is_wanted, lists: 0, leaves: Vec::new() };
    reader.read(event, "", &Positions::new());
    reader.leaves
}

/// Whether two leaves are in the same element of every list that contains both. If so, returns the positions of both.
pub(super) fn together(one: &Positions, other: &Positions) -> Option<Positions> {
    let is_same = |(list, at): (&usize, &usize)| one.get(list).is_none_or(|before| before == at);
    other.iter().all(is_same).then(|| one.iter().chain(other).map(|(list, at)| (*list, *at)).collect())
}

/// A number as the matcher compares it; `None` if a double cannot represent it. Such a number equals only its own digits.
#[allow(clippy::cast_possible_truncation, reason = "a double beyond the range of i128 does not come from an integer")]
pub(super) fn comparable(number: &Number) -> Option<f64> {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    number.as_f64().filter(|float| integer.is_none_or(|integer| *float as i128 == integer))
}

struct Reader<W> {
    is_wanted: W,
    lists: usize,
    leaves: Vec<Leaf>,
}

impl<W: Fn(&str) -> bool> Reader<W> {
    fn read(&mut self, value: &Value, path: &str, positions: &Positions) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.read(value, &joined(path, name), positions);
                }
            }
            Value::Array(items) => {
                let list = self.lists;
                self.lists += 1;
                for (at, item) in items.iter().enumerate() {
                    let mut inside = positions.clone();
                    if item.is_object() || item.is_array() {
                        inside.insert(list, at);
                    }
                    self.read(item, path, &inside);
                }
            }
            leaf if (self.is_wanted)(path) => self.leaves.push(Leaf {
                path: path.to_owned(),
                json: json(leaf),
                number: leaf.as_number().and_then(comparable),
                positions: positions.clone(),
            }),
            _ => {}
        }
    }
}

/// The path of a field in the object at `path`.
pub(super) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A single value as JSON, without escapes.
pub(super) fn json(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), quoted)
}

/// A text in quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
