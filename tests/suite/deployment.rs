//! What the templates allow callers to do, and what an update of a stack can change: the product's policy, operators'
//! tokens, redrives of dead-letter queues, and resources with fixed names.

use std::{collections::BTreeSet, fs};

use referrals::aws::bus::SOURCE;
use serde_json::{Map, Value, json};

use crate::layers::root;

const TEMPLATES: [&str; 4] = [
    "template.yaml",
    "monitoring/template.yaml",
    "schemas/template.yaml",
    "functions/analytics/warehouse/template.yaml",
];

/// A template whose references are not resolved.
fn raw(path: &str) -> Value {
    local::yaml(&fs::read_to_string(root(path)).unwrap()).unwrap()
}

/// The resources of this type, by logical id.
fn of_type<'a>(template: &'a Value, kind: &str) -> Vec<(&'a String, &'a Value)> {
    let resources = template["Resources"].as_object().unwrap().iter();
    resources.filter(|(_, resource)| resource["Type"] == kind).collect()
}

fn reference(name: &str) -> Value {
    json!({ "Ref": name })
}

/// The statements of a policy document, with the condition of each conditional one.
fn statements(document: &Value) -> Vec<(Option<&Value>, &Value)> {
    let statements = document["Statement"].as_array().unwrap().iter();
    statements.map(|one| one.get("Fn::If").map_or((None, one), |choice| (Some(&choice[0]), &choice[1]))).collect()
}

/// Every role in this account that may publish on the bus could otherwise publish an event that looks like one of the
/// service's own, and the rules of the reward queues would accept it.
#[test]
fn the_products_policy_allows_what_a_product_does_and_denies_the_services_own_source() {
    let template = local::template().unwrap();
    let policies = of_type(&template, "AWS::IAM::ManagedPolicy");
    let [(name, policy)] = policies[..] else { panic!("{policies:?}") };
    assert_eq!(name, "ProductPolicy");
    // A fixed name needs CAPABILITY_NAMED_IAM. A change of either would replace the policy, and IAM does not delete a policy
    // that is attached to a role.
    for fixed in ["ManagedPolicyName", "Description", "Path"] {
        assert!(policy["Properties"].get(fixed).is_none(), "{fixed}");
    }
    let statements = statements(&policy["Properties"]["PolicyDocument"]);
    let of = |effect: &str| statements.iter().filter(|(_, one)| one["Effect"] == effect).copied().collect::<Vec<_>>();

    let [(None, denied)] = of("Deny")[..] else { panic!("{policy}") };
    assert_eq!((&denied["Action"], &denied["Resource"]), (&json!(["events:PutEvents"]), &json!("Bus")));
    // One call publishes several events, so the key has several values. One forbidden value is enough.
    assert_eq!(denied["Condition"], json!({"ForAnyValue:StringEquals": {"events:source": [SOURCE]}}));

    let own = of_type(&template, "AWS::Events::Rule").into_iter().map(|(_, rule)| &rule["Properties"]["EventPattern"]);
    let own: Vec<_> = own.filter(|pattern| pattern["source"] == json!([SOURCE])).collect();
    assert_eq!(own.len(), 4, "every rule for the service's own events requires the denied source");

    let allowed: Vec<_> =
        of("Allow").into_iter().map(|(condition, one)| (condition, &one["Action"], &one["Resource"])).collect();
    let api = json!("arn:aws:execute-api:us-east-1:000000000000:HttpApi/*");
    let queue = json!("HasIncomingQueue");
    assert_eq!(
        allowed,
        [
            (None, &json!(["execute-api:Invoke"]), &api),
            (None, &json!(["events:PutEvents"]), &json!("Bus")),
            (Some(&queue), &json!(["sqs:SendMessage"]), &json!("ConversionIncomingQueue")),
        ]
    );
    assert_eq!(template["Outputs"]["ProductPolicyArn"]["Value"], "ProductPolicy");
}

