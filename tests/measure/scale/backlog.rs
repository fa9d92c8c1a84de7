//! A backlog: the cost of each waiting referral or record, and so the time that many of them take.

use std::{fmt::Write, path::Path, time::Duration};

use local::Service;
use referrals::{
    referral::Status,
    store::{Store as Referrals, keys::WORK_SHARDS},
};
use serde_json::Value;

use super::{
    growth::grouped,
    on,
    population::{Cast, Filled, Population, Stage, serve, shard},
};
use crate::{
    Trouble, callgrind,
    function::{Function, Running},
    scratch::Scratch,
    store::{Exchange, Line, Store, settings},
};

/// The number of referrals in the table of a small measurement. A tenth of them are due, all in one partition of the index,
/// so that an emulated processor can handle all that are in progress concurrently.
const FEW: usize = 400;

/// The cost of one of many.
#[derive(Clone, Copy, Default)]
struct Each {
    round_trips: f64,
    write_units: f64,
    read_units: f64,
    instructions: f64,
}

/// The cost of a call.
async fn cost(function: &Function, store: &Store) -> Result<Each, Trouble> {
    Ok(Each {
        round_trips: store.first.round_trips as f64,
        write_units: store.first.write_units,
        read_units: store.first.read_units,
        instructions: callgrind::warm(function, store).await? as f64,
    })
}

impl Each {
    /// The cost of one of `of`, given the cost of a call that handles none.
    fn one(self, of: usize, none: Self) -> Self {
        let one = |all: f64, none: f64| (all - none) / of as f64;
        Self {
            round_trips: one(self.round_trips, none.round_trips),
            write_units: one(self.write_units, none.write_units),
            read_units: one(self.read_units, none.read_units),
            instructions: one(self.instructions, none.instructions),
        }
    }

    fn row(self, what: &str, given: &Given, at_once: f64) -> String {
        format!(
            "| {what} | {:.2} | {:.2} | {:.2} | {:.0} | {} |\n",
            self.round_trips,
            self.write_units,
            self.read_units,
            self.instructions / 1000.0,
            grouped(given.rate(self, at_once))
        )
    }
}

/// The resources that the template gives a function.
struct Given {
    seconds: f64,
    megabytes: f64,
}

impl Given {
    /// The assumed time of a round trip to DynamoDB or the bus, in seconds.
    const ROUND_TRIP: f64 = 0.005;
    /// The assumed instructions per second of a whole processor.
    const INSTRUCTIONS: f64 = 2e9;
    /// The memory in MB with which Lambda gives a function a whole processor.
    const WHOLE: f64 = 1769.0;

    fn of(template: &Value, logical_id: &str) -> Self {
        let properties = [&template["Resources"][logical_id]["Properties"], &template["Globals"]["Function"]];
        let number =
            |name: &str| properties.iter().find_map(|properties| properties[name].as_f64()).unwrap_or_default();
        Self { seconds: number("Timeout"), megabytes: number("MemorySize") }
    }

    /// The number per second with `at_once` in progress concurrently, all on the function's share of one processor.
    fn rate(&self, each: Each, at_once: f64) -> f64 {
        let waiting = each.round_trips * Self::ROUND_TRIP;
        let working = each.instructions / (Self::INSTRUCTIONS * self.megabytes / Self::WHOLE);
        (at_once / (waiting + working)).min(1.0 / working)
    }
}

const HEAD: &str = "| item | round trips | write units | read units | thousand instructions | per second |\n|---|--:|--:|--:|--:|--:|\n";

/// Measures the sweep with `backlog` due referrals.
pub(crate) async fn sweep(backlog: usize, functions: &Path) -> Result<String, Trouble> {
    /// Ten partitions with eight referrals in progress in each.
    const AT_ONCE: f64 = 80.0;
    let given = Given::of(&local::template()?, "SweepFunction");
    let function = Function::named(functions, "sweep", "SweepFunction")?;
    let [issued, read_again, announced] = swept_few(&function).await?;
    let invocations =
        on(Population::due(backlog), async |service, filled| many(service, filled, &function, &given).await).await?;
    let mut text = include_str!("sweep.md").to_owned() + HEAD;
    text += &issued.row("issued", &given, AT_ONCE);
    text += &read_again.row("issued earlier, not yet delivered", &given, AT_ONCE);
    text += &announced.row("announced again", &given, AT_ONCE);
    let rate = given.rate(issued, AT_ONCE);
    let a_minute = rate * (given.seconds - 1.0);
    let _infallible = writeln!(
        text,
        "\nAn invocation has {} seconds, works until one second before the end, and runs each minute: {} referrals per minute, so {} take {:.1} hours.\n",
        given.seconds,
        grouped(a_minute),
        grouped(backlog),
        backlog as f64 / a_minute / 60.0
    );
    let _infallible = writeln!(
        text,
        "Three invocations in sequence with {} due referrals, each with a deadline of {} seconds. The numbers show the order of \
         processing, not the speed: the embedded DynamoDB is slow.\n\n\
         | invocation | read | processed | of them processed before | older ones left due | MB resident |\n\
         |--:|--:|--:|--:|--:|--:|",
        grouped(backlog),
        given.seconds
    );
    for (number, found) in invocations.iter().enumerate() {
        let Invocation { read, moved, twice, overtaken, resident } = found;
        let (read, moved) = (grouped(*read), grouped(*moved));
        let _infallible =
            writeln!(text, "| {} | {read} | {moved} | {twice} | {overtaken} | {} |", number + 1, resident / 1_000_000);
    }
    Ok(text)
}

