//! The running service: puts the parts together, starts them in order and stops them in the reverse order.

use std::{
    fs::{File, TryLockError},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, timeout::TimeoutConfig};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::SdkConfig;
use axum::{Router, serve::ListenerExt};
use referrals::{
    aws,
    runtime::{Env, Misconfigured},
};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    clock::{self, REGION},
    deployment::{Deployment, TEMPLATE},
    dynamodb::{self, DynamoDb, DynamoError},
    functions::{Clients, Failure, Function, Functions},
    gateway,
    journal::{Journal, JournalError, Letter},
    queue::{self, Lane},
    schedule, secrets, sqs,
    stream::{self, Reader},
    subsystems::{KINDS, Scripts},
    template::TemplateError,
};

/// What a service is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port of the service; 0 takes a free one.
    pub port: u16,
    /// The port of the embedded DynamoDB; 0 takes a free one.
    pub dynamodb_port: u16,
    /// Where to keep table, queues and secrets; in memory if nowhere.
    pub data: Option<PathBuf>,
    /// The functions' settings. What is missing gets a local default.
    pub env: Env,
    /// How fast time goes by.
    pub pace: Pace,
    /// What carries the functions' calls to AWS, for tests that count or break them; the usual if `None`.
    pub connector: Option<SharedHttpClient>,
}

impl Default for Options {
    /// Free ports of the loopback, in memory, no settings, the usual pace.
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            dynamodb_port: 0,
            data: None,
            env: Env::default(),
            pace: Pace::default(),
            connector: None,
        }
    }
}

/// How long things take here that take minutes on AWS.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time between two sweeps.
    pub sweep: Duration,
    /// The longest a message waits in a queue with a delay; also how long rests what is read from a dead-letter queue.
    pub delay: Duration,
    /// The pause before the first retry, of which the further ones are multiples.
    pub first_retry: Duration,
    /// Whether the table's stream feeds its functions.
    pub stream: bool,
    /// Whether the clock calls the sweep; [`Service::sweep_now`] does so in any case.
    pub schedule: bool,
    /// How many times longer than on AWS a function may take, and wait for the table: here both share a machine with
    /// everything else on it.
    pub slack: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            sweep: Duration::from_secs(5),
            delay: Duration::from_secs(10),
            first_retry: Duration::from_secs(1),
            stream: true,
            schedule: true,
            slack: 4,
        }
    }
}

/// The service cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens on that port.
    #[error("port {port} is in use; try {flag} 0")]
    PortTaken {
        /// The port.
        port: u16,
        /// The flag that chooses another.
        flag: &'static str,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {problem}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        problem: io::Error,
    },
    /// Another service runs on the same data.
    #[error("another service is running on the data in {}", .0.display())]
    DataInUse(PathBuf),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {problem}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// Why not.
        problem: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("cannot draw secrets: {0}")]
    Secrets(io::Error),
    /// What is deployed cannot be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The embedded DynamoDB cannot be started.
    #[error(transparent)]
    DynamoDb(#[from] DynamoError),
    /// A function refuses its settings.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
}

/// What all parts of a running service share.
pub(crate) struct Local {
    pub(crate) url: String,
    /// The functions' settings.
    pub(crate) env: Env,
    /// The bus's name, as the functions know it.
    pub(crate) bus: String,
    pub(crate) pace: Pace,
    pub(crate) deployment: Deployment,
    pub(crate) journal: Journal,
    pub(crate) dynamodb: DynamoDb,
    pub(crate) functions: Functions,
    pub(crate) scripts: Scripts,
    pub(crate) moves: sqs::Moves,
}

impl Local {
    /// A message for `queue`, with the delay that this queue puts before it.
    pub(crate) fn letter(&self, queue: &str, body: &str, attributes: Value) -> Letter {
        let delay = queue::delay(&self.deployment, &self.pace, queue);
        let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        Letter { attributes, delay, ..Letter::new(queue, body) }
    }
}

/// Told when it is time to stop.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether it is time.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns when it is time, which it also is when whoever would say so is gone.
    pub(crate) async fn wait(&mut self) {
        drop(self.0.wait_for(|stop| *stop).await);
    }
}

