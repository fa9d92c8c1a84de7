//! Secrets Manager: secrets with versions and staging labels, in memory.
//!
//! The functions read it in this process, because they start before the service answers. Operators reach it through the
//! AWS endpoint. At each start it contains the functions' secret settings, with the variable's name as the secret's name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use referrals::runtime::Env;
use serde_json::{Value, json};

use crate::{aws::AwsError, clock};

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
/// The secret settings of the functions.
const SETTINGS: [&str; 4] = ["COOKIE_KEY", "FINGERPRINT_KEY", "WEBHOOK_SECRET", "CACHE_PASSWORD"];

/// A version: its value and its staging labels.
#[derive(Default)]
struct Version {
    value: String,
    stages: BTreeSet<String>,
}

/// The versions of a secret, by id.
#[derive(Default)]
struct Secret(BTreeMap<String, Version>);

/// All secrets, by name. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct SecretsManager(Arc<Mutex<BTreeMap<String, Secret>>>);

impl fmt::Debug for SecretsManager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretsManager")
    }
}

impl SecretsManager {
    /// The secrets of an environment.
    pub(crate) fn of(env: &Env) -> Self {
        let this = Self::default();
        for name in SETTINGS {
            if let Some(value) = env.get(name) {
                let mut secret = Secret::default();
                secret.put(value, &[CURRENT.to_owned()]);
                this.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), secret);
            }
        }
        this
    }

    /// A client's connection to these secrets, without a network.
    pub(crate) fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// Executes an operation of the AWS API.
    pub(crate) fn answer(&self, operation: &str, request: &Value) -> Result<Value, AwsError> {
        let text = |field: &str| request[field].as_str().map(str::to_owned);
        let id = text(if operation == "CreateSecret" { "Name" } else { "SecretId" });
        let id = id.ok_or_else(|| AwsError::new("InvalidParameterException", "SecretId is missing"))?;
        let name = id.split_once(":secret:").map_or(&*id, |(_, name)| name).to_owned();
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if operation == "CreateSecret" && !secrets.contains_key(&name) {
            secrets.insert(name.clone(), Secret::default());
        } else if operation == "CreateSecret" {
            return Err(AwsError::new("ResourceExistsException", "a secret with this name exists"));
        }
        let missing = || AwsError::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
        let secret = secrets.get_mut(&name).ok_or_else(missing)?;
        let mut answer = match operation {
            "CreateSecret" | "PutSecretValue" => {
                let value = text("SecretString");
                let value =
                    value.ok_or_else(|| AwsError::new("InvalidParameterException", "SecretString is missing"))?;
                let stages = request["VersionStages"].as_array().into_iter().flatten();
                let mut stages: Vec<_> = stages.filter_map(|stage| stage.as_str().map(str::to_owned)).collect();
                if stages.is_empty() {
                    stages.push(CURRENT.to_owned());
                }
                let version = secret.put(&value, &stages);
                json!({ "VersionId": version })
            }
            "GetSecretValue" => secret.get(text("VersionId"), text("VersionStage"))?,
            "UpdateSecretVersionStage" => {
                let stage = text("VersionStage");
                let stage =
                    stage.ok_or_else(|| AwsError::new("InvalidParameterException", "VersionStage is missing"))?;
                secret.relabel(&stage, text("MoveToVersionId"), text("RemoveFromVersionId"))?;
                json!({})
            }
            "DescribeSecret" => secret.describe(),
            "DeleteSecret" => {
                secrets.remove(&name);
                json!({})
            }
            _ => {
                let problem = format!("{operation} is not emulated by the local service");
                return Err(AwsError::new("UnknownOperationException", problem));
            }
        };
        answer["Name"] = name.as_str().into();
        answer["ARN"] = clock::arn("secretsmanager", &format!("secret:{name}")).into();
        Ok(answer)
    }
}

impl Secret {
    /// Adds a version with these labels, and returns its id.
    fn put(&mut self, value: &str, stages: &[String]) -> String {
        let id = clock::id();
        self.0.insert(id.clone(), Version { value: value.to_owned(), ..Version::default() });
        for stage in stages {
            self.label(stage, &id);
        }
        id
    }

    /// Moves a label to this version. The version that was current until now becomes the previous one.
    fn label(&mut self, stage: &str, id: &str) {
        let holder =
            self.0.iter_mut().find_map(|(holder, version)| version.stages.remove(stage).then(|| holder.clone()));
        if let Some(version) = self.0.get_mut(id) {
            version.stages.insert(stage.to_owned());
        }
        if let Some(former) = holder.filter(|holder| stage == CURRENT && holder != id) {
            self.label(PREVIOUS, &former);
        }
    }

