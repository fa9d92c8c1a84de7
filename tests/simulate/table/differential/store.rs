//! Random histories of the real store with few users, so that calls conflict.

use std::{ops::Range, time::Duration};

use fastrand::Rng;
use referrals::{
    domain::{
        account::AccountFlag,
        adjustments::{Adjustment, Adjustments, Dispute},
        code::{Code, ExpiryChange, OwnedCode},
        device::Device,
        id::{ProgramId, UserId},
        money::Money,
        order::{Order, OrderRecord},
        time::Timestamp,
    },
    fraud::FraudReason,
    lifecycle::operate::{Operation, operate},
    program::{Program, Terms},
    referral::{
        Lane, Referral, State, VoidReason,
        machine::{Command, Decision},
        note::{AuditEntry, Note, OrderRefusal, RefusedOrder, Subject},
        reward::{InstructionId, InstructionKind, Side},
    },
    runtime::Env,
    store::{Outcome, Store, WorkCursor, WorkPartition, keys::WORK_SHARDS},
};

use super::twins::{TABLE, Twins};

/// Shapes that every run must contain: each condition at least once.
pub(super) const EXPECTED: [&str; 39] = [
    "GetItem",
    "BatchGetItem",
    "PutItem [attribute_not_exists(#pk)]",
    "Put[attribute_not_exists(#pk)] Put[attribute_not_exists(#pk)] Update[ADD #devices :devices]",
    "Put[attribute_not_exists(#pk)] Update[attribute_not_exists(#pk) OR #code = :old|SET #code = :code] \
     ConditionCheck[#end <= :now]",
    "Update[attribute_exists(#pk)|REMOVE #end] Update[attribute_not_exists(#pk) OR #code = :old|SET #code = :code]",
    "UpdateItem [attribute_exists(#pk)|SET #end = :end]",
    "UpdateItem [attribute_exists(#pk) AND (attribute_not_exists(#end) OR #end > :end)|SET #end = :end]",
    "[attribute_not_exists(#devices) OR size(#devices) < :most|ADD #devices :devices]",
    "[attribute_not_exists(#at) OR #at < :at OR #at > :latest OR (#at = :at AND #flagged <> :flagged)|",
    "[attribute_not_exists(#at) OR #at < :at OR #at > :latest|SET #flagged = :flagged, #at = :at REMOVE #reason]",
    "UpdateItem [attribute_not_exists(#referee)|SET #referee = :referee, #paid = :paid, #ttl = :never]",
    "UpdateItem [attribute_not_exists(#id)|SET #id = :value,",
    "UpdateItem [attribute_not_exists(#id) OR #id < :value|",
    "UpdateItem [attribute_not_exists(#excess)|SET #excess = :excess ADD #count :one]",
    "[#count = :read|SET #count = :next, ",
    "AND #flagged <> :flagged)|SET #flagged = :flagged, #at = :at, #reason = :reason] Put[]",
    "Query [#pk = :pk]",
    "[attribute_not_exists(#id) AND (attribute_not_exists(#count) OR #count < :most)|",
    "[(attribute_not_exists(#id) AND (attribute_not_exists(#count) OR #count < :most)) OR #id < :value|",
    "[#rev = :rev AND #status IN (:pending, :voided)|",
    "[#rev = :rev AND #status IN (:voided)|",
    "[#rev = :rev AND #status IN (:pending, :converted, :rewarded, :voided)|",
    "[#rev = :rev AND #status IN (:rewarded, :voided)|",
    "REMOVE #due_at, #work] Put[] Put[]",
    "[attribute_exists(#pk) AND attribute_not_exists(#delivered)|SET #delivered = :now REMOVE #work, #due, #closed]",
    "AND attribute_not_exists(#failed) AND #resent = :resent|SET #failed = :now",
    "AND #due = :found|SET #closed = :now REMOVE #work, #due]",
    "[#due = :found AND #work = :work|SET #due = :until]",
    "AND #resent = :resent|SET #resent = :next",
    "[#rev = :rev AND #status IN (:converted)|",
    "[#rev = :rev AND #status IN (:pending, :converted, :voided)|",
    "[#rev = :rev AND #status IN (:pending, :converted, :voided)|SET #rev = :new_rev, #status = :new_status, #voided = :new_voided] \
     Put[]",
    "[#rev = :rev AND #status IN (:rewarded)|",
    "REMOVE #due_at, #work",
    "[#work = :work AND #due_at <= :now|||work]",
    "[#work = :work AND #due_at <= :now|||work|COUNT]",
    "[#referrer = :referrer|||by_referrer]",
    "[#referrer = :referrer AND #at < :before|||by_referrer]",
];