/// A running service. Dropped, it stops in the background; [`Service::stop`] lets it finish what it has begun.
pub struct Service {
    local: Arc<Local>,
    dynamodb_url: String,
    plain: aws_sdk_dynamodb::Client,
    pumps: JoinSet<()>,
    stop_pumps: watch::Sender<bool>,
    front: JoinHandle<()>,
    stop_front: watch::Sender<bool>,
    database: dynamodb::Server,
    /// Held for as long as the service runs on its data.
    _data: Option<File>,
}

/// How long what runs may take to end: a function's time and a little.
const GRACE: Duration = Duration::from_secs(12);
/// How long connections may take to close.
const HANG_UP: Duration = Duration::from_secs(2);

impl Service {
    /// Starts a service; it is ready when this returns.
    ///
    /// # Errors
    /// When a port is taken, the data directory cannot be used, or a setting cannot be read.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { host, port, dynamodb_port, data, env, pace, connector } = options;
        let data = data.as_deref();
        let deployment = Deployment::read(TEMPLATE, &env)?;
        let listener = listen(host, port, "--port")?;
        let database_listener = listen(host, dynamodb_port, "--dynamodb-port")?;
        let (url, dynamodb_url) = (url_of(&listener, host, port)?, url_of(&database_listener, host, dynamodb_port)?);
        let lock = data.map(lock).transpose()?;
        let env = settings(env, &url, data)?;

        let table = deployment.table("Table", env.required("TABLE_NAME")?)?;
        let metrics = deployment.table("MetricsTable", env.required("METRICS_TABLE_NAME")?)?;
        let dynamodb = DynamoDb::open(data.map(|data| data.join("dynamodb.sqlite")).as_deref(), table, [metrics])?;
        let journal = Journal::open(data.map(|data| data.join("journal.sqlite")).as_deref())?;
        let database = dynamodb.serve(database_listener)?;

        let http = aws_smithy_http_client::Builder::new().build_http();
        let plain = aws_sdk_dynamodb::Client::new(&aws(&dynamodb_url, http.clone(), patient()));
        let functions = {
            let connector = connector.unwrap_or(http);
            let dynamodb = aws(&dynamodb_url, connector.clone(), stretched(pace.slack));
            let rest = aws(&url, connector, patient());
            let clients = Clients {
                dynamodb: aws_sdk_dynamodb::Client::new(&dynamodb),
                eventbridge: aws_sdk_eventbridge::Client::new(&rest),
                sqs: aws_sdk_sqs::Client::new(&rest),
            };
            Functions::start(&env, &clients, &deployment, pace.slack)?
        };
        let bus = env.required("BUS_NAME")?.to_owned();
        let scripts = Scripts::default();
        let moves = sqs::Moves::default();
        let local = Arc::new(Local { url, env, bus, pace, deployment, journal, dynamodb, functions, scripts, moves });

        let (stop_front, stopped) = Stop::new();
        let front = serve(&local, listener, stopped)?;
        let (stop_pumps, stopped) = Stop::new();
        let pumps = pump(&local, &stopped);
        Ok(Self { local, dynamodb_url, plain, pumps, stop_pumps, front, stop_front, database, _data: lock })
    }

    /// The service's address, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.local.url
    }

    /// The embedded DynamoDB's address.
    pub fn dynamodb_url(&self) -> &str {
        &self.dynamodb_url
    }

    /// A client of the embedded DynamoDB that is not one of the functions': nothing counts its calls or breaks them.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.plain.clone()
    }

    /// The settings that the functions were started with, defaults and secrets among them.
    pub fn env(&self) -> &Env {
        &self.local.env
    }

    /// Invokes the function with that logical id, and gives what it answers.
    ///
    /// # Errors
    /// When there is no such function, or it fails.
    pub async fn invoke(&self, logical_id: &str, payload: Value) -> Result<Value, Failure> {
        let function = Function::named(logical_id);
        let function = function.ok_or_else(|| Failure::Error(format!("there is no function {logical_id}")))?;
        self.local.functions.invoke(function, payload).await
    }

    /// Calls what the schedule calls, now.
    ///
    /// # Errors
    /// When it fails.
    pub async fn sweep_now(&self) -> Result<(), Failure> {
        for schedule in &self.local.deployment.schedules {
            schedule::call(&self.local, schedule).await?;
        }
        Ok(())
    }

    /// Whether nothing is left to do but what was parked, what a delay queue holds for its first time, and what only
    /// the schedule will find.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn idle(&self) -> Result<bool, JournalError> {
        let Local { deployment, journal, pace, .. } = &*self.local;
        if pace.stream && !stream::is_at_end(&self.local) {
            return Ok(false);
        }
        let feeds = deployment.feeds.iter().map(|feed| &feed.queue);
        for queue in feeds.chain(deployment.invocations.iter().map(|invocation| &invocation.name)) {
            let delays = deployment.queues.get(queue).is_some_and(|queue| !queue.delay.is_zero());
            if journal.count(queue, delays)? > 0 {
                return Ok(false);
            }
        }
        // A pump may have written to the table between the first look and the last message's end.
        Ok(!pace.stream || stream::is_at_end(&self.local))
    }

    /// Stops: no new work is begun, and what runs may end within a function's time.
    pub async fn stop(mut self) {
        // The pumps first: what they are doing needs the bus, the stand-ins and the table.
        self.stop_pumps.send_replace(true);
        let pumps = async { while self.pumps.join_next().await.is_some() {} };
        if timeout(GRACE, pumps).await.is_err() {
            tracing::warn!("some work did not end in time");
            self.pumps.abort_all();
        }
        self.stop_front.send_replace(true);
        if timeout(HANG_UP, &mut self.front).await.is_err() {
            self.front.abort();
        }
        self.database.stop(HANG_UP).await;
    }
}

