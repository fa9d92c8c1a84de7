//! The second form of a history: over real sockets, with the SDK's own HTTP client, retries and timeouts, through a
//! proxy that breaks calls, in front of the embedded DynamoDB.
//!
//! Bus, queues and subsystems are the same models, behind the same proxy; the stream is the embedded DynamoDB's. Time is
//! real while anything is under way. A seed gives the plan and the places of the faults; what gets in between what is
//! the machine's doing, and another time it may be another.

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

use self::{caller::Naming, relay::Relay, table::Line};
use crate::{
    Arguments, carry_out_all, clock,
    faults::Faults,
    history,
    plan::Plan,
    print, report,
    rig::{FUNCTIONS, Lines, Rig, VARIANTS},
    state::State,
};

/// Why no history can be carried out: nothing that the functions did.
pub(crate) type Trouble = Box<dyn Error + Send + Sync>;

/// The functions and a proxy, for one history after another, on a thread of their own.
pub(crate) struct Place {
    runtime: Runtime,
    rig: Rig,
    relay: Relay,
    definition: Definition,
}

impl Place {
    /// Starts the functions and the proxy on this thread.
    pub(crate) fn start() -> Result<Self, Trouble> {
        clock::be_real();
        let relay = Relay::default();
        log::keep(&relay.shared);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let lines = Lines {
            url: format!("http://{}", listener.local_addr()?),
            aws: tls::aws(&Env::default()),
            subsystems: tls::public(),
            credentials: Some(SharedCredentialsProvider::new(Credentials::new("k", "s", None, None, "simulator"))),
            retries: TokenBucket::default,
            before: Some(SharedInterceptor::new(Naming(relay.shared.clone()))),
        };
        let rig = Rig::over(relay.shared.clone(), &lines)?;
        runtime.spawn(relay.clone().serve(listener));
        Ok(Self { runtime, rig, relay, definition: Definition::read()? })
    }

    /// Carries out the history of this seed.
    pub(crate) fn carry_out(&self, seed: u64) -> Result<State, Trouble> {
        self.carry_out_with(&Plan::draw(seed, VARIANTS.len(), FUNCTIONS.len()), Faults::drawn(seed))
    }

    /// Carries a history out, on a table of its own.
    fn carry_out_with(&self, plan: &Plan, faults: Faults) -> Result<State, Trouble> {
        self.runtime.block_on(async {
            *self.relay.line.lock().await = Some(Line::open(&self.definition).await?);
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

/// A place, or the end of the program: without sockets and tables there is nothing to be found out.
fn place() -> Place {
    Place::start().unwrap_or_else(|problem| give_up(&problem))
}

fn give_up(problem: &Trouble) -> ! {
    eprintln!("no history can be carried out: {problem}");
    std::process::exit(2)
}

pub(crate) fn simulate(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (figures, failed) = carry_out_all(arguments, arguments.at_once, || {
        let place = place();
        move |seed| place.carry_out(seed).unwrap_or_else(|problem| give_up(&problem))
    });
    match failed {
        Some((seed, state)) => told(seed, &state),
        None => report(&figures, began.elapsed(), arguments.hits),
    }
}

/// Carries one history out, and tells it.
pub(crate) fn tell(seed: u64) -> ExitCode {
    told(seed, &place().carry_out(seed).unwrap_or_else(|problem| give_up(&problem)))
}

/// Another time it may go another way, so what is told is what happened.
fn told(seed: u64, state: &State) -> ExitCode {
    let violations = state.oracle.violations();
    print(&Plan::draw(seed, VARIANTS.len(), FUNCTIONS.len()), state, violations);
    println!("the same plan again: cargo run -p tests --bin simulate -- --proxy --tell --seed {seed}");
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
