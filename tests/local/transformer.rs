//! EventBridge's input transformer: what a target receives instead of the event.
//!
//! AWS documents that a variable is replaced by its value: as JSON where the template expects a value, and inside
//! quotes as plain text, without escapes and without the value's own quotes. AWS says that a path without a value
//! creates no variable. Inside quotes that leaves an empty text; anywhere else the result is not JSON and is refused
//! here. What `null` becomes inside quotes is not documented, so the caller of [`Transformer::apply`] decides.

use std::collections::BTreeMap;

use serde_json::Value;

/// The transformer, or its result for an event, is invalid; the message contains the cause.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("input transformer: {0}")]
pub struct TransformerError(String);

/// An input transformer of a rule's target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transformer {
    paths: BTreeMap<String, Path>,
    parts: Vec<Part>,
}

/// The field names that lead to a value.
type Path = Vec<String>;

/// A piece of the template.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    /// A variable's name, and whether it is inside quotes.
    Variable(String, bool),
}

impl Transformer {
    /// The most variables that AWS accepts.
    const VARIABLES: usize = 100;
    /// The longest template that AWS accepts.
    const LENGTH: usize = 8192;

    /// Parses an `InputTransformer` of the template.
    ///
    /// # Errors
    /// Returns an error when AWS would refuse it, or when a path uses syntax that is not supported here.
    pub fn new(transformer: &Value) -> Result<Self, TransformerError> {
        let paths = transformer["InputPathsMap"].as_object().into_iter().flatten();
        let paths = paths.map(|(name, path)| Ok((name.clone(), read_path(path)?)));
        let paths = paths.collect::<Result<BTreeMap<_, _>, _>>()?;
        let template = transformer["InputTemplate"].as_str().unwrap_or_default();
        if paths.len() > Self::VARIABLES || template.is_empty() || template.len() > Self::LENGTH {
            return Err(refused("too many variables, or a template that is empty or too long", template));
        }
        let parts = read_template(template)?;
        let unknown = parts.iter().find_map(|part| match part {
            Part::Variable(name, _) if !paths.contains_key(name) => Some(name),
            Part::Variable(..) | Part::Text(_) => None,
        });
        match unknown {
            Some(name) => Err(refused("there is no path for the variable", name)),
            None => Ok(Self { paths, parts }),
        }
    }

    /// The names of the variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.paths.keys().map(String::as_str)
    }

    /// What the target receives for this event. `null` is the text that a `null` becomes inside quotes.
    ///
    /// # Errors
    /// Returns an error when a variable outside quotes has no value.
    pub fn apply(&self, event: &Value, null: &str) -> Result<String, TransformerError> {
        let piece = |part: &Part| match part {
            Part::Text(text) => Ok(text.clone()),
            Part::Variable(name, is_quoted) => match (self.value(name, event), is_quoted) {
                (Some(value), false) => Ok(value.to_string()),
                (None, false) => Err(refused("no value for a variable outside quotes", name)),
                (Some(Value::Null), true) => Ok(null.to_owned()),
                (Some(Value::String(text)), true) => Ok(text.clone()),
                (Some(value), true) => Ok(value.to_string().replace('"', "")),
                (None, true) => Ok(String::new()),
            },
        };
        self.parts.iter().map(piece).collect()
    }

    fn value<'a>(&self, name: &str, event: &'a Value) -> Option<&'a Value> {
        self.paths.get(name)?.iter().try_fold(event, |value, field| value.get(field))
    }
}

/// Parses a path like `$.detail.event_id`: names separated by dots. Lists and wildcards are not supported.
fn read_path(path: &Value) -> Result<Path, TransformerError> {
    let names = path.as_str().and_then(|path| path.strip_prefix("$.")).unwrap_or_default();
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    match names.split('.').all(is_name) {
        true => Ok(names.split('.').map(str::to_owned).collect()),
        false => Err(refused("the path is not supported", &path.to_string())),
    }
}

