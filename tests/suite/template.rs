//! Compares the template with the code: each function has exactly the settings that it reads and the permissions that it uses, and
//! keys, indexes and filters match the table.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use aws_types::SdkConfig;
use referrals::{
    analytics::{self, Analytics, Facts},
    aws::{secrets::Secrets, tls},
    runtime::{Call, Env, log},
    store::{items::referral::from_referral_item, keys},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{self, Wire, World, stand_in::SECRET};

/// The environment of one function: its settings, as the template names them, and clients whose calls are recorded.
struct Bench {
    world: World,
    wire: Wire,
    env: Env,
}

impl Bench {
    /// The bench for the function with the logical id `{name}Function`.
    async fn of(name: &str) -> Self {
        let world = World::with(|options| {
            options.pace.stream = false;
            let env = std::mem::take(&mut options.env).with("GRACE_SECONDS", "0").with("RETRY_SECONDS", "1");
            let secrets = ["COOKIE_KEY", "FINGERPRINT_KEY", "CACHE_PASSWORD"];
            let env = secrets.into_iter().fold(env, |env, name| env.with(&format!("{name}_SECRET_ARN"), name));
            options.env = env.with("WEBHOOK_SECRET_ARN", "WEBHOOK_SECRET").with("CACHE_PASSWORD", "a password");
        })
        .await;
        let value = |name: &String| Some((name.clone(), world.service().env().get(name)?.to_owned()));
        let env = settings(name).iter().filter_map(value).collect();
        Self { world, wire: Wire::default(), env }
    }

    fn aws(&self, url: &str) -> SdkConfig {
        world::aws(url, self.wire.connector())
    }

    fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.aws(self.world.service().dynamodb_url()))
    }

    /// Reads the secrets, as `main` does.
    async fn read_secrets(&self) {
        Secrets::read(&self.env, &self.aws(self.world.service().url())).await.unwrap();
    }

    fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.aws(self.world.service().url()))
    }

    fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.aws(self.world.service().url()))
    }

    /// Asserts that settings and permissions are exactly those that were used, and that the quarantine has this many messages.
    async fn assert_exact(mut self, name: &str, quarantined: u64) {
        log::Settings::from_env(&self.env).unwrap();
        assert_eq!(self.env.read_names(), settings(name), "{name}: read by the code, set by the template");
        assert_eq!(self.wire.actions(), permissions(name), "{name}: used by the code, allowed by the template");
        self.world.expect_unprocessed(quarantined);
        self.world.allow_outstanding_work();
        self.world.end().await;
    }
}

fn call() -> Call {
    Call::begin(Duration::from_secs(10)).unwrap()
}

fn resource(logical_id: &str) -> Value {
    local::template().unwrap()["Resources"][logical_id].clone()
}