    fn get(&self, id: Option<String>, stage: Option<String>) -> Result<Value, AwsError> {
        let stage = stage.or_else(|| id.is_none().then(|| CURRENT.to_owned()));
        let is_wanted = |(found, version): &(&String, &Version)| {
            id.as_ref().is_none_or(|id| id == *found)
                && stage.as_ref().is_none_or(|stage| version.stages.contains(stage))
        };
        let found = self.0.iter().find(is_wanted).ok_or_else(|| {
            let message = "Secrets Manager can't find the specified secret value for staging label or version.";
            AwsError::new("ResourceNotFoundException", message)
        });
        let (id, version) = found?;
        Ok(json!({ "VersionId": id, "SecretString": version.value, "VersionStages": version.stages }))
    }

    fn relabel(&mut self, stage: &str, to: Option<String>, from: Option<String>) -> Result<(), AwsError> {
        let holder = self.0.iter().find(|(_, version)| version.stages.contains(stage)).map(|(id, _)| id.clone());
        if holder != from {
            let message = "RemoveFromVersionId must be the version that has the staging label";
            return Err(AwsError::new("InvalidParameterException", message));
        }
        match (to, from) {
            (Some(to), _) if self.0.contains_key(&to) => self.label(stage, &to),
            (Some(_), _) => return Err(AwsError::new("ResourceNotFoundException", "there is no such version")),
            (None, _) => self.0.values_mut().for_each(|version| {
                version.stages.remove(stage);
            }),
        }
        Ok(())
    }

    /// The versions that have a label. Secrets Manager deletes the others.
    fn describe(&self) -> Value {
        let labelled = self.0.iter().filter(|(_, version)| !version.stages.is_empty());
        let versions: BTreeMap<_, _> = labelled.map(|(id, version)| (id, &version.stages)).collect();
        json!({ "VersionIdsToStages": versions })
    }
}

impl HttpConnector for SecretsManager {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.strip_prefix("secretsmanager.").unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let (status, answer) = match self.answer(&operation, &body) {
            Ok(answer) => (200, answer),
            Err(problem) => (400, problem.body()),
        };
        let status = StatusCode::try_from(status).map_err(|problem| ConnectorError::other(problem.into(), None));
        let answer = SdkBody::from(answer.to_string());
        HttpConnectorFuture::ready(status.map(|status| HttpResponse::new(status, answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(manager: &SecretsManager, stage: &str) -> Result<String, AwsError> {
        let request = json!({ "SecretId": "COOKIE_KEY", "VersionStage": stage });
        let answer = manager.answer("GetSecretValue", &request)?;
        Ok(answer["SecretString"].as_str().unwrap().to_owned())
    }

    #[test]
    fn labels_move_as_on_aws() {
        let manager = SecretsManager::of(&Env::default().with("COOKIE_KEY", "one"));
        let put = |value: &str, stages: Value| {
            let request = json!({ "SecretId": "COOKIE_KEY", "SecretString": value, "VersionStages": stages });
            manager.answer("PutSecretValue", &request).unwrap()["VersionId"].clone()
        };
        assert_eq!(value(&manager, CURRENT).unwrap(), "one");
        assert!(value(&manager, PREVIOUS).is_err());
        let next = put("two", json!(["AWSPENDING"]));
        assert_eq!(
            (value(&manager, CURRENT).unwrap(), value(&manager, "AWSPENDING").unwrap()),
            ("one".into(), "two".into())
        );

        let described = manager.answer("DescribeSecret", &json!({ "SecretId": "COOKIE_KEY" })).unwrap();
        let stages = described["VersionIdsToStages"].as_object().unwrap();
        let (current, _) = stages.iter().find(|(_, stages)| **stages == json!([CURRENT])).unwrap();
        let relabel = |stage: &str, to: &Value, from: &Value| {
            let request = json!({
                "SecretId": described["ARN"], "VersionStage": stage, "MoveToVersionId": to, "RemoveFromVersionId": from,
            });
            manager.answer("UpdateSecretVersionStage", &request)
        };
        assert!(relabel(CURRENT, &next, &Value::Null).is_err(), "the version that has the label is not named");
        relabel(CURRENT, &next, &json!(current)).unwrap();
        assert_eq!(
            (value(&manager, CURRENT).unwrap(), value(&manager, PREVIOUS).unwrap()),
            ("two".into(), "one".into())
        );
        relabel(PREVIOUS, &Value::Null, &json!(current)).unwrap();
        assert!(value(&manager, PREVIOUS).is_err());
        put("three", Value::Null);
        assert_eq!(
            (value(&manager, CURRENT).unwrap(), value(&manager, PREVIOUS).unwrap()),
            ("three".into(), "two".into())
        );
        manager.answer("DeleteSecret", &json!({ "SecretId": "COOKIE_KEY" })).unwrap();
        assert!(value(&manager, CURRENT).is_err());
    }
}
