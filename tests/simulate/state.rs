//! The state of a history: the table, queues, bookings of the subsystems, and a timeline.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fastrand::Rng;
use referrals::referral::{
    Lane, Referral,
    reversal::{Reversal, ReversalStatus},
    reward::{RewardStatus, Side},
};
use serde_json::Value;

use crate::{
    clock,
    faults::{Faults, Kind},
    oracle::{self, Invocation, Oracle},
    table::{DynamoError, Table},
};

/// A message in a queue, or an event in Lambda's internal queue.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) body: String,
    /// When it was sent to the queue.
    pub(crate) sent_at: u64,
    pub(crate) visible_at: u64,
    pub(crate) receives: u32,
    pub(crate) in_progress: bool,
}

/// Names of the queues.
pub(crate) const INVOCATIONS: &str = "ConversionInvocations";
pub(crate) const DELAY: &str = "ConversionDelayQueue";
/// How late the copy of an event is, in milliseconds.
pub(crate) const DELAYED_BY: u64 = 900_000;
pub(crate) const DEAD_LETTERS: &str = "ConversionDeadLetterQueue";
pub(crate) const REWARDS: [(&str, &str); 3] =
    [("credit", "CreditQueue"), ("coupon", "CouponQueue"), ("points", "PointsQueue")];

/// A subsystem's record of one instruction. It is booked once, regardless of the number of calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Booking {
    /// Calls received.
    pub(crate) calls: u32,
    /// What was given, or taken back: a negative amount.
    pub(crate) amount: i64,
}

/// The state of one history.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) table: Table,
    /// Stream records per shard that were not processed yet.
    pub(crate) stream: [Vec<Arc<Value>>; 2],
    pub(crate) queues: BTreeMap<&'static str, Vec<Message>>,
    pub(crate) bookings: BTreeMap<String, Booking>,
    /// The keys that the subsystems refuse.
    pub(crate) refusing: BTreeSet<String>,
    /// The invocations that made calls over sockets; calls carry an index into this list.
    pub(crate) callers: Vec<Invocation>,
    pub(crate) oracle: Oracle,
    /// A readable log of what happened, with times.
    pub(crate) timeline: Vec<(u64, String)>,
    /// Whether the timeline is kept.
    pub(crate) keeps_timeline: bool,
    /// How many stream records were checked.
    checked_records: usize,
    next_id: u64,
}

impl State {
    pub(crate) fn new(seed: u64, faults: Faults, keeps_timeline: bool) -> Self {
        Self {
            rng: Rng::with_seed(seed ^ 0x57A7E),
            faults,
            table: Table::new("referrals").with_late_reads(4),
            stream: [Vec::new(), Vec::new()],
            queues: BTreeMap::new(),
            bookings: BTreeMap::new(),
            refusing: BTreeSet::new(),
            callers: Vec::new(),
            oracle: Oracle::default(),
            timeline: Vec::new(),
            keeps_timeline,
            checked_records: 0,
            next_id: 0,
        }
    }

    /// Random bytes for an invocation.
    pub(crate) fn entropy(&mut self) -> [u8; 16] {
        let mut entropy = [0; 16];
        self.rng.fill(&mut entropy);
        entropy
    }

    /// Puts a message into a queue, visible after `delay` milliseconds.
    pub(crate) fn send(&mut self, queue: &'static str, body: String, now: u64, delay: u64) {
        self.add(queue, body, now, now + delay);
    }

    /// Delivers a message twice.
    pub(crate) fn repeat(&mut self, queue: &'static str, message: &Message, visible_at: u64) {
        self.add(queue, message.body.clone(), message.sent_at, visible_at);
    }

    fn add(&mut self, queue: &'static str, body: String, sent_at: u64, visible_at: u64) {
        self.next_id += 1;
        let message = Message { id: self.next_id, body, sent_at, visible_at, receives: 0, in_progress: false };
        self.queues.entry(queue).or_default().push(message);
    }

    pub(crate) fn log(&mut self, now: u64, what: impl FnOnce() -> String) {
        if self.keeps_timeline {
            self.timeline.push((now, what()));
        }
    }

    /// Applies the rules of the bus: product events go to `conversion` now and again through the delay queue, instructions to the
    /// queue of their type.
    pub(crate) fn route(&mut self, event: &Value, now: u64) {
        let body = event.to_string();
        if event["source"] != "referrals" {
            let late = if self.faults.strikes(Kind::EventDelayed) { self.rng.u64(1_000..30_000) } else { 0 };
            let pause = self.rng.u64(0..40);
            self.send(INVOCATIONS, body.clone(), now, late + pause);
            self.send(DELAY, body, now, DELAYED_BY);
            return;
        }
        let kind = event["detail"]["type"].as_str().unwrap_or_default();
        let queue = REWARDS.iter().find(|(name, _)| *name == kind).map(|(_, queue)| *queue);
        let is_instruction = ["reward.issued", "reward.reversed"].iter().any(|known| event["detail-type"] == *known);
        if let (true, Some(queue)) = (is_instruction, queue) {
            let pause = self.rng.u64(0..40);
            self.send(queue, body, now, pause);
        }
    }

