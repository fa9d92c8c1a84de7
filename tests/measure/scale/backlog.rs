//! A backlog: what each of many that wait costs, and so how long they take.

use std::{fmt::Write, path::Path, time::Duration};

use local::Service;
use referrals::{referral::Status, store::Store as Referrals, table::WORK_SHARDS};
use serde_json::Value;

use super::{
    growth::grouped,
    on,
    population::{Cast, Population, Settled, Stand, serve, shard},
};
use crate::{
    Trouble, callgrind,
    function::{Function, Running},
    scratch::Scratch,
    store::{Exchange, Line, Store, settings},
};

/// A tenth of so many are due, all in one partition, so that no more are under way at once than an emulated processor copes
/// with; and the referrals that a batch of the stream is about are of so many.
const FEW: usize = 400;

/// What one of many costs.
#[derive(Clone, Copy, Default)]
struct Each {
    round_trips: f64,
    write_units: f64,
    read_units: f64,
    instructions: f64,
}

/// What a call costs.
async fn cost(function: &Function, store: &Store) -> Result<Each, Trouble> {
    Ok(Each {
        round_trips: store.first.round_trips as f64,
        write_units: store.first.write_units,
        read_units: store.first.read_units,
        instructions: callgrind::warm(function, store).await? as f64,
    })
}

impl Each {
    /// One of so many, where this is what none costs.
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

/// What the template gives a function.
struct Given {
    seconds: f64,
    megabytes: f64,
}

impl Given {
    /// So long DynamoDB and the bus take for an answer.
    const ROUND_TRIP: f64 = 0.005;
    /// So many instructions a second a whole processor executes, which a function with so much memory has.
    const INSTRUCTIONS: f64 = 2e9;
    const WHOLE: f64 = 1769.0;

    fn of(template: &Value, logical_id: &str) -> Self {
        let properties = [&template["Resources"][logical_id]["Properties"], &template["Globals"]["Function"]];
        let number =
            |name: &str| properties.iter().find_map(|properties| properties[name].as_f64()).unwrap_or_default();
        Self { seconds: number("Timeout"), megabytes: number("MemorySize") }
    }