const PEOPLE: Range<u32> = 0..40;

/// A new referral of this referee.
pub(in super::super) fn referral(referee: &str) -> Referral {
    Referral {
        referee: referee.parse().unwrap(),
        referrer: "alice".parse().unwrap(),
        code: "ALICE".parse().unwrap(),
        program: "default".parse().unwrap(),
        terms: Program::from_env(&Env::default()).unwrap().terms,
        device: None,
        correlation_id: None,
        created_at: Timestamp::from_millis(0).unwrap(),
        signed_up_at: None,
        mark: None,
        notes: Vec::new(),
        candidates: Vec::new(),
        adjusted_order: None,
        reopened: 0,
        rev: 1,
        state: State::Pending,
    }
}

struct History {
    rng: Rng,
    store: Store,
    now: i64,
    terms: Terms,
    /// Referrals that were read. The later one was read, the more likely it is current.
    read: Vec<Referral>,
}

/// Runs this many steps, each with at least one call of the store.
pub(super) async fn run(twins: &Twins, seed: u64, steps: usize) {
    let env = Env::default().with("HOLD_SECONDS", "1");
    let mut history = History {
        rng: Rng::with_seed(seed),
        store: Store::new(&twins.client(), TABLE),
        now: 1_772_442_300_000,
        terms: Program::from_env(&env).unwrap().terms,
        read: Vec::new(),
    };
    for _ in 0..steps {
        history.now += history.rng.i64(0..100);
        history.step().await;
    }
}

impl History {
    fn at(&mut self) -> Timestamp {
        // Some times are out of order, and some are equal.
        Timestamp::from_millis((self.now - self.rng.i64(0..3) * 1000) / 1000 * 1000).unwrap()
    }

    fn person(&mut self) -> UserId {
        format!("user-{}", self.rng.u32(PEOPLE)).parse().unwrap()
    }

    fn program(&mut self) -> ProgramId {
        ["default", "other"][self.rng.usize(0..2)].parse().unwrap()
    }

    fn code(&mut self) -> Code {
        format!("code-{}", self.rng.u32(0..16)).parse().unwrap()
    }

    fn device(&mut self) -> Device {
        serde_json::from_value(format!("device-{}", self.rng.u32(0..40)).into()).unwrap()
    }

    fn order(&mut self, user: &UserId) -> Order {
        let paid = Money { amount: 500.try_into().unwrap(), currency: "USD".parse().unwrap() };
        let id = format!("o-{}", self.rng.u32(0..4)).parse().unwrap();
        let event = "order.completed".to_owned();
        let (placed_at, latest_sign_up) = (Timestamp::LAST, Timestamp::LAST);
        let user = user.clone();
        Order { id, event, user, paid, placed_at, is_by_operator: false, latest_sign_up, hold_until: None }
    }

    async fn step(&mut self) {
        match self.rng.u32(0..28) {
            0 | 1 => self.mint().await,
            2 => self.look_up().await,
            14..=16 => self.change_code().await,
            17 => self.claim().await,
            18 | 25..=27 => self.adjust().await,
            3..=4 => self.attribute().await,
            5..=8 => {
                let referee = self.person();
                for _ in 0..self.rng.u32(1..12) {
                    self.advance(&referee).await;
                }
            }
            9 | 19 => self.write_from_a_past_read().await,
            20 | 21 => self.reversal().await,
            22..=24 => self.operate().await,
            10 => self.standing().await,
            11 => self.facts().await,
            12 => self.work().await,
            _ => self.lists().await,
        }
    }

