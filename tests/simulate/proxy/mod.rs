//! Histories over real sockets: with the SDK's own HTTP client, retries and timeouts, through a proxy that breaks
//! calls, with the embedded DynamoDB.
//!
//! The bus, queues and subsystems are the same models, behind the same proxy; the stream is the embedded DynamoDB's.
//! Time is real while anything runs. A seed determines the plan and the faults, but the interleaving depends on the
//! machine and can differ between runs.

mod caller;
mod http;
mod log;
mod relay;
mod table;
#[cfg(test)]
mod tests;

use std::{error::Error, net::Ipv4Addr, process::ExitCode, time::Instant};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_dynamodb::config::retry::TokenBucket;
use aws_smithy_runtime_api::client::interceptors::SharedInterceptor;
use local::Definition;
use referrals::{aws::tls, runtime::Env};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

use self::{caller::InvocationHeader, relay::Proxy, table::TableConnection};
use crate::{
    Arguments, clock,
    faults::{Faults, Kind},
    history,
    plan::Plan,
    print, report,
    rig::{Connections, FUNCTIONS, Rig, VARIANTS},
    run_all,
    state::State,
};

/// Why histories cannot be run; not caused by the functions under test.
pub(crate) type SetupError = Box<dyn Error + Send + Sync>;

/// The functions and a proxy, which run histories one at a time on one thread.
pub(crate) struct Worker {
    runtime: Runtime,
    rig: Rig,
    relay: Proxy,
    definition: Definition,
}

impl Worker {
    /// Starts the functions and the proxy on this thread.
    pub(crate) fn start() -> Result<Self, SetupError> {
        clock::use_real_time();
        let relay = Proxy::default();
        log::capture(&relay.shared);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let connections = Connections {
            url: format!("http://{}", listener.local_addr()?),
            aws: tls::aws(&Env::default()),
            subsystems: tls::public(),
            credentials: Some(SharedCredentialsProvider::new(Credentials::new("k", "s", None, None, "simulator"))),
            retries: TokenBucket::default,
            interceptor: Some(SharedInterceptor::new(InvocationHeader(relay.shared.clone()))),
        };
        let rig = Rig::with_connections(relay.shared.clone(), &connections)?;
        runtime.spawn(relay.clone().serve(listener));
        Ok(Self { runtime, rig, relay, definition: Definition::read()? })
    }

    /// Runs the history of this seed.
    pub(crate) fn run_seed(&self, seed: u64) -> Result<State, SetupError> {
        self.run_plan(&Plan::random(seed, VARIANTS.len(), FUNCTIONS.len()), Faults::random(seed))
    }

    /// Runs a history on a new table.
    fn run_plan(&self, plan: &Plan, faults: Faults) -> Result<State, SetupError> {
        self.runtime.block_on(async {
            *self.relay.line.lock().await = Some(TableConnection::open(&self.definition).await?);
            let mut state = history::run(&self.rig, plan, faults, true).await;
            if let Some(line) = self.relay.line.lock().await.take()
                && let Some(problem) = line.close(&state.table).await?
            {
                state.oracle.fail(problem);
            }
            Ok(state)
        })
    }
}

/// Starts a worker, or exits: without sockets and tables no history can run.
fn worker() -> Worker {
    Worker::start().unwrap_or_else(|problem| give_up(&problem))
}

fn give_up(problem: &SetupError) -> ! {
    eprintln!("cannot run histories: {problem}");
    std::process::exit(2)
}

pub(crate) fn simulate(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (totals, failed) = run_all(arguments, arguments.at_once, || {
        let worker = worker();
        move |seed| worker.run_seed(seed).unwrap_or_else(|problem| give_up(&problem))
    });
    match failed {
        Some((seed, state)) => print_run(seed, &state),
        None => {
            // A history cannot write to the external table.
            let possible: Vec<_> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::OrderFull).collect();
            report(&totals, began.elapsed(), arguments.hits, &possible)
        }
    }
}

/// Runs one history and prints it.
pub(crate) fn replay(seed: u64) -> ExitCode {
    print_run(seed, &worker().run_seed(seed).unwrap_or_else(|problem| give_up(&problem)))
}

/// Prints a history that has run. A second run could differ.
fn print_run(seed: u64, state: &State) -> ExitCode {
    let violations = state.oracle.violations();
    print(&Plan::random(seed, VARIANTS.len(), FUNCTIONS.len()), state, violations);
    println!("replay the plan with: cargo run -p tests --bin simulate -- --proxy --tell --seed {seed}");
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
