//! CloudFormation's YAML as plain JSON: short tags in their long form, references replaced by the resource's name.
//!
//! Locally a resource has one name, its logical id. So `!Ref Queue`, `!GetAtt Queue.Arn` and `!GetAtt Queue.QueueUrl`
//! all become `"Queue"`, and code that reads the result does not have to handle functions in place of references. A
//! parameter is the environment variable of the same name (`HoldSeconds` is `HOLD_SECONDS`), else its default.

use referrals::runtime::Env;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

use crate::clock::{ACCOUNT, REGION};

/// The template cannot be read; the message says where and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("template.yaml: {0}")]
pub struct TemplateError(String);

impl TemplateError {
    /// An error with this message.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// The template with its references resolved.
pub(crate) fn read(source: &str, env: &Env) -> Result<Value, TemplateError> {
    let template = yaml(source)?;
    let names =
        Names { env, parameters: &template["Parameters"], resources: &template["Resources"], conditions: &Value::Null };
    if !names.resources.is_object() {
        return Err(TemplateError::new("it has no Resources"));
    }
    let conditions = names.resolve(&template["Conditions"]);
    let template = Names { conditions: &conditions, ..names }.resolve(&template);
    check_rules(&template).map(|()| template)
}

/// A nested template with its references resolved. `stack` is the resource of the resolved root template that nests it,
/// and passes its parameters.
pub(crate) fn nested(source: &str, stack: &Value) -> Result<Value, TemplateError> {
    let parameters = stack["Properties"]["Parameters"].as_object().into_iter().flatten();
    let texts = parameters.filter_map(|(name, value)| Some((variable(name), value.as_str()?.to_owned())));
    read(source, &texts.collect())
}

/// Checks the assertions of the template's rules, which say which parameters go together.
fn check_rules(template: &Value) -> Result<(), TemplateError> {
    let rules = template["Rules"].as_object().into_iter().flatten();
    let mut assertions = rules.flat_map(|(_, rule)| rule["Assertions"].as_array().into_iter().flatten());
    match assertions.find(|assertion| !holds(&template["Conditions"], &assertion["Assert"])) {
        None => Ok(()),
        Some(broken) => Err(TemplateError::new(broken["AssertDescription"].as_str().unwrap_or_default())),
    }
}

/// Whether a resource of a resolved template is deployed: it has no condition, or its condition holds.
pub(crate) fn is_deployed(template: &Value, resource: &Value) -> bool {
    resource.get("Condition").is_none_or(|name| holds(&template["Conditions"], &json!({ "Condition": name })))
}

fn holds(conditions: &Value, condition: &Value) -> bool {
    let mut parts = condition.as_object().into_iter().flatten();
    let Some((function, argument)) = parts.next() else { return false };
    let all = || argument.as_array().into_iter().flatten().map(|part| holds(conditions, part));
    match function.as_str() {
        "Condition" => argument.as_str().is_some_and(|name| holds(conditions, &conditions[name])),
        "Fn::Equals" => argument[0] == argument[1],
        "Fn::Not" => !all().any(|part| part),
        "Fn::And" => all().all(|part| part),
        "Fn::Or" => all().any(|part| part),
        _ => false,
    }
}

/// Converts YAML to JSON: the template, with its functions in their long form, or any other document.
///
/// # Errors
/// Returns an error when the text is not YAML or has no JSON form.
pub fn yaml(source: &str) -> Result<Value, TemplateError> {
    let documents = Yaml::load_from_str(source).map_err(|problem| TemplateError::new(problem.to_string()))?;
    documents.first().map_or_else(|| Err(TemplateError::new("it is empty")), json_of)
}

fn json_of(node: &Yaml<'_>) -> Result<Value, TemplateError> {
    Ok(match node {
        Yaml::Value(scalar) => json_of_scalar(scalar),
        Yaml::Sequence(items) => items.iter().map(json_of).collect::<Result<Vec<_>, _>>()?.into(),
        Yaml::Mapping(entries) => {
            let entries = entries.iter().map(|(key, value)| Ok((key_of(key)?, json_of(value)?)));
            Value::Object(entries.collect::<Result<Map<_, _>, TemplateError>>()?)
        }
        Yaml::Tagged(tag, inner) => function(&tag.suffix, json_of(inner)?),
        Yaml::Representation(text, _, _) => Value::String(text.to_string()),
        Yaml::Alias(_) | Yaml::BadValue => return Err(TemplateError::new("it holds a value that YAML cannot resolve")),
    })
}

fn json_of_scalar(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => json!(value),
        Scalar::Integer(value) => json!(value),
        Scalar::FloatingPoint(value) => json!(value.into_inner()),
        Scalar::String(value) => json!(value),
    }
}