    async fn mint(&mut self) {
        let expires_at = self.rng.bool().then(|| self.at());
        let (code, owner, program, created_at) = (self.code(), self.person(), self.program(), self.at());
        let device = self.rng.bool().then(|| self.device());
        let code = OwnedCode { code, owner, program, created_at, expires_at };
        self.store.mint(code.clone(), device.as_ref()).await.unwrap();
        if self.rng.u32(0..16) == 0 {
            // There are no other writers, so a repeated call finds its own write. More devices are added than are
            // stored.
            for _ in 0..self.rng.u32(1..40) {
                let device = self.device();
                self.store.mint(code.clone(), Some(&device)).await.unwrap();
            }
        }
    }

    async fn claim(&mut self) {
        let user = self.person();
        let order = self.order(&user);
        self.store.claim(&order.id, &order.user, &order.paid).await.unwrap();
    }

    async fn adjust(&mut self) {
        let user = self.person();
        let (order, now) = (self.order(&user), self.at());
        let refund = || "r-1".parse().unwrap();
        let foreign = Money { currency: "EUR".parse().unwrap(), ..order.paid };
        if self.rng.u32(0..40) == 0 {
            // More than are kept.
            for number in 0..=Adjustments::MOST {
                let failed = Adjustment::RefundFailed(format!("full-{number}").parse().unwrap());
                self.store.adjust(&order.id, &failed, now).await.unwrap();
            }
        }
        let adjustment = match self.rng.u32(0..8) {
            0 => Adjustment::Cancelled,
            1 => Adjustment::Refunded(refund(), order.paid),
            2 => Adjustment::RefundFailed(refund()),
            3 | 4 => Adjustment::Refunded("r-2".parse().unwrap(), foreign),
            _ => {
                let id = self.rng.bool().then(|| "d-1".parse().unwrap());
                Adjustment::Disputed(Dispute { id, at: self.at(), is_won: self.rng.bool() })
            }
        };
        self.store.adjust(&order.id, &adjustment, now).await.unwrap();
    }

    async fn look_up(&mut self) {
        let (code, user, program) = (self.code(), self.person(), self.program());
        self.store.code(&code).await.unwrap();
        self.store.code_of(&user, &program).await.unwrap();
    }

    /// Replaces a code as if it had ended, ends it, or revives it.
    async fn change_code(&mut self) {
        let (wanted, now) = (self.code(), self.at());
        let Some(owned) = self.store.code(&wanted).await.unwrap() else { return };
        let change = match self.rng.u32(0..6) {
            0 => ExpiryChange::Ended(now),
            1 => ExpiryChange::Disabled(now),
            2 => ExpiryChange::Live(None),
            3 => ExpiryChange::Live(Some(now.plus(Duration::from_secs(2)))),
            _ => {
                let code = OwnedCode { code: self.code(), created_at: now, expires_at: None, ..owned };
                self.store.replace(code, &wanted).await.unwrap();
                return;
            }
        };
        self.store.change_expiry(&wanted, change, now).await.unwrap();
    }

    async fn attribute(&mut self) {
        let referral = Referral {
            referee: self.person(),
            referrer: self.person(),
            code: self.code(),
            program: self.program(),
            terms: self.terms.clone(),
            device: self.rng.bool().then(|| self.device()),
            correlation_id: None,
            created_at: self.at(),
            signed_up_at: self.rng.bool().then(|| self.at()),
            mark: self.rng.bool().then(|| self.rng.u32(..)),
            notes: Vec::new(),
            candidates: Vec::new(),
            adjusted_order: None,
            reopened: 0,
            rev: 1,
            state: State::Pending,
        };
        self.store.attribute(referral).await.unwrap();
    }

    /// The order that converted a referral, with adjustments that the referral may not know.
    fn record(&mut self, read: &Referral, order: &Order) -> OrderRecord {
        let id = read.conversion().map_or_else(|| order.id.clone(), |conversion| conversion.order.clone());
        let known = read.conversion().map_or(0, |conversion| conversion.adjusted);
        let (version, is_cancelled) = (known + self.rng.u32(0..3), self.rng.bool());
        let has_excess = self.rng.u32(0..4) == 0;
        let adjustments = Adjustments { version, is_cancelled, has_excess, ..Adjustments::default() };
        OrderRecord { id, claimed_by: Some(read.referee.clone()), paid: None, adjustments }
    }

