//! Conditions: parsing, type checks as far as operand types are known, and evaluation on an item.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{
    super::{
        DynamoError,
        item::{Item, order, parts},
    },
    Words,
};

/// A condition.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Condition {
    Compare(Operand, Comparison, Operand),
    Between(Operand, Operand, Operand),
    In(Operand, Vec<Operand>),
    Exists(String),
    NotExists(String),
    BeginsWith(Operand, Operand),
    Contains(Operand, Operand),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
}

/// An operand of a comparison.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Operand {
    Attribute(String),
    Value(Value),
    Size(String),
}

/// A comparison operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

const COMPARISONS: [(&str, Comparison); 6] = [
    ("=", Comparison::Equal),
    ("<>", Comparison::Unequal),
    ("<", Comparison::Less),
    ("<=", Comparison::AtMost),
    (">", Comparison::More),
    (">=", Comparison::AtLeast),
];

impl Condition {
    /// Parses a condition: `OR` binds weakest, then `AND`, then `NOT`.
    pub(crate) fn read(words: &mut Words<'_>) -> Result<Self, DynamoError> {
        let mut condition = Self::conjunction(words)?;
        while words.word("OR") {
            condition = Self::Or(condition.into(), Self::conjunction(words)?.into());
        }
        Ok(condition)
    }

    fn conjunction(words: &mut Words<'_>) -> Result<Self, DynamoError> {
        let mut condition = Self::negation(words)?;
        while words.word("AND") {
            condition = Self::And(condition.into(), Self::negation(words)?.into());
        }
        Ok(condition)
    }

    fn negation(words: &mut Words<'_>) -> Result<Self, DynamoError> {
        if words.word("NOT") { Ok(Self::Not(Self::negation(words)?.into())) } else { Self::primary(words) }
    }

    fn primary(words: &mut Words<'_>) -> Result<Self, DynamoError> {
        if words.sign("(") {
            let inner = Self::read(words)?;
            words.expect(")")?;
            return Ok(inner);
        }
        for (name, exists) in [("attribute_exists", true), ("attribute_not_exists", false)] {
            if words.function(name) {
                let attribute = words.attribute()?;
                words.expect(")")?;
                return Ok(if exists { Self::Exists(attribute) } else { Self::NotExists(attribute) });
            }
        }
        for (name, make) in [("begins_with", Self::BeginsWith as fn(_, _) -> _), ("contains", Self::Contains)] {
            if words.function(name) {
                let whole = Operand::read(words)?;
                words.expect(",")?;
                let part = Operand::read(words)?;
                words.expect(")")?;
                distinct(name, &whole, &part)?;
                if name == "begins_with" {
                    part.must_be(&["S"], name)?;
                }
                return Ok(make(whole, part));
            }
        }
        Self::comparison(words)
    }

    fn comparison(words: &mut Words<'_>) -> Result<Self, DynamoError> {
        let left = Operand::read(words)?;
        if words.word("BETWEEN") {
            let low = Operand::read(words)?;
            if !words.word("AND") {
                return Err(words.unexpected());
            }
            let high = Operand::read(words)?;
            bounds(&low, &high)?;
            return Ok(Self::Between(left, low, high));
        }
        if words.word("IN") {
            words.expect("(")?;
            let mut choices = vec![Operand::read(words)?];
            while words.sign(",") {
                choices.push(Operand::read(words)?);
            }
            words.expect(")")?;
            return Ok(Self::In(left, choices));
        }
        let Some((sign, comparison)) = COMPARISONS.into_iter().find(|(sign, _)| words.sign(sign)) else {
            return Err(words.unexpected());
        };
        let right = Operand::read(words)?;
        distinct(sign, &left, &right)?;
        if !matches!(comparison, Comparison::Equal | Comparison::Unequal) {
            left.must_be(&["S", "N"], sign)?;
            right.must_be(&["S", "N"], sign)?;
        }
        Ok(Self::Compare(left, comparison, right))
    }