/// The cost of one referral that is issued, that is read again while its rewards are on their way, and that is announced again.
async fn swept_few(function: &Function) -> Result<[Each; 3], Trouble> {
    let none = on(Population::due(0), async |service, _| swept(service, function).await).await?;
    let folder = Scratch::new();
    let filled = Population::due_in_one_partition(FEW).fill(folder.path()).await?;
    let due = filled.population.at_stage(Stage::Due).count();
    let service = serve(folder.path(), |_| ()).await?;
    let (issued, read_again) = (swept(&service, function).await?, swept(&service, function).await?);
    service.stop().await;
    let without_grace = |options: &mut local::Options| {
        options.env = std::mem::take(&mut options.env).with("GRACE_SECONDS", "0");
    };
    let service = serve(folder.path(), without_grace).await?;
    let announced = swept(&service, function).await?;
    service.stop().await;
    Ok([issued, read_again, announced].map(|cost| cost.one(due, none)))
}

async fn swept(service: &Service, function: &Function) -> Result<Each, Trouble> {
    let event = Cast::of(0, 0).event("sweep-schedule")?.to_string();
    cost(function, &Store::of(function, service, settings(service, "SweepFunction")?, event).await?).await
}

/// The result of one invocation with many due referrals.
struct Invocation {
    read: usize,
    moved: usize,
    /// Referrals that an earlier invocation had moved already.
    twice: usize,
    /// Referrals that are still due although they had waited for longer than a referral that was moved.
    overtaken: usize,
    /// In bytes.
    resident: u64,
}

async fn many(
    service: &Service,
    filled: &Filled,
    function: &Function,
    given: &Given,
) -> Result<Vec<Invocation>, Trouble> {
    let event = Cast::of(0, 0).event("sweep-schedule")?.to_string();
    let settings = settings(service, "SweepFunction")?;
    let mut running = Running::start(function, &[], &settings, Line::to(service).await?).await?;
    let mut all = vec![false; filled.population.referrals()];
    let mut invocations = Vec::new();
    for _ in 0..3 {
        // The answer does not matter, because the invocation is cut short.
        drop(running.call_within(Duration::from_secs_f64(given.seconds), &event).await);
        let exchanges = running.line.take_exchanges();
        let moved: Vec<usize> = exchanges.iter().filter_map(moved).collect();
        let twice = moved.iter().filter(|referee| std::mem::replace(&mut all[**referee], true)).count();
        invocations.push(Invocation {
            read: exchanges.iter().filter_map(|exchange| exchange.answer["Items"].as_array().map(Vec::len)).sum(),
            moved: moved.len(),
            twice,
            overtaken: overtaken(service, &all).await?,
            resident: running.resident()?,
        });
    }
    running.end().await?;
    Ok(invocations)
}

/// The number of the referee whose referral this call moved.
fn moved(exchange: &Exchange) -> Option<usize> {
    let request = exchange.request();
    let is_done = exchange.operation == "UpdateItem" && exchange.answer["__type"].is_null();
    let key = request["Key"]["pk"]["S"].as_str().filter(|_| is_done)?;
    key.rsplit('-').next()?.parse().ok()
}

/// The number of referrals that are still due although a later one of their partition was moved. The table decides, because a
/// call that was cut off may have done its work.
async fn overtaken(service: &Service, moved: &[bool]) -> Result<usize, Trouble> {
    let store = Referrals::new(&service.dynamodb(), service.env().required("TABLE_NAME")?);
    let partition = |referee: usize| shard(&Cast::of(0, referee).referee) as usize;
    let mut latest = [0; WORK_SHARDS as usize];
    for (referee, _) in moved.iter().enumerate().filter(|(_, moved)| **moved) {
        latest[partition(referee)] = referee;
    }
    let mut left = 0;
    for referee in (0..moved.len()).filter(|referee| !moved[*referee] && *referee < latest[partition(*referee)]) {
        let referral = store.referral(&Cast::of(0, referee).referee.parse()?).await?;
        left += usize::from(referral.is_some_and(|referral| referral.status() == Status::Converted));
    }
    Ok(left)
}