fn key_of(key: &Yaml<'_>) -> Result<String, TemplateError> {
    match json_of(key)? {
        Value::String(text) => Ok(text),
        // YAML may parse a key such as `2012-10-17` as something else; no code looks such keys up.
        other => Ok(other.to_string()),
    }
}

/// `!Ref X` is `{"Ref": "X"}`, `!GetAtt A.B` is `{"Fn::GetAtt": ["A", "B"]}`, any other `!X` is `{"Fn::X": …}`.
fn function(tag: &str, argument: Value) -> Value {
    match (tag, &argument) {
        ("Ref" | "Condition", _) => json!({ tag: argument }),
        ("GetAtt", Value::String(path)) => {
            let (resource, attribute) = path.split_once('.').unwrap_or((path, ""));
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        _ => json!({ format!("Fn::{tag}"): argument }),
    }
}

struct Names<'a> {
    env: &'a Env,
    parameters: &'a Value,
    resources: &'a Value,
    /// The conditions, resolved.
    conditions: &'a Value,
}

impl Names<'_> {
    fn resolve(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.resolve(item)).collect(),
            Value::Object(fields) => self.reference(fields).unwrap_or_else(|| self.fields(fields)),
            other => other.clone(),
        }
    }

    fn fields(&self, fields: &Map<String, Value>) -> Value {
        let fields = fields.iter().map(|(name, value)| (name.clone(), self.resolve(value)));
        // A property set to `AWS::NoValue` is absent.
        Value::Object(fields.filter(|(_, value)| !value.is_null()).collect())
    }

    /// The value of a reference; `None` if this is not a reference, or one of an unknown kind.
    fn reference(&self, fields: &Map<String, Value>) -> Option<Value> {
        if fields.len() != 1 {
            return None;
        }
        match fields.iter().next()? {
            (function, Value::String(name)) if function == "Ref" => self.named(name),
            (function, Value::Array(path)) if function == "Fn::GetAtt" => path.first().cloned(),
            (function, Value::String(text)) if function == "Fn::Sub" => Some(self.substituted(text)),
            (function, Value::Array(arguments)) if function == "Fn::Join" => self.joined(arguments),
            (function, Value::Array(arguments)) if function == "Fn::Split" => self.split(arguments),
            _ => None,
        }
    }

    /// `Fn::Join`, if all parts are known. A part can be a choice by a condition.
    fn joined(&self, arguments: &[Value]) -> Option<Value> {
        let [Value::String(separator), parts] = arguments else { return None };
        let Value::Array(parts) = self.resolve(parts) else { return None };
        let text = |part: &Value| Some(self.chosen(part).as_str()?.to_owned());
        let parts = parts.iter().map(text).collect::<Option<Vec<String>>>()?;
        Some(Value::String(parts.join(separator)))
    }

    /// The branch of a resolved `Fn::If`, or any other value unchanged.
    fn chosen<'v>(&self, value: &'v Value) -> &'v Value {
        match value.get("Fn::If") {
            Some(choice) if holds(self.conditions, &json!({ "Condition": choice[0] })) => &choice[1],
            Some(choice) => &choice[2],
            None => value,
        }
    }

    /// `Fn::Split`, if the text is known.
    fn split(&self, arguments: &[Value]) -> Option<Value> {
        let [Value::String(separator), text] = arguments else { return None };
        match self.resolve(text) {
            Value::String(text) => Some(text.split(separator.as_str()).collect()),
            _ => None,
        }
    }

    fn named(&self, name: &str) -> Option<Value> {
        match name {
            "AWS::NoValue" => Some(Value::Null),
            "AWS::Region" => Some(json!(REGION)),
            "AWS::AccountId" => Some(json!(ACCOUNT)),
            "AWS::Partition" => Some(json!("aws")),
            "AWS::StackName" => Some(json!("local")),
            _ if self.resources.get(name).is_some() => Some(json!(name)),
            _ => {
                let parameter = self.parameters.get(name)?;
                let value =
                    self.env.get(&variable(name)).map(Value::from).or_else(|| parameter.get("Default").cloned());
                match value {
                    Some(Value::String(list)) if parameter["Type"] == "CommaDelimitedList" => {
                        Some(list.split(',').map(str::trim).filter(|item| !item.is_empty()).collect())
                    }
                    other => other,
                }
            }
        }
    }

    /// `Fn::Sub` with known names replaced; unknown names stay as written.
    fn substituted(&self, text: &str) -> Value {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after.split_once('}').unwrap_or((after, ""));
            result.push_str(before);
            match self.named(name.split('.').next().filter(|_| !name.contains("::")).unwrap_or(name)) {
                Some(Value::String(known)) => result.push_str(&known),
                Some(known) => result.push_str(&known.to_string()),
                None => result.push_str(&format!("${{{name}}}")),
            }
            rest = behind;
        }
        Value::String(result + rest)
    }
}

