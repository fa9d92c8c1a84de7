//! What `template.yaml` deploys, as far as the local service emulates it: tables, queues, rules and event sources.

use std::{collections::BTreeMap, time::Duration};

use dynoxide::actions::create_table::CreateTableRequest;
use referrals::runtime::Env;
use serde_json::{Map, Value, json};

use crate::{
    bus,
    functions::Function,
    pattern::{Pattern, PatternError},
    template::{self, TemplateError},
};

/// The template that is deployed and that runs here.
pub(crate) const TEMPLATE: &str = include_str!("../../template.yaml");

/// The nested template of alarms and dashboard.
pub(crate) const MONITORING: &str = include_str!("../../monitoring/template.yaml");

/// Everything that the local service runs. Names are logical ids.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// By name.
    tables: BTreeMap<String, Value>,
    /// By name.
    pub(crate) queues: BTreeMap<String, Queue>,
    pub(crate) rules: Vec<Rule>,
    /// How each function is called when it is a rule's target.
    pub(crate) invocations: Vec<Invocation>,
    /// Queues that feed functions.
    pub(crate) feeds: Vec<Feed>,
    pub(crate) streams: Vec<StreamFeed>,
    pub(crate) schedules: Vec<Schedule>,
    timeouts: BTreeMap<Function, Duration>,
}

/// An SQS queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Queue {
    pub(crate) delay: Duration,
    pub(crate) redrive: Option<Redrive>,
}

/// The dead-letter queue for messages that were received `after` times without success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Redrive {
    pub(crate) to: String,
    pub(crate) after: u32,
}

/// A rule: a matching event goes to every target, which is a queue or a function.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    bus: String,
    pub(crate) pattern: Pattern,
    pub(crate) targets: Vec<String>,
}

impl Rule {
    /// The partner whose bus has this rule; `None` for the stack's own bus.
    pub(crate) fn partner(&self) -> Option<&str> {
        Some(self.bus.as_str()).filter(|name| bus::is_partner(name))
    }
}

/// A function that is invoked asynchronously. The local service names Lambda's internal event queue like the function.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) name: String,
    pub(crate) function: Function,
    pub(crate) attempts: u32,
    pub(crate) on_failure: OnFailure,
}

/// What happens to an event after a function's last failed attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum OnFailure {
    /// A dead-letter queue receives the event itself.
    DeadLetter(String),
    /// A destination receives a record of the invocation that contains the event.
    Destination(String),
    /// AWS drops it. Here it is stored under this name, so that it can be inspected.
    Nowhere(String),
}

/// A queue that feeds a function.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) queue: String,
    pub(crate) function: Function,
    pub(crate) batch: usize,
    pub(crate) concurrency: usize,
}

/// A function that the table's stream invokes.
#[derive(Clone, Debug)]
pub(crate) struct StreamFeed {
    pub(crate) name: String,
    pub(crate) function: Function,
    /// A record passes if it matches one of these filters, or if there are none.
    pub(crate) filters: Vec<Pattern>,
    pub(crate) batch: usize,
    pub(crate) attempts: u32,
    pub(crate) bisect: bool,
    pub(crate) on_failure: String,
}

/// A function that a schedule invokes.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) name: String,
    pub(crate) function: Function,
    /// The payload, if the template sets one.
    pub(crate) input: Option<Value>,
}

/// Lambda's own defaults.
const TIMEOUT: u64 = 3;
const ASYNC_RETRIES: u64 = 2;
const SQS_BATCH: u64 = 10;
const STREAM_BATCH: u64 = 100;
/// AWS retries until the record expires. This service gives up earlier, so that a developer sees the failure soon.
const STREAM_RETRIES: u64 = 10;
/// How many batches of a queue, or events of a function, are processed concurrently if the template sets no limit.
const CONCURRENCY: u64 = 10;

