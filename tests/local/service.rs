//! The running service: connects the parts, starts them in order and stops them in reverse order.

use std::{
    fs::{File, TryLockError},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Region,
    retry::{RetryPartition, TokenBucket},
    timeout::TimeoutConfig,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::SdkConfig;
use axum::{Router, serve::ListenerExt};
use referrals::{
    aws::{self, secrets::Secrets},
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
    journal::{Journal, JournalError, NewMessage},
    queue::{self, Poller},
    schedule, secrets,
    secrets_manager::SecretsManager,
    sqs,
    stream::{self, Reader},
    subsystems::{KINDS, Scripts},
    template::TemplateError,
};

/// Options of [`Service::start`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port of the service; 0 picks a free port.
    pub port: u16,
    /// The port of the embedded DynamoDB; 0 picks a free port.
    pub dynamodb_port: u16,
    /// The directory for the table, queues and secrets; in memory if `None`.
    pub data: Option<PathBuf>,
    /// The functions' settings. Missing ones get a local default.
    pub env: Env,
    /// Delays and time limits.
    pub pace: Pace,
    /// The HTTP connector of the functions' AWS clients, if not the usual one. Tests pass one that counts or breaks
    /// calls.
    pub connector: Option<SharedHttpClient>,
}

impl Default for Options {
    /// Free loopback ports, in memory, default settings and pace.
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

/// Local durations of delays that are minutes on AWS.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time between two sweeps.
    pub sweep: Duration,
    /// The longest delay of a message in a delay queue, and of a message in a dead-letter queue that a function
    /// consumes.
    pub delay: Duration,
    /// The delay before the first retry; it doubles with each further retry.
    pub first_retry: Duration,
    /// Whether the table's stream invokes functions.
    pub stream: bool,
    /// Whether the schedule invokes the sweep. [`Service::sweep_now`] always does.
    pub schedule: bool,
    /// Multiplies the functions' timeouts and their DynamoDB timeouts, because here everything shares one machine.
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
    /// Another process listens on that port.
    #[error("port {port} is in use; try {flag} 0")]
    PortTaken {
        /// The port.
        port: u16,
        /// The flag that selects another port.
        flag: &'static str,
    },
    /// The service cannot listen on the address.
    #[error("cannot listen on {address}: {problem}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        problem: io::Error,
    },
    /// Another service uses the same data directory.
    #[error("another service is running on the data in {}", .0.display())]
    DataInUse(PathBuf),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {problem}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// The cause.
        problem: io::Error,
    },
    /// The operating system returned no random bytes.
    #[error("cannot generate secrets: {0}")]
    Secrets(io::Error),
    /// The template cannot be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The embedded DynamoDB cannot be started.
    #[error(transparent)]
    DynamoDb(#[from] DynamoError),
    /// A function rejects its settings.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
}

/// State that all parts of a running service share.
pub(crate) struct Local {
    pub(crate) url: String,
    /// The functions' settings.
    pub(crate) env: Env,
    /// The bus's name, as configured for the functions.
    pub(crate) bus: String,
    pub(crate) pace: Pace,
    pub(crate) deployment: Deployment,
    pub(crate) journal: Journal,
    pub(crate) dynamodb: DynamoDb,
    pub(crate) functions: Functions,
    pub(crate) scripts: Scripts,
    pub(crate) moves: sqs::Moves,
    pub(crate) secrets: SecretsManager,
}

impl Local {
    /// A message for `queue`, delayed by the queue's own delay.
    pub(crate) fn new_message(&self, queue: &str, body: &str, attributes: Value) -> NewMessage {
        let delay = queue::delay(&self.deployment, &self.pace, queue);
        let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        NewMessage { attributes, delay, ..NewMessage::new(queue, body) }
    }
}

/// Signals that the service is stopping.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether the service is stopping.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns when the service is stopping, or when the sender is gone.
    pub(crate) async fn wait(&mut self) {
        drop(self.0.wait_for(|stop| *stop).await);
    }
}

/// A running service. When dropped, it stops in the background; [`Service::stop`] lets running work finish.
pub struct Service {
    local: Arc<Local>,
    dynamodb_url: String,
    plain: aws_sdk_dynamodb::Client,
    workers: JoinSet<()>,
    stop_workers: watch::Sender<bool>,
    server: JoinHandle<()>,
    stop_server: watch::Sender<bool>,
    database: dynamodb::Server,
    /// The lock on the data directory, held while the service runs.
    _data: Option<File>,
}