    /// Whether the condition holds for this item. A missing item is an empty one.
    pub(crate) fn holds(&self, item: &Item) -> bool {
        match self {
            Self::Compare(left, comparison, right) => match (left.of(item), right.of(item)) {
                (Some(left), Some(right)) => comparison.holds(&left, &right),
                // A missing attribute is unequal to everything and not comparable.
                _ => *comparison == Comparison::Unequal,
            },
            Self::Between(operand, low, high) => match (operand.of(item), low.of(item), high.of(item)) {
                (Some(value), Some(low), Some(high)) => {
                    Comparison::AtLeast.holds(&value, &low) && Comparison::AtMost.holds(&value, &high)
                }
                _ => false,
            },
            Self::In(operand, choices) => operand.of(item).is_some_and(|value| {
                choices.iter().any(|choice| choice.of(item).is_some_and(|choice| choice == value))
            }),
            Self::Exists(attribute) => item.contains_key(attribute),
            Self::NotExists(attribute) => !item.contains_key(attribute),
            Self::BeginsWith(whole, part) => match (whole.of(item), part.of(item)) {
                (Some(whole), Some(part)) => both_text(&whole, &part, |whole, part| whole.starts_with(part)),
                _ => false,
            },
            Self::Contains(whole, part) => match (whole.of(item), part.of(item)) {
                (Some(whole), Some(part)) => contains(&whole, &part),
                _ => false,
            },
            Self::And(one, other) => one.holds(item) && other.holds(item),
            Self::Or(one, other) => one.holds(item) || other.holds(item),
            Self::Not(inner) => !inner.holds(item),
        }
    }
}

impl Operand {
    fn read(words: &mut Words<'_>) -> Result<Self, DynamoError> {
        use super::Token;
        if words.function("size") {
            let attribute = words.attribute()?;
            words.expect(")")?;
            return Ok(Self::Size(attribute));
        }
        match words.tokens.front() {
            Some(Token::Value(_)) => words.value().map(Self::Value),
            _ => words.attribute().map(Self::Attribute),
        }
    }

    fn of(&self, item: &Item) -> Option<Value> {
        match self {
            Self::Attribute(name) => item.get(name).cloned(),
            Self::Value(value) => Some(value.clone()),
            Self::Size(name) => size(item.get(name)?).map(|size| json!({ "N": size.to_string() })),
        }
    }

    /// Refuses a value whose type this operator does not accept. An attribute's type is known only at evaluation.
    fn must_be(&self, kinds: &[&str], operator: &str) -> Result<(), DynamoError> {
        match self {
            Self::Value(value) if !kinds.contains(&parts(value).0) => Err(DynamoError::validation(format!(
                "Incorrect operand type for operator or function; operator or function: {operator}, operand type: {}",
                parts(value).0
            ))),
            _ => Ok(()),
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        // Values are in canonical form, so equal values are identical.
        match self {
            Self::Equal => left == right,
            Self::Unequal => left != right,
            Self::Less => order(left, right) == Some(Ordering::Less),
            Self::AtMost => matches!(order(left, right), Some(Ordering::Less | Ordering::Equal)),
            Self::More => order(left, right) == Some(Ordering::Greater),
            Self::AtLeast => matches!(order(left, right), Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// The `size` of a value. For a string it counts UTF-16 units; numbers, booleans and null have no size.
fn size(value: &Value) -> Option<usize> {
    match parts(value) {
        ("S", Value::String(text)) => Some(text.encode_utf16().count()),
        ("SS" | "NS" | "L", Value::Array(members)) => Some(members.len()),
        ("M", Value::Object(map)) => Some(map.len()),
        _ => None,
    }
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (parts(whole), parts(part)) {
        (("SS", Value::Array(members)), ("S", part)) | (("NS", Value::Array(members)), ("N", part)) => {
            members.contains(part)
        }
        (("L", Value::Array(members)), _) => members.contains(part),
        _ => both_text(whole, part, |whole, part| whole.contains(part)),
    }
}

fn both_text(whole: &Value, part: &Value, holds: impl FnOnce(&str, &str) -> bool) -> bool {
    match (parts(whole), parts(part)) {
        (("S", Value::String(whole)), ("S", Value::String(part))) => holds(whole, part),
        _ => false,
    }
}

fn distinct(operator: &str, one: &Operand, other: &Operand) -> Result<(), DynamoError> {
    match (one, other) {
        (Operand::Attribute(one), Operand::Attribute(other)) if one == other => Err(DynamoError::validation(format!(
            "The first operand must be distinct from the remaining operands for this operator or function; operator: \
             {operator}, first operand: [{one}]"
        ))),
        _ => Ok(()),
    }
}

fn bounds(low: &Operand, high: &Operand) -> Result<(), DynamoError> {
    let (Operand::Value(low), Operand::Value(high)) = (low, high) else { return Ok(()) };
    match order(low, high) {
        Some(Ordering::Less | Ordering::Equal) => Ok(()),
        Some(Ordering::Greater) => Err(DynamoError::validation(
            "The BETWEEN operator requires upper bound to be greater than or equal to lower bound",
        )),
        None => Err(DynamoError::validation("The BETWEEN operator requires same data type for lower and upper bounds")),
    }
}
