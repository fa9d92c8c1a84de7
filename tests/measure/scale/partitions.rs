//! The capacity of one partition key. DynamoDB gives each key of a table or an index a thousand write and three thousand read
//! units per second, whatever the capacity of the whole table is. The units that an operation consumes of each key are read from
//! its calls.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    fmt::Write,
    time::Duration,
};

use local::Service;
use referrals::store::keys::{BY_REFERRER, REFERRER};
use serde_json::{Value, json};

use super::{Recorded, growth::grouped, population::Cast};
use crate::{Trouble, store::Exchange};

/// The units per second that DynamoDB allows one key.
const LIMIT: Units = Units { writes: 1000.0, reads: 3000.0 };

/// The number of partitions over which the stack spreads items that do not belong to one user.
const SHARDS: u64 = 10;

#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Units {
    writes: f64,
    reads: f64,
}

/// The units that one call consumes of one key.
#[derive(Clone, Debug)]
struct Draw {
    key: String,
    units: Units,
}

/// The units that an operation consumes, by call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    calls: Vec<Vec<Draw>>,
    /// The referee. Every operation has another one, so keys that contain this id are not shared.
    referee: String,
}

/// Loads by operation.
pub(crate) type Loads = BTreeMap<&'static str, Load>;

/// The load of the steps that write.
pub(crate) async fn loads(service: &Service, cast: &Cast, recorded: &[Recorded]) -> Result<Loads, Trouble> {
    let mut loads = Loads::new();
    for Recorded { operation, store, .. } in recorded {
        if matches!(operation.name, "attribute" | "convert" | "issue" | "deliver" | "count") {
            let mut calls = Vec::new();
            // Requests that only the first call of a process sends are the first ones.
            let once = store.exchanges.len().saturating_sub(store.warm.round_trips);
            for exchange in &store.exchanges[once..] {
                calls.extend(draws(service, exchange).await?);
            }
            loads.insert(operation.name, Load { calls, referee: cast.referee.clone() });
        }
    }
    Ok(loads)
}

/// The units that this call consumed, by key. Each inner list is granted or refused as a whole; each item of a batch read is a
/// list of its own.
async fn draws(service: &Service, exchange: &Exchange) -> Result<Vec<Vec<Draw>>, Trouble> {
    let (request, consumed) = (&exchange.request(), &exchange.answer["ConsumedCapacity"]);
    match exchange.operation.as_str() {
        "GetItem" => Ok(vec![vec![read(request, &request["Key"], units(consumed))]]),
        "BatchGetItem" => Ok(batch(service, request).await?.into_iter().map(|read| vec![read]).collect()),
        "PutItem" => Ok(vec![written(service, &request["TableName"], &[&request["Item"]], consumed).await?]),
        "UpdateItem" => Ok(vec![written(service, &request["TableName"], &[&request["Key"]], consumed).await?]),
        "TransactWriteItems" => {
            let parts = request["TransactItems"].as_array().into_iter().flatten();
            let keys =
                parts.map(|part| if part["Put"].is_null() { &part["Update"]["Key"] } else { &part["Put"]["Item"] });
            let keys: Vec<&Value> = keys.collect();
            Ok(vec![written(service, &consumed[0]["TableName"], &keys, &consumed[0]).await?])
        }
        _ => Ok(Vec::new()),
    }
}

fn read(request: &Value, key: &Value, reads: f64) -> Draw {
    Draw { key: name(&request["TableName"], &key["pk"]), units: Units { reads, ..Units::default() } }
}

/// DynamoDB reports the cost of a batch only as a whole, so each item is read again alone.
async fn batch(service: &Service, request: &Value) -> Result<Vec<Draw>, Trouble> {
    let mut draws = Vec::new();
    for (table, asked) in request["RequestItems"].as_object().into_iter().flatten() {
        for key in asked["Keys"].as_array().into_iter().flatten() {
            let get = service.dynamodb().get_item().table_name(table).set_key(Some(item(key)?));
            let get = get.consistent_read(asked["ConsistentRead"] == true);
            let answer =
                get.return_consumed_capacity(aws_sdk_dynamodb::types::ReturnConsumedCapacity::Total).send().await?;
            let reads = answer.consumed_capacity.and_then(|consumed| consumed.capacity_units).unwrap_or_default();
            draws.push(read(&json!({"TableName": table}), key, reads));
        }
    }
    Ok(draws)
}