fn read_template(template: &str) -> Result<Vec<Part>, TransformerError> {
    let (mut parts, mut rest, mut is_quoted) = (Vec::new(), template, false);
    while let Some((before, after)) = rest.split_once('<') {
        let Some((name, behind)) = after.split_once('>') else {
            return Err(refused("a variable has no end", after));
        };
        is_quoted ^= has_odd_quotes(before);
        parts.extend([Part::Text(before.to_owned()), Part::Variable(name.to_owned(), is_quoted)]);
        rest = behind;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

/// Whether this text opens or closes a string, which an escaped quote does not.
fn has_odd_quotes(text: &str) -> bool {
    text.replace("\\\\", "").replace("\\\"", "").matches('"').count() % 2 == 1
}

fn refused(problem: &str, what: &str) -> TransformerError {
    TransformerError(format!("{problem}: {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Value {
        json!({
            "detail-type": "reward.issued", "detail": {
                "id": "bob", "amount": 7, "big": 9_007_199_254_740_991_u64, "none": null, "list": ["a", "b"],
                "yes": true, "deep": {"er": "x"}, "quote": "a\"b",
            },
        })
    }

    fn transformer(template: &str) -> Result<Transformer, TransformerError> {
        let names = ["id", "amount", "big", "none", "list", "yes", "quote", "missing"];
        let mut paths: serde_json::Map<_, _> =
            names.into_iter().map(|name| (name.to_owned(), json!(format!("$.detail.{name}")))).collect();
        paths.insert("type".to_owned(), json!("$.detail-type"));
        paths.insert("deep".to_owned(), json!("$.detail.deep.er"));
        Transformer::new(&json!({"InputPathsMap": paths, "InputTemplate": template}))
    }

    #[track_caller]
    fn check(template: &str, expected: &str) {
        assert_eq!(transformer(template).unwrap().apply(&event(), "null").unwrap(), expected);
    }

    #[test]
    fn a_value_outside_quotes_is_json() {
        check(r#"{"id": <id>, "n": <amount>}"#, r#"{"id": "bob", "n": 7}"#);
        check(r#"{"l": <list>, "y": <yes>, "z": <none>}"#, r#"{"l": ["a","b"], "y": true, "z": null}"#);
        check(r#"{"q": <quote>}"#, r#"{"q": "a\"b"}"#);
    }

    #[test]
    fn a_value_inside_quotes_is_text() {
        check(r#"{"id": "<id>", "n": "<amount>", "y": "<yes>"}"#, r#"{"id": "bob", "n": "7", "y": "true"}"#);
        check(r#"{"path": "users/<id>/<deep>"}"#, r#"{"path": "users/bob/x"}"#);
        check(r#"{"big": "<big>"}"#, r#"{"big": "9007199254740991"}"#);
        check(r#""<type> of <amount>""#, r#""reward.issued of 7""#);
    }

    #[test]
    fn text_is_not_escaped_and_a_list_loses_its_quotes() {
        check(r#"{"q": "<quote>"}"#, r#"{"q": "a"b"}"#);
        check(r#"{"l": "<list>"}"#, r#"{"l": "[a,b]"}"#);
    }

    #[test]
    fn an_escaped_quote_does_not_end_a_string() {
        check(r#"{"s": "say \"<id>\" twice: <id>", "n": <amount>}"#, r#"{"s": "say \"bob\" twice: bob", "n": 7}"#);
        check(r#"{"s": "\\", "id": <id>}"#, r#"{"s": "\\", "id": "bob"}"#);
    }

    #[test]
    fn a_missing_value_is_empty_inside_quotes_and_refused_outside() {
        check(r#"{"m": "<missing>", "n": "<none>"}"#, r#"{"m": "", "n": "null"}"#);
        let quoted = transformer(r#"{"m": "<missing>", "n": "<none>"}"#).unwrap();
        assert_eq!(quoted.apply(&event(), "").unwrap(), r#"{"m": "", "n": ""}"#);
        assert!(transformer(r#"{"m": <missing>}"#).unwrap().apply(&event(), "").is_err());
    }

    #[test]
    fn invalid_or_unsupported_transformers_are_refused() {
        for template in ["", "{\"a\": <unknown>}", "{\"a\": <id}", &"x".repeat(8193)] {
            assert!(transformer(template).is_err(), "{template}");
        }
        for path in ["detail", "$", "$.", "$.detail..id", "$.detail.list[0]", "$.detail.*", "$['detail']"] {
            let transformer = Transformer::new(&json!({"InputPathsMap": {"a": path}, "InputTemplate": "<a>"}));
            assert!(transformer.is_err(), "{path}");
        }
    }
}