    /// Calls the table on behalf of an invocation. The oracle checks every write, and the stream receives it.
    pub(crate) fn call_table(
        &mut self,
        operation: &str,
        request: &Value,
        by: Option<&Invocation>,
    ) -> Result<Value, DynamoError> {
        self.table.set_now(clock::now().millis());
        if operation == "BatchGetItem" && self.faults.strikes(Kind::BatchCut) {
            self.table.limit_batches(1);
            self.oracle.struck(by.map_or(0, |by| by.id), Kind::BatchCut);
        }
        if operation == "Query" && self.faults.strikes(Kind::IndexLags) {
            self.table.lag_indexes(2);
        }
        let answer = self.table.answer(operation, request);
        self.table.limit_batches(usize::MAX);
        self.table.lag_indexes(0);
        let new = self.table.records()[self.checked_records..].to_vec();
        self.checked_records += new.len();
        for record in new {
            self.written(record, by);
        }
        answer
    }

    /// Queries an index that does not show the last changes yet.
    pub(crate) fn lagging(&mut self, query: &Value) -> Result<Value, DynamoError> {
        self.table.lag_indexes(2);
        let answer = self.table.answer("Query", query);
        self.table.lag_indexes(0);
        answer
    }

    /// Repeats a write to the external table on this model.
    pub(crate) fn apply_record(&mut self, record: Value, by: Option<&Invocation>) {
        if let Err(problem) = self.table.follow(&record) {
            self.oracle.fail(problem);
        }
        self.written(Arc::new(record), by);
    }

    /// Passes a write to the oracle and to the stream.
    fn written(&mut self, record: Arc<Value>, by: Option<&Invocation>) {
        self.log(clock::millis(), || describe(&record));
        if let Some(kind) = self.oracle.written(&record, by) {
            self.faults.note(kind);
        }
        let (pk, sk) = oracle::key(&record);
        if (sk == "REFERRAL" || sk.starts_with("REVERSAL#")) && record["eventName"] != "REMOVE" {
            let shard = pk.bytes().map(usize::from).sum::<usize>() % self.stream.len();
            self.stream[shard].push(record);
        }
    }

    /// Every referral.
    pub(crate) fn referrals(&self) -> Vec<Referral> {
        let items = self.table.items().iter().filter(|(key, _)| key.sk == "REFERRAL");
        items.filter_map(|(_, item)| oracle::referral(&Value::Object(item.clone())).ok()).collect()
    }

    /// Every reversal.
    pub(crate) fn reversals(&self) -> Vec<Reversal> {
        let items = self.table.items().iter().filter(|(key, _)| key.sk.starts_with("REVERSAL#"));
        items.filter_map(|(_, item)| oracle::reversal(&Value::Object(item.clone())).ok()).collect()
    }

    /// Every referral with outstanding work, except decisions of an operator.
    pub(crate) fn outstanding(&self) -> Vec<Referral> {
        let is_outstanding = |referral: &Referral| {
            let has_refused = referral.work().is_some_and(|work| work.lane == Lane::Attention)
                && referral.rewards().is_some_and(|rewards| {
                    Side::BOTH.iter().any(|side| rewards.of(*side).status() == RewardStatus::Failed)
                });
            has_refused || referral.work().is_some_and(|work| work.lane == Lane::Due)
        };
        self.referrals().into_iter().filter(is_outstanding).collect()
    }

    /// Every reversal with outstanding work.
    pub(crate) fn open_reversals(&self) -> Vec<Reversal> {
        let is_open =
            |reversal: &Reversal| matches!(reversal.status(), ReversalStatus::Issued | ReversalStatus::Failed);
        self.reversals().into_iter().filter(is_open).collect()
    }
}

/// A write as a line of the timeline.
fn describe(record: &Value) -> String {
    let (pk, sk) = oracle::key(record);
    let image = &record["dynamodb"]["NewImage"];
    let field =
        |name: &str| image[name].as_object().and_then(|value| value.values().next()).cloned().unwrap_or_default();
    format!("{pk} {sk} written: {} rev {} {} {}", field("status"), field("rev"), field("work"), field("flagged"))
}