    /// Reads a referral and applies a command that fits its state, or any command.
    async fn advance(&mut self, referee: &UserId) {
        let Some(read) = self.store.referral(referee).await.unwrap() else { return };
        self.read.push(read.clone());
        let read = if self.rng.u32(0..4) == 0 { self.rng.choice(&self.read).unwrap().clone() } else { read };
        let order = self.order(referee);
        let record = self.record(&read, &order);
        let id = read.reward_id(self.rng.choice(Side::BOTH).unwrap());
        let now = self.at();
        let until = now.plus(Duration::from_secs(self.rng.u64(0..3)));
        let fit = match read.state {
            State::Pending => Command::Convert(&order, Adjustments::NONE),
            State::Converted { .. } if self.rng.bool() => Command::Issue,
            State::Converted { .. } => Command::Adjust(&record, None),
            State::Rewarded { .. } | State::Reversed { .. } => match self.rng.u32(0..8) {
                0 => Command::MarkDelivered(&id),
                6 => Command::MarkCalled(&id),
                7 => Command::Adjust(&record, None),
                1..=3 => Command::MarkFailed(&id, "400 no", 0),
                4 => Command::Claim(until),
                _ => Command::Resend(&id, until),
            },
            State::Voided { .. } => match self.rng.u32(0..6) {
                0 => Command::Convert(&order, Adjustments::NONE),
                1..=4 => Command::Adjust(&record, None),
                _ => Command::Void(FraudReason::RefereeFlagged.into()),
            },
        };
        let event = if self.rng.u32(0..8) == 0 { Command::Void(FraudReason::ReferrerFlagged.into()) } else { fit };
        let stepped = self.store.apply(read, |read| read.decide(&event, now)).await;
        if let Ok(Outcome::Applied(taken, _)) = stepped {
            self.read.push(taken);
        }
    }

    /// An operator acts, also on what is decided already, and flags an account. The history is read afterwards.
    async fn operate(&mut self) {
        let (mut referee, at) = (self.person(), self.at());
        let order = self.order(&referee);
        let operation = match self.rng.u32(0..8) {
            0 | 1 => Operation::Void,
            2 => Operation::Reopen,
            3 => Operation::Convert(order.id.clone(), Some(order.paid)),
            _ => Operation::Approve,
        };
        if operation == Operation::Approve {
            referee = self.unclear().await.unwrap_or(referee);
        }
        let entry = AuditEntry { at, action: operation.action(), operator: None, reason: "asked".to_owned() };
        // Many conflicts are an error.
        operate(&self.store, &referee, &operation, &entry).await.ok();
        // From a past read, too.
        let past = self.rng.choice(&self.read).cloned();
        let void = |past: Referral| match past.decide(&Command::Void(VoidReason::Operator), at) {
            Decision::Apply(after, transition) => Some((past, after, transition)),
            Decision::AlreadyDone | Decision::Refuse(_) => None,
        };
        if let Some((past, after, transition)) = past.and_then(void) {
            self.store.write_audited(&past, *after, transition, &entry, None).await.unwrap();
        }
        let flag = AccountFlag { reason: Some("fraud".to_owned()), at };
        self.store.set_flag_with(&referee, &flag, &Note::Operator(entry), at).await.unwrap();
        let refused = RefusedOrder::of(&order, OrderRefusal::NotQualifying, at);
        self.store.note(&Subject::Referral(referee.clone()), &Note::Order(refused)).await.unwrap();
        self.store.history(&referee).await.unwrap();
        self.store.orders(&[order.id]).await.unwrap();
    }

    /// Refunds the order of a referral in another currency. Returns the referee.
    async fn unclear(&mut self) -> Option<UserId> {
        let converted = self.read.iter().filter(|read| read.conversion().is_some());
        let referee = self.rng.choice(converted.cloned().collect::<Vec<_>>())?.referee;
        let (read, now) = (self.store.referral(&referee).await.unwrap()?, self.at());
        let by = read.conversion()?.clone();
        let refund = format!("r-{}", self.rng.u32(3..40)).parse().unwrap();
        let foreign = Money { currency: "EUR".parse().unwrap(), ..by.paid };
        self.store.adjust(&by.order, &Adjustment::Refunded(refund, foreign), now).await.unwrap();
        let record = self.store.order(&by.order).await.unwrap();
        self.store.apply(read, |read| read.decide(&Command::Adjust(&record, None), now)).await.ok();
        Some(referee)
    }

