//! EventBridge's pattern language, used by the bus rules and the stream filters. It matches as AWS's own matcher, event-ruler
//! 2.0.1, does.
//!
//! A pattern is parsed once, at start. What the matcher refuses is an error, and so is what is not supported here, so that a
//! rule never silently matches less or more than on AWS. Not supported: a path that occurs twice; an address with leading
//! zeros; characters outside the basic plane in a comparison without regard to case; a list of nothing in `anything-but`;
//! numbers from 2^64 on. Numbers of this size in events are compared as doubles.

mod address;
mod condition;
mod leaf;
mod text;

use std::collections::{BTreeMap, btree_map};

use serde_json::{Map, Value};

use self::{
    condition::Condition,
    leaf::{Leaf, Positions, joined, leaves, together},
};

/// A pattern that cannot be parsed, with the reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("event pattern: {0}")]
pub(crate) struct PatternError(String);

/// The conditions that an event must meet: those of at least one alternative. A pattern without `$or` has one.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Alternative>);

/// For each path the conditions of which one must hold, in the order in which the matcher reads them.
type Alternative = BTreeMap<String, Vec<Condition>>;

/// The most alternatives that AWS allows.
const MAX_ALTERNATIVES: usize = 1000;

/// Names that cannot be fields in `$or`.
const RESERVED: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

impl Pattern {
    /// Parses a pattern.
    pub(crate) fn new(pattern: &Value) -> Result<Self, PatternError> {
        match pattern {
            Value::Object(fields) => {
                Compiler { is_in_or: false }.fields(vec![Alternative::new()], "", fields).map(Self)
            }
            _ => Err(refused("is not an object with fields", pattern)),
        }
    }

    /// Whether `event` matches the pattern.
    pub(crate) fn matches(&self, event: &Value) -> bool {
        event.is_object()
            && self.0.iter().any(|alternative| {
                let leaves = leaves(event, |path| alternative.contains_key(path));
                is_met(alternative.iter(), &leaves, &Positions::new())
            })
    }
}

/// Adds the fields of a pattern to its alternatives.
#[derive(Clone, Copy)]
struct Compiler {
    is_in_or: bool,
}

impl Compiler {
    fn fields(
        self,
        mut alternatives: Vec<Alternative>,
        path: &str,
        fields: &Map<String, Value>,
    ) -> Result<Vec<Alternative>, PatternError> {
        if fields.is_empty() {
            return Err(refused("object has no fields", &Value::Object(fields.clone())));
        }
        for (name, expected) in fields {
            alternatives = match (name.as_str(), expected) {
                ("$or", expected) => Self::or(&alternatives, path, expected)?,
                (name, _) if self.is_in_or && RESERVED.contains(&name) => {
                    return Err(refused("name is reserved in $or", &name.into()));
                }
                (name, Value::Object(fields)) => self.fields(alternatives, &joined(path, name), fields)?,
                (name, Value::Array(tests)) => with_field(alternatives, joined(path, name), tests)?,
                _ => return Err(refused("expected a list of values or an object", expected)),
            };
        }
        Ok(alternatives)
    }

    /// Combines each alternative with each member of `$or`.
    fn or(alternatives: &[Alternative], path: &str, members: &Value) -> Result<Vec<Alternative>, PatternError> {
        let Some(members) = members.as_array().filter(|members| members.len() >= 2) else {
            return Err(refused("$or needs a list of two or more objects", members));
        };
        let mut combined = Vec::new();
        for member in members {
            let fields = member.as_object().ok_or_else(|| refused("$or needs objects", member))?;
            combined.extend(Self { is_in_or: true }.fields(alternatives.to_vec(), path, fields)?);
            if combined.len() > MAX_ALTERNATIVES {
                return Err(refused("$or has too many combinations", member));
            }
        }
        Ok(combined)
    }
}

