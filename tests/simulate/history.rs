//! Runs a history: a plan over the real handlers, in virtual time, with faults, until no work is left.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use lambda_http::{Body, RequestExt, http};
use lambda_runtime::Error;
use referrals::{
    domain::{adjustments::Adjustments, time::Timestamp},
    referral::{
        Referral, State as Phase,
        reversal::{Reversal, ReversalStatus},
        reward::{RewardStatus, Side},
    },
    runtime::{Call, Deadline},
    store::keys,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    clock,
    faults::{Faults, Kind},
    oracle::{Given, Invocation, ORDER_AMOUNT},
    plan::{Action, Adjust, Dated, Mode, Operate, Plan, Step, USERS},
    rig::{Apps, Rig},
    state::{DEAD_LETTERS, DELAY, INVOCATIONS, REWARDS, State},
};

tokio::task_local! {
    /// The invocation that makes the current call.
    pub(crate) static INVOCATION: Invocation;
}

/// Lambda's limit for a function.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// How long a queue hides a failed message, in milliseconds.
const VISIBILITY_TIMEOUT: u64 = 60_000;
/// The most scheduling rounds of a history; histories that become idle need far fewer.
const MAX_ROUNDS: usize = 5_000;
/// How soon to check again whether the last call has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// An acknowledged event, and when its processing began.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(crate) event: Value,
    pub(crate) began: u64,
}

enum Done {
    /// The client has its answer.
    Answered,
    Queue {
        queue: &'static str,
        batch: Vec<u64>,
        began: u64,
        answer: Option<Value>,
    },
    Stream {
        shard: usize,
        sent: Vec<String>,
        answer: Option<Value>,
    },
    /// Whether the sweep succeeded.
    Swept(bool),
}

type Work<'a> = Pin<Box<dyn Future<Output = Done> + 'a>>;

struct Driver<'a> {
    rig: &'a Rig,
    plan: &'a Plan,
    variant: usize,
    steps: VecDeque<Step>,
    running: FuturesUnordered<Work<'a>>,
    busy: [bool; 2],
    sweep_at: Option<u64>,
    /// How many sweeps failed.
    failed_sweeps: usize,
    /// How many events the product published.
    published: u64,
    acknowledged: Vec<Acknowledged>,
}

/// Runs a plan and returns the final state with everything that happened.
pub(crate) async fn run(rig: &Rig, plan: &Plan, faults: Faults, keeps_timeline: bool) -> State {
    clock::begin();
    // The SDK's retry jitter uses this generator.
    fastrand::seed(plan.seed);
    rig.shared.begin(State::new(plan.seed, faults, keeps_timeline));
    let mut driver = Driver {
        rig,
        plan,
        variant: plan.variant,
        steps: plan.steps.iter().cloned().collect(),
        running: FuturesUnordered::new(),
        busy: [false; 2],
        sweep_at: (plan.mode != Mode::Stream).then_some(1_500),
        failed_sweeps: 0,
        published: 0,
        acknowledged: Vec::new(),
    };
    driver.run_until_idle().await;
    driver.finish_outstanding_work().await;
    let acknowledged = std::mem::take(&mut driver.acknowledged);
    drop(driver);
    let mut state = rig.shared.end().unwrap_or_else(|| unreachable!("a history that began"));
    let mut oracle = std::mem::take(&mut state.oracle);
    oracle.at_rest(&state.referrals(), &state.reversals(), &state.bookings, &acknowledged);
    state.oracle = oracle;
    state
}