fn event(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events").join(format!("{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The variables that the template sets only for this function.
pub(crate) fn settings(name: &str) -> BTreeSet<String> {
    let function = resource(&format!("{name}Function"));
    function["Properties"]["Environment"]["Variables"].as_object().unwrap().keys().cloned().collect()
}

/// The permissions that the function's role gives its code. Permissions that Lambda itself uses with the role (reading event
/// sources, writing logs, traces and failed records) are left out, because our code does not use them.
fn permissions(name: &str) -> BTreeSet<String> {
    let of_lambda = [
        "logs:",
        "xray:",
        "s3:",
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
        "ec2:",
    ];
    let role = resource(&format!("{name}Role"));
    let mut allowed = BTreeSet::new();
    for statement in role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].as_array().unwrap() {
        // A conditional statement: the permissions for a cache in a VPC, for the cache's password, or to redrive to the
        // incoming queue.
        let choice = statement.get("Fn::If").map(|choice| &choice[1]);
        let statement = choice.unwrap_or(statement);
        let actions = statement["Action"].as_array().unwrap();
        for action in actions.iter().filter(|_| choice.is_some()) {
            let action = action.as_str().unwrap();
            if action == "secretsmanager:GetSecretValue" {
                continue;
            }
            let redrives = action == "sqs:SendMessage" && statement["Resource"] == "ConversionIncomingQueue";
            assert!(redrives || action.starts_with("ec2:"), "{name} may conditionally do {action}");
            assert_eq!(statement["Resource"] == "*", action.starts_with("ec2:Describe"), "{name}: {action}");
        }
        // A role that receives a queue's messages also reads its attributes.
        let receives = actions.contains(&json!("sqs:ReceiveMessage"));
        for action in actions {
            let action = action.as_str().unwrap();
            assert!(!action.contains('*'), "{name} may do {action}");
            let elsewhere = action == "sqs:SendMessage" && statement["Resource"] != "QuarantineQueue";
            let polls = action == "sqs:GetQueueAttributes" && receives;
            if !elsewhere && !polls && !of_lambda.iter().any(|prefix| action.starts_with(prefix)) {
                allowed.insert(action.to_owned());
            }
        }
    }
    allowed
}

/// A stream record of bob's referral in its present state.
async fn stream_record(world: &World) -> Value {
    let item = serde_dynamo::Item::from(world.item("REFEREE#bob", "REFERRAL").await.unwrap());
    let mut batch = event("rewards-stream");
    batch["Records"][0]["dynamodb"]["NewImage"] = serde_json::to_value(item).unwrap();
    batch
}

/// Counts this referee's referral, as `analytics` does for a stream record.
async fn count(world: &World, referee: &str) {
    let analytics = Analytics::from_env(world.service().env(), &world.service().dynamodb()).unwrap();
    let item = world.item(&format!("REFEREE#{referee}"), "REFERRAL").await.unwrap();
    analytics.record(&Facts::from(&from_referral_item(item).unwrap())).await.unwrap();
}

async fn pending(world: &World) {
    world.mint("alice", "ALICE-2026").await;
    world.attribute("bob", "ALICE-2026").await.with(201);
}

async fn converted(world: &World) {
    pending(world).await;
    world.order("bob", "order-1001").await;
    world.until_status("bob", "converted").await;
}

async fn rewarded(world: &World) {
    converted(world).await;
    world.service().sweep_now().await.unwrap();
    world.until_status("bob", "rewarded").await;
}

/// Cancels bob's order after the issue.
async fn reversed(world: &World) {
    world.publish("order.cancelled", json!({"order_id": "order-1001"})).await;
    world.until_status("bob", "voided").await;
}

#[tokio::test]
async fn attribution_has_what_it_needs_and_no_more() {
    let bench = Bench::of("Attribution").await;
    bench.read_secrets().await;
    let app = attribution::App::new(&bench.env, bench.dynamodb()).unwrap();
    for name in
        ["mint-vanity", "mint", "land", "code-of-user", "code", "attribute", "referral", "explain", "referrals-of-user"]
    {
        let request = event(&format!("attribution-{name}")).to_string();
        let answer = attribution::handle(&app, lambda_http::request::from_str(&request).unwrap(), call()).await;
        assert!(answer.status().as_u16() < 400, "{name}: {answer:?}");
    }
    // The code of the member in the first event has ended, and is replaced.
    let mut request = event("attribution-mint");
    let path = request["rawPath"].as_str().unwrap().to_owned();
    let code = bench.world.get(&path).await.with(200)["code"].as_str().unwrap().to_owned();
    let body = json!({"disabled": true}).to_string();
    bench.world.send(Method::PATCH, &format!("/admin/codes/{code}"), &[], body).await.with(200);
    request["body"] = "{}".into();
    let request = lambda_http::request::from_str(&request.to_string()).unwrap();
    assert_eq!(attribution::handle(&app, request, call()).await.status(), 201);
    bench.assert_exact("Attribution", 0).await;
}

#[tokio::test]
async fn conversion_has_what_it_needs_and_no_more() {
    let bench = Bench::of("Conversion").await;
    bench.read_secrets().await;
    let app = conversion::App::new(&bench.env, bench.dynamodb(), bench.sqs()).unwrap();
    bench.world.mint("alice", "ALICE-2026").await;
    for name in ["customer-signed-up", "account-flagged", "order-completed"] {
        conversion::handle(&app, event(&format!("conversion-{name}")), call()).await.unwrap();
    }
    let broken = json!({"detail-type": "order.completed", "source": "shop", "detail": {}});
    conversion::handle(&app, broken, call()).await.unwrap();
    bench.assert_exact("Conversion", 1).await;
}

#[tokio::test]
async fn rewards_has_what_it_needs_and_no_more() {
    let bench = Bench::of("Rewards").await;
    let app = rewards::App::new(&bench.env, bench.dynamodb(), bench.eventbridge(), bench.sqs()).unwrap();
    converted(&bench.world).await;
    let batch = stream_record(&bench.world).await;
    assert_eq!(rewards::handle(&app, batch, call()).await.unwrap(), json!({"batchItemFailures": []}));
    assert_eq!(bench.world.referral("bob").await["status"], "rewarded");
    rewards::handle(&app, json!({"Records": ["broken"]}), call()).await.unwrap();
    bench.assert_exact("Rewards", 1).await;
}

#[tokio::test]
async fn sweep_has_what_it_needs_and_no_more() {
    let bench = Bench::of("Sweep").await;
    let app = sweep::App::new(&bench.env.clone().with("GRACE_SECONDS", "0"), bench.dynamodb(), bench.eventbridge());
    let app = app.unwrap();
    converted(&bench.world).await;
    for done in ["advanced", "announced"] {
        let swept = sweep::handle(&app, event("sweep-schedule"), call()).await.unwrap();
        assert_eq!((&swept["due"], &swept[done]), (&json!(1), &json!(1)), "{swept}");
    }
    bench.assert_exact("Sweep", 0).await;
}

#[tokio::test]
async fn delivery_has_what_it_needs_and_no_more() {
    let bench = Bench::of("Delivery").await;
    bench.read_secrets().await;
    let app = delivery::App::new(&bench.env, bench.dynamodb(), bench.sqs(), tls::public()).unwrap();
    rewarded(&bench.world).await;
    let answer = delivery::handle(&app, event("delivery-queue"), call()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(bench.world.referral("bob").await["rewards"][0]["status"], "delivered");
    let broken = json!({"Records": [{"messageId": "m-1", "body": "broken"}]});
    delivery::handle(&app, broken, call()).await.unwrap();
    // The subsystem of the other side is down, so the function sets the message's delay. The receipt handle is not valid any more.
    bench.world.script("credit", json!({"answers": [500]})).await;
    let mut batch = event("delivery-queue");
    let body = batch["Records"][0]["body"].as_str().unwrap().replace(":referrer", ":referee");
    batch["Records"][0]["body"] = body.into();
    batch["Records"][0]["eventSourceARN"] = "arn:aws:sqs:us-east-1:000000000000:CreditQueue".into();
    let answer = delivery::handle(&app, batch, call()).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1, "{answer}");
    bench.world.until_idle().await;
    reversed(&bench.world).await;
    let answer = delivery::handle(&app, event("delivery-queue-reversal"), call()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    bench.assert_exact("Delivery", 1).await;
}

#[tokio::test]
async fn admin_has_what_it_needs_and_no_more() {
    let bench = Bench::of("Admin").await;
    bench.read_secrets().await;
    let app = admin::App::new(&bench.env, bench.dynamodb(), bench.eventbridge(), bench.sqs()).unwrap();
    rewarded(&bench.world).await;
    count(&bench.world, "bob").await;
    for (name, status) in [
        ("undelivered", 200),
        ("resend", 202),
        ("resend-all", 200),
        ("dead-letters", 200),
        ("redrive", 202),
        ("end-code", 200),
        ("daily", 200),
        ("referrers", 200),
        ("cohorts", 200),
        ("liability", 200),
        ("convert", 200),
        ("approve", 200),
        ("flag", 200),
        ("referrals", 200),
        ("referral", 200),
        ("reversals", 200),
        ("resend-reversal", 202),
        ("resend-all-reversals", 200),
    ] {
        if name == "reversals" {
            reversed(&bench.world).await;
        }
        let request = event(&format!("admin-{name}")).to_string();
        let answer = admin::handle(&app, lambda_http::request::from_str(&request).unwrap(), call()).await;
        assert_eq!(answer.status().as_u16(), status, "{name}: {answer:?}");
    }
    // The first code is revived when the second one has ended.
    bench.world.mint("alice", "alice-2").await;
    bench.world.send(Method::PATCH, "/admin/codes/alice-2", &[], json!({"disabled": true}).to_string()).await.with(200);
    let mut request = event("admin-end-code");
    request["body"] = json!({"expires_at": null}).to_string().into();
    let request = lambda_http::request::from_str(&request.to_string()).unwrap();
    assert_eq!(admin::handle(&app, request, call()).await.status(), 200);
    bench.assert_exact("Admin", 0).await;
}

#[tokio::test]
async fn analytics_has_what_it_needs_and_no_more() {
    let bench = Bench::of("Analytics").await;
    let app = ::analytics::App::new(&bench.env, &bench.dynamodb()).unwrap();
    let answer = ::analytics::handle(&app, event("analytics-stream"), call()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    bench.assert_exact("Analytics", 0).await;
}

/// The secrets are those whose ARNs are in the function's variables, each under the same condition.
#[test]
fn a_function_may_read_exactly_the_secrets_that_its_variables_name() {
    let template =
        local::yaml(&fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../template.yaml")).unwrap());
    let resources = template.unwrap()["Resources"].clone();
    // A reference, or a choice between one and nothing.
    let names = |value: &Value| {
        let branches = value["Fn::If"].as_array().map_or(vec![value.clone()], |choice| choice[1..].to_vec());
        branches.iter().filter_map(|branch| branch["Ref"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    for function in ["Attribution", "Conversion", "Rewards", "Sweep", "Delivery", "Admin", "Analytics"] {
        let properties = &resources[format!("{function}Function")]["Properties"];
        let variables = properties["Environment"]["Variables"].as_object().unwrap().iter();
        let named = variables.filter(|(name, _)| name.ends_with("_SECRET_ARN")).flat_map(|(_, value)| names(value));
        let policy = &resources[format!("{function}Role")]["Properties"]["Policies"][0]["PolicyDocument"];
        let statements = policy["Statement"].as_array().unwrap().iter();
        let statements = statements.map(|statement| statement.get("Fn::If").map_or(statement, |choice| &choice[1]));
        let readable = statements.filter(|statement| statement["Action"] == json!(["secretsmanager:GetSecretValue"]));
        let readable = readable.flat_map(|statement| match &statement["Resource"] {
            Value::Array(secrets) => secrets.iter().flat_map(names).collect(),
            one => names(one),
        });
        assert_eq!(readable.collect::<BTreeSet<_>>(), named.collect(), "{function}");
    }
}

#[test]
fn every_permission_is_in_a_policy_that_these_tests_read() {
    let template = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../template.yaml")).unwrap();
    for policy in ["managed-policy", "ManagedPolicyArns", "Policies: [", "SAMPolicy"] {
        assert!(!template.contains(policy), "permissions that this test does not read: {policy}");
    }
    for function in ["Attribution", "Conversion", "Rewards", "Sweep", "Delivery", "Admin", "Analytics"] {
        let role = resource(&format!("{function}Role"));
        assert_eq!(role["Properties"]["Policies"].as_array().unwrap().len(), 1, "{function}");
        assert_eq!(resource(&format!("{function}Function"))["Properties"]["Role"], format!("{function}Role"));
    }
}

/// Lambda's permissions for optional event sources: each policy has the condition of its source, names exact actions, and is made
/// before the mapping that needs it.
#[test]
fn optional_sources_have_exactly_their_own_permissions() {
    let template = local::template().unwrap();
    let of_type = |kind: &'static str| {
        let resources = template["Resources"].as_object().unwrap().iter();
        resources.filter(move |(_, resource)| resource["Type"] == kind)
    };
    let mut allowed = BTreeSet::new();
    for (name, policy) in of_type("AWS::IAM::RolePolicy") {
        assert!(policy["Condition"].is_string(), "{name} has no condition");
        assert_eq!(policy["Properties"]["RoleName"], "ConversionRole", "{name}");
        for statement in policy["Properties"]["PolicyDocument"]["Statement"].as_array().unwrap() {
            let statement = statement.get("Fn::If").map_or(statement, |choice| &choice[1]);
            for action in statement["Action"].as_array().unwrap() {
                let action = action.as_str().unwrap();
                assert!(!action.contains('*'), "{name} allows {action}");
                assert_eq!(statement["Resource"] == "*", action.starts_with("ec2:Describe"), "{name}: {action}");
                let sends = action == "sqs:SendMessage";
                assert!(!sends || statement["Resource"] == "ConversionDelayQueue", "{name}: {statement}");
                allowed.insert(action.split(':').next().unwrap().to_owned());
            }
        }
    }
    assert_eq!(Vec::from_iter(allowed), ["ec2", "kafka", "kafka-cluster", "s3", "secretsmanager", "sqs"]);
    let mut mappings = 0;
    for (name, mapping) in of_type("AWS::Lambda::EventSourceMapping") {
        mappings += 1;
        assert!(mapping["Condition"].is_string(), "{name} has no condition");
        assert_eq!(mapping["Properties"]["FunctionName"], "ConversionFunction", "{name}");
        assert_eq!(mapping["Properties"]["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]), "{name}");
        let policies = mapping["DependsOn"].as_array().cloned().unwrap_or_else(|| vec![mapping["DependsOn"].clone()]);
        let is_own = |policy: &Value| resource(policy.as_str().unwrap())["Condition"] == mapping["Condition"];
        assert!(policies.iter().any(is_own), "{name} depends on {policies:?}");
    }
    assert_eq!(mappings, 3);
}

#[test]
fn keys_and_indexes_are_the_tables() {
    let table = resource("Table")["Properties"].clone();
    let schema = |hash: &str, range: &str| json!([{"AttributeName": hash, "KeyType": "HASH"}, {"AttributeName": range, "KeyType": "RANGE"}]);
    assert_eq!(table["KeySchema"], schema(keys::PK, keys::SK));
    let indexes = table["GlobalSecondaryIndexes"].as_array().unwrap();
    let expected = [
        (keys::BY_REFERRER, schema(keys::REFERRER, keys::REFERRED_AT)),
        (keys::WORK, schema(keys::WORK, keys::DUE_AT)),
    ];
    assert_eq!(indexes.len(), expected.len());
    for (name, keys) in expected {
        let index = indexes.iter().find(|index| index["IndexName"] == name).unwrap();
        assert_eq!(index["KeySchema"], keys, "{name}");
        assert_eq!(index["Projection"]["ProjectionType"], "KEYS_ONLY", "{name}");
    }
    assert_eq!(table["StreamSpecification"]["StreamViewType"], "NEW_AND_OLD_IMAGES");

    let table = resource("MetricsTable")["Properties"].clone();
    assert_eq!(table["KeySchema"], schema(analytics::items::PK, analytics::items::SK));
    let [board] = &table["GlobalSecondaryIndexes"].as_array().unwrap()[..] else { panic!("{table}") };
    assert_eq!(board["IndexName"], analytics::items::BOARD);
    assert_eq!(board["KeySchema"], schema(analytics::items::BOARD, analytics::items::SCORE));
    assert_eq!(board["Projection"]["ProjectionType"], "KEYS_ONLY");
}

/// `rewards` and `analytics` get only records of referrals that were written.
#[test]
fn the_stream_is_filtered_to_written_referrals() {
    for (name, reads_reversals) in [("RewardsFunction", true), ("AnalyticsFunction", false)] {
        let function = resource(name);
        let stream = function["Properties"]["Events"].as_object().unwrap().values().next().unwrap();
        let filters = stream["Properties"]["FilterCriteria"]["Filters"].as_array().unwrap();
        assert_eq!(filters.len(), 1);
        let pattern: Value = serde_json::from_str(filters[0]["Pattern"].as_str().unwrap()).unwrap();
        let key = keys::Key::referral(&"bob".parse().unwrap()).attributes();
        let sort_key = key[keys::SK].as_s().unwrap();
        let reversal = keys::Key::reversal(&"bob:referrer:reversal".to_owned().try_into().unwrap()).attributes();
        let prefix = reversal[keys::SK].as_s().unwrap().replace("bob:referrer:reversal", "");
        let expected = if reads_reversals { json!([sort_key, { "prefix": prefix }]) } else { json!([sort_key]) };
        assert_eq!(pattern["dynamodb"]["Keys"][keys::SK]["S"], expected, "{name}");
        assert_eq!(pattern["eventName"], json!(["INSERT", "MODIFY"]), "{name}");
    }
}

/// A record that `rewards` cannot process blocks its shard for an hour at most, because the sweep does the same work. Nothing
/// waits for the counters, so `analytics` has as long as the stream keeps a record. Both leave the complete record in the bucket.
#[test]
fn the_stream_gives_a_record_up_after_an_hour_or_a_day() {
    for (name, seconds) in [("RewardsFunction", 3600), ("AnalyticsFunction", 86400)] {
        let stream = resource(name)["Properties"]["Events"]["Stream"]["Properties"].clone();
        assert_eq!(stream["MaximumRecordAgeInSeconds"], seconds, "{name}");
        let destination = json!({"Type": "S3", "Destination": "FailedRecordsBucket"});
        assert_eq!(stream["DestinationConfig"]["OnFailure"], destination, "{name}");
        assert_eq!(stream["BisectBatchOnFunctionError"], true, "{name}");
    }
    // Retries pause for at most some minutes, so the age of the record decides, not the number of attempts.
    let analytics = resource("AnalyticsFunction")["Properties"]["Events"]["Stream"]["Properties"].clone();
    assert_eq!(analytics["MaximumRetryAttempts"], 10_000);
}

/// A subscription or an alarm that is missing after an update shows only when something fails. So: every alarm is in
/// the nested template and notifies the topic of the root template, the dashboard shows all that every stack has, and
/// no alarm has an explicit name, which would collide with the old one when an alarm moves between stacks.
#[test]
fn every_alarm_notifies_the_topic_and_is_on_the_dashboard() {
    let (root, nested) = (local::template().unwrap(), local::monitoring().unwrap());
    let is_alarm = |resource: &Value| resource["Type"] == "AWS::CloudWatch::Alarm";
    assert!(!root["Resources"].as_object().unwrap().values().any(is_alarm), "an alarm in the root template");
    let mut always = BTreeSet::new();
    for (name, alarm) in nested["Resources"].as_object().unwrap().iter().filter(|(_, resource)| is_alarm(resource)) {
        assert_eq!(alarm["Properties"]["AlarmActions"], json!(["AlarmTopic"]), "{name}");
        assert!(alarm["Properties"].get("AlarmName").is_none(), "{name} has an explicit name");
        if alarm.get("Condition").is_none() {
            always.insert(name.as_str());
        }
    }
    let body = nested["Resources"]["Dashboard"]["Properties"]["DashboardBody"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(body).unwrap();
    let shown = dashboard["widgets"][0]["properties"]["alarms"].as_array().unwrap();
    assert_eq!(shown.iter().map(|alarm| alarm.as_str().unwrap()).collect::<BTreeSet<_>>(), always);
}

/// The parameter allows exactly the timeouts that the function accepts. The longest one leaves time to record the answer.
#[tokio::test]
async fn a_call_to_a_subsystem_ends_before_its_function() {
    let template = local::template().unwrap();
    let parameter = &template["Parameters"]["SubsystemTimeoutSeconds"];
    let seconds = |name: &str| parameter[name].as_u64().unwrap();
    let names = ["TABLE_NAME", "QUARANTINE_QUEUE_URL", "CREDIT_QUEUE_URL", "COUPON_QUEUE_URL", "POINTS_QUEUE_URL"];
    let env = Env::from_iter(names.map(|name| (name.to_owned(), "http://127.0.0.1/queue".to_owned())));
    let env = env.with("WEBHOOK_SECRET", SECRET);
    let aws = world::aws("http://127.0.0.1", Wire::default().connector());
    let start = |seconds: u64| {
        let env = env.clone().with("SUBSYSTEM_TIMEOUT_SECONDS", seconds.to_string());
        let (dynamodb, sqs) = (aws_sdk_dynamodb::Client::new(&aws), aws_sdk_sqs::Client::new(&aws));
        delivery::App::new(&env, dynamodb, sqs, tls::public()).map(drop)
    };
    for allowed in seconds("MinValue")..=seconds("MaxValue") {
        assert_eq!(start(allowed), Ok(()), "{allowed}");
    }
    for refused in [seconds("MinValue") - 1, seconds("MaxValue") + 1] {
        assert!(start(refused).is_err(), "{refused}");
    }
    let function = Duration::from_secs(template["Globals"]["Function"]["Timeout"].as_u64().unwrap());
    let mark = referrals::aws::timeouts().operation_timeout().unwrap();
    let reserve = Duration::from_secs(1);
    assert!(Duration::from_secs(seconds("MaxValue")) + mark + reserve < function);
}

#[test]
fn nested_templates_get_the_parameters_that_they_declare() {
    let root = local::template().unwrap();
    let stacks = root["Resources"].as_object().unwrap().iter();
    let stacks: Vec<_> = stacks.filter(|(_, resource)| resource["Type"] == "AWS::CloudFormation::Stack").collect();
    assert_eq!(stacks.len(), 3);
    for (name, stack) in stacks {
        let path = stack["Properties"]["TemplateURL"].as_str().unwrap();
        let source = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap();
        let names = |parameters: &Value| parameters.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let declared = names(&local::yaml(&source).unwrap()["Parameters"]);
        assert_eq!(names(&stack["Properties"]["Parameters"]), declared, "{name}");
    }
}