/// A write consumes units of the item's own key, and of the key in each index that it changes. The items of one transaction are
/// all below one kilobyte, so each has an equal share.
async fn written(service: &Service, table: &Value, keys: &[&Value], consumed: &Value) -> Result<Vec<Draw>, Trouble> {
    let draw = |key: String, writes: f64| Draw { key, units: Units { writes, ..Units::default() } };
    let share = units(&consumed["Table"]) / keys.len() as f64;
    let mut draws: Vec<Draw> = keys.iter().map(|key| draw(name(table, &key["pk"]), share)).collect();
    for (index, consumed) in consumed["GlobalSecondaryIndexes"].as_object().into_iter().flatten() {
        let attribute = if index == BY_REFERRER { REFERRER } else { index };
        let mut places = Vec::new();
        for key in keys {
            let now = service.dynamodb().get_item().table_name(table.as_str().unwrap_or_default());
            let key = json!({"pk": key["pk"], "sk": key["sk"]});
            let now = now.set_key(Some(item(&key)?)).send().await?.item.unwrap_or_default();
            places.extend(now.get(attribute).and_then(|place| place.as_s().ok()).cloned());
        }
        let share = units(consumed) / places.len().max(1) as f64;
        draws.extend(places.into_iter().map(|place| draw(name(&json!(index), &json!({"S": place})), share)));
    }
    Ok(draws.into_iter().filter(|draw| draw.units.writes > 0.0).collect())
}

fn units(consumed: &Value) -> f64 {
    consumed["CapacityUnits"].as_f64().unwrap_or_default()
}

fn item(key: &Value) -> Result<referrals::store::keys::Item, Trouble> {
    Ok(serde_json::from_value::<serde_dynamo::Item>(key.clone())?.into())
}

fn name(table: &Value, key: &Value) -> String {
    format!("{} {}", table.as_str().unwrap_or_default(), key["S"].as_str().unwrap_or_default())
}

impl Load {
    /// The keys that all such operations of one referrer share, with the number of operations per second that each key allows,
    /// the smallest number first.
    fn limits(&self) -> Vec<(String, Units, f64)> {
        let mut keys: BTreeMap<String, Units> = BTreeMap::new();
        for draw in self.calls.iter().flatten().filter(|draw| !draw.key.contains(&self.referee)) {
            let units = keys.entry(draw.key.clone()).or_default();
            units.writes += draw.units.writes;
            units.reads += draw.units.reads;
        }
        let limit = |key: &str, units: Units| {
            let shards = if is_spread(key) { SHARDS as f64 } else { 1.0 };
            shards * (LIMIT.writes / units.writes).min(LIMIT.reads / units.reads)
        };
        let mut limits: Vec<_> =
            keys.into_iter().map(|(key, units)| (key.clone(), units, limit(&key, units))).collect();
        limits.sort_by(|(.., one), (.., other)| one.total_cmp(other));
        limits
    }

    /// The key that the operation with this number uses where the first operation used `key`.
    fn key(&self, key: &str, number: u64) -> String {
        if is_spread(key) {
            let stem = key.trim_end_matches(|digit: char| digit.is_ascii_digit());
            return format!("{stem}{}", number % SHARDS);
        }
        key.replace(&self.referee, &number.to_string())
    }

    /// The same load with `key` spread over `shards` keys.
    fn sharded(&self, key: &str, shards: u64) -> Vec<Self> {
        if shards == 1 {
            return vec![self.clone()];
        }
        (0..shards)
            .map(|shard| {
                let mut load = self.clone();
                for draw in load.calls.iter_mut().flatten().filter(|draw| draw.key == key) {
                    draw.key = format!("{key}#{shard}");
                }
                load
            })
            .collect()
    }
}

/// Whether this is one of the ten keys over which referees are spread.
fn is_spread(key: &str) -> bool {
    ["#DAYS#", "LIABILITY#", " due#"].iter().any(|spread| key.contains(spread))
}

/// The result of a simulated rate of operations, per second.
#[derive(Clone, PartialEq, Debug)]
struct Outcome {
    done: f64,
    failed: f64,
    /// The key that throttled most calls.
    hottest: Option<String>,
}

/// Microseconds of virtual time.
type Micros = u64;

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}

/// The capacity that a key has left.
#[derive(Clone, Copy)]
struct Bucket {
    left: Units,
    at: Micros,
}