impl<'a> Driver<'a> {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        self.rig.shared.with(look)
    }

    /// Runs the plan until only delayed messages are left.
    async fn run_until_idle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            // A call can outlive the invocation that made it and still write.
            let no_calls = self.running.is_empty() && self.rig.shared.is_quiet().await;
            self.start_due_work();
            let next = self.next_due();
            let is_idle = no_calls && self.running.is_empty();
            if is_idle && next.is_none() {
                return;
            }
            let wait = Duration::from_millis(next.map_or(3_600_000, |due| due.saturating_sub(clock::millis()).max(1)));
            let wait = if self.running.is_empty() && !is_idle { wait.min(POLL_INTERVAL) } else { wait };
            tokio::select! {
                biased;
                Some(done) = self.running.next(), if !self.running.is_empty() => self.complete(done),
                () = clock::pass(wait, is_idle) => {}
            }
        }
        self.with(|state| state.oracle.fail("does not become idle"));
    }

    /// Stops injecting faults and gives outstanding work enough time. Operators resend failed rewards.
    async fn finish_outstanding_work(&mut self) {
        self.with(|state| state.faults.end());
        self.failed_sweeps = 0;
        let mut rounds = 0;
        // With real time, a slow machine can make a sweep fail without a fault. Such a sweep does not count.
        while rounds < 40 + self.failed_sweeps.min(200) {
            rounds += 1;
            self.run_until_idle().await;
            if self.with(|state| !state.oracle.violations().is_empty()) {
                return;
            }
            let (outstanding, reversals) = self.with(|state| (state.outstanding(), state.open_reversals()));
            let refused =
                outstanding.iter().flat_map(refused).chain(reversals.iter().filter_map(refused_reversal)).next();
            let is_rest = outstanding.is_empty() && reversals.is_empty();
            let needs_no_sweep = self.plan.mode == Mode::Stream && !outstanding.iter().all(is_held);
            if let Some(path) = refused {
                self.resend(path).await;
            } else if is_rest || needs_no_sweep || (self.plan.mode == Mode::Stream && !reversals.is_empty()) {
                return;
            } else {
                // Longer than the longest grace period and retry delay so far.
                let due = outstanding.iter().filter_map(Referral::work).map(|work| work.at);
                let due = due.chain(reversals.iter().map(|reversal| reversal.due_at)).max();
                let wait = due.map_or(0, |due| due.millis() - clock::now().millis()).max(0);
                let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0)) + Duration::from_secs(601);
                clock::pass(wait, true).await;
                self.running.push(self.sweep());
            }
        }
    }

    fn start_due_work(&mut self) {
        let now = clock::millis();
        while let Some(step) = self.steps.pop_front_if(|step| step.at <= now) {
            self.act(step.action);
            clock::tick();
        }
        for (queue, batch, concurrency) in QUEUES {
            while self.running_of(queue) < concurrency {
                let Some(work) = self.receive(queue, batch) else { break };
                self.running.push(work);
            }
        }
        if self.plan.mode != Mode::Sweep {
            for shard in 0..2 {
                if let Some(work) = self.read_stream(shard) {
                    self.running.push(work);
                }
            }
        }
        if self.sweep_at.is_some_and(|at| at <= now) {
            // While the plan runs, one sweep per grace period; further ones follow at the end.
            let late = self.with(|state| state.faults.strikes(Kind::SweepDelayed));
            let next = (!self.steps.is_empty()).then_some(now + 601_000);
            self.sweep_at = if late { Some(now + 60_000) } else { next };
            if !late {
                self.running.push(self.sweep());
            }
        }
    }

    fn running_of(&self, queue: &str) -> usize {
        self.with(|state| state.queues.get(queue).into_iter().flatten().filter(|message| message.in_progress).count())
    }

    fn next_due(&self) -> Option<u64> {
        let queued = self.with(|state| {
            let waiting = QUEUES.iter().filter_map(|(queue, ..)| state.queues.get(queue)).flatten();
            waiting.filter(|message| !message.in_progress).map(|message| message.visible_at).min()
        });
        [self.steps.front().map(|step| step.at), queued, self.sweep_at].into_iter().flatten().min()
    }

    fn apps(&self) -> &'a Apps {
        &self.rig.variants[self.variant]
    }

    /// How far this function's clock is ahead, in milliseconds.
    fn ahead(&self, function: usize) -> u64 {
        match self.plan.skew {
            // A conversion with a clock that is ahead is due later, so it needs a sweep.
            Some((skewed, ahead)) if skewed == function && (self.plan.mode != Mode::Stream || function != 1) => ahead,
            _ => 0,
        }
    }

    /// The time, random bytes and deadline of an invocation of this function.
    fn call(&self, function: usize) -> Call {
        let ahead = self.ahead(function);
        if ahead > 0 {
            self.with(|state| state.faults.note(Kind::ClockAhead));
        }
        let entropy = self.with(State::entropy);
        Call { now: clock::at(clock::millis() + ahead), entropy, deadline: Deadline::after(LIMIT) }
    }

    // ----- The product ---------------------------------------------------------------------------------------------

    fn act(&mut self, action: Action) {
        self.with(|state| state.log(clock::millis(), || format!("{action:?}")));
        let user = |user: usize| USERS[user];
        match action {
            Action::Mint { user: who } => {
                let body = json!({"code": code(self.plan.seed, who)});
                self.call_api("PUT", format!("/v1/users/{}/code", user(who)), body);
            }
            Action::MintTaken { user: who, owner } => {
                let body = json!({"code": code(self.plan.seed, owner)});
                self.call_api("PUT", format!("/v1/users/{}/code", user(who)), body);
            }
            Action::MintNumber { user: who, number } => {
                let body = json!({"code": numbered_code(self.plan.seed, who, number)});
                self.call_api("PUT", format!("/v1/users/{}/code", user(who)), body);
            }
            Action::EndCode { user: who, number } => self.change_code(who, number, json!({"disabled": true})),
            Action::ReviveCode { user: who, number } => self.change_code(who, number, json!({"expires_at": null})),
            Action::Attribute { referee, referrer } => self.sign_up(referee, referrer, Value::Null),
            Action::AttributeLate { referee, referrer, ago } => {
                self.with(|state| state.faults.note(Kind::SignUpReportedLate));
                self.sign_up(referee, referrer, clock::before(ago).to_string().into());
            }
            Action::AttributeMember { referee, referrer } => {
                self.sign_up(referee, referrer, "2000-01-01T00:00:00Z".into())
            }
            Action::Order { user: who, order } => self.publish_order(who, order, clock::now(), true),
            Action::OrderOfOther { user: who, order } => {
                self.with(|state| state.faults.note(Kind::OrderOfOther));
                self.publish_order(who, order, clock::now(), true);
            }
            Action::Backfill { user: who, order, ago, by_envelope } => {
                self.with(|state| state.faults.note(Kind::OrderBackfilled));
                self.publish_order(who, order, clock::before(ago), by_envelope);
            }
            Action::Adjust { user: who, order, what, names_user } => {
                self.publish_adjustment(names_user.then(|| user(who)), &id(order), what)
            }
            Action::Flag { user: who, dated } => {
                self.publish_flag("account.flagged", json!({"user_id": user(who), "reason": "simulated"}), dated)
            }
            Action::Clear { user: who, dated } => {
                self.publish_flag("account.cleared", json!({"user_id": user(who)}), dated)
            }
            Action::Operate { user: who, what } => self.operate(user(who), what),
            Action::FillOrder { order } => self.fill_order(&id(order)),
            Action::InvalidOrder { user: who } => {
                self.publish_invalid("order.completed", &json!({"order_id": 7, "user_id": user(who)}))
            }
            Action::Settings { variant } => {
                self.with(|state| state.faults.note(Kind::SettingsChanged));
                self.variant = variant;
            }
        }
    }

    fn operate(&mut self, user: &str, what: Operate) {
        self.with(|state| state.faults.note(Kind::OperatorActs));
        let reason = "simulated";
        let (action, body) = match what {
            Operate::Void => ("referrals", json!({"reason": reason})),
            Operate::Reopen => ("referrals", json!({"reason": reason})),
            Operate::Approve => ("reviews", json!({"reason": reason})),
            Operate::Convert { order } => {
                let paid = json!({"order_id": id(order), "amount": ORDER_AMOUNT, "currency": "USD", "reason": reason});
                ("referrals", paid)
            }
        };
        let name = match what {
            Operate::Void => "void",
            Operate::Reopen => "reopen",
            Operate::Approve => "approve",
            Operate::Convert { .. } => "convert",
        };
        self.call_api("POST", format!("/admin/{action}/{user}/{name}"), body);
    }

    /// Writes an order with as many failed refunds as adjustments are kept. With an external table, which this cannot reach, it does
    /// nothing.
    fn fill_order(&mut self, order: &str) {
        if clock::is_real() {
            return;
        }
        let mut item = json!({"pk": {"S": format!("ORDER#{order}")}, "sk": {"S": "ORDER"}});
        for number in 0..Adjustments::MOST {
            item[format!("{}full-{number}", keys::REFUND_FAILED)] = json!({"BOOL": true});
        }
        item[keys::ADJUSTMENTS] = json!({"N": Adjustments::MOST.to_string()});
        self.with(|state| {
            state.faults.note(Kind::OrderFull);
            state.oracle.order_filled(order);
            let put = json!({"TableName": "referrals", "Item": item});
            if let Err(problem) = state.call_table("PutItem", &put, None) {
                state.oracle.fail(format!("{order} cannot be filled: {problem:?}"));
            }
        });
    }

    fn sign_up(&mut self, referee: usize, referrer: usize, signed_up_at: Value) {
        let code = code(self.plan.seed, referrer);
        let body = json!({"referee_id": USERS[referee], "code": code, "signed_up_at": signed_up_at});
        self.call_api("POST", "/v1/referrals".to_owned(), body);
    }

    fn change_code(&mut self, user: usize, number: usize, body: Value) {
        let path = format!("/admin/codes/{}", numbered_code(self.plan.seed, user, number));
        self.call_api("PATCH", path, body);
    }

    /// Publishes an order that was placed at this time, according to its envelope or to `occurred_at`.
    fn publish_order(&mut self, user: usize, order: usize, placed_at: Timestamp, by_envelope: bool) {
        let detail = json!({"order_id": id(order), "user_id": USERS[user], "amount": ORDER_AMOUNT, "currency": "USD"});
        let now = clock::millis();
        let mut event = self.event("order.completed", &detail, now);
        let time = if by_envelope { &mut event["time"] } else { &mut event["detail"]["occurred_at"] };
        *time = placed_at.to_string().into();
        self.with(|state| {
            state.oracle.order_placed(id(order), USERS[user], placed_at);
            state.route(&event, now);
        });
    }

    fn publish_adjustment(&mut self, user: Option<&str>, order: &str, what: Adjust) {
        let now = clock::millis();
        let (kind, mut detail) = match what {
            Adjust::Cancel => ("order.cancelled", json!({})),
            Adjust::Refund { refund, amount } => {
                let detail = json!({"refund_id": format!("r-{refund}"), "amount": amount, "currency": "USD"});
                ("order.refunded", detail)
            }
            Adjust::ForeignRefund { refund } => {
                let detail = json!({"refund_id": format!("r-{refund}"), "amount": ORDER_AMOUNT, "currency": "EUR"});
                ("order.refunded", detail)
            }
            Adjust::RefundFailed { refund } => ("order.refund_failed", json!({"refund_id": format!("r-{refund}")})),
            Adjust::Dispute => ("payment.disputed", json!({"occurred_at": clock::at(now).to_string()})),
            Adjust::DisputeWon => ("payment.dispute_won", json!({"occurred_at": clock::at(now).to_string()})),
        };
        detail["order_id"] = order.into();
        detail["user_id"] = user.into();
        let event = self.event(kind, &detail, now);
        self.with(|state| {
            state.faults.note(Kind::OrderAdjusted);
            if matches!(what, Adjust::ForeignRefund { .. }) {
                state.faults.note(Kind::ForeignRefund);
            }
            if matches!(what, Adjust::RefundFailed { .. } | Adjust::DisputeWon) {
                state.faults.note(Kind::OrderRestored);
            }
            state.oracle.adjustment_published(&event);
            state.route(&event, now);
        });
    }

    fn publish_flag(&mut self, kind: &str, mut detail: Value, dated: Dated) {
        let now = clock::millis();
        let envelope = match dated {
            Dated::Correctly => {
                detail["occurred_at"] = clock::at(now).to_string().into();
                now
            }
            Dated::Ahead(ahead) => {
                self.with(|state| state.faults.note(Kind::ProductClockAhead));
                now + ahead
            }
            Dated::TooFarAhead(ahead) => {
                detail["occurred_at"] = clock::at(now + ahead).to_string().into();
                return self.publish_invalid(kind, &detail);
            }
        };
        let event = self.event(kind, &detail, envelope);
        self.with(|state| {
            state.faults.note(Kind::Flagged);
            state.oracle.flag_published(&event, now);
            state.route(&event, now);
        });
    }

    /// Publishes an event that must be quarantined once.
    fn publish_invalid(&mut self, kind: &str, detail: &Value) {
        let event = self.event(kind, detail, clock::millis());
        self.with(|state| {
            state.faults.note(Kind::InvalidEvent);
            state.oracle.invalid_published(&event);
            state.route(&event, clock::millis());
        });
    }

    /// An event of the product, with this time in its envelope.
    fn event(&mut self, kind: &str, detail: &Value, time: u64) -> Value {
        self.published += 1;
        json!({
            "version": "0", "id": format!("e-{}", self.published), "source": "shop", "detail-type": kind,
            "time": clock::at(time).to_string(), "account": "0", "region": "r", "resources": [], "detail": detail,
        })
    }

    /// Calls the API, or the operators' API, and retries until it answers.
    fn call_api(&mut self, method: &'static str, path: String, body: Value) {
        let (apps, shared) = (self.apps(), self.rig.shared.clone());
        let is_operator = path.starts_with("/admin/");
        // In a mode without sweeps, a conversion must not be due later than now.
        let function = if is_operator && self.plan.mode == Mode::Stream { 1 } else { 0 };
        let (first, ahead) = (self.call(function), self.ahead(function));
        if is_operator {
            self.with(|state| state.oracle.operating(&path));
        }
        self.running.push(Box::pin(async move {
            for attempt in 0..30_u64 {
                let waited = Duration::from_millis(attempt * 500);
                sleep(if attempt == 0 { Duration::ZERO } else { Duration::from_millis(500) }).await;
                let request = http::Request::builder().method(method).uri(&path).body(Body::from(body.to_string()));
                let Ok(request) = request else { unreachable!("a request of our own") };
                let request = request.with_raw_http_path(&path);
                let entropy = shared.with(State::entropy);
                let by_clock = clock::at(clock::millis() + ahead);
                let now = if method == "POST" && is_operator { by_clock } else { first.now.plus(waited) };
                let call = Call { now, entropy, deadline: Deadline::after(LIMIT) };
                let handler = async {
                    let answer = match is_operator {
                        true => admin::handle(&apps.admin, request, call).await,
                        false => attribution::handle(&apps.attribution, request, call).await,
                    };
                    let given = Given {
                        status: answer.status().as_u16(),
                        body: serde_json::from_slice(answer.body()).unwrap_or_default(),
                        now: call.now,
                        by: INVOCATION.get(),
                    };
                    shared.with(|state| match method {
                        "PATCH" => state.oracle.code_changed(&path, &body, &given),
                        "POST" if is_operator => state.oracle.operated(&path, &body, &given),
                        _ => state.oracle.answered(&path, &body, &given),
                    });
                    Ok(answer)
                };
                let Some(answer) = invoke(&shared, handler).await else { continue };
                let status = answer.status().as_u16();
                shared.with(|state| state.log(clock::millis(), || format!("{method} {path} {body}: {status}")));
                if status >= 500 {
                    continue;
                }
                break;
            }
            Done::Answered
        }));
    }

    /// Resends a reward or a reversal and retries until that is answered: in a mode without sweeps nothing else would send it.
    async fn resend(&mut self, path: String) {
        self.with(|state| state.refusing.clear());
        for _ in 0..30 {
            let request = http::Request::builder().method("POST").uri(&path).body(Body::Empty);
            let Ok(request) = request else { unreachable!("a request of our own") };
            let call = self.call(0);
            let answer = admin::handle(&self.apps().admin, request.with_raw_http_path(&path), call).await;
            self.with(|state| state.log(clock::millis(), || format!("POST {path}: {}", answer.status())));
            if answer.status().as_u16() < 500 {
                break;
            }
        }
    }

    // ----- What AWS does -------------------------------------------------------------------------------------------

    /// Receives a batch of due messages, in the queue's order, and invokes their function.
    fn receive(&mut self, queue: &'static str, batch: usize) -> Option<Work<'a>> {
        let now = clock::millis();
        let (ids, messages) = self.with(|state| {
            let State { queues, faults, rng, .. } = state;
            let waiting = queues.get_mut(queue)?;
            let mut due: Vec<usize> =
                (0..waiting.len()).filter(|at| !waiting[*at].in_progress && waiting[*at].visible_at <= now).collect();
            if due.len() > 1 && faults.strikes(Kind::Reordered) {
                rng.shuffle(&mut due);
            }
            due.truncate(rng.usize(1..=batch));
            let mut duplicates = Vec::new();
            let mut taken = Vec::new();
            for at in due {
                if faults.strikes(Kind::Duplicate) {
                    duplicates.push(waiting[at].clone());
                }
                let message = &mut waiting[at];
                message.in_progress = true;
                message.receives += 1;
                taken.push(message.clone());
            }
            for message in duplicates {
                let delay = state.rng.u64(1..5_000);
                state.repeat(queue, &message, now + delay);
            }
            (!taken.is_empty()).then(|| (taken.iter().map(|message| message.id).collect::<Vec<_>>(), taken))
        })?;
        let is_reward = REWARDS.iter().any(|(_, name)| *name == queue);
        let (apps, shared, call) = (self.apps(), self.rig.shared.clone(), self.call(if is_reward { 4 } else { 1 }));
        Some(Box::pin(async move {
            let records: Vec<Value> = messages.iter().map(|message| json!({
                "messageId": message.id.to_string(), "receiptHandle": message.id.to_string(), "body": message.body,
                "attributes": {
                    "ApproximateReceiveCount": message.receives.to_string(),
                    "SentTimestamp": clock::at(message.sent_at).millis().to_string(),
                },
                "eventSourceARN": format!("arn:aws:sqs:us-east-1:000000000000:{queue}"),
            })).collect();
            let payload = match (queue, &messages[..]) {
                (INVOCATIONS, [message]) => serde_json::from_str(&message.body).unwrap_or_default(),
                _ => json!({"Records": records}),
            };
            let answer = match is_reward {
                true => {
                    let waits = shared.with(|state| messages.iter().any(|message| state.oracle.waits(&message.body)));
                    invoke_from(&shared, queue, waits, delivery::handle(&apps.delivery, payload, call)).await
                }
                false => invoke_from(&shared, queue, false, conversion::handle(&apps.conversion, payload, call)).await,
            };
            Done::Queue { queue, batch: ids, began: now, answer }
        }))
    }

    /// Invokes the function with the next records of a shard. A shard processes one batch at a time.
    fn read_stream(&mut self, shard: usize) -> Option<Work<'a>> {
        if self.busy[shard] {
            return None;
        }
        let may_lose = self.plan.mode == Mode::Both;
        let records = self.with(|state| {
            let State { stream, faults, rng, .. } = state;
            let waiting = &mut stream[shard];
            if may_lose && !waiting.is_empty() && faults.strikes(Kind::RecordLost) {
                waiting.remove(0);
            }
            let count = rng.usize(1..=6).min(waiting.len());
            (count > 0).then(|| waiting[..count].to_vec())
        })?;
        self.busy[shard] = true;
        let (apps, shared, call) = (self.apps(), self.rig.shared.clone(), self.call(2));
        let sent = records
            .iter()
            .map(|record| record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default().to_owned())
            .collect();
        Some(Box::pin(async move {
            let payload = json!({"Records": records.iter().map(Arc::as_ref).collect::<Vec<_>>()});
            let answer = invoke(&shared, rewards::handle(&apps.rewards, payload, call)).await;
            Done::Stream { shard, sent, answer }
        }))
    }

    fn sweep(&self) -> Work<'a> {
        let (apps, shared, call) = (self.apps(), self.rig.shared.clone(), self.call(3));
        Box::pin(
            async move { Done::Swept(invoke(&shared, sweep::handle(&apps.sweep, json!({}), call)).await.is_some()) },
        )
    }

    /// Removes what a function processed and keeps what it did not, as its answer says.
    fn complete(&mut self, done: Done) {
        let now = clock::millis();
        match done {
            Done::Answered => {}
            Done::Swept(is_done) => self.failed_sweeps += usize::from(!is_done),
            Done::Stream { shard, sent, answer } => {
                self.busy[shard] = false;
                let failed = answer.as_ref().map(failures);
                self.with(|state| {
                    let done = match failed {
                        None => 0,
                        Some(failed) => failed
                            .first()
                            .map_or(sent.len(), |first| sent.iter().position(|record| record == first).unwrap_or(0)),
                    };
                    if done > 0 && done < sent.len() {
                        state.faults.note(Kind::PartialBatch);
                    }
                    // A duplicate delivery: the checkpoint was not stored.
                    let kept = if state.faults.strikes(Kind::Duplicate) { 0 } else { done };
                    state.stream[shard].drain(..kept);
                });
            }
            Done::Queue { queue, batch, began, answer } => {
                let failed: Option<Vec<String>> = answer.as_ref().map(failures);
                if failed.as_ref().is_some_and(|failed| !failed.is_empty() && failed.len() < batch.len()) {
                    self.with(|state| state.faults.note(Kind::PartialBatch));
                }
                for id in batch {
                    let is_done = failed.as_ref().is_some_and(|failed| !failed.contains(&id.to_string()));
                    self.complete_message(queue, id, is_done, began, now);
                }
            }
        }
    }

    fn complete_message(&mut self, queue: &'static str, id: u64, is_done: bool, began: u64, now: u64) {
        let settled = self.with(|state| {
            let waiting = state.queues.get_mut(queue)?;
            let at = waiting.iter().position(|message| message.id == id)?;
            if is_done {
                return Some(waiting.remove(at));
            }
            let message = &mut waiting[at];
            message.in_progress = false;
            if message.visible_at <= now {
                message.visible_at = now + VISIBILITY_TIMEOUT;
            }
            // Lambda gives up on an event after three attempts and moves it to the dead-letter queue.
            if queue == INVOCATIONS && message.receives >= 3 {
                let message = waiting.remove(at);
                state.send(DEAD_LETTERS, message.body, now, VISIBILITY_TIMEOUT);
            }
            None
        });
        let is_product = REWARDS.iter().all(|(_, name)| *name != queue);
        if let Some(message) = settled.filter(|_| is_product) {
            let event = serde_json::from_str(&message.body).unwrap_or_default();
            let latest = now + self.ahead(1);
            let is_valid = self.with(|state| {
                if queue != DELAY {
                    state.oracle.received(&event, latest);
                }
                state.oracle.is_valid(&event) && {
                    state.oracle.acknowledged(&event, began);
                    true
                }
            });
            if !is_valid {
                return;
            }
            self.acknowledged.push(Acknowledged { event, began });
        }
    }
}