    /// So many a second, where so many are under way at once and one processor's share does the work.
    fn rate(&self, each: Each, at_once: f64) -> f64 {
        let waiting = each.round_trips * Self::ROUND_TRIP;
        let working = each.instructions / (Self::INSTRUCTIONS * self.megabytes / Self::WHOLE);
        (at_once / (waiting + working)).min(1.0 / working)
    }
}

const HEAD: &str =
    "| each | round trips | write units | read units | thousand instructions | a second |\n|---|--:|--:|--:|--:|--:|\n";

/// The sweep with so many referrals due.
pub(crate) async fn sweep(backlog: usize, functions: &Path) -> Result<String, Trouble> {
    /// Ten partitions with eight under way in each.
    const AT_ONCE: f64 = 80.0;
    let given = Given::of(&local::template()?, "SweepFunction");
    let function = Function::named(functions, "sweep", "SweepFunction")?;
    let [issued, read_again, announced] = swept_few(&function).await?;
    let invocations =
        on(Population::due(backlog), async |service, settled| many(service, settled, &function, &given).await).await?;
    let mut text = include_str!("sweep.md").to_owned() + HEAD;
    text += &issued.row("issued", &given, AT_ONCE);
    text += &read_again.row("issued before, and not yet delivered", &given, AT_ONCE);
    text += &announced.row("announced again", &given, AT_ONCE);
    let rate = given.rate(issued, AT_ONCE);
    let a_minute = rate * (given.seconds - 1.0);
    let _infallible = writeln!(
        text,
        "\nAn invocation has {} seconds, works for all but the last and comes each minute: {} referrals a minute, so {} take {:.1} hours.\n",
        given.seconds,
        grouped(a_minute),
        grouped(backlog),
        backlog as f64 / a_minute / 60.0
    );
    let _infallible = writeln!(
        text,
        "Invocations one after the other, with {} due, each told that it has {} seconds; how far one gets here says nothing, the \
         embedded DynamoDB is slow.\n\n| | looked at | moved | of them moved before | older ones left behind | MB resident |\n\
         |--:|--:|--:|--:|--:|--:|",
        grouped(backlog),
        given.seconds
    );
    for (number, found) in invocations.iter().enumerate() {
        let Invocation { looked_at, moved, twice, overtaken, resident } = found;
        let (looked_at, moved) = (grouped(*looked_at), grouped(*moved));
        let _infallible = writeln!(
            text,
            "| {} | {looked_at} | {moved} | {twice} | {overtaken} | {} |",
            number + 1,
            resident / 1_000_000
        );
    }
    Ok(text)
}

/// What one costs that is issued, read again while it is on its way, and announced again.
async fn swept_few(function: &Function) -> Result<[Each; 3], Trouble> {
    let none = on(Population::due(0), async |service, _| swept(service, function).await).await?;
    let folder = Scratch::new();
    let settled = Population::due_in_one_partition(FEW).settle(folder.path()).await?;
    let due = settled.population.standing(Stand::Due).count();
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

/// What came of one invocation among many that are due.
struct Invocation {
    looked_at: usize,
    moved: usize,
    /// Moved by an earlier one already.
    twice: usize,
    /// Left behind although they had waited for longer than what was moved.
    overtaken: usize,
    resident: u64,
}

async fn many(
    service: &Service,
    settled: &Settled,
    function: &Function,
    given: &Given,
) -> Result<Vec<Invocation>, Trouble> {
    let event = Cast::of(0, 0).event("sweep-schedule")?.to_string();
    let settings = settings(service, "SweepFunction")?;
    let mut running = Running::start(function, &[], &settings, Line::to(service).await?).await?;
    let mut all = vec![false; settled.population.referrals()];
    let mut invocations = Vec::new();
    for _ in 0..3 {
        // Whatever it answers: it is cut short.
        drop(running.call_within(Duration::from_secs_f64(given.seconds), &event).await);
        let exchanges = running.line.take_exchanges();
        let moved: Vec<usize> = exchanges.iter().filter_map(moved).collect();
        let twice = moved.iter().filter(|referee| std::mem::replace(&mut all[**referee], true)).count();
        invocations.push(Invocation {
            looked_at: exchanges.iter().filter_map(|exchange| exchange.answer["Items"].as_array().map(Vec::len)).sum(),
            moved: moved.len(),
            twice,
            overtaken: overtaken(service, &all).await?,
            resident: running.resident()?,
        });
    }
    running.end().await?;
    Ok(invocations)
}

/// Whose referral this call moved, by number.
fn moved(exchange: &Exchange) -> Option<usize> {
    let request = exchange.request();
    let is_done = exchange.operation == "UpdateItem" && exchange.answer["__type"].is_null();
    let key = request["Key"]["pk"]["S"].as_str().filter(|_| is_done)?;
    key.rsplit('-').next()?.parse().ok()
}

/// How many are still due although a later one of their partition was moved. The table tells: a call that was cut off may
/// have done its work.
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

/// The functions behind the stream with so many records waiting.
pub(crate) async fn stream(backlog: usize, records: usize, functions: &Path) -> Result<String, Trouble> {
    let template = local::template()?;
    let mut text = include_str!("stream.md").to_owned();
    text += HEAD;
    let rewards = Feed::of(&template, functions, "rewards", "RewardsFunction")?;
    let analytics = Feed::of(&template, functions, "analytics", "AnalyticsFunction")?;
    let lives = [
        ("attributed", None, Stand::Pending),
        ("converted", Some(Stand::Pending), Stand::Due),
        ("issued", Some(Stand::Due), Stand::OnItsWay),
        ("delivered, both at once", Some(Stand::OnItsWay), Stand::Delivered),
    ];
    let (mut slowest, mut resident) = (Each::default(), [0, 0]);
    for (what, before, after) in lives {
        let (store, each) = rewards.recorded(before, after).await?;
        text += &each.row(what, &rewards.given, 1.0);
        if each.round_trips > slowest.round_trips {
            (slowest, resident) = (each, rewards.played(&store, records).await?);
        }
    }
    let (_, counted) = analytics.recorded(None, Stand::Delivered).await?;
    text += &counted.row("counted by `analytics`", &analytics.given, 1.0);
    text += "\n";
    text += &rewards.drained("rewards", slowest, backlog);
    text += &analytics.drained("analytics", counted, backlog);
    let [early, late] = resident.map(|bytes| bytes as f64 / 1e6);
    let _infallible = writeln!(
        text,
        "\n{} records of conversions, played to one process of `rewards` in batches: {early:.1} MB resident after one in a hundred, \
         {late:.1} MB after all.",
        grouped(records)
    );
    Ok(text)
}

/// A function and what feeds it.
struct Feed {
    function: Function,
    logical_id: &'static str,
    given: Given,
    batch: usize,
    factor: f64,
    /// How old a record may get before it is given up, in seconds.
    age: f64,
}

impl Feed {
    /// An on-demand table begins with four partitions, each a shard of the stream.
    const SHARDS: f64 = 4.0;

    fn of(template: &Value, functions: &Path, name: &str, logical_id: &'static str) -> Result<Self, Trouble> {
        let stream = &template["Resources"][logical_id]["Properties"]["Events"]["Stream"]["Properties"];
        let number = |name: &str| stream[name].as_f64();
        Ok(Self {
            function: Function::named(functions, name, logical_id)?,
            logical_id,
            given: Given::of(template, logical_id),
            batch: usize::try_from(stream["BatchSize"].as_u64().ok_or("the template says no batch")?)?,
            factor: number("ParallelizationFactor").unwrap_or(1.0),
            age: number("MaximumRecordAgeInSeconds").ok_or("the template says no age")?,
        })
    }

    /// A whole batch of this step, each of another referral, done once; and what one record costs.
    async fn recorded(&self, before: Option<Stand>, after: Stand) -> Result<(Store, Each), Trouble> {
        let store = on(Population::due(FEW), async |service, settled| {
            // Those that are counted are ones that nobody has counted before.
            let first = if self.logical_id == "AnalyticsFunction" { FEW } else { 0 };
            let records = (first..first + self.batch)
                .map(|referee| settled.moulds.record(&Cast::of(0, referee), referee, before, after));
            let event = serde_json::json!({"Records": records.collect::<Result<Vec<_>, _>>()?});
            Store::of(&self.function, service, settings(service, self.logical_id)?, event.to_string()).await
        });
        let store = store.await?;
        let each = cost(&self.function, &store).await?.one(self.batch, Each::default());
        Ok((store, each))
    }

    /// Has one process take in so many records, batch after batch; how much it had resident after a part, and after all.
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
            "- `{name}`: {} shards × {} at once: {} records a second; {} take {:.1} hours. It gives records up at the age of {:.0} h, \
             until when it takes in {}.\n",
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
