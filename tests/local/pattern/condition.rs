//! A condition on a value, in a pattern's list.

use std::net::IpAddr;

use serde_json::{Map, Number, Value};

use super::{
    PatternError,
    address::{Network, address, is_ambiguous},
    leaf::{Leaf, comparable, json, quoted},
    refused,
    text::{AnyCase, Wildcard},
};

/// A condition on a value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Condition {
    /// The value has this JSON.
    Json(String),
    Number(f64),
    Address(IpAddr),
    Network(Network),
    /// The value's JSON starts with this.
    Prefix(String),
    PrefixAnyCase(AnyCase),
    /// The value's JSON ends with this.
    Suffix(String),
    SuffixAnyCase(AnyCase),
    AnyCase(AnyCase),
    Wildcard(Wildcard),
    Range(Vec<Limit>),
    /// None of these holds. A value of another type passes.
    AnythingBut(Vec<Condition>),
    Exists,
    /// There is no value.
    Absent,
}

/// One end of a range of numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Limit {
    Above(f64),
    AtLeast(f64),
    Below(f64),
    AtMost(f64),
}

impl Condition {
    /// Parses a member of a list.
    pub(super) fn new(test: &Value) -> Result<Self, PatternError> {
        match test {
            Value::Object(operator) => Self::of_operator(operator, test),
            Value::Array(_) => Err(refused("expected a single value", test)),
            Value::String(text) if is_ambiguous(text) => Err(refused("an address with leading zeros", test)),
            Value::Number(number) if is_too_large(number) => Err(refused("number is too large", test)),
            Value::String(text) => Ok(address(text).map_or_else(|| Self::Json(quoted(text)), Self::Address)),
            single => Ok(Self::of_single(single)),
        }
    }

    /// The condition that a value equals this one.
    fn of_single(value: &Value) -> Self {
        value.as_number().and_then(comparable).map_or_else(|| Self::Json(json(value)), Self::Number)
    }

    fn of_operator(operator: &Map<String, Value>, test: &Value) -> Result<Self, PatternError> {
        let (name, argument) = only(operator, test)?;
        match (name, argument) {
            ("exactly", Value::String(text)) => Ok(Self::Json(quoted(text))),
            ("prefix", Value::String(text)) => Ok(Self::Prefix(format!("\"{text}"))),
            ("suffix", Value::String(text)) => Ok(Self::Suffix(format!("{text}\""))),
            ("prefix", Value::Object(inner)) => {
                any_case(inner_text(inner, "equals-ignore-case", test)?, "\"", "", test).map(Self::PrefixAnyCase)
            }
            ("suffix", Value::Object(inner)) => {
                any_case(inner_text(inner, "equals-ignore-case", test)?, "", "\"", test).map(Self::SuffixAnyCase)
            }
            ("equals-ignore-case", Value::String(text)) => any_case(text, "\"", "\"", test).map(Self::AnyCase),
            ("wildcard", Value::String(text)) => wildcard(text, test),
            ("exists", Value::Bool(true)) => Ok(Self::Exists),
            ("exists", Value::Bool(false)) => Ok(Self::Absent),
            ("cidr", Value::String(text)) => {
                Network::new(text).map(Self::Network).ok_or_else(|| refused("network is invalid", test))
            }
            ("anything-but", argument) => anything_but(argument, test).map(Self::AnythingBut),
            ("numeric", Value::Array(terms)) => range(terms, test),
            _ => Err(refused("operator is not known", test)),
        }
    }

    /// Whether a value passes.
    pub(super) fn passes(&self, leaf: &Leaf) -> bool {
        match self {
            Self::Json(wanted) => leaf.json == *wanted,
            Self::Number(wanted) => leaf.number == Some(*wanted),
            Self::Address(wanted) => address(&leaf.json) == Some(*wanted),
            Self::Network(network) => address(&leaf.json).is_some_and(|address| network.contains(address)),
            Self::Prefix(wanted) => leaf.json.starts_with(wanted),
            Self::PrefixAnyCase(wanted) => wanted.starts(&leaf.json),
            Self::Suffix(wanted) => leaf.json.ends_with(wanted),
            Self::SuffixAnyCase(wanted) => wanted.finishes(&leaf.json),
            Self::AnyCase(wanted) => wanted.equals(&leaf.json),
            Self::Wildcard(wanted) => wanted.matches(&leaf.json),
            Self::Range(limits) => leaf.number.is_some_and(|number| limits.iter().all(|limit| limit.holds(number))),
            Self::AnythingBut(unwanted) => !unwanted.iter().any(|unwanted| unwanted.passes(leaf)),
            Self::Exists => true,
            Self::Absent => false,
        }
    }
}