impl Bucket {
    /// The most that it can hold: the units of a tenth of a second, because DynamoDB guarantees no burst.
    const FULL: Units = Units { writes: LIMIT.writes / 10.0, reads: LIMIT.reads / 10.0 };

    /// Takes these units if they are available.
    fn take(&mut self, units: Units, now: Micros) -> bool {
        let passed = (now - self.at) as f64 / 1e6;
        self.left = Units {
            writes: (self.left.writes + LIMIT.writes * passed).min(Self::FULL.writes),
            reads: (self.left.reads + LIMIT.reads * passed).min(Self::FULL.reads),
        };
        self.at = now;
        let is_there = self.left.writes >= units.writes && self.left.reads >= units.reads;
        if is_there {
            self.left = Units { writes: self.left.writes - units.writes, reads: self.left.reads - units.reads };
        }
        is_there
    }
}

/// The next call of an operation.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: Micros,
    number: u64,
    call: usize,
    attempt: u32,
}

/// Starts operations evenly at this rate for fifteen seconds, and counts their results after the first five seconds, when the
/// buckets are no longer full. A call is throttled if one of its keys has too little capacity left (an index without capacity
/// throttles writes to its table), and is tried four times, with the pauses of our store.
fn simulate(loads: &[Load], rate: f64) -> Outcome {
    const SECOND: Micros = 1_000_000;
    const ATTEMPTS: u32 = 4;
    let (from, to) = (5 * SECOND, 15 * SECOND);
    let begin = |number: u64| micros(Duration::from_secs_f64(number as f64 / rate));
    let mut buckets: HashMap<String, Bucket> = HashMap::new();
    let mut throttled: BTreeMap<String, u64> = BTreeMap::new();
    let (mut done, mut failed) = (0_u64, 0_u64);
    let mut turns = BinaryHeap::from([Reverse(Turn { at: 0, number: 0, call: 0, attempt: 0 })]);
    while let Some(Reverse(Turn { at, number, call, attempt })) = turns.pop() {
        if call == 0 && attempt == 0 && begin(number + 1) < to {
            turns.push(Reverse(Turn { at: begin(number + 1), number: number + 1, call: 0, attempt: 0 }));
        }
        let load = &loads[usize::try_from(number).unwrap_or_default() % loads.len()];
        let Some(draws) = load.calls.get(call) else {
            done += u64::from((from..to).contains(&at));
            continue;
        };
        match refusing(load, draws, number, at, &mut buckets) {
            None => turns.push(Reverse(Turn { at, number, call: call + 1, attempt: 0 })),
            Some(key) => {
                *throttled.entry(key).or_default() += 1;
                if attempt + 1 < ATTEMPTS {
                    let pause = 40_000 << attempt;
                    turns.push(Reverse(Turn {
                        at: at + pause / 2 + number * 7919 % (pause / 2),
                        number,
                        call,
                        attempt: attempt + 1,
                    }));
                } else {
                    failed += u64::from((from..to).contains(&at));
                }
            }
        }
    }
    let seconds = ((to - from) / SECOND) as f64;
    let hottest = throttled.into_iter().max_by_key(|(_, times)| *times).map(|(key, _)| key);
    Outcome { done: done as f64 / seconds, failed: failed as f64 / seconds, hottest }
}

/// Takes all units of a call, or none; returns the key that has too little capacity left, if there is one.
fn refusing(
    load: &Load,
    draws: &[Draw],
    number: u64,
    now: Micros,
    buckets: &mut HashMap<String, Bucket>,
) -> Option<String> {
    // A key that only this operation uses has enough capacity.
    let shared = draws.iter().filter(|draw| !draw.key.contains(&load.referee) || load.referee.is_empty());
    let mut taken: Vec<(String, Bucket)> = Vec::new();
    for draw in shared {
        let key = load.key(&draw.key, number);
        let full = Bucket { left: Bucket::FULL, at: now };
        let before = taken.iter().rev().find(|(taken, _)| *taken == key).map(|(_, bucket)| *bucket);
        let mut bucket = before.or_else(|| buckets.get(&key).copied()).unwrap_or(full);
        if !bucket.take(draw.units, now) {
            return Some(key);
        }
        taken.push((key, bucket));
    }
    buckets.extend(taken);
    None
}