/// API Gateway accepts each valid token of the issuer for the audience, an ID token of a customer too, unless the route
/// requires a scope.
#[test]
fn operators_tokens_need_the_scope_on_every_route() {
    let template = raw("template.yaml");
    let routes = of_type(&template, "AWS::ApiGatewayV2::Route").into_iter();
    let routes = routes.filter(|(_, route)| route["Properties"]["ApiId"] == reference("AdminApi"));
    let mut public = BTreeSet::new();
    for (name, route) in routes {
        let route = &route["Properties"];
        if route["AuthorizationType"] == "NONE" {
            public.insert(route["RouteKey"].as_str().unwrap());
            continue;
        }
        let with_issuer = |then: Value, otherwise: Value| json!({"Fn::If": ["HasAdminIssuer", then, otherwise]});
        assert_eq!(route["AuthorizationType"], with_issuer(json!("JWT"), json!("AWS_IAM")), "{name}");
        let scopes = with_issuer(json!([reference("AdminScope")]), reference("AWS::NoValue"));
        assert_eq!(route["AuthorizationScopes"], scopes, "{name} accepts a token without a scope");
    }
    assert_eq!(public, BTreeSet::from(["GET /dashboard", "GET /dashboard/{file}"]));
}

#[tokio::test]
async fn an_issuer_requires_an_audience_and_a_scope() {
    let set = [("ADMIN_ISSUER", "https://issuer.example"), ("ADMIN_AUDIENCE", "operators"), ("ADMIN_SCOPE", "admin")];
    for given in 0..1 << set.len() {
        let chosen = set.iter().enumerate().filter(|(at, _)| given & 1 << at != 0).map(|(_, pair)| *pair);
        let env = chosen.fold(referrals::runtime::Env::default(), |env, (name, value)| env.with(name, value));
        let started = local::Service::start(local::Options { env, ..local::Options::default() }).await;
        let is_complete = given == 0 || given == (1 << set.len()) - 1;
        assert_eq!(started.is_ok(), is_complete, "{given:03b}");
        if let Ok(service) = started {
            service.stop().await;
        }
    }
}

/// SQS moves each dead letter to the queue that it came from, with the permissions of the caller. Without the right to
/// send to one of these queues, the move is accepted and fails later.
#[test]
fn admin_may_redrive_to_every_queue_that_a_dead_letter_can_come_from() {
    let template = local::template().unwrap();
    let document = &template["Resources"]["AdminRole"]["Properties"]["Policies"][0]["PolicyDocument"];
    let allows = |action: &str, queue: &str, condition: Option<&Value>| {
        statements(document).into_iter().any(|(only_if, one)| {
            let resources = one["Resource"].as_array().cloned().unwrap_or_else(|| vec![one["Resource"].clone()]);
            (only_if.is_none() || only_if == condition)
                && one["Action"].as_array().unwrap().contains(&json!(action))
                && resources.contains(&json!(queue))
        })
    };
    let variables =
        template["Resources"]["AdminFunction"]["Properties"]["Environment"]["Variables"].as_object().unwrap();
    let redriven: Vec<&Value> =
        variables.iter().filter(|(name, _)| name.ends_with("_QUEUE_URL")).map(|(_, queue)| queue).collect();
    assert_eq!(redriven.len(), 4, "{variables:?}");
    for queue in &redriven {
        let name = queue.as_str().unwrap();
        for action in
            ["StartMessageMoveTask", "ListMessageMoveTasks", "ReceiveMessage", "DeleteMessage", "GetQueueAttributes"]
        {
            assert!(allows(&format!("sqs:{action}"), name, None), "{action} on {name}");
        }
    }
    let mut sources = 0;
    for (name, queue) in of_type(&template, "AWS::SQS::Queue") {
        assert!(queue["Properties"].get("KmsMasterKeyId").is_none(), "{name}: a redrive would also need its key");
        if redriven.contains(&&queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]) {
            sources += 1;
            assert!(allows("sqs:SendMessage", name, queue.get("Condition")), "admin may not redrive to {name}");
        }
    }
    assert_eq!(sources, 6);
}

/// Types of resources that have a fixed name here: the property with the name, and the other properties that CloudFormation
/// can change only by a replacement (`createOnlyProperties` in its resource schemas). It creates the replacement first, which fails if the name is the same.
const NAMED: [(&str, &str, &[&str]); 10] = [
    ("AWS::ApiGatewayV2::DomainName", "/DomainName", &[]),
    ("AWS::Athena::WorkGroup", "/Name", &[]),
    ("AWS::CloudWatch::Dashboard", "/DashboardName", &[]),
    (
        "AWS::ElastiCache::ServerlessCache",
        "/ServerlessCacheName",
        &["SubnetIds", "KmsKeyId", "SnapshotArnsToRestore", "NetworkType", "ConnectionType"],
    ),
    ("AWS::EventSchemas::Registry", "/RegistryName", &[]),
    ("AWS::EventSchemas::Schema", "/SchemaName", &["RegistryName"]),
    ("AWS::Events::EventBus", "/Name", &[]),
    ("AWS::Glue::Database", "/DatabaseInput/Name", &[]),
    ("AWS::Glue::Table", "/TableInput/Name", &["CatalogId", "DatabaseName"]),
    ("AWS::Logs::LogGroup", "/LogGroupName", &[]),
];