/// The queues that feed functions, with the batch size and the number of messages in progress.
const QUEUES: [(&str, usize, usize); 6] = [
    (INVOCATIONS, 1, 4),
    (DELAY, 4, 4),
    (DEAD_LETTERS, 4, 4),
    (REWARDS[0].1, 3, 6),
    (REWARDS[1].1, 3, 6),
    (REWARDS[2].1, 3, 6),
];

/// Runs a handler like Lambda: within its timeout, and sometimes stopped early at an await.
async fn invoke<T: Answer>(
    shared: &crate::transport::Shared,
    handler: impl Future<Output = Result<T, Error>>,
) -> Option<T> {
    invoke_from(shared, "", false, handler).await
}

/// The same, for a handler that receives messages of this queue. If one of them has to wait, it may fail without a fault.
async fn invoke_from<T: Answer>(
    shared: &crate::transport::Shared,
    queue: &str,
    waits: bool,
    handler: impl Future<Output = Result<T, Error>>,
) -> Option<T> {
    let (crash, known) = shared.with(|state| {
        let crash = state.faults.strikes(Kind::Crash).then(|| state.rng.u64(0..100));
        let known = state.oracle.invocation(queue);
        if crash.is_some() {
            state.oracle.struck(known.id, Kind::Crash);
        }
        if waits {
            state.oracle.may_fail(known.id);
        }
        (crash, known)
    });
    let id = known.id;
    let limit = crash.map_or(LIMIT, Duration::from_millis);
    let answer = INVOCATION.scope(known, timeout(limit, handler)).await;
    // With real time, a slow machine can make an invocation fail without a fault.
    if !clock::is_real() && !matches!(&answer, Ok(Ok(answer)) if !answer.reports_failure()) {
        shared.with(|state| state.oracle.check_failure(id));
    }
    match answer {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(problem)) => {
            shared.with(|state| state.log(clock::millis(), || format!("failed: {problem}")));
            None
        }
        Err(_stopped) => {
            shared.with(|state| state.log(clock::millis(), || "stopped before it finished".to_owned()));
            None
        }
    }
}