/// The limits of each step, and the simulation of a popular code.
pub(crate) fn report(loads: &Loads) -> String {
    let mut text = include_str!("partitions.md").to_owned();
    for (operation, load) in loads {
        for (key, units, limit) in load.limits() {
            let _infallible = writeln!(
                text,
                "| {operation} | `{}` | {} | {} | {} |",
                anonymous(&key),
                units.writes,
                units.reads,
                grouped(limit)
            );
        }
    }
    for (operation, title) in
        [("attribute", "Attributions by one code"), ("count", "Counting the attributions of one referrer")]
    {
        if let Some(load) = loads.get(operation) {
            text += &simulated(title, load);
        }
    }
    text
}

/// A key without ids, times and shard numbers.
fn anonymous(key: &str) -> String {
    let key = key.split_once(' ').map_or(key, |(_, key)| key);
    let is_name = |part: &str| part.len() > 3 && part.contains(|letter: char| letter.is_ascii_digit());
    let part = |part| match part {
        part if is_name(part) => "…",
        part if part.len() == 1 => "n",
        part => part,
    };
    key.split('#').map(part).collect::<Vec<_>>().join("#")
}

fn simulated(title: &str, load: &Load) -> String {
    let Some((hottest, _, limit)) = load.limits().into_iter().next() else { return String::new() };
    let mut text = format!(
        "\n### {title}\n\nSimulated rates around the limit of {} per second that follows from the units, then with `{}` spread over \
         2, 3 and 4 keys.\n\n\
         | offered per second | keys | done | failed | throttled most by |\n|--:|--:|--:|--:|---|\n",
        grouped(limit),
        anonymous(&hottest)
    );
    let rates = [0.5, 0.95, 1.0, 1.05, 1.5, 2.0, 4.0].map(|part| (limit * part, 1));
    for (rate, shards) in rates.into_iter().chain([2, 3, 4].map(|shards| (limit * 4.0, shards))) {
        let Outcome { done, failed, hottest } = simulate(&load.sharded(&hottest, shards), rate);
        let _infallible = writeln!(
            text,
            "| {} | {shards} | {} | {} | {} |",
            grouped(rate),
            grouped(done),
            grouped(failed),
            hottest.map_or_else(|| "–".to_owned(), |key| format!("`{}`", anonymous(&key))),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(draws: &[(&str, f64, f64)]) -> Load {
        let draw = |(key, writes, reads): &(&str, f64, f64)| Draw {
            key: (*key).to_owned(),
            units: Units { writes: *writes, reads: *reads },
        };
        Load { calls: vec![draws.iter().map(draw).collect()], referee: "bob".to_owned() }
    }

    #[test]
    fn the_key_with_the_least_capacity_sets_the_limit() {
        let load =
            load(&[("index REFERRER#ada", 1.0, 0.0), ("table USER#ada", 0.0, 1.0), ("table REFEREE#bob", 1.0, 1.0)]);
        let limits = load.limits();
        assert_eq!(
            limits.iter().map(|(key, _, limit)| (key.as_str(), *limit)).collect::<Vec<_>>(),
            [("index REFERRER#ada", 1000.0), ("table USER#ada", 3000.0)]
        );
    }

    #[test]
    fn the_simulation_stops_at_the_limit_of_the_units() {
        let load = load(&[("index REFERRER#ada", 2.0, 0.0), ("table USER#ada", 0.0, 1.0)]);
        let within = simulate(std::slice::from_ref(&load), 495.0);
        assert_eq!((within.failed, within.hottest), (0.0, None));
        let beyond = simulate(std::slice::from_ref(&load), 2000.0);
        assert!((495.0..=505.0).contains(&beyond.done), "{beyond:?}");
        assert_eq!(beyond.hottest.as_deref(), Some("index REFERRER#ada"));
        let spread = simulate(&load.sharded("index REFERRER#ada", 2), 2000.0);
        assert!((990.0..=1010.0).contains(&spread.done), "{spread:?}");
    }

    #[test]
    fn a_spread_key_has_ten_times_the_capacity() {
        let load = load(&[("metrics PROGRAM#default#DAYS#3", 2.0, 0.0)]);
        assert_eq!(load.limits()[0].2, 5000.0);
        let beyond = simulate(std::slice::from_ref(&load), 8000.0);
        assert!((4950.0..=5050.0).contains(&beyond.done), "{beyond:?}");
    }
}