impl Deployment {
    /// Reads the template.
    pub(crate) fn read(source: &str, env: &Env) -> Result<Self, TemplateError> {
        let template = template::read(source, env)?;
        let mut resources = template["Resources"].as_object().cloned().unwrap_or_default();
        resources.retain(|_, resource| template::is_deployed(&template, resource));
        let resources = Resources(resources);
        let functions = functions(&resources, &template["Globals"]["Function"])?;
        let tables = resources.of_type("AWS::DynamoDB::Table");
        let deployment = Self {
            tables: tables.map(|(name, properties)| (name.to_owned(), properties.clone())).collect(),
            queues: resources.of_type("AWS::SQS::Queue").map(queue).collect::<Result<_, _>>()?,
            rules: rules(&resources)?,
            invocations: functions.iter().map(invocation).collect(),
            feeds: events(&functions, &["SQS"]).map(feed).chain(mappings(&resources)).collect::<Result<_, _>>()?,
            streams: events(&functions, &["DynamoDB"]).map(stream_feed).collect::<Result<_, _>>()?,
            schedules: events(&functions, &["Schedule", "ScheduleV2"]).map(schedule).collect::<Result<_, _>>()?,
            timeouts: functions.iter().map(|function| (function.function, function.timeout())).collect(),
        };
        deployment.check()?;
        Ok(deployment)
    }

    /// The definition of the table `logical_id`, to be created as `name`, which is the name that the functions use.
    pub(crate) fn table(&self, logical_id: &str, name: &str) -> Result<CreateTableRequest, TemplateError> {
        let properties = self.tables.get(logical_id).ok_or_else(|| missing(&format!("the resource {logical_id}")))?;
        let mut request = json!({ "TableName": name, "BillingMode": "PAY_PER_REQUEST" });
        for property in ["KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "LocalSecondaryIndexes"] {
            if let Some(value) = properties.get(property) {
                request[property] = value.clone();
            }
        }
        if let Some(view) = properties["StreamSpecification"].get("StreamViewType") {
            request["StreamSpecification"] = json!({ "StreamEnabled": true, "StreamViewType": view });
        }
        serde_json::from_value(request).map_err(|problem| TemplateError::new(format!("{logical_id}: {problem}")))
    }

    /// A function's timeout.
    pub(crate) fn timeout(&self, function: Function) -> Duration {
        self.timeouts.get(&function).copied().unwrap_or(Duration::from_secs(TIMEOUT))
    }

    /// Whether a function consumes the queue `name`. Messages in other queues wait for an operator.
    pub(crate) fn is_consumed(&self, name: &str) -> bool {
        self.feeds.iter().any(|feed| feed.queue == name)
            || self.invocations.iter().any(|invocation| invocation.name == name)
    }

    /// Whether `queue` is a dead-letter queue or a failure destination.
    pub(crate) fn is_dead_letter_queue(&self, queue: &str) -> bool {
        let of_queues =
            self.queues.values().filter_map(|queue| queue.redrive.as_ref()).any(|redrive| redrive.to == queue);
        of_queues
            || self.invocations.iter().any(|invocation| match &invocation.on_failure {
                OnFailure::DeadLetter(name) | OnFailure::Destination(name) => name == queue,
                OnFailure::Nowhere(_) => false,
            })
    }

    /// Checks that every referenced name exists: a misspelt target would lose events silently.
    fn check(&self) -> Result<(), TemplateError> {
        let targets = self.rules.iter().flat_map(|rule| &rule.targets);
        let fed = self.feeds.iter().map(|feed| &feed.queue);
        let redriven = self.queues.values().filter_map(|queue| queue.redrive.as_ref()).map(|redrive| &redrive.to);
        let known = |name: &str| {
            self.queues.contains_key(name) || self.invocations.iter().any(|invocation| invocation.name == name)
        };
        match targets.chain(fed).chain(redriven).find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(missing(&format!("{name}, which is used as a target or an event source,"))),
        }
    }
}

struct Resources(Map<String, Value>);

impl Resources {
    /// Names and properties of the resources of one type.
    fn of_type(&self, wanted: &'static str) -> impl Iterator<Item = (&str, &Value)> {
        let resources = self.0.iter().filter(move |(_, resource)| resource["Type"] == wanted);
        resources.map(|(name, resource)| (name.as_str(), &resource["Properties"]))
    }
}