/// An answer that may report a failure, so that the work is retried.
trait Answer {
    fn reports_failure(&self) -> bool;
}

impl Answer for Value {
    fn reports_failure(&self) -> bool {
        !failures(self).is_empty()
    }
}

impl Answer for http::Response<Body> {
    fn reports_failure(&self) -> bool {
        self.status().is_server_error()
    }
}

/// The ids under `batchItemFailures`.
fn failures(answer: &Value) -> Vec<String> {
    let failures = answer["batchItemFailures"].as_array().into_iter().flatten();
    failures.map(|failure| failure["itemIdentifier"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Whether this referral converted late, so that it needs a sweep in every mode.
fn is_held(referral: &Referral) -> bool {
    matches!(&referral.state, Phase::Converted { conversion, .. } if conversion.hold_until.is_some())
}

/// The calls that send this referral's rewards again that failed permanently.
fn refused(referral: &Referral) -> Vec<String> {
    let Some(rewards) = referral.rewards() else { return Vec::new() };
    let refused = Side::BOTH.into_iter().filter(|side| rewards.of(*side).status() == RewardStatus::Failed);
    refused.map(|side| format!("/admin/rewards/{}/resend", referral.reward_id(side))).collect()
}

/// The call that sends a reversal again, if it failed permanently.
fn refused_reversal(reversal: &Reversal) -> Option<String> {
    (reversal.status() == ReversalStatus::Failed).then(|| format!("/admin/reversals/{}/resend", reversal.id))
}

fn id(order: usize) -> String {
    format!("o-{order}")
}

/// A user's code with this number; the first one has the number 0.
fn numbered_code(seed: u64, user: usize, number: usize) -> String {
    match number {
        0 => code(seed, user),
        number => format!("{}z{seed:x}z{number}", USERS[user]),
    }
}

/// A user's first code. Each history uses other codes, because the functions cache codes.
fn code(seed: u64, user: usize) -> String {
    format!("{}{seed:x}", USERS[user])
}
