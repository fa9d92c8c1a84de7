//! The local service's command: reads flags, starts, says what to try, and ends on Ctrl-C.

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

/// The referral service on this machine: everything that template.yaml deploys, on an embedded DynamoDB.
#[derive(Parser)]
#[command(name = "local", version, after_help = VARIABLES)]
struct Arguments {
    /// Port of the API, the event bus and the stand-ins; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 9000)]
    port: u16,
    /// Port of the embedded DynamoDB; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    dynamodb_port: u16,
    /// Where to keep table, queues and secrets, so that a restart goes on. Without it, all is in memory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on. Anything but the loopback lets others in: nothing here asks who is calling.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
}

const VARIABLES: &str = "\
Environment variables, as the deployed functions have them:
  QUALIFYING_EVENT         what converts a referral          order.completed
  MINIMUM_AMOUNT           least amount, in minor units      0
  CURRENCY                 of orders and rewards             USD
  HOLD_SECONDS             between conversion and rewards    0
  REFERRER_REWARD_TYPE     credit, coupon or points          credit
  REFERRER_REWARD_AMOUNT   in minor units, or points         1000
  REFEREE_REWARD_TYPE      credit, coupon or points          credit
  REFEREE_REWARD_AMOUNT    in minor units, or points         1000
  ATTRIBUTION_WINDOW_DAYS  how long a visit counts           90
  LANDING_URL              where links lead                  a page of this service
  CREDIT_ENDPOINT          who is told of credits            a stand-in of this service
  COUPON_ENDPOINT          who is told of coupons            a stand-in of this service
  POINTS_ENDPOINT          who is told of points             a stand-in of this service
  WEBHOOK_SECRET           signs those calls (whsec_...)     random
  COOKIE_KEY               signs the cookie (32 bytes up)    random
  COOKIE_DOMAIN            of the cookie                     this host alone
  FINGERPRINT_KEY          for device fingerprints           random
  RETRY_SECONDS            first pause of a delivery         1
  GRACE_SECONDS            before a reward is sent again     20
  CACHE_URL                keeps codes (redis://HOST:PORT)   memory alone
  CACHE_TIMEOUT_MS         the wait for that server          10
  INCOMING_QUEUE           true: events by queue as well     false
  LOG_LEVEL                of the log on standard error      WARN

For operators (deployed, behind an API of its own):
  GET /admin/rewards?status={issued|failed}              what was not delivered, or refused for good
  POST /admin/rewards/{reward_id}/resend                 send one again
  GET /admin/dead-letters                                what queues gave up on
  PATCH /admin/codes/{code}                              end a code: {\"disabled\": true}
  GET /admin/programs/default/daily                      figures by day; also referrers?period=all, and cohorts
  GET /admin/liability                                   what is owed now; all of these with format=csv too
  GET /dashboard                                         a page with all that

A look inside, while it runs:
  GET /_local/live         a page that acts out a referral's life and shows what happens
  GET /_local/deliveries   every call that the stand-ins received; ?after=N leaves out the first N
  GET /_local/events       every event published; ?after=N as well
  GET /_local/parked       what was put aside for a person
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
    // Listened for from here on, so that an early Ctrl-C is not lost.
    let end = end()?;
    let service = Service::start(Options { host, port, dynamodb_port, data, env, ..Options::default() }).await?;
    // Nobody may be reading what we say; that is no reason to end.
    drop(greet(&service));
    end.await;
    eprintln!("stopping; once more to stop at once");
    tokio::select! {
        () = service.stop() => {}
        () = self::end()? => {}
    }
    Ok(())
}

/// Logs for people, apart from what this command says on standard output.
fn start_log(env: &Env) -> Result<(), Misconfigured> {
    let level = env.parsed("LOG_LEVEL", Level::WARN)?;
    // The embedded DynamoDB warns of every condition that is not met, which here is how decisions are made.
    let targets = Targets::new().with_default(level).with_target("dynoxide", level.min(Level::ERROR));
    let lines = tracing_subscriber::fmt::layer().compact().with_writer(io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
    Ok(())
}

/// What ends when somebody wants the service to end.
#[cfg(unix)]
fn end() -> io::Result<impl Future<Output = ()>> {
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
fn end() -> io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}

/// Says where everything is, and what to try.
fn greet(service: &Service) -> io::Result<()> {
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
    writeln!(out, "in a browser: {url}/_local/live for a referral's life, {url}/dashboard for its operators")?;
    write!(
        out,
        r#"
# Ada, a member, gets a code. Paste this into another terminal.
curl -s -X PUT {url}/v1/users/ada/code -H 'Content-Type: application/json' -d '{{"code":"ada-invites"}}'

# Bob opens her link: a cookie remembers it.
curl -s -o /dev/null -w '%{{http_code}} to %{{redirect_url}}\n' -c cookies.txt {url}/r/ada-invites

# Bob signs up, and the product's server passes his cookie on.
curl -s -b cookies.txt {url}/v1/referrals -H 'Content-Type: application/json' -d '{{"referee_id":"bob"}}'

# Bob's first order: an event on the bus.
curl -s {url}/ -H 'X-Amz-Target: AWSEvents.PutEvents' -H 'Content-Type: application/x-amz-json-1.1' -d '{{
  "Entries": [{{ "EventBusName": "{bus}", "Source": "shop", "DetailType": "{event}",
    "Detail": "{{\"order_id\":\"o-1\",\"user_id\":\"bob\",\"amount\":4200,\"currency\":\"{currency}\"}}" }}] }}'

# A moment later, both have their rewards, and the subsystems were called once for each.
sleep 2
curl -s {url}/v1/referrals/bob
curl -s {url}/_local/deliveries

Ctrl-C ends it.
"#
    )?;
    out.flush()
}