fn listen(host: IpAddr, port: u16, flag: &'static str) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(host, port);
    let failed = |problem: io::Error| match problem.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken { port, flag },
        _ => StartError::Listen { address, problem },
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// The URL by which this machine reaches `listener`.
fn url_of(listener: &TcpListener, host: IpAddr, port: u16) -> Result<String, StartError> {
    let mut address = SocketAddr::new(host, port);
    address = listener.local_addr().map_err(|problem| StartError::Listen { address, problem })?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(format!("http://{address}"))
}

/// Makes the data directory, and sees to it that no other service works on it.
fn lock(path: &Path) -> Result<File, StartError> {
    let failed = |problem| StartError::Data { path: path.to_owned(), problem };
    std::fs::create_dir_all(path).map_err(failed)?;
    let file = File::create(path.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::DataInUse(path.to_owned())),
        Err(TryLockError::Error(problem)) => Err(failed(problem)),
    }
}

/// The queues that functions are told of, and by which variable.
const QUEUES: [(&str, &str); 9] = [
    ("DELAY_QUEUE_URL", "ConversionDelayQueue"),
    ("QUARANTINE_QUEUE_URL", "QuarantineQueue"),
    ("CREDIT_QUEUE_URL", "CreditQueue"),
    ("COUPON_QUEUE_URL", "CouponQueue"),
    ("POINTS_QUEUE_URL", "PointsQueue"),
    ("CREDIT_DEAD_LETTER_QUEUE_URL", "CreditDeadLetterQueue"),
    ("COUPON_DEAD_LETTER_QUEUE_URL", "CouponDeadLetterQueue"),
    ("POINTS_DEAD_LETTER_QUEUE_URL", "PointsDeadLetterQueue"),
    ("CONVERSION_POISON_QUEUE_URL", "ConversionPoisonQueue"),
];

/// The functions' settings: those given, and local defaults for the rest.
fn settings(env: Env, url: &str, data: Option<&Path>) -> Result<Env, StartError> {
    let secrets = secrets::secrets(data).map_err(|problem| match data {
        Some(path) => StartError::Data { path: path.to_owned(), problem },
        None => StartError::Secrets(problem),
    })?;
    let endpoints = KINDS.map(|kind| {
        (format!("{}_ENDPOINT", kind.to_uppercase()), format!("{url}{}subsystems/{kind}", crate::subsystems::PREFIX))
    });
    let queues = QUEUES.map(|(name, queue)| (name.to_owned(), sqs::url(url, queue)));
    let defaults = [
        ("TABLE_NAME", "referrals".to_owned()),
        ("METRICS_TABLE_NAME", "metrics".to_owned()),
        ("BUS_NAME", "referrals".to_owned()),
        ("PUBLIC_URL", url.to_owned()),
        ("LANDING_URL", format!("{url}{}landing", crate::subsystems::PREFIX)),
        ("INCOMING_QUEUE_ARN", clock::arn("sqs", "ConversionIncomingQueue")),
        ("GRACE_SECONDS", "20".to_owned()),
        ("RETRY_SECONDS", "1".to_owned()),
    ];
    let defaults = defaults.into_iter().map(|(name, value)| (name.to_owned(), value));
    let defaults = defaults.chain(queues).chain(endpoints).chain(secrets);
    Ok(defaults.fold(env, |env, (name, value)| env.with_default(&name, value)))
}