/// Adds the conditions of one field.
fn with_field(
    mut alternatives: Vec<Alternative>,
    path: String,
    tests: &[Value],
) -> Result<Vec<Alternative>, PatternError> {
    let conditions = tests.iter().map(Condition::new).collect::<Result<Vec<_>, _>>()?;
    if conditions.is_empty() {
        return Err(refused("list is empty, of", &path.into()));
    }
    for alternative in &mut alternatives {
        if alternative.insert(path.clone(), conditions.clone()).is_some() {
            return Err(refused("path occurs twice", &path.into()));
        }
    }
    Ok(alternatives)
}

/// Whether the leaves meet the conditions of all remaining fields. All values that are used must come from the same elements
/// of lists; `positions` are those of the fields before.
fn is_met(mut fields: btree_map::Iter<'_, String, Vec<Condition>>, leaves: &[Leaf], positions: &Positions) -> bool {
    let Some((path, conditions)) = fields.next() else { return true };
    let here = leaves.iter().filter(|leaf| leaf.path == *path);
    let here = here.filter_map(|leaf| together(positions, &leaf.positions).map(|together| (leaf, together)));
    let mut here = here.peekable();
    if here.peek().is_none() {
        return conditions.contains(&Condition::Absent) && is_met(fields, leaves, positions);
    }
    here.any(|(leaf, together)| {
        conditions.iter().any(|condition| condition.passes(leaf)) && is_met(fields.clone(), leaves, &together)
    })
}