/// How long running work may take to finish: a function's timeout and a margin.
const GRACE: Duration = Duration::from_secs(12);
/// How long open connections may take to close.
const HANG_UP: Duration = Duration::from_secs(2);

impl Service {
    /// Starts a service; it is ready when this returns.
    ///
    /// # Errors
    /// Returns an error when a port is in use, the data directory cannot be used, or a setting is invalid.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { host, port, dynamodb_port, data, env, pace, connector } = options;
        let data = data.as_deref();
        let deployment = Deployment::read(TEMPLATE, &env)?;
        let listener = listen(host, port, "--port")?;
        let database_listener = listen(host, dynamodb_port, "--dynamodb-port")?;
        let (url, dynamodb_url) = (url_of(&listener, host, port)?, url_of(&database_listener, host, dynamodb_port)?);
        let lock = data.map(lock).transpose()?;
        let env = settings(env, &url, data, &pace)?;

        let table = deployment.table("Table", env.required("TABLE_NAME")?)?;
        let metrics = deployment.table("MetricsTable", env.required("METRICS_TABLE_NAME")?)?;
        let dynamodb = DynamoDb::open(data.map(|data| data.join("dynamodb.sqlite")).as_deref(), table, [metrics])?;
        let journal = Journal::open(data.map(|data| data.join("journal.sqlite")).as_deref())?;
        let database = dynamodb.serve(database_listener)?;