impl Limit {
    fn new(sign: &Value, number: &Value) -> Option<Self> {
        let number = number.as_number().filter(|number| !is_too_large(number)).and_then(comparable)?;
        Some(match sign.as_str()? {
            ">" => Self::Above(number),
            ">=" => Self::AtLeast(number),
            "<" => Self::Below(number),
            "<=" => Self::AtMost(number),
            _ => return None,
        })
    }

    fn holds(self, number: f64) -> bool {
        match self {
            Self::Above(limit) => number > limit,
            Self::AtLeast(limit) => number >= limit,
            Self::Below(limit) => number < limit,
            Self::AtMost(limit) => number <= limit,
        }
    }
}

/// Whether the digits of this number are lost: integers from 2^64 on are read as doubles.
fn is_too_large(number: &Number) -> bool {
    number.is_f64() && number.as_f64().is_none_or(|float| float.abs() >= 18_446_744_073_709_551_616.0)
}

/// The only entry of an operator.
fn only<'a>(operator: &'a Map<String, Value>, test: &Value) -> Result<(&'a str, &'a Value), PatternError> {
    let mut entries = operator.iter();
    match (entries.next(), entries.next()) {
        (Some((name, argument)), None) => Ok((name, argument)),
        _ => Err(refused("expected exactly one operator", test)),
    }
}

/// The text of the only entry, which has this name.
fn inner_text<'a>(inner: &'a Map<String, Value>, name: &str, test: &Value) -> Result<&'a str, PatternError> {
    match only(inner, test)? {
        (found, Value::String(text)) if found == name => Ok(text),
        _ => Err(refused("operator is not known", test)),
    }
}

fn any_case(text: &str, before: &str, after: &str, test: &Value) -> Result<AnyCase, PatternError> {
    AnyCase::new(&format!("{before}{text}{after}")).ok_or_else(|| refused("character is not supported", test))
}

fn wildcard(text: &str, test: &Value) -> Result<Condition, PatternError> {
    Wildcard::new(&quoted(text)).map(Condition::Wildcard).map_err(|problem| refused(problem, test))
}

/// A text or number, a list of either, or an operator on one or more texts.
fn anything_but(argument: &Value, test: &Value) -> Result<Vec<Condition>, PatternError> {
    let (operator, values) = match argument {
        Value::Object(inner) => {
            let (name, values) = only(inner, test)?;
            (Some(name), values)
        }
        values => (None, values),
    };
    let values = match values {
        Value::Array(values) if values.is_empty() => return Err(refused("list is empty", test)),
        Value::Array(values) => values.as_slice(),
        single => std::slice::from_ref(single),
    };
    let is_mixed = values.iter().any(Value::is_string) && values.iter().any(Value::is_number);
    if is_mixed {
        return Err(refused("texts and numbers in one list", test));
    }
    values.iter().map(|value| unwanted(operator, value, test)).collect()
}

fn unwanted(operator: Option<&str>, value: &Value, test: &Value) -> Result<Condition, PatternError> {
    match (operator, value) {
        (None, Value::String(text)) => Ok(Condition::Json(quoted(text))),
        (None, Value::Number(number)) => {
            let number = Some(number).filter(|number| !is_too_large(number)).and_then(comparable);
            number.map(Condition::Number).ok_or_else(|| refused("number cannot be compared", test))
        }
        (Some("prefix" | "suffix"), Value::String(text)) if text.is_empty() => Err(refused("text is empty", test)),
        (Some("prefix"), Value::String(text)) => Ok(Condition::Prefix(format!("\"{text}"))),
        (Some("suffix"), Value::String(text)) => Ok(Condition::Suffix(format!("{text}\""))),
        (Some("equals-ignore-case"), Value::String(text)) => any_case(text, "\"", "\"", test).map(Condition::AnyCase),
        (Some("wildcard"), Value::String(text)) => wildcard(text, test),
        _ => Err(refused("expected texts or numbers", test)),
    }
}

/// `=` and a number, or one or two limits of which the lower one is first.
fn range(terms: &[Value], test: &Value) -> Result<Condition, PatternError> {
    let condition = match terms {
        [Value::String(sign), Value::Number(number)] if sign == "=" => {
            Some(number).filter(|number| !is_too_large(number)).and_then(comparable).map(Condition::Number)
        }
        [sign, number] => Limit::new(sign, number).map(|limit| Condition::Range(vec![limit])),
        [lower, bottom, upper, top] => {
            let limits = (Limit::new(lower, bottom), Limit::new(upper, top));
            match limits {
                (
                    Some(bottom @ (Limit::Above(low) | Limit::AtLeast(low))),
                    Some(top @ (Limit::Below(high) | Limit::AtMost(high))),
                ) if low < high => Some(Condition::Range(vec![bottom, top])),
                _ => None,
            }
        }
        _ => None,
    };
    condition.ok_or_else(|| refused("comparison is invalid", test))
}