/// A function of the template and its properties, with `Globals` applied.
struct Deployed {
    name: String,
    function: Function,
    properties: Value,
}

impl Deployed {
    fn timeout(&self) -> Duration {
        Duration::from_secs(integer(&self.properties["Timeout"], TIMEOUT))
    }
}

fn functions(resources: &Resources, globals: &Value) -> Result<Vec<Deployed>, TemplateError> {
    let functions = resources.of_type("AWS::Serverless::Function").map(|(name, properties)| {
        let function = function(name)?;
        let mut properties = properties.clone();
        if properties.get("Timeout").is_none() && properties.is_object() {
            properties["Timeout"] = globals["Timeout"].clone();
        }
        Ok(Deployed { name: name.to_owned(), function, properties })
    });
    functions.collect()
}

fn function(name: &str) -> Result<Function, TemplateError> {
    Function::named(name).ok_or_else(|| TemplateError::new(format!("the local service has no function {name}")))
}

fn queue((name, properties): (&str, &Value)) -> Result<(String, Queue), TemplateError> {
    let redrive = match properties.get("RedrivePolicy") {
        None => None,
        Some(policy) => {
            let to = text(&policy["deadLetterTargetArn"], name)?;
            Some(Redrive { to, after: count(&policy["maxReceiveCount"], SQS_BATCH) })
        }
    };
    let delay = Duration::from_secs(integer(&properties["DelaySeconds"], 0));
    Ok((name.to_owned(), Queue { delay, redrive }))
}

fn rules(resources: &Resources) -> Result<Vec<Rule>, TemplateError> {
    let rules = resources.of_type("AWS::Events::Rule").filter(|(_, properties)| {
        // Rules of the default bus and schedule rules do not see events of this bus.
        properties.get("EventBusName").is_some() && properties["State"] != "DISABLED"
    });
    rules.map(rule).collect()
}

fn rule((name, properties): (&str, &Value)) -> Result<Rule, TemplateError> {
    let pattern = Pattern::new(&properties["EventPattern"]).map_err(|problem| invalid(name, &problem))?;
    let targets = properties["Targets"].as_array().into_iter().flatten().map(|target| {
        match ["Input", "InputPath", "InputTransformer"].iter().find(|property| target.get(**property).is_some()) {
            None => text(&target["Arn"], name),
            Some(property) => Err(TemplateError::new(format!("{name}: {property} is not emulated locally"))),
        }
    });
    Ok(Rule { bus: text(&properties["EventBusName"], name)?, pattern, targets: targets.collect::<Result<_, _>>()? })
}

fn invocation(deployed: &Deployed) -> Invocation {
    let config = &deployed.properties["EventInvokeConfig"];
    let destination = config["DestinationConfig"]["OnFailure"]["Destination"].as_str();
    let dead_letter = deployed.properties["DeadLetterQueue"]["TargetArn"].as_str();
    Invocation {
        name: deployed.name.clone(),
        function: deployed.function,
        attempts: count(&config["MaximumRetryAttempts"], ASYNC_RETRIES).saturating_add(1),
        on_failure: match (dead_letter, destination) {
            (Some(queue), _) => OnFailure::DeadLetter(queue.to_owned()),
            (None, Some(queue)) => OnFailure::Destination(queue.to_owned()),
            (None, None) => OnFailure::Nowhere(failures_of(deployed)),
        },
    }
}

/// The event sources of the given types, each with its function.
fn events<'a>(functions: &'a [Deployed], types: &'a [&str]) -> impl Iterator<Item = (&'a Deployed, &'a Value)> {
    functions.iter().flat_map(move |deployed| {
        let events = deployed.properties["Events"].as_object().into_iter().flat_map(Map::values);
        let events = events.filter(|event| event["Type"].as_str().is_some_and(|found| types.contains(&found)));
        events.map(move |event| (deployed, &event["Properties"]))
    })
}