/// Measures the functions behind the stream with `backlog` waiting records.
pub(crate) async fn stream(backlog: usize, records: usize, functions: &Path) -> Result<String, Trouble> {
    let template = local::template()?;
    let mut text = include_str!("stream.md").to_owned();
    text += HEAD;
    let rewards = Feed::of(&template, functions, "rewards", "RewardsFunction")?;
    let analytics = Feed::of(&template, functions, "analytics", "AnalyticsFunction")?;
    let lives = [
        ("attributed", None, Stage::Pending),
        ("converted", Some(Stage::Pending), Stage::Due),
        ("issued", Some(Stage::Due), Stage::OnItsWay),
        ("delivered, both rewards at once", Some(Stage::OnItsWay), Stage::Delivered),
    ];
    let (mut slowest, mut resident) = (Each::default(), [0, 0]);
    for (what, before, after) in lives {
        let (store, each) = rewards.recorded(before, after).await?;
        text += &each.row(what, &rewards.given, 1.0);
        if each.round_trips > slowest.round_trips {
            (slowest, resident) = (each, rewards.played(&store, records).await?);
        }
    }
    let (_, counted) = analytics.recorded(None, Stage::Delivered).await?;
    text += &counted.row("counted by `analytics`", &analytics.given, 1.0);
    text += "\n";
    text += &rewards.drained("rewards", slowest, backlog);
    text += &analytics.drained("analytics", counted, backlog);
    let [early, late] = resident.map(|bytes| bytes as f64 / 1e6);
    let _infallible = writeln!(
        text,
        "\n{} records of conversions, sent to one process of `rewards` in batches: {early:.1} MB resident after 1 % of them, \
         {late:.1} MB after all.",
        grouped(records)
    );
    Ok(text)
}

/// A function and its event source.
struct Feed {
    function: Function,
    logical_id: &'static str,
    given: Given,
    batch: usize,
    factor: f64,
    /// The age at which a record expires, in seconds.
    age: f64,
}

impl Feed {
    /// A new on-demand table has four partitions, and each of them a shard in the stream.
    const SHARDS: f64 = 4.0;

    fn of(template: &Value, functions: &Path, name: &str, logical_id: &'static str) -> Result<Self, Trouble> {
        let stream = &template["Resources"][logical_id]["Properties"]["Events"]["Stream"]["Properties"];
        let number = |name: &str| stream[name].as_f64();
        Ok(Self {
            function: Function::named(functions, name, logical_id)?,
            logical_id,
            given: Given::of(template, logical_id),
            batch: usize::try_from(stream["BatchSize"].as_u64().ok_or("the template has no BatchSize")?)?,
            factor: number("ParallelizationFactor").unwrap_or(1.0),
            age: number("MaximumRecordAgeInSeconds").ok_or("the template has no MaximumRecordAgeInSeconds")?,
        })
    }

    /// Processes a whole batch of this step once, with one record per referral; also returns the cost of one record.
    async fn recorded(&self, before: Option<Stage>, after: Stage) -> Result<(Store, Each), Trouble> {
        let store = on(Population::due(FEW), async |service, filled| {
            // `analytics` gets referrals that have not been counted before.
            let first = if self.logical_id == "AnalyticsFunction" { FEW } else { 0 };
            let records = (first..first + self.batch)
                .map(|referee| filled.samples.record(&Cast::of(0, referee), referee, before, after));
            let event = serde_json::json!({"Records": records.collect::<Result<Vec<_>, _>>()?});
            Store::of(&self.function, service, settings(service, self.logical_id)?, event.to_string()).await
        });
        let store = store.await?;
        let each = cost(&self.function, &store).await?.one(self.batch, Each::default());
        Ok((store, each))
    }

    /// Sends `records` records to one process, batch after batch; returns the bytes resident after 1 % of them and after all.
    async fn played(&self, store: &Store, records: usize) -> Result<[u64; 2], Trouble> {
        let line = store.play(Duration::ZERO).await?;
        let mut running = Running::start(&self.function, &[], &store.settings, line).await?;
        let (batches, mut early) = (records / self.batch, 0);
        for batch in 0..batches {
            running.call(&store.event).await?;
            if batch == batches / 100 {
                early = running.resident()?;
            }
        }
        let resident = [early, running.resident()?];
        running.end().await?;
        Ok(resident)
    }

    fn drained(&self, name: &str, each: Each, backlog: usize) -> String {
        let rate = self.given.rate(each, 1.0) * Self::SHARDS * self.factor;
        format!(
            "- `{name}`: {} shards × {} concurrent batches: {} records per second; {} take {:.1} hours. Records expire after {:.0} h; \
             until then it processes {}.\n",
            Self::SHARDS,
            self.factor,
            grouped(rate),
            grouped(backlog),
            backlog as f64 / rate / 3600.0,
            self.age / 3600.0,
            grouped(rate * self.age)
        )
    }
}