/// Names that only have to be unique in their parent, or not at all, or that refer to another resource.
const NOT_NAMES: [&str; 12] = [
    "AWS::ApiGatewayV2::Api/Name",
    "AWS::ApiGatewayV2::ApiMapping/DomainName",
    "AWS::ApiGatewayV2::Authorizer/Name",
    "AWS::ApiGatewayV2::Stage/StageName",
    "AWS::CloudWatch::Alarm/MetricName",
    "AWS::EC2::VPCEndpoint/ServiceName",
    "AWS::Events::Rule/EventBusName",
    "AWS::IAM::RolePolicy/PolicyName",
    "AWS::IAM::RolePolicy/RoleName",
    "AWS::Lambda::EventSourceMapping/FunctionName",
    "AWS::Lambda::Permission/FunctionName",
    "AWS::SNS::Topic/DisplayName",
];

#[test]
fn no_other_resource_has_a_fixed_name() {
    let mut named = BTreeSet::new();
    for path in TEMPLATES {
        for (id, resource) in raw(path)["Resources"].as_object().unwrap() {
            let kind = resource["Type"].as_str().unwrap();
            let known = NAMED.iter().find(|(known, _, _)| *known == kind);
            if known.is_some_and(|(_, name, _)| resource["Properties"].pointer(name).is_some()) {
                named.insert(kind.to_owned());
            }
            let empty = Map::new();
            for property in resource["Properties"].as_object().unwrap_or(&empty).keys() {
                let is_known = known.is_some_and(|(_, name, changed)| {
                    name.trim_start_matches('/') == property || changed.contains(&property.as_str())
                });
                let is_name = property.ends_with("Name") && !NOT_NAMES.contains(&format!("{kind}/{property}").as_str());
                assert!(is_known || !is_name, "{path}: {id} has the fixed name {property}");
            }
        }
    }
    assert_eq!(named.iter().map(String::as_str).collect::<Vec<_>>(), NAMED.map(|(kind, _, _)| kind));
}

/// The parameters that a value depends on, directly or through a condition.
fn parameters(template: &Value, value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| parameters(template, item)).collect(),
        Value::Object(fields) => {
            let named = |field: &str| fields.get(field).and_then(Value::as_str);
            let own = named("Ref").filter(|name| template["Parameters"].get(name).is_some()).map(str::to_owned);
            let condition = fields.get("Fn::If").map(|choice| &template["Conditions"][choice[0].as_str().unwrap()]);
            let condition = condition.map(|condition| parameters(template, condition)).unwrap_or_default();
            own.into_iter()
                .chain(condition)
                .chain(fields.values().flat_map(|part| parameters(template, part)))
                .collect()
        }
        _ => BTreeSet::new(),
    }
}

/// A parameter can change a property that CloudFormation changes only by a replacement. Then another parameter has to
/// change the name, or the property is part of the name, as the database is for a table.
#[test]
fn a_resource_with_a_fixed_name_can_be_replaced() {
    for path in TEMPLATES {
        let template = raw(path);
        for (kind, name, changed) in NAMED {
            for (id, resource) in of_type(&template, kind) {
                let properties = &resource["Properties"];
                let name = properties.pointer(name).unwrap();
                let changing = changed.iter().filter(|property| !["DatabaseName", "RegistryName"].contains(property));
                let changing = changing.flat_map(|property| parameters(&template, &properties[*property]));
                let changing: BTreeSet<_> = changing.collect();
                let renames = parameters(&template, name);
                assert!(
                    changing.is_empty() || !renames.is_empty(),
                    "{path}: {id} cannot be replaced when {changing:?} change"
                );
            }
        }
    }
    let generation = &raw("template.yaml")["Parameters"]["CacheGeneration"];
    assert_eq!(generation["Default"], "", "the cache of an existing stack keeps its name");
}
