//! EventBridge's pattern language, used by the bus rules and the stream filters.
//!
//! A pattern is parsed once, at start. An unknown operator is an error, so that a rule never silently matches less or
//! more than on AWS.

use serde_json::{Map, Value};

/// A pattern that cannot be parsed, with the reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("event pattern: {0}")]
pub(crate) struct PatternError(String);

/// The conditions that an event must meet.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<(String, Expectation)>);

#[derive(Clone, Debug)]
enum Expectation {
    /// The field is an object that matches.
    Fields(Pattern),
    /// The field's value passes at least one of these tests.
    AnyOf(Vec<Test>),
}

#[derive(Clone, Debug)]
enum Test {
    Equals(Value),
    EqualsIgnoreCase(String),
    Prefix(String),
    Suffix(String),
    Exists(bool),
    AnythingBut(Vec<Value>),
    AnythingButPrefix(String),
    Numeric(Vec<(Comparison, f64)>),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Pattern {
    /// Parses a pattern.
    pub(crate) fn new(pattern: &Value) -> Result<Self, PatternError> {
        match pattern {
            Value::Object(fields) if !fields.is_empty() => Self::of_fields(fields),
            _ => Err(refused("is not an object with fields", pattern)),
        }
    }

    fn of_fields(fields: &Map<String, Value>) -> Result<Self, PatternError> {
        let expectations = fields.iter().map(|(name, expected)| match (name.as_str(), expected) {
            ("$or", _) => Err(refused("operator is not known here", &"$or".into())),
            (_, Value::Object(_)) => Ok((name.clone(), Expectation::Fields(Self::new(expected)?))),
            (_, Value::Array(tests)) if !tests.is_empty() => {
                let tests = tests.iter().map(Test::new).collect::<Result<_, _>>()?;
                Ok((name.clone(), Expectation::AnyOf(tests)))
            }
            _ => Err(refused("expected a list of values or an object", expected)),
        });
        expectations.collect::<Result<_, _>>().map(Self)
    }

    /// Whether `event` matches the pattern.
    pub(crate) fn matches(&self, event: &Value) -> bool {
        match event {
            // In a list of objects, one match is enough.
            Value::Array(items) => items.iter().any(|item| self.matches(item)),
            _ => self.0.iter().all(|(name, expectation)| expectation.is_met_by(event.get(name))),
        }
    }
}

impl Expectation {
    fn is_met_by(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Self::Fields(pattern), found) => pattern.matches(found.unwrap_or(&Value::Null)),
            (Self::AnyOf(tests), Some(Value::Array(items))) if !items.is_empty() => {
                tests.iter().any(|test| items.iter().any(|item| test.passes(Some(item))))
            }
            (Self::AnyOf(tests), found) => tests.iter().any(|test| test.passes(found)),
        }
    }
}

impl Test {
    fn new(test: &Value) -> Result<Self, PatternError> {
        let Value::Object(operator) = test else {
            return scalar(test).map(Self::Equals);
        };
        let mut entries = operator.iter();
        let (Some((name, argument)), None) = (entries.next(), entries.next()) else {
            return Err(refused("expected exactly one operator", test));
        };
        match (name.as_str(), argument) {
            ("prefix", Value::String(text)) => Ok(Self::Prefix(text.clone())),
            ("suffix", Value::String(text)) => Ok(Self::Suffix(text.clone())),
            ("equals-ignore-case", Value::String(text)) => Ok(Self::EqualsIgnoreCase(text.to_lowercase())),
            ("exists", Value::Bool(wanted)) => Ok(Self::Exists(*wanted)),
            ("anything-but", argument) => Self::anything_but(argument),
            ("numeric", Value::Array(terms)) => Self::numeric(terms, test),
            _ => Err(refused("operator is not known here", test)),
        }
    }

    fn anything_but(argument: &Value) -> Result<Self, PatternError> {
        match argument {
            Value::Object(operator) => match (operator.len(), operator.get("prefix")) {
                (1, Some(Value::String(text))) => Ok(Self::AnythingButPrefix(text.clone())),
                _ => Err(refused("operator is not known here", argument)),
            },
            Value::Array(items) => items.iter().map(scalar).collect::<Result<_, _>>().map(Self::AnythingBut),
            single => Ok(Self::AnythingBut(vec![scalar(single)?])),
        }
    }

    fn numeric(terms: &[Value], whole: &Value) -> Result<Self, PatternError> {
        let pairs = terms.chunks(2).map(|pair| match pair {
            [Value::String(sign), Value::Number(limit)] => Some((Comparison::new(sign)?, limit.as_f64()?)),
            _ => None,
        });
        let comparisons = pairs.collect::<Option<Vec<_>>>().filter(|comparisons| !comparisons.is_empty());
        comparisons.map(Self::Numeric).ok_or_else(|| refused("comparison is invalid", whole))
    }

    fn passes(&self, found: Option<&Value>) -> bool {
        let text = found.and_then(Value::as_str);
        match self {
            Self::Equals(wanted) => found.is_some_and(|found| same(found, wanted)),
            Self::EqualsIgnoreCase(wanted) => text.is_some_and(|text| text.to_lowercase() == *wanted),
            Self::Prefix(wanted) => text.is_some_and(|text| text.starts_with(wanted)),
            Self::Suffix(wanted) => text.is_some_and(|text| text.ends_with(wanted)),
            Self::Exists(wanted) => found.is_some() == *wanted,
            Self::AnythingBut(unwanted) => {
                found.is_some_and(|found| unwanted.iter().all(|unwanted| !same(found, unwanted)))
            }
            Self::AnythingButPrefix(unwanted) => text.is_some_and(|text| !text.starts_with(unwanted)),
            Self::Numeric(comparisons) => found
                .and_then(Value::as_f64)
                .is_some_and(|number| comparisons.iter().all(|(sign, limit)| sign.holds(number, *limit))),
        }
    }
}

impl Comparison {
    fn new(sign: &str) -> Option<Self> {
        Some(match sign {
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            "=" => Self::Equal,
            ">=" => Self::GreaterOrEqual,
            ">" => Self::Greater,
            _ => return None,
        })
    }

    #[allow(clippy::float_cmp, reason = "equality is what the pattern asks for")]
    fn holds(self, number: f64, limit: f64) -> bool {
        match self {
            Self::Less => number < limit,
            Self::LessOrEqual => number <= limit,
            Self::Equal => number == limit,
            Self::GreaterOrEqual => number >= limit,
            Self::Greater => number > limit,
        }
    }
}

/// Equality as in the pattern language: `1` and `1.0` are equal.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

fn scalar(value: &Value) -> Result<Value, PatternError> {
    match value {
        Value::Array(_) | Value::Object(_) => Err(refused("expected a single value", value)),
        single => Ok(single.clone()),
    }
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
        check(json!({"a": [{"anything-but": ["x", 1]}]}), json!({"a": "y"}), true);
        check(json!({"a": [{"anything-but": ["x", 1]}]}), json!({"a": 1}), false);
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

    #[test]
    fn unknown_or_malformed_patterns_are_refused() {
        for pattern in [
            json!([]),
            json!({}),
            json!({"a": "x"}),
            json!({"a": []}),
            json!({"a": [["x"]]}),
            json!({"a": [{"wildcard": "*"}]}),
            json!({"a": [{"prefix": "x", "suffix": "y"}]}),
            json!({"a": [{"numeric": ["~", 1]}]}),
            json!({"a": [{"numeric": []}]}),
            json!({"$or": [{"a": ["x"]}]}),
        ] {
            assert!(Pattern::new(&pattern).is_err(), "{pattern}");
        }
    }
}