fn refused(problem: &str, what: &Value) -> PatternError {
    PatternError(format!("{problem}: {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pattern: Value, event: Value, expected: bool) {
        assert_eq!(Pattern::new(&pattern).unwrap().matches(&event), expected, "{pattern} on {event}");
    }

    #[test]
    fn a_value_must_be_in_the_list() {
        let pattern = json!({"source": ["shop", "crm"], "detail": {"amount": [1]}});
        check(pattern.clone(), json!({"source": "crm", "detail": {"amount": 1.0, "more": true}}), true);
        check(pattern.clone(), json!({"source": "other", "detail": {"amount": 1}}), false);
        check(pattern.clone(), json!({"source": "shop", "detail": "amount"}), false);
        check(pattern, json!({"source": "shop"}), false);
        check(json!({"a": [null]}), json!({"a": null}), true);
        check(json!({"a": [null]}), json!({}), false);
    }

    #[test]
    fn one_matching_list_member_is_enough() {
        check(json!({"tags": ["a"]}), json!({"tags": ["b", "a"]}), true);
        check(json!({"tags": ["a"]}), json!({"tags": []}), false);
        check(json!({"items": {"id": [2]}}), json!({"items": [{"id": 1}, {"id": 2}]}), true);
    }

    #[test]
    fn text_operators() {
        check(json!({"a": [{"prefix": "order."}]}), json!({"a": "order.completed"}), true);
        check(json!({"a": [{"prefix": "order."}]}), json!({"a": 7}), false);
        check(json!({"a": [{"suffix": ".eu"}]}), json!({"a": "shop.eu"}), true);
        check(json!({"a": [{"equals-ignore-case": "Yes"}]}), json!({"a": "yES"}), true);
    }

    #[test]
    fn anything_but_requires_a_value() {
        check(json!({"a": [{"anything-but": ["x", "z"]}]}), json!({"a": "y"}), true);
        check(json!({"a": [{"anything-but": ["x", "z"]}]}), json!({"a": "z"}), false);
        check(json!({"a": [{"anything-but": [1, 2]}]}), json!({"a": 1.0}), false);
        check(json!({"a": [{"anything-but": "x"}]}), json!({}), false);
        check(json!({"a": [{"anything-but": {"prefix": "x"}}]}), json!({"a": "yx"}), true);
    }

    #[test]
    fn exists_checks_only_presence() {
        check(json!({"a": {"b": [{"exists": true}]}}), json!({"a": {"b": null}}), true);
        check(json!({"a": {"b": [{"exists": false}]}}), json!({"a": {}}), true);
        check(json!({"a": {"b": [{"exists": false}]}}), json!({}), true);
        check(json!({"a": [{"exists": false}, "x"]}), json!({"a": "x"}), true);
        check(json!({"a": [{"exists": false}]}), json!({"a": "x"}), false);
    }

    #[test]
    fn numbers_are_compared_with_every_limit() {
        let pattern = json!({"a": [{"numeric": [">", 0, "<=", 10]}]});
        check(pattern.clone(), json!({"a": 10}), true);
        check(pattern.clone(), json!({"a": 0}), false);
        check(pattern, json!({"a": "5"}), false);
    }

    #[test]
    fn a_filter_matches_a_stream_record() {
        let filter = json!({"eventName": ["MODIFY"], "dynamodb": {"NewImage": {"sk": {"S": ["REFERRAL"]}}}});
        let record = json!({"eventName": "MODIFY", "dynamodb": {"NewImage": {"sk": {"S": "REFERRAL"}}}});
        check(filter.clone(), record, true);
        check(filter, json!({"eventName": "REMOVE", "dynamodb": {"OldImage": {"sk": {"S": "REFERRAL"}}}}), false);
    }

    /// Each value of the list with whether it matches.
    #[track_caller]
    fn check_values<const N: usize>(condition: Value, values: [(Value, bool); N]) {
        for (value, expected) in values {
            check(json!({"a": [condition]}), json!({ "a": value }), expected);
        }
    }

    #[test]
    fn only_leaves_exist() {
        for (value, exists) in [
            (json!(null), true),
            (json!(false), true),
            (json!(""), true),
            (json!([1]), true),
            (json!([[1]]), true),
            (json!([]), false),
            (json!([[], {}]), false),
            (json!({}), false),
            (json!({"b": 1}), false),
            (json!([{"b": 1}]), false),
        ] {
            check(json!({"a": [{"exists": true}]}), json!({"a": value.clone()}), exists);
            check(json!({"a": [{"exists": false}]}), json!({ "a": value }), !exists);
        }
    }

    #[test]
    fn anything_but_takes_values_of_other_types_but_no_object() {
        let others = [json!(null), json!(true), json!(7), json!("y"), json!(["x", "y"]), json!([["y"]])];
        for condition in [
            json!({"anything-but": "x"}),
            json!({"anything-but": {"prefix": "x"}}),
            json!({"anything-but": {"suffix": ["x", "z"]}}),
            json!({"anything-but": {"equals-ignore-case": "X"}}),
            json!({"anything-but": {"wildcard": "*x*"}}),
        ] {
            for other in &others {
                check(json!({"a": [condition.clone()]}), json!({ "a": other }), true);
            }
            for none in [json!("x"), json!([]), json!({}), json!({"b": "y"}), json!(["x"])] {
                check(json!({"a": [condition.clone()]}), json!({ "a": none }), false);
            }
        }
        check_values(
            json!({"anything-but": [1, 2]}),
            [(json!("1"), true), (json!(null), true), (json!(2.0), false), (json!(3), true)],
        );
    }

    #[test]
    fn lists_in_lists_are_flat() {
        check(json!({"a": ["x"]}), json!({"a": [["y"], [["x"]]]}), true);
        check(json!({"a": {"b": ["x"]}}), json!({"a": [[{"b": ["x"]}]]}), true);
        check(json!({"a": ["x"]}), json!({"a": [["y"]]}), false);
    }

    #[test]
    fn values_of_one_match_come_from_the_same_list_element() {
        let pattern = json!({"items": {"id": [2], "name": ["x"]}});
        check(pattern.clone(), json!({"items": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]}), false);
        check(pattern.clone(), json!({"items": [{"id": 1, "name": "y"}, {"id": 2, "name": "x"}]}), true);
        check(pattern, json!({"items": [[{"id": 2}], [{"name": "x"}]]}), false);
        // A missing field is judged by the element of the fields before it in the alphabet.
        let pattern = json!({"items": {"id": [2], "name": [{"exists": false}]}});
        check(pattern.clone(), json!({"items": [{"id": 1, "name": "x"}, {"id": 2}]}), true);
        check(pattern, json!({"items": [{"id": 1}, {"id": 2, "name": "x"}]}), false);
    }

    #[test]
    fn a_dot_in_a_name_is_a_separator() {
        for event in [json!({"a.b": 1}), json!({"a": {"b": 1}})] {
            check(json!({"a": {"b": [1]}}), event.clone(), true);
            check(json!({"a.b": [1]}), event, true);
        }
        check(json!({"a.b": [{"exists": false}]}), json!({"a": {"b": 1}}), false);
    }

    #[test]
    fn integers_above_2_to_the_53_are_exact() {
        let (one, other) = (9_007_199_254_740_992_u64, 9_007_199_254_740_993_u64);
        check(json!({"a": [one]}), json!({ "a": one }), true);
        check(json!({"a": [one]}), json!({ "a": other }), false);
        check(json!({"a": [other]}), json!({ "a": other }), true);
        check(json!({"a": [other]}), json!({ "a": one }), false);
        check(json!({"a": [{"numeric": [">", 0]}]}), json!({ "a": one }), true);
        // A double cannot represent it, so it is not compared.
        check(json!({"a": [{"numeric": [">", 0]}]}), json!({ "a": other }), false);
        check(json!({"a": [{"anything-but": one}]}), json!({ "a": other }), true);
    }

    #[test]
    fn text_operators_without_regard_to_case() {
        check_values(json!({"prefix": {"equals-ignore-case": "aB"}}), [(json!("Abc"), true), (json!("ac"), false)]);
        check_values(json!({"suffix": {"equals-ignore-case": "bC"}}), [(json!("aBc"), true), (json!("bca"), false)]);
        // Only the pattern's characters are converted. The capital form of the sharp s has two letters.
        check_values(
            json!({"equals-ignore-case": "stra\u{df}e"}),
            [(json!("STRASSE"), true), (json!("Stra\u{df}e"), true), (json!("strasse"), false)],
        );
        check_values(json!({"equals-ignore-case": "k"}), [(json!("K"), true), (json!("\u{212a}"), false)]);
        check_values(json!({"exactly": "10.0.0.1"}), [(json!("10.0.0.1"), true), (json!("10.0.0.2"), false)]);
    }

    #[test]
    fn wildcards() {
        check_values(
            json!({"wildcard": "a*b*c"}),
            [(json!("abc"), true), (json!("a-b-b-c"), true), (json!("ac"), false), (json!("abcd"), false)],
        );
        check_values(json!({"wildcard": "*"}), [(json!(""), true), (json!("x"), true), (json!(7), false)]);
        check_values(json!({"wildcard": "aba*aba"}), [(json!("abaaba"), true), (json!("aba"), false)]);
        check_values(json!({"wildcard": "a\\*\\\\"}), [(json!("a*\\"), true), (json!("ab\\"), false)]);
        check_values(json!({"wildcard": "x"}), [(json!("x"), true), (json!("xx"), false)]);
    }

    #[test]
    fn addresses_and_networks() {
        check_values(
            json!({"cidr": "10.0.0.0/24"}),
            [(json!("10.0.0.255"), true), (json!("10.0.1.0"), false), (json!("::1"), false), (json!(null), false)],
        );
        check_values(json!({"cidr": "2001:db8::/32"}), [(json!("2001:DB8:1::"), true), (json!("2001:db9::"), false)]);
        check_values(json!("::1"), [(json!("0:0:0:0:0:0:0:1"), true), (json!("::2"), false)]);
        check_values(json!("10.0.0.1"), [(json!("10.0.0.1"), true), (json!("::ffff:a00:1"), true)]);
        check_values(json!("a:b"), [(json!("a:b"), true), (json!("A:B"), false)]);
    }

    #[test]
    fn one_alternative_of_or_is_enough() {
        let pattern = json!({"source": ["shop"], "$or": [{"a": [1]}, {"b": [2], "c": {"d": [3]}}]});
        check(pattern.clone(), json!({"source": "shop", "a": 1}), true);
        check(pattern.clone(), json!({"source": "shop", "b": 2, "c": {"d": 3}}), true);
        check(pattern.clone(), json!({"source": "shop", "b": 2}), false);
        check(pattern, json!({"source": "crm", "a": 1}), false);
        let nested = json!({"x": {"$or": [{"a": [1]}, {"$or": [{"b": [2]}, {"c": [3]}]}]}});
        check(nested.clone(), json!({"x": {"c": 3}}), true);
        check(nested, json!({"x": {"c": 2}}), false);
    }

    #[test]
    fn unknown_or_malformed_patterns_are_refused() {
        for pattern in [
            json!([]),
            json!({}),
            json!({"a": "x"}),
            json!({"a": []}),
            json!({"a": [["x"]]}),
            json!({"a": [{"wildcard": "**"}]}),
            json!({"a": [{"wildcard": "\\x"}]}),
            json!({"a": {}}),
            json!({"a": null}),
            json!({"a": [{}]}),
            json!({"a": [{"regex": "x"}]}),
            json!({"a": [{"prefix": 1}]}),
            json!({"a": [{"prefix": {"suffix": "x"}}]}),
            json!({"a": [{"exists": "true"}]}),
            json!({"a": [{"exactly": 1}]}),
            json!({"a": [{"anything-but": null}]}),
            json!({"a": [{"anything-but": [true]}]}),
            json!({"a": [{"anything-but": []}]}),
            json!({"a": [{"anything-but": ["x", 1]}]}),
            json!({"a": [{"anything-but": 9_007_199_254_740_993_u64}]}),
            json!({"a": [{"anything-but": {"prefix": ""}}]}),
            json!({"a": [{"anything-but": {"prefix": 1}}]}),
            json!({"a": [{"anything-but": {"exists": true}}]}),
            json!({"a": [{"anything-but": {"prefix": "x", "suffix": "y"}}]}),
            json!({"a": [{"numeric": ["=", 1, "<", 2]}]}),
            json!({"a": [{"numeric": ["<", 2, ">", 1]}]}),
            json!({"a": [{"numeric": [">", 2, "<", 2]}]}),
            json!({"a": [{"numeric": [">", "2"]}]}),
            json!({"a": [{"numeric": [">", 1, "<", 2, "<", 3]}]}),
            json!({"a": [{"cidr": "10.0.0.0"}]}),
            json!({"a": [{"cidr": "10.0.0.0/32"}]}),
            json!({"a": [{"cidr": "shop/8"}]}),
            json!({"a": ["10.0.0.01"]}),
            json!({"a": [{"equals-ignore-case": "\u{10400}"}]}),
            json!({"a": [1e20]}),
            json!({"a": {"b": [1]}, "a.b": [2]}),
            json!({"$or": []}),
            json!({"$or": "x"}),
            json!({"$or": [{"a": ["x"]}, "y"]}),
            json!({"$or": [{"a": ["x"]}, {}]}),
            json!({"$or": [{"a": ["x"]}, {"prefix": ["y"]}]}),
            json!({"a": [1], "$or": [{"a": [2]}, {"b": [3]}]}),
            json!({"a": [{"prefix": "x", "suffix": "y"}]}),
            json!({"a": [{"numeric": ["~", 1]}]}),
            json!({"a": [{"numeric": []}]}),
            json!({"$or": [{"a": ["x"]}]}),
        ] {
            assert!(Pattern::new(&pattern).is_err(), "{pattern}");
        }
    }
}