        let http = aws_smithy_http_client::Builder::new().build_http();
        let plain = aws_sdk_dynamodb::Client::new(&aws(&dynamodb_url, http.clone(), long_timeouts()));
        let manager = SecretsManager::of(&env);
        let functions = {
            let connector = connector.unwrap_or(http);
            let dynamodb = aws(&dynamodb_url, connector.clone(), stretched(pace.slack));
            let rest = aws(&url, connector, long_timeouts());
            // By default all services of a process share one bucket of retries, which the faults of one test empty for another.
            let retries = RetryPartition::custom(dynamodb_url.clone()).token_bucket(TokenBucket::default()).build();
            let dynamodb = aws_sdk_dynamodb::config::Builder::from(&dynamodb).retry_partition(retries).build();
            let clients = Clients {
                dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb),
                eventbridge: aws_sdk_eventbridge::Client::new(&rest),
                sqs: aws_sdk_sqs::Client::new(&rest),
            };
            let secrets = Secrets::read(&env, &aws(&url, manager.http_client(), long_timeouts())).await?;
            Functions::start(&env, &clients, secrets, &deployment, pace.slack)?
        };
        let bus = env.required("BUS_NAME")?.to_owned();
        let scripts = Scripts::default();
        let moves = sqs::Moves::default();
        let secrets = manager;
        let local =
            Arc::new(Local { url, env, bus, pace, deployment, journal, dynamodb, functions, scripts, moves, secrets });

        let (stop_server, stopped) = Stop::new();
        let server = serve(&local, listener, stopped)?;
        let (stop_workers, stopped) = Stop::new();
        let workers = start_workers(&local, &stopped);
        Ok(Self { local, dynamodb_url, plain, workers, stop_workers, server, stop_server, database, _data: lock })
    }

    /// The service's URL, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.local.url
    }

    /// The embedded DynamoDB's URL.
    pub fn dynamodb_url(&self) -> &str {
        &self.dynamodb_url
    }

    /// A client of the embedded DynamoDB that does not use the functions' connector: its calls are not counted or
    /// broken.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.plain.clone()
    }

    /// The settings of the functions, including defaults and secrets.
    pub fn env(&self) -> &Env {
        &self.local.env
    }

    /// Invokes the function with this logical id and returns its answer.
    /// # Errors
    /// Returns an error when there is no such function, or when it fails.
    pub async fn invoke(&self, logical_id: &str, payload: Value) -> Result<Value, Failure> {
        let function = Function::named(logical_id);
        let function = function.ok_or_else(|| Failure::Error(format!("there is no function {logical_id}")))?;
        self.local.functions.invoke(function, payload).await
    }

    /// Invokes the scheduled functions now.
    /// # Errors
    /// Returns an error when a function fails.
    pub async fn sweep_now(&self) -> Result<(), Failure> {
        for schedule in &self.local.deployment.schedules {
            schedule::call(&self.local, schedule).await?;
        }
        Ok(())
    }

    /// Whether all work is done, except for dead letters, messages that a delay queue has not delivered yet, and work
    /// that only the schedule finds.
    /// # Errors
    /// Returns an error when the journal cannot be read.
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
        // A worker may have written to the table after the first check and before its last message was deleted.
        Ok(!pace.stream || stream::is_at_end(&self.local))
    }

    /// Stops the service. No new work starts; running work may take up to a function's timeout.
    pub async fn stop(mut self) {
        // Workers first: their work needs the bus, the stand-ins and the table.
        self.stop_workers.send_replace(true);
        let workers = async { while self.workers.join_next().await.is_some() {} };
        if timeout(GRACE, workers).await.is_err() {
            tracing::warn!("some work did not finish in time");
            self.workers.abort_all();
        }
        self.stop_server.send_replace(true);
        if timeout(HANG_UP, &mut self.server).await.is_err() {
            self.server.abort();
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

/// The URL at which this machine reaches `listener`.
fn url_of(listener: &TcpListener, host: IpAddr, port: u16) -> Result<String, StartError> {
    let mut address = SocketAddr::new(host, port);
    address = listener.local_addr().map_err(|problem| StartError::Listen { address, problem })?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(format!("http://{address}"))
}

/// Creates the data directory and locks it, so that no other service uses it.
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

/// The queues whose URLs functions need, by environment variable.
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

/// The functions' settings: the given ones, and local defaults for the rest.
fn settings(env: Env, url: &str, data: Option<&Path>, pace: &Pace) -> Result<Env, StartError> {
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
        ("DELAY_SECONDS", pace.delay.as_secs().to_string()),
        ("GRACE_SECONDS", "20".to_owned()),
        ("RETRY_SECONDS", "1".to_owned()),
    ];
    let defaults = defaults.into_iter().map(|(name, value)| (name.to_owned(), value));
    let defaults = defaults.chain(queues).chain(endpoints).chain(secrets);
    Ok(defaults.fold(env, |env, (name, value)| env.with_default(&name, value)))
}

/// SDK settings for a local endpoint: plain HTTP and arbitrary credentials.
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

/// The functions' own DynamoDB timeouts, multiplied by `slack`.
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

/// Bus and queues do not deduplicate, so a slow machine must not cause an SDK retry.
fn long_timeouts() -> TimeoutConfig {
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

/// Starts the background workers.
fn start_workers(local: &Arc<Local>, stop: &Stop) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for poller in Poller::all(local) {
        workers.spawn(poller.run(stop.clone()));
    }
    if local.pace.stream {
        for reader in Reader::all(local) {
            workers.spawn(reader.run(stop.clone()));
        }
    }
    if local.pace.schedule {
        workers.spawn(schedule::run(Arc::clone(local), stop.clone()));
    }
    tracing::debug!(at = clock::text(clock::now()), workers = workers.len(), "started");
    workers
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
    async fn an_event_reaches_every_target_and_the_service_becomes_idle() {
        let service = Service::start(quick()).await.unwrap();
        let entry = json!({"Source": "shop", "DetailType": "account.cleared", "Detail": "{\"user_id\":\"ada\"}"});
        let answer = put_events(&service.local, &json!({"Entries": [entry]})).unwrap();
        assert_eq!(answer["FailedEntryCount"], 0);
        let journal = &service.local.journal;
        let left = || {
            journal.count("ConversionFunction", false).unwrap() + journal.count("ConversionDelayQueue", false).unwrap()
        };
        eventually("both targets handled the event", || left() == 0).await;
        eventually("the service is idle", || service.idle().unwrap()).await;
        service.sweep_now().await.unwrap();
        service.stop().await;
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_in_the_error() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let problem = Service::start(Options { port, ..quick() }).await.err().unwrap();
        assert_eq!(problem.to_string(), format!("port {port} is in use; try --port 0"));
    }

    #[tokio::test]
    async fn only_one_service_can_use_a_data_directory() {
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
