//! Expressions: a recursive descent parser that resolves names and values while it parses.
//!
//! It supports the part of the language that the store's conditions use, and a little more. Attributes are named only
//! by
//! `#name` and only at the top level of the item. Anything else in an expression is refused, like DynamoDB refuses what
//! it does not understand: an expression is never silently true.

mod condition;
mod tokens;
mod update;

use std::{cell::RefCell, collections::BTreeSet};

use serde_json::{Map, Value};

use self::tokens::{Token, tokens};
use super::{
    DynamoError,
    item::{self, Item},
};

pub(crate) use self::{
    condition::{Comparison, Condition, Operand},
    update::Update,
};

/// The names and values that a request defines, and which of them its expressions have used.
pub(crate) struct Definitions<'a> {
    names: Option<&'a Map<String, Value>>,
    values: Option<Item>,
    used: RefCell<BTreeSet<String>>,
}

const NAMES: &str = "ExpressionAttributeNames";
const VALUES: &str = "ExpressionAttributeValues";

impl<'a> Definitions<'a> {
    /// The definitions of this request.
    pub(crate) fn of(request: &'a Value) -> Result<Self, DynamoError> {
        let names = defined(request, NAMES, '#')?;
        let values = defined(request, VALUES, ':')?;
        let checked = |(name, value): (&String, &Value)| Ok((name.clone(), item::checked(value)?));
        let values = values.map(|values| values.iter().map(checked).collect::<Result<Item, DynamoError>>());
        Ok(Self { names, values: values.transpose()?, used: RefCell::default() })
    }

    /// Parses the condition in this member of the request, if there is one.
    pub(crate) fn condition(&self, request: &Value, member: &str) -> Result<Option<Condition>, DynamoError> {
        self.read(request, member, Condition::read)
    }

    /// Parses the request's update, if there is one.
    pub(crate) fn update(&self, request: &Value) -> Result<Option<Update>, DynamoError> {
        self.read(request, "UpdateExpression", Update::read)
    }

    fn read<T>(
        &self,
        request: &Value,
        member: &str,
        read: impl FnOnce(&mut Words<'_>) -> Result<T, DynamoError>,
    ) -> Result<Option<T>, DynamoError> {
        let expression = match &request[member] {
            Value::Null => return Ok(None),
            Value::String(expression) => expression,
            _ => return Err(DynamoError::serialization()),
        };
        let read = || -> Result<T, DynamoError> {
            let tokens = tokens(expression)?;
            if tokens.is_empty() {
                return Err(DynamoError::validation("The expression can not be empty;"));
            }
            let mut words = Words { tokens: tokens.into(), definitions: self };
            let read = read(&mut words)?;
            words.end()?;
            Ok(read)
        };
        read().map(Some).map_err(|problem| problem.within(&format!("Invalid {member}: ")))
    }

    /// Refuses definitions that no expression has used.
    pub(crate) fn all_used(&self, expressions: bool) -> Result<(), DynamoError> {
        let used = self.used.borrow();
        let names = self.names.map(|names| names.keys().collect::<Vec<_>>());
        let values = self.values.as_ref().map(|values| values.keys().collect::<Vec<_>>());
        for (member, defined) in [(NAMES, names), (VALUES, values)] {
            let Some(defined) = defined else { continue };
            if !expressions {
                let problem = format!("{member} can only be specified when using expressions");
                return Err(DynamoError::validation(problem));
            }
            let unused: Vec<&str> =
                defined.into_iter().filter(|name| !used.contains(*name)).map(String::as_str).collect();
            if !unused.is_empty() {
                let unused = unused.join(", ");
                let problem = format!("Value provided in {member} unused in expressions: keys: {{{unused}}}");
                return Err(DynamoError::validation(problem));
            }
        }
        Ok(())
    }

    fn name(&self, name: &str) -> Result<String, DynamoError> {
        self.used.borrow_mut().insert(name.to_owned());
        let found = self.names.and_then(|names| names.get(name)).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| {
            let problem = "An expression attribute name used in the document path is not defined; attribute name:";
            DynamoError::validation(format!("{problem} {name}"))
        })
    }

    fn value(&self, name: &str) -> Result<Value, DynamoError> {
        self.used.borrow_mut().insert(name.to_owned());
        self.values.as_ref().and_then(|values| values.get(name)).cloned().ok_or_else(|| {
            let problem = "An expression attribute value used in expression is not defined; attribute value:";
            DynamoError::validation(format!("{problem} {name}"))
        })
    }
}

fn defined<'a>(request: &'a Value, member: &str, sign: char) -> Result<Option<&'a Map<String, Value>>, DynamoError> {
    let defined = match &request[member] {
        Value::Null => return Ok(None),
        Value::Object(defined) => defined,
        _ => return Err(DynamoError::serialization()),
    };
    if defined.is_empty() {
        return Err(DynamoError::validation(format!("{member} must not be empty")));
    }
    match defined.keys().find(|name| !name.starts_with(sign)) {
        Some(name) => {
            Err(DynamoError::validation(format!("{member} contains invalid key: Syntax error; key: \"{name}\"")))
        }
        None => Ok(Some(defined)),
    }
}

/// The tokens of an expression that are not parsed yet.
pub(crate) struct Words<'a> {
    tokens: std::collections::VecDeque<Token>,
    definitions: &'a Definitions<'a>,
}

impl Words<'_> {
    /// Consumes this sign if it is next.
    fn sign(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.tokens.front(), Some(Token::Sign(next)) if *next == sign);
        is_next && self.tokens.pop_front().is_some()
    }

    /// Consumes this keyword if it is next. Keywords are case-insensitive.
    fn word(&mut self, word: &str) -> bool {
        let is_next = matches!(self.tokens.front(), Some(Token::Word(next)) if next.eq_ignore_ascii_case(word));
        is_next && self.tokens.pop_front().is_some()
    }

    /// Consumes this function name and its opening parenthesis if they are next. Function names are case-sensitive.
    fn function(&mut self, name: &str) -> bool {
        let is_next = matches!(self.tokens.front(), Some(Token::Word(next)) if next == name)
            && self.tokens.get(1) == Some(&Token::Sign("("));
        is_next && self.tokens.drain(..2).count() == 2
    }

    fn expect(&mut self, sign: &str) -> Result<(), DynamoError> {
        if self.sign(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Consumes the next attribute and resolves its name.
    fn attribute(&mut self) -> Result<String, DynamoError> {
        match self.tokens.front() {
            Some(Token::Name(name)) => {
                let name = self.definitions.name(name)?;
                self.tokens.pop_front();
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Consumes the next value and resolves it.
    fn value(&mut self) -> Result<Value, DynamoError> {
        match self.tokens.front() {
            Some(Token::Value(name)) => {
                let value = self.definitions.value(name)?;
                self.tokens.pop_front();
                Ok(value)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn end(&self) -> Result<(), DynamoError> {
        if self.tokens.is_empty() { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> DynamoError {
        match self.tokens.front() {
            Some(token) => DynamoError::validation(format!("Syntax error; token: {token:?}")),
            None => DynamoError::validation("Syntax error; token: \"<EOF>\""),
        }
    }
}