    /// Delivers, refuses, closes, claims or resends a reversal, sometimes from a past read.
    async fn reversal(&mut self) {
        let reversed = self.read.iter().filter(|read| matches!(read.state, State::Reversed { .. }));
        let Some(referral) = self.rng.choice(reversed.cloned().collect::<Vec<_>>()) else { return };
        let grant = referral.reward_id(self.rng.choice(Side::BOTH).unwrap());
        let id = InstructionId { kind: InstructionKind::FullReversal, ..grant };
        let Some((_, read)) = self.store.reversal(&id).await.unwrap() else { return };
        for _ in 0..self.rng.u32(1..3) {
            let now = self.at();
            let until = now.plus(Duration::from_secs(3));
            match self.rng.u32(0..8) {
                0 => self.store.mark_reversal_delivered(&read, now).await,
                1 => self.store.close_reversal(&read, now).await,
                2 => self.store.mark_reversal_failed(&read, "400 no", now).await,
                3..6 => self.store.claim_reversal(&read, until).await,
                _ => self.store.resend_reversal(&read, until).await,
            }
            .unwrap();
        }
    }

    /// Writes once, based on a referral that may be outdated or may never have existed.
    async fn write_from_a_past_read(&mut self) {
        let Some(mut before) = self.rng.choice(&self.read).cloned() else { return };
        if self.rng.u32(0..6) == 0 {
            before.rev += 1;
        }
        let order = self.order(&before.referee);
        let record = self.record(&before, &order);
        let id = before.reward_id(self.rng.choice(Side::BOTH).unwrap());
        let event = match before.state {
            State::Pending => Command::Convert(&order, Adjustments::NONE),
            State::Converted { .. } => Command::Issue,
            State::Rewarded { .. } | State::Reversed { .. } => Command::MarkDelivered(&id),
            State::Voided { .. } => Command::Adjust(&record, None),
        };
        let now = self.at();
        if let Decision::Apply(after, verb) = before.decide(&event, now) {
            self.store.write(&before, *after, verb).await.unwrap();
        }
    }

    async fn standing(&mut self) {
        let (user, at) = (format!("user-{}", self.rng.u32(0..4)).parse().unwrap(), self.at());
        let reason = self.rng.bool().then(|| self.rng.choice(["fraud", "dispute"]).unwrap().to_owned());
        let now = self.at();
        self.store.set_flag(&user, &AccountFlag { reason, at }, now).await.unwrap();
    }

    async fn facts(&mut self) {
        let (code, referrer, referee) = (self.code(), self.person(), self.person());
        self.store.sign_up_evidence(&code, &referrer, &referee).await.unwrap();
        if let Some(referral) = self.rng.choice(&self.read).cloned() {
            self.store.issue_evidence(&referral).await.unwrap();
        }
    }

    async fn work(&mut self) {
        let lane = self.rng.choice([Lane::Due, Lane::Due, Lane::Attention]).unwrap();
        for _ in 0..2 {
            let shard = self.rng.u32(0..WORK_SHARDS);
            let partition = WorkPartition::nth(&[lane], shard).unwrap();
            self.store.waiting(partition).await.unwrap();
            let (by, limit, mut after) = (self.at().plus(Duration::from_secs(2)), self.rng.u32(1..3), None);
            if self.rng.u32(0..6) == 0 {
                let (at, referee) = (self.at(), self.person());
                after = Some(WorkCursor::from_text(partition, &format!("{at}#{referee}")).unwrap());
            }
            loop {
                let due = self.store.due(partition, by, limit, after).await.unwrap();
                self.read.extend(due.referrals);
                match due.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
    }

    async fn lists(&mut self) {
        let (user, limit) = (self.person(), self.rng.u32(1..4));
        let mut before = None;
        loop {
            let page = self.store.referrals_by(&user, limit, before.as_ref()).await.unwrap();
            self.store.referrals_with(&user, limit, before.as_ref()).await.unwrap();
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
    }
}