/// How to reach a local endpoint: over plain HTTP and with any credentials.
fn aws(url: &str, http: SharedHttpClient, timeouts: TimeoutConfig) -> SdkConfig {
    let credentials = Credentials::new("local", "local", None, None, "local");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .timeout_config(timeouts)
        .endpoint_url(url)
        .http_client(http)
        .build()
}

/// The functions' own patience with the table, so many times over.
pub fn stretched(slack: u32) -> TimeoutConfig {
    let own = aws::timeouts();
    let longer = |timeout: Option<Duration>| timeout.map(|timeout| timeout * slack);
    let mut stretched = TimeoutConfig::builder();
    stretched
        .set_connect_timeout(longer(own.connect_timeout()))
        .set_operation_attempt_timeout(longer(own.operation_attempt_timeout()))
        .set_operation_timeout(longer(own.operation_timeout()));
    stretched.build()
}

/// Bus and queues take whatever comes twice for two, so a machine that is merely slow must not have it sent again.
fn patient() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(GRACE).operation_timeout(GRACE).build()
}

fn serve(local: &Arc<Local>, listener: TcpListener, mut stop: Stop) -> Result<JoinHandle<()>, StartError> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(DynamoError::from)?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = Router::new().fallback(gateway::answer).with_state(Arc::clone(local));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(tokio::spawn(async move {
        let serving = axum::serve(listener, service).with_graceful_shutdown(async move { stop.wait().await });
        if let Err(problem) = serving.await {
            tracing::error!(%problem, "the service stopped serving");
        }
    }))
}

/// Starts everything that moves by itself.
fn pump(local: &Arc<Local>, stop: &Stop) -> JoinSet<()> {
    let mut pumps = JoinSet::new();
    for lane in Lane::all(local) {
        pumps.spawn(lane.run(stop.clone()));
    }
    if local.pace.stream {
        for reader in Reader::all(local) {
            pumps.spawn(reader.run(stop.clone()));
        }
    }
    if local.pace.schedule {
        pumps.spawn(schedule::run(Arc::clone(local), stop.clone()));
    }
    tracing::debug!(at = clock::text(clock::now()), pumps = pumps.len(), "started");
    pumps
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bus::put_events;

    async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..200 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not within five seconds: {what}");
    }

    fn quick() -> Options {
        let pace = Pace { first_retry: Duration::from_millis(5), delay: Duration::from_millis(50), ..Pace::default() };
        Options { pace, ..Options::default() }
    }

    #[tokio::test]
    async fn an_event_goes_its_ways_and_the_service_comes_to_rest() {
        let service = Service::start(quick()).await.unwrap();
        let entry = json!({"Source": "shop", "DetailType": "account.cleared", "Detail": "{\"user_id\":\"ada\"}"});
        let answer = put_events(&service.local, &json!({"Entries": [entry]})).unwrap();
        assert_eq!(answer["FailedEntryCount"], 0);
        let journal = &service.local.journal;
        let left = || {
            journal.count("ConversionFunction", false).unwrap() + journal.count("ConversionDelayQueue", false).unwrap()
        };
        eventually("both targets took the event", || left() == 0).await;
        eventually("it rests", || service.idle().unwrap()).await;
        service.sweep_now().await.unwrap();
        service.stop().await;
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let problem = Service::start(Options { port, ..quick() }).await.err().unwrap();
        assert_eq!(problem.to_string(), format!("port {port} is in use; try --port 0"));
    }

    #[tokio::test]
    async fn one_service_at_a_time_works_on_the_data() {
        let data = std::env::temp_dir().join(clock::id());
        let options = Options { data: Some(data.clone()), ..quick() };
        let first = Service::start(options.clone()).await.unwrap();
        let secret = first.env().get("WEBHOOK_SECRET").map(str::to_owned);
        assert!(matches!(Service::start(options.clone()).await, Err(StartError::DataInUse(_))));
        first.stop().await;
        let second = Service::start(options).await.unwrap();
        assert_eq!(second.env().get("WEBHOOK_SECRET").map(str::to_owned), secret);
        second.stop().await;
        std::fs::remove_dir_all(data).unwrap();
    }
}