fn feed((deployed, properties): (&Deployed, &Value)) -> Result<Feed, TemplateError> {
    Ok(feed_of(text(&properties["Queue"], &deployed.name)?, deployed.function, properties))
}

/// Queues that feed functions through a separate resource. Kafka is not emulated: a mapping with topics is skipped.
fn mappings(resources: &Resources) -> impl Iterator<Item = Result<Feed, TemplateError>> {
    let mappings = resources.of_type("AWS::Lambda::EventSourceMapping");
    mappings.filter(|(_, properties)| properties.get("Topics").is_none()).map(|(name, properties)| {
        let function = function(&text(&properties["FunctionName"], name)?)?;
        Ok(feed_of(text(&properties["EventSourceArn"], name)?, function, properties))
    })
}

fn feed_of(queue: String, function: Function, properties: &Value) -> Feed {
    Feed {
        queue,
        function,
        batch: size(&properties["BatchSize"], SQS_BATCH),
        concurrency: size(&properties["ScalingConfig"]["MaximumConcurrency"], CONCURRENCY),
    }
}

fn stream_feed((deployed, properties): (&Deployed, &Value)) -> Result<StreamFeed, TemplateError> {
    let filters = properties["FilterCriteria"]["Filters"].as_array().into_iter().flatten();
    let filters = filters.map(|filter| {
        let source = text(&filter["Pattern"], &deployed.name)?;
        let pattern = serde_json::from_str(&source).map_err(|problem| invalid(&deployed.name, &problem))?;
        Pattern::new(&pattern).map_err(|problem: PatternError| invalid(&deployed.name, &problem))
    });
    let destination = properties["DestinationConfig"]["OnFailure"]["Destination"].as_str();
    Ok(StreamFeed {
        name: deployed.name.clone(),
        function: deployed.function,
        filters: filters.collect::<Result<_, _>>()?,
        batch: size(&properties["BatchSize"], STREAM_BATCH),
        attempts: count(&properties["MaximumRetryAttempts"], STREAM_RETRIES).saturating_add(1),
        bisect: properties["BisectBatchOnFunctionError"].as_bool().unwrap_or(false),
        on_failure: destination.map_or_else(|| failures_of(deployed), str::to_owned),
    })
}

fn schedule((deployed, properties): (&Deployed, &Value)) -> Result<Schedule, TemplateError> {
    let input = properties.get("Input").map(|input| text(input, &deployed.name)).transpose()?;
    let input = input.map(|input| serde_json::from_str(&input).map_err(|problem| invalid(&deployed.name, &problem)));
    Ok(Schedule { name: deployed.name.clone(), function: deployed.function, input: input.transpose()? })
}

/// Where failures are stored that AWS would drop: `RewardsFailures` for `RewardsFunction`.
fn failures_of(deployed: &Deployed) -> String {
    format!("{}Failures", deployed.name.trim_end_matches("Function"))
}

fn text(value: &Value, place: &str) -> Result<String, TemplateError> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| TemplateError::new(format!("{place}: expected a name, found {value}")))
}

/// An integer, which a parameter may contain as text.
fn integer(value: &Value, default: u64) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(default)
}

fn count(value: &Value, default: u64) -> u32 {
    u32::try_from(integer(value, default)).unwrap_or(u32::MAX)
}

fn size(value: &Value, default: u64) -> usize {
    usize::try_from(integer(value, default)).unwrap_or(usize::MAX).max(1)
}

fn missing(what: &str) -> TemplateError {
    TemplateError::new(format!("{what} is missing"))
}

