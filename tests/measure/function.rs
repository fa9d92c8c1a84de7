//! A function as a process: started as Lambda starts it, and measured from outside.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use local::runtime_api::{Idle, PATIENCE, RuntimeApi, variables};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    Trouble,
    steps::Step,
    store::{Line, SUBSYSTEM, Traffic},
};

/// A function's binary, or another command that runs a function.
#[derive(Clone, Default)]
pub(crate) struct Function {
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Settings in addition to those that every function of the step has.
    pub(crate) settings: HashMap<String, String>,
    /// The working directory. `None`: the current one.
    pub(crate) folder: Option<PathBuf>,
}

impl Function {
    /// The function of a step, in a folder that SAM or cargo built.
    pub(crate) fn of(folder: &Path, step: &Step) -> Result<Self, Trouble> {
        Self::named(folder, step.function, &step.logical_id())
    }

    /// The function with this binary name and logical id.
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
    /// From `exec` until the process requested its first invocation.
    pub(crate) start: Cost,
}

/// The time that something took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// The time and the traffic of a call.
pub(crate) struct Call {
    pub(crate) cost: Cost,
    pub(crate) traffic: Traffic,
}

impl Call {
    /// The time of the call without the time of the store, which is the same for all functions.
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
    /// Starts the function, under `wrapper` if there is one, and waits until it requests its first invocation.
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
        command.envs(variables(&api.address)).env("AWS_SESSION_TOKEN", "t".repeat(SESSION_TOKEN));
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

    /// Sends an event and waits until the process requests the next one. Returns an error unless the function succeeded.
    pub(crate) async fn call(&mut self, event: &str) -> Result<Call, Trouble> {
        self.call_within(PATIENCE, event).await
    }

    /// The same with a deadline, which the function receives. It can be called again even if it fails.
    pub(crate) async fn call_within(&mut self, limit: Duration, event: &str) -> Result<Call, Trouble> {
        let (answer, call) = self.ask(limit, event).await?;
        is_success(&answer).map(|()| call)
    }

    /// The same, but returns the answer whether it is a success or not.
    pub(crate) async fn ask(&mut self, limit: Duration, event: &str) -> Result<(Value, Call), Trouble> {
        let idle = self.idle.take().ok_or("the function is still handling another event")?;
        let before = cpu(self.child.id())?;
        self.line.begin();
        let began = Instant::now();
        let answer = self.api.invoke(idle, event.to_owned(), limit).await;
        self.idle = Some(self.api.idle().await?);
        let answer = answer?;
        let cost = Cost { wall: answer.at - began, cpu: cpu(self.child.id())?.saturating_sub(before) };
        Ok((serde_json::from_slice(&answer.body)?, Call { cost, traffic: self.line.traffic() }))
    }

    /// Waits until the process sleeps. It requests its next invocation before it has cleaned up after the last one, on a busy machine
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
        Err("the process does not become idle".into())
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The maximum memory of the process, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Trouble> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Ends the process as Lambda does, by a signal that it can handle, and waits until it has ended.
    pub(crate) async fn end(mut self) -> Result<(), Trouble> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        for _ in 0..1000 {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err("the process does not end".into())
    }
}

/// Returns an error unless the answer says that the function succeeded.
fn is_success(answer: &Value) -> Result<(), Trouble> {
    let is_refused = answer["statusCode"].as_u64().is_some_and(|status| status >= 400);
    let has_failures = answer["batchItemFailures"].as_array().is_some_and(|failures| !failures.is_empty());
    if is_refused || has_failures { Err(format!("the function answered {answer}").into()) } else { Ok(()) }
}

/// Whether all threads of the process are asleep.
fn is_asleep(child: &Child) -> Result<bool, Trouble> {
    for task in fs::read_dir(format!("/proc/{}/task", child.id()))? {
        // A thread may end while the others are examined.
        let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
        // The state follows the program's name in brackets. Every state except S is running or runnable.
        if stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('S')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The CPU time of all threads of a process and of its children.
fn cpu(process: u32) -> Result<Duration, Trouble> {
    let (mut nanos, mut children) = (0, Duration::ZERO);
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while the others are examined.
        let task = task?.path();
        let spent = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        nanos += spent.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        let ids = fs::read_to_string(task.join("children")).unwrap_or_default();
        children += ids.split_whitespace().filter_map(|id| cpu(id.parse().ok()?).ok()).sum::<Duration>();
    }
    Ok(Duration::from_nanos(nanos) + children)
}

/// The endpoints at which the line simulates AWS and the subsystems.
fn endpoints(settings: &HashMap<String, String>, line: &Line) -> Vec<(String, String)> {
    let subsystems = settings.keys().filter(|name| name.ends_with("_ENDPOINT"));
    let subsystems = subsystems.map(|name| (name.clone(), format!("{}{SUBSYSTEM}", line.rest)));
    let aws = [("AWS_ENDPOINT_URL_DYNAMODB", &line.dynamodb), ("AWS_ENDPOINT_URL", &line.rest)];
    subsystems.chain(aws.map(|(name, url)| (name.to_owned(), url.clone()))).collect()
}

/// The approximate length of the session token that Lambda sets. Every call to AWS carries and signs it.
const SESSION_TOKEN: usize = 1000;
