//! The `local` command: parses flags, starts the local service, prints what to try, and stops on Ctrl-C.

use std::{
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use local::{Options, Service};
use referrals::runtime::{Env, Misconfigured};
use tracing::Level;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Runs the referral service on this machine: everything in template.yaml, on an embedded DynamoDB.
#[derive(Parser)]
#[command(name = "local", version, after_help = VARIABLES)]
struct Arguments {
    /// Port of the API, the event bus and the stand-in endpoints; 0 picks a free port.
    #[arg(long, env = "PORT", default_value_t = 9000)]
    port: u16,
    /// Port of the embedded DynamoDB; 0 picks a free port.
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    dynamodb_port: u16,
    /// Directory for the table, queues and secrets, so that they survive a restart. In memory if not set.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on. Any other address than loopback exposes the service: it does not authenticate callers.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
}

const VARIABLES: &str = "\
Environment variables (the same as those of the deployed functions), with defaults:
  QUALIFYING_EVENT         event that converts a referral    order.completed
  QUALIFYING_EVENTS        events that report orders (list)  QUALIFYING_EVENT
  MINIMUM_AMOUNT           minimum order, in minor units     0
  CURRENCY                 currency of orders and rewards    USD
  HOLD_SECONDS             from conversion to rewards        0
  REFERRER_REWARD_TYPE     credit, coupon or points          credit
  REFERRER_REWARD_AMOUNT   in minor units, or points         1000
  REFEREE_REWARD_TYPE      credit, coupon or points          credit
  REFEREE_REWARD_AMOUNT    in minor units, or points         1000
  ATTRIBUTION_WINDOW_DAYS  how long a visit counts           90
  NEW_WITHIN_DAYS          how long a user is new (0: always) 0
  ORDER_LEAD_SECONDS       how old an order at a sign-up may be  900
  LANDING_URL              where links redirect to           a page of this service
  LANDING_CODE_PARAMETER   adds the code to LANDING_URL      not added
  CREDIT_ENDPOINT          receives credit rewards           a stand-in in this service
  COUPON_ENDPOINT          receives coupon rewards           a stand-in in this service
  POINTS_ENDPOINT          receives points rewards           a stand-in in this service
  WEBHOOK_SECRET           signs reward calls (whsec_...)    random
  COOKIE_KEY               signs the cookie (32+ bytes)      random
  COOKIE_DOMAIN            domain of the cookie              this host only
  FINGERPRINT_KEY          hashes device fingerprints        random
  RETRY_SECONDS            first delivery retry delay        1
  SUBSYSTEM_TIMEOUT_SECONDS  wait for a delivery's answer    5
  GRACE_SECONDS            until it announces rewards again  20
  CACHE_URL                code cache (redis://HOST:PORT)    in-process only
  CACHE_TIMEOUT_MS         timeout of that cache             10
  INCOMING_QUEUE           true: accept events from SQS too  false
  LOG_LEVEL                log level (standard error)        WARN

Operator API (deployed behind a separate API with its own authorizer):
  GET /admin/rewards?status={issued|failed}              undelivered rewards, or permanently failed ones
  POST /admin/rewards/{reward_id}/resend                 send a reward again
  GET /admin/reversals?status={issued|failed}            undelivered reversals, or permanently failed ones
  POST /admin/reversals/{reversal_id}/resend             send a reversal again
  GET /admin/dead-letters                                messages in dead-letter queues
  PATCH /admin/codes/{code}                              disable a code: {\"disabled\": true}
  GET /admin/programs/default/daily                      counts by day; also referrers?period=all and cohorts
  GET /admin/liability                                   rewards owed now; all of these also as CSV (format=csv)
  GET /dashboard                                         a web page that shows all of this

Inspect a running service:
  GET /_local/live         page that plays a referral's life cycle and shows what happens
  GET /_local/deliveries   calls that the stand-in endpoints received; ?after=N skips the first N
  GET /_local/events       events published on the bus; ?after=N skips the first N
  GET /_local/parked       messages that need an operator: quarantined and dead letters
  PUT /_local/subsystems/{credit|coupon|points}/script   {\"answers\": [500, 500], \"delay_ms\": 0}";

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let env = Env::process();
    start_log(&env)?;
    let Arguments { port, dynamodb_port, data, host } = arguments;
    // Registered before the service starts, so that an early Ctrl-C is not lost.
    let shutdown = shutdown_signal()?;
    let service = Service::start(Options { host, port, dynamodb_port, data, env, ..Options::default() }).await?;
    // An error means that no process reads standard output, which is no reason to stop.
    drop(print_instructions(&service));
    shutdown.await;
    eprintln!("stopping; press Ctrl-C again to stop at once");
    tokio::select! {
        () = service.stop() => {}
        () = shutdown_signal()? => {}
    }
    Ok(())
}

/// Writes log lines to standard error: standard output carries only what this command prints.
fn start_log(env: &Env) -> Result<(), Misconfigured> {
    let level = env.parsed("LOG_LEVEL", Level::WARN)?;
    // The embedded DynamoDB logs a warning for every failed condition, but this service expects failed conditions.
    let targets = Targets::new().with_default(level).with_target("dynoxide", level.min(Level::ERROR));
    let lines = tracing_subscriber::fmt::layer().compact().with_writer(io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
    Ok(())
}

/// Resolves on SIGINT or SIGTERM.
#[cfg(unix)]
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}

/// Prints all addresses and example commands.
fn print_instructions(service: &Service) -> io::Result<()> {
    let (url, env) = (service.url(), service.env());
    let table = env.get("TABLE_NAME").unwrap_or_default();
    let secret = env.get("WEBHOOK_SECRET").unwrap_or_default();
    let bus = env.get("BUS_NAME").unwrap_or_default();
    let event = env.get("QUALIFYING_EVENT").unwrap_or("order.completed");
    let currency = env.get("CURRENCY").unwrap_or("USD");
    let mut out = io::stdout().lock();
    writeln!(out, "ready {url}")?;
    writeln!(out, "DynamoDB {} table {table}", service.dynamodb_url())?;
    writeln!(out, "webhook secret {secret}")?;
    writeln!(out, "in a browser: {url}/_local/live (play a referral's life cycle), {url}/dashboard (for operators)")?;
    write!(
        out,
        r#"
# Ada, a member, gets a code. Paste this into another terminal.
curl -s -X PUT {url}/v1/users/ada/code -H 'Content-Type: application/json' -d '{{"code":"ada-invites"}}'

# Bob opens her link. A cookie stores the visit.
curl -s -o /dev/null -w '%{{http_code}} to %{{redirect_url}}\n' -c cookies.txt {url}/r/ada-invites

# Bob signs up. The product's server forwards his cookie.
curl -s -b cookies.txt {url}/v1/referrals -H 'Content-Type: application/json' -d '{{"referee_id":"bob"}}'

# Bob's first order: an event on the bus.
curl -s {url}/ -H 'X-Amz-Target: AWSEvents.PutEvents' -H 'Content-Type: application/x-amz-json-1.1' -d '{{
  "Entries": [{{ "EventBusName": "{bus}", "Source": "shop", "DetailType": "{event}",
    "Detail": "{{\"order_id\":\"o-1\",\"user_id\":\"bob\",\"amount\":4200,\"currency\":\"{currency}\"}}" }}] }}'

# A moment later both have their rewards, and each reward was sent once.
sleep 2
curl -s {url}/v1/referrals/bob
curl -s {url}/_local/deliveries

Press Ctrl-C to stop.
"#
    )?;
    out.flush()
}
