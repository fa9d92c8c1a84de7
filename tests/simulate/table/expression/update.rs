//! Updates: `SET`, `REMOVE` and `ADD` on an item's attributes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    super::{
        DynamoError,
        item::{Item, PK, SK, parts},
        number::Number,
    },
    Words,
};

/// The changes that an update makes.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Update {
    set: Vec<(String, Value)>,
    /// The attributes of `set` that keep their value if they have one.
    kept: BTreeSet<String>,
    remove: Vec<String>,
    add: Vec<(String, Value)>,
}

impl Update {
    /// Parses an update: each clause at most once, in any order.
    pub(crate) fn read(words: &mut Words<'_>) -> Result<Self, DynamoError> {
        let (mut update, mut seen) = (Self::default(), BTreeSet::new());
        while !words.tokens.is_empty() {
            let Some(clause) = ["SET", "REMOVE", "ADD"].into_iter().find(|clause| words.word(clause)) else {
                return Err(words.unexpected());
            };
            if !seen.insert(clause) {
                let problem = format!("The \"{clause}\" section can only be used once in an update expression;");
                return Err(DynamoError::validation(problem));
            }
            update.clause(clause, words)?;
            while words.sign(",") {
                update.clause(clause, words)?;
            }
        }
        update.check()?;
        Ok(update)
    }

    fn clause(&mut self, clause: &str, words: &mut Words<'_>) -> Result<(), DynamoError> {
        let attribute = words.attribute()?;
        match clause {
            "SET" => {
                words.expect("=")?;
                let value = if words.function("if_not_exists") {
                    self.if_not_exists(&attribute, words)?
                } else {
                    words.value()?
                };
                self.set.push((attribute, value));
            }
            "ADD" => {
                let value = words.value()?;
                if !matches!(parts(&value).0, "N" | "SS" | "NS") {
                    return Err(DynamoError::validation(format!(
                        "Incorrect operand type for operator or function; operator: ADD, operand type: {}",
                        parts(&value).0
                    )));
                }
                self.add.push((attribute, value));
            }
            _ => self.remove.push(attribute),
        }
        Ok(())
    }

    /// Parses the rest of `if_not_exists(#a, :value)`, which is supported for the attribute that is set.
    fn if_not_exists(&mut self, attribute: &str, words: &mut Words<'_>) -> Result<Value, DynamoError> {
        if words.attribute()? != attribute {
            return Err(words.unexpected());
        }
        words.expect(",")?;
        let value = words.value()?;
        words.expect(")")?;
        self.kept.insert(attribute.to_owned());
        Ok(value)
    }

    /// Refuses two changes of one attribute.
    fn check(&self) -> Result<(), DynamoError> {
        let mut seen = BTreeSet::new();
        match self.attributes().find(|attribute| !seen.insert(*attribute)) {
            Some(attribute) => Err(DynamoError::validation(format!(
                "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: \
                 [{attribute}], path two: [{attribute}]"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses changes of the key.
    pub(crate) fn leaves_the_key(&self) -> Result<(), DynamoError> {
        match self.attributes().find(|attribute| [PK, SK].contains(attribute)) {
            Some(attribute) => Err(DynamoError::validation(format!(
                "One or more parameter values were invalid: Cannot update attribute {attribute}. This attribute is \
                 part of the key"
            ))),
            None => Ok(()),
        }
    }

    fn attributes(&self) -> impl Iterator<Item = &str> {
        let valued = self.set.iter().chain(&self.add).map(|(attribute, _)| attribute.as_str());
        valued.chain(self.remove.iter().map(String::as_str))
    }

    /// Applies the update to an item.
    pub(crate) fn apply(&self, item: &mut Item) -> Result<(), DynamoError> {
        for (attribute, value) in &self.set {
            if self.kept.contains(attribute) && item.contains_key(attribute) {
                continue;
            }
            item.insert(attribute.clone(), value.clone());
        }
        for attribute in &self.remove {
            item.remove(attribute);
        }
        for (attribute, value) in &self.add {
            let sum = match item.get(attribute) {
                Some(found) => sum(found, value)?,
                None => value.clone(),
            };
            item.insert(attribute.clone(), sum);
        }
        Ok(())
    }
}

fn sum(found: &Value, value: &Value) -> Result<Value, DynamoError> {
    match (parts(found), parts(value)) {
        (("N", Value::String(one)), ("N", Value::String(other))) => {
            let sum = Number::read(one).zip(Number::read(other)).and_then(|(one, other)| one.plus(other));
            sum.map(|sum| json!({ "N": sum.to_string() })).ok_or_else(|| {
                DynamoError::validation("Number overflow. Attempting to store a number with more digits than are kept")
            })
        }
        ((kind, Value::Array(one)), (other_kind, Value::Array(other))) if kind == other_kind && kind != "L" => {
            let members: BTreeSet<&str> = one.iter().chain(other).filter_map(Value::as_str).collect();
            Ok(json!({ kind: members }))
        }
        _ => Err(DynamoError::validation("An operand in the update expression has an incorrect data type")),
    }
}