/// The environment variable of a parameter.
fn variable(parameter: &str) -> String {
    let mut name = String::new();
    for (position, letter) in parameter.char_indices() {
        if position > 0 && letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> Result<Value, TemplateError> {
        super::read(source, &Env::default())
    }

    const SOURCE: &str = r#"
Parameters:
  Patience:
    Type: Number
    Default: 900
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      DelaySeconds: !Ref Patience
      KmsMasterKeyId: !Ref AWS::NoValue
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt DeadLetters.Arn
        maxReceiveCount: 5
  DeadLetters:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !Sub "${AWS::StackName}-${Queue}-${Unknown}"
      Text: >-
        {"a":
        [1]}
      Choice: !If [Production, !Ref Queue, "0123"]
"#;

    #[test]
    fn references_become_logical_ids_and_parameters_become_defaults() {
        let template = read(SOURCE).unwrap();
        assert_eq!(
            template["Resources"]["Queue"]["Properties"],
            json!({"DelaySeconds": 900, "RedrivePolicy": {"deadLetterTargetArn": "DeadLetters", "maxReceiveCount": 5}})
        );
    }

    #[test]
    fn an_environment_variable_sets_a_parameter() {
        let template = super::read(SOURCE, &Env::default().with("PATIENCE", "7")).unwrap();
        assert_eq!(template["Resources"]["Queue"]["Properties"]["DelaySeconds"], "7");
        assert_eq!(variable("ReferrerRewardType"), "REFERRER_REWARD_TYPE");
    }

    #[test]
    fn text_and_unknown_functions_are_kept() {
        let properties = &read(SOURCE).unwrap()["Resources"]["DeadLetters"]["Properties"];
        assert_eq!(properties["QueueName"], "local-Queue-${Unknown}");
        assert_eq!(properties["Text"], "{\"a\": [1]}");
        assert_eq!(properties["Choice"], json!({"Fn::If": ["Production", "Queue", "0123"]}));
    }

    #[test]
    fn a_resource_is_deployed_when_its_condition_holds() {
        let source = r#"
Parameters:
  One: { Type: String, Default: "" }
  Other: { Type: String, Default: "true" }
Conditions:
  HasOne: !Not [!Equals [!Ref One, ""]]
  HasOther: !Equals [!Ref Other, "true"]
  HasBoth: !And [!Condition HasOne, !Condition HasOther]
  HasAny: !Or [!Condition HasOne, !Condition HasOther]
Resources: {}
"#;
        let deployed = |env: &Env| {
            let template = super::read(source, env).unwrap();
            ["HasOne", "HasOther", "HasBoth", "HasAny", "NoSuchCondition"]
                .map(|name| is_deployed(&template, &json!({ "Condition": name })))
        };
        assert_eq!(deployed(&Env::default()), [false, true, false, true, false]);
        assert_eq!(deployed(&Env::default().with("ONE", "1")), [true, true, true, true, false]);
        assert_eq!(deployed(&Env::default().with("OTHER", "false")), [false; 5]);
        assert!(is_deployed(&Value::Null, &json!({})));
    }

    #[test]
    fn lists_are_joined_and_split() {
        let source = r#"
Parameters:
  Own: { Type: String, Default: one }
  Many: { Type: CommaDelimitedList, Default: "" }
Conditions:
  HasMany: !Not [!Equals [!Join ["", !Ref Many], ""]]
Resources:
  Rule:
    Text: !Join [",", !Ref Many]
    List: !Split [",", !Join [",", [zero, !If [HasMany, !Join [",", !Ref Many], !Ref Own]]]]
    Unknown: !Join [",", [!GetAtt Other.Arn, !ImportValue x]]
"#;
        let rule = |env: &Env| super::read(source, env).unwrap()["Resources"]["Rule"].clone();
        let unknown = json!({"Fn::Join": [",", ["Other", {"Fn::ImportValue": "x"}]]});
        assert_eq!(rule(&Env::default()), json!({"Text": "", "List": ["zero", "one"], "Unknown": unknown}));
        let two = rule(&Env::default().with("MANY", "two, three"));
        assert_eq!((&two["Text"], &two["List"]), (&json!("two,three"), &json!(["zero", "two", "three"])));
    }

    #[test]
    fn an_invalid_template_is_refused() {
        assert!(read("").is_err());
        assert!(read("a: [").is_err());
        assert!(read("Resources: []").is_err());
    }
}
