//! A function as a process: started as Lambda starts it, and looked at from outside.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    Trouble,
    runtime_api::{Idle, PATIENCE, RuntimeApi},
    steps::Step,
    store::{Line, SUBSYSTEM, Traffic},
};

/// A function's binary, or what else runs one.
#[derive(Clone, Default)]
pub(crate) struct Function {
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Settings of its own, beside those that every function of the step has.
    pub(crate) settings: HashMap<String, String>,
    /// Where it runs; here, unless said.
    pub(crate) folder: Option<PathBuf>,
}

impl Function {
    /// The function of a step, in a folder as SAM or as cargo leaves it.
    pub(crate) fn of(folder: &Path, step: &Step) -> Result<Self, Trouble> {
        Self::named(folder, step.function, &step.logical_id())
    }

    /// The function by its binary's name and its logical id.
    pub(crate) fn named(folder: &Path, name: &str, logical_id: &str) -> Result<Self, Trouble> {
        let places = [folder.join(logical_id).join("bootstrap"), folder.join(name)];
        let found = places.iter().find(|path| path.is_file());
        let binary = found.ok_or_else(|| format!("there is no {name} in {}", folder.display()))?;
        Ok(Self { binary: binary.canonicalize()?, ..Self::default() })
    }

    pub(crate) fn size(&self) -> Result<u64, Trouble> {
        Ok(fs::metadata(&self.binary)?.len())
    }
}

/// A process that waits for an invocation; it is killed when dropped.
pub(crate) struct Running {
    child: Child,
    api: RuntimeApi,
    idle: Option<Idle>,
    pub(crate) line: Line,
    /// From `exec` until it asked for its first invocation.
    pub(crate) start: Cost,
}

/// What something took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// What a call took, and what it had carried.
pub(crate) struct Call {
    pub(crate) cost: Cost,
    pub(crate) traffic: Traffic,
}

impl Call {
    /// Its time beyond what the store took, which is the same for all.
    pub(crate) fn excess(&self) -> Duration {
        self.cost.wall.saturating_sub(self.traffic.waited)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Running {
    /// Starts the function, under `wrapper` if there is one, and waits until it has nothing to do.
    pub(crate) async fn start(
        function: &Function,
        wrapper: &[String],
        settings: &HashMap<String, String>,
        line: Line,
    ) -> Result<Self, Trouble> {
        let mut api = RuntimeApi::start().await?;
        let words = [wrapper, &[function.binary.display().to_string()], &function.arguments].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().envs(settings).envs(endpoints(settings, &line));
        command.envs(lambda(&api.address)).env("AWS_SESSION_TOKEN", "t".repeat(SESSION_TOKEN));
        command.envs(&function.settings);
        if let Some(folder) = &function.folder {
            command.current_dir(folder);
        }
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let idle = api.idle().await?;
        let start = Cost { wall: idle.since - began, cpu: cpu(child.id())? };
        Ok(Self { child, api, idle: Some(idle), line, start })
    }

    /// Has it work on this event, until it asks for the next; whatever but success is trouble.
    pub(crate) async fn call(&mut self, event: &str) -> Result<Call, Trouble> {
        self.call_within(PATIENCE, event).await
    }

    /// The same with so much time for it, which it is told. It can be called again even if it fails.
    pub(crate) async fn call_within(&mut self, limit: Duration, event: &str) -> Result<Call, Trouble> {
        let (said, call) = self.ask(limit, event).await?;
        is_success(&said).map(|()| call)
    }

    /// The same, with what it answered, be it success or not.
    pub(crate) async fn ask(&mut self, limit: Duration, event: &str) -> Result<(Value, Call), Trouble> {
        let idle = self.idle.take().ok_or("it still works on another event")?;
        let before = cpu(self.child.id())?;
        self.line.begin();
        let began = Instant::now();
        let answer = self.api.invoke(idle, event.to_owned(), limit).await;
        self.idle = Some(self.api.idle().await?);
        let answer = answer?;
        let cost = Cost { wall: answer.at - began, cpu: cpu(self.child.id())?.saturating_sub(before) };
        Ok((serde_json::from_slice(&answer.body)?, Call { cost, traffic: self.line.traffic() }))
    }

    /// Waits until it sleeps. It asks for its next invocation before it has put the last one away, and on a busy machine
    /// long before.
    pub(crate) async fn settle(&self) -> Result<(), Trouble> {
        let mut sleeping = 0;
        for _ in 0..10_000 {
            sleeping = if is_asleep(&self.child)? { sleeping + 1 } else { 0 };
            if sleeping == 3 {
                return Ok(());
            }
            sleep(Duration::from_millis(2)).await;
        }
        Err("it does not come to rest".into())
    }

    /// Its number among processes.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it had, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Trouble> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Ends it as Lambda does, by a signal that may be caught, and waits until it is gone.
    pub(crate) async fn end(mut self) -> Result<(), Trouble> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        for _ in 0..1000 {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err("it does not end".into())
    }
}

/// Whether the function says that all went well.
fn is_success(said: &Value) -> Result<(), Trouble> {
    let is_refused = said["statusCode"].as_u64().is_some_and(|status| status >= 400);
    let is_given_back = said["batchItemFailures"].as_array().is_some_and(|failures| !failures.is_empty());
    if is_refused || is_given_back { Err(format!("it answered {said}").into()) } else { Ok(()) }
}

/// Whether all of its threads wait for something.
fn is_asleep(child: &Child) -> Result<bool, Trouble> {
    for task in fs::read_dir(format!("/proc/{}/task", child.id()))? {
        // A thread may end while its siblings are looked at.
        let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
        // After the program's name, in brackets, comes the state; anything but S runs or could.
        if stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('S')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The processor's time that all of its threads have had, and those of its children.
fn cpu(process: u32) -> Result<Duration, Trouble> {
    let (mut nanos, mut children) = (0, Duration::ZERO);
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while its siblings are looked at.
        let task = task?.path();
        let spent = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        nanos += spent.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        let ids = fs::read_to_string(task.join("children")).unwrap_or_default();
        children += ids.split_whitespace().filter_map(|id| cpu(id.parse().ok()?).ok()).sum::<Duration>();
    }
    Ok(Duration::from_nanos(nanos) + children)
}

/// Where the line plays AWS and the subsystems.
fn endpoints(settings: &HashMap<String, String>, line: &Line) -> Vec<(String, String)> {
    let subsystems = settings.keys().filter(|name| name.ends_with("_ENDPOINT"));
    let subsystems = subsystems.map(|name| (name.clone(), format!("{}{SUBSYSTEM}", line.rest)));
    let aws = [("AWS_ENDPOINT_URL_DYNAMODB", &line.dynamodb), ("AWS_ENDPOINT_URL", &line.rest)];
    subsystems.chain(aws.map(|(name, url)| (name.to_owned(), url.clone()))).collect()
}

/// How long the token of Lambda's credentials is, about. Every call to AWS carries it and signs it.
const SESSION_TOKEN: usize = 1000;

/// What Lambda sets.
fn lambda(api: &str) -> [(&'static str, &str); 8] {
    [
        ("AWS_LAMBDA_RUNTIME_API", api),
        ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "measured"),
        ("AWS_SECRET_ACCESS_KEY", "measured"),
    ]
}