fn invalid(place: &str, problem: &dyn std::fmt::Display) -> TemplateError {
    TemplateError::new(format!("{place}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployed() -> Deployment {
        Deployment::read(TEMPLATE, &Env::default()).unwrap()
    }

    #[test]
    fn tables_are_read_from_the_template() {
        let table = deployed().table("Table", "referrals").unwrap();
        assert_eq!(table.table_name, "referrals");
        assert_eq!(table.global_secondary_indexes.unwrap().len(), 2);
        assert!(table.stream_specification.unwrap().stream_enabled);
        let analytics = deployed().table("MetricsTable", "metrics").unwrap();
        assert_eq!(
            (analytics.global_secondary_indexes.unwrap().len(), analytics.stream_specification.is_some()),
            (1, false)
        );
        assert!(deployed().table("NoSuchTable", "x").is_err());
    }

    #[test]
    fn an_order_goes_to_the_function_and_to_the_delay_queue() {
        let deployed = deployed();
        let event = json!({"source": "shop", "detail-type": "order.completed", "detail": {}});
        let targets = deployed.rules.iter().filter(|rule| rule.pattern.matches(&event)).flat_map(|rule| &rule.targets);
        assert_eq!(targets.collect::<Vec<_>>(), ["ConversionFunction", "ConversionDelayQueue"]);
        let conversion = deployed.invocations.iter().find(|found| found.name == "ConversionFunction").unwrap();
        assert_eq!(conversion.on_failure, OnFailure::DeadLetter("ConversionDeadLetterQueue".to_owned()));
        assert_eq!(conversion.attempts, 3);
        // The function knows the delay of the queue.
        let delay = deployed.queues["ConversionDelayQueue"].delay.as_secs();
        assert!(TEMPLATE.contains(&format!("          DELAY_SECONDS: \"{delay}\"\n")));
        assert!(
            deployed.is_consumed("ConversionDelayQueue") && deployed.is_dead_letter_queue("ConversionDeadLetterQueue")
        );
    }

    #[test]
    fn each_reward_type_has_a_queue_and_a_dead_letter_queue() {
        let deployed = deployed();
        for (kind, queue) in [("credit", "CreditQueue"), ("coupon", "CouponQueue"), ("points", "PointsQueue")] {
            let event = json!({"source": "referrals", "detail-type": "reward.issued", "detail": {"type": kind}});
            let rule = deployed.rules.iter().find(|rule| rule.pattern.matches(&event)).unwrap();
            assert_eq!(rule.targets, [queue]);
            let feed = deployed.feeds.iter().find(|feed| feed.queue == queue).unwrap();
            assert_eq!(feed.function, Function::Delivery);
            assert!(!deployed.is_consumed(&deployed.queues[queue].redrive.as_ref().unwrap().to));
        }
        assert!(!deployed.is_consumed("QuarantineQueue"));
    }

    #[test]
    fn streams_the_schedule_and_timeouts_are_read() {
        let deployed = deployed();
        let streams = deployed.streams.iter().map(|stream| (stream.function, stream.filters.len(), stream.bisect));
        let expected = [(Function::Analytics, 1, true), (Function::Rewards, 1, true)];
        assert_eq!(streams.collect::<Vec<_>>(), expected);
        let [schedule] = &deployed.schedules[..] else { panic!("{:?}", deployed.schedules) };
        assert_eq!(schedule.function, Function::Sweep);
        assert_eq!(deployed.timeout(Function::Attribution), Duration::from_secs(10));
    }

    #[test]
    fn the_qualifying_event_is_a_setting() {
        let env = Env::default().with("QUALIFYING_EVENT", "subscription.started");
        let event = json!({"source": "shop", "detail-type": "subscription.started", "detail": {}});
        assert!(Deployment::read(TEMPLATE, &env).unwrap().rules.iter().any(|rule| rule.pattern.matches(&event)));
    }

    #[test]
    fn the_rule_lets_every_qualifying_event_through() {
        let env = Env::default().with("QUALIFYING_EVENTS", "subscription.started, trial.ended");
        let rules = Deployment::read(TEMPLATE, &env).unwrap().rules;
        let passes = |kind: &str| {
            let event = json!({"source": "shop", "detail-type": kind, "detail": {}});
            rules.iter().any(|rule| rule.pattern.matches(&event))
        };
        for kind in ["order.completed", "subscription.started", "trial.ended", "account.flagged"] {
            assert!(passes(kind), "{kind}");
        }
        assert!(!passes("order.shipped"));
    }

    #[test]
    fn the_incoming_queue_exists_only_when_enabled() {
        let is_there = |env: &Env| {
            let deployed = Deployment::read(TEMPLATE, env).unwrap();
            let fed = deployed.feeds.iter().any(|feed| {
                feed.queue == "ConversionIncomingQueue" && feed.function == Function::Conversion && feed.batch == 10
            });
            (deployed.queues.contains_key("ConversionIncomingQueue"), fed)
        };
        assert_eq!(is_there(&Env::default()), (false, false));
        assert_eq!(is_there(&Env::default().with("INCOMING_QUEUE", "true")), (true, true));
    }

    #[test]
    fn kafka_sources_are_skipped() {
        let feeds = deployed().feeds.len();
        for (name, value) in [
            ("KAFKA_CLUSTER_ARN", "arn:aws:kafka:us-east-1:123456789012:cluster/shop/a-1"),
            ("KAFKA_BOOTSTRAP_SERVERS", "kafka.example.com:9096"),
        ] {
            let secret =
                if name.contains("SERVERS") { "arn:aws:secretsmanager:us-east-1:123456789012:secret:x" } else { "" };
            let env = Env::default().with(name, value).with("KAFKA_SECRET_ARN", secret);
            assert_eq!(Deployment::read(TEMPLATE, &env).unwrap().feeds.len(), feeds, "{name}");
        }
    }

    #[test]
    fn incomplete_kafka_settings_are_refused() {
        let servers = ("KAFKA_BOOTSTRAP_SERVERS", "kafka.example.com:9096");
        let secret = ("KAFKA_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:123456789012:secret:x");
        let cluster = ("KAFKA_CLUSTER_ARN", "arn:aws:kafka:us-east-1:123456789012:cluster/shop/a-1");
        let (subnet, group) = (("KAFKA_SUBNET_ID", "subnet-1"), ("KAFKA_SECURITY_GROUP_ID", "sg-1"));
        let second = ("KAFKA_SECOND_SUBNET_ID", "subnet-2");
        let read = |given: &[(&str, &str)]| {
            let env = given.iter().fold(Env::default(), |env, (name, value)| env.with(name, *value));
            Deployment::read(TEMPLATE, &env).map(drop).map_err(|problem| problem.to_string())
        };
        for integer in [&[cluster][..], &[servers, secret], &[servers, secret, subnet, group, second]] {
            assert_eq!(read(integer), Ok(()));
        }
        for (half, missed) in [
            (&[servers][..], "Set both KafkaBootstrapServers and KafkaSecretArn"),
            (&[secret], "Set both KafkaBootstrapServers and KafkaSecretArn"),
            (&[cluster, servers, secret], "not both"),
            (&[servers, secret, subnet], "Set both KafkaSubnetId and KafkaSecurityGroupId"),
            (&[servers, secret, group], "Set both KafkaSubnetId and KafkaSecurityGroupId"),
            (&[cluster, subnet, group], "KafkaSubnetId only with KafkaBootstrapServers"),
            (&[servers, secret, second], "KafkaSecondSubnetId only with"),
        ] {
            let problem = read(half).unwrap_err();
            assert!(problem.contains(missed), "{half:?}: {problem}");
        }
    }

    #[test]
    fn a_reference_to_an_unknown_resource_is_refused() {
        let source = TEMPLATE.replace("Arn: !GetAtt CreditQueue.Arn\n", "Arn: NoSuchQueue\n");
        let problem = Deployment::read(&source, &Env::default()).unwrap_err().to_string();
        assert!(problem.contains("NoSuchQueue"), "{problem}");
        let mapping = "EventSourceArn: !GetAtt ConversionIncomingQueue.Arn\n";
        let source = TEMPLATE.replace(mapping, "EventSourceArn: NoSuchQueue\n");
        let env = Env::default().with("INCOMING_QUEUE", "true");
        assert!(Deployment::read(&source, &env).unwrap_err().to_string().contains("NoSuchQueue"));
    }
}
