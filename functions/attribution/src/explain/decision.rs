//! Decisions: a pure function of a referral's history and of its orders.

use referrals::{
    domain::{
        adjustments::Adjustment,
        code::Code,
        id::{DisputeId, OrderId, ProgramId, RefundId, UserId},
        money::{Amount, Currency, Money},
        order::OrderRecord,
        time::Timestamp,
    },
    program::{Terms, benefit::Benefit},
    referral::{
        Referral, State, VoidReason,
        note::{Note, OrderRefusal, RefusedOrder},
        reversal::Reversal,
        reward::{Delivery, InstructionId, RewardType, Side},
    },
    store::{History, items::order::DatedAdjustment},
};
use serde::Serialize;

/// One decision.
#[derive(Debug, Serialize)]
pub(super) struct Decision<'a> {
    /// `None`: an earlier version did not store the time.
    at: Option<Timestamp>,
    decision: &'static str,
    outcome: &'static str,
    reason: Option<Reason<'a>>,
    #[serde(flatten)]
    inputs: Inputs<'a>,
}

/// Why it was decided so.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reason<'a> {
    Text(&'a str),
    Order(OrderRefusal),
    Void(VoidReason),
}

/// What a decision was made of.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Inputs<'a> {
    Attribution {
        referrer_id: &'a UserId,
        code: &'a Code,
        program: &'a ProgramId,
        signed_up_at: Timestamp,
        terms: TermsView<'a>,
    },
    Refused {
        order_id: &'a OrderId,
        event: &'a str,
        #[serde(flatten)]
        paid: Money,
        placed_at: Timestamp,
    },
    Order {
        order_id: &'a OrderId,
        event: &'a str,
        #[serde(flatten)]
        paid: Money,
        hold_until: Timestamp,
    },
    Refund {
        order_id: &'a OrderId,
        refund_id: &'a RefundId,
        #[serde(flatten)]
        refund: Option<Money>,
    },
    Dispute {
        order_id: &'a OrderId,
        dispute_id: Option<&'a DisputeId>,
    },
    Cancellation {
        order_id: &'a OrderId,
    },
    Reward {
        reward_id: InstructionId,
        side: Side,
        user_id: &'a UserId,
        #[serde(flatten)]
        benefit: BenefitView,
    },
    Reversal {
        reversal_id: &'a InstructionId,
        reward_id: InstructionId,
        side: Side,
        #[serde(flatten)]
        benefit: BenefitView,
    },
    Instruction {
        instruction_id: InstructionId,
    },
    Operator {
        operator: Option<&'a str>,
    },
    Nothing {},
}

/// The terms of a referral, which are fixed at the attribution.
#[derive(Debug, Serialize)]
struct TermsView<'a> {
    event: &'a str,
    minimum: Money,
    hold_seconds: u32,
    rewards: RewardsView,
}

#[derive(Debug, Serialize)]
struct RewardsView {
    referrer: BenefitView,
    referee: BenefitView,
}

/// An amount in minor units of the currency. Points have no currency.
#[derive(Debug, Serialize)]
struct BenefitView {
    r#type: RewardType,
    amount: Amount,
    currency: Option<Currency>,
}

impl From<Benefit> for BenefitView {
    fn from(benefit: Benefit) -> Self {
        Self { r#type: benefit.kind(), amount: benefit.amount(), currency: benefit.currency() }
    }
}

impl<'a> TermsView<'a> {
    fn of(terms: &'a Terms) -> Self {
        let rewards = RewardsView { referrer: terms.referrer.decide().into(), referee: terms.referee.decide().into() };
        Self { event: &terms.qualifying_event, minimum: terms.minimum, hold_seconds: terms.hold_seconds, rewards }
    }
}

/// All decisions, the oldest first. Those without a time come before the others.
pub(super) fn decisions<'a>(
    history: &'a History,
    orders: &'a [(OrderRecord, Vec<DatedAdjustment>)],
) -> Vec<Decision<'a>> {
    let referral = &history.referral;
    let mut all = vec![attributed(referral)];
    all.extend(history.notes.iter().map(noted));
    for (record, adjustments) in orders {
        all.extend(ordered(referral, record));
        all.extend(adjustments.iter().map(|dated| adjusted(&record.id, dated)));
    }
    all.extend(voided(referral));
    for side in Side::BOTH {
        all.extend(rewarded(referral, side));
    }
    all.extend(history.reversals.iter().flat_map(|reversal| reversed(referral, reversal)));
    all.sort_by_key(|decision| decision.at);
    all
}

fn new<'a>(
    at: impl Into<Option<Timestamp>>,
    decision: &'static str,
    outcome: &'static str,
    inputs: Inputs<'a>,
) -> Decision<'a> {
    Decision { at: at.into(), decision, outcome, reason: None, inputs }
}

fn attributed(referral: &Referral) -> Decision<'_> {
    let inputs = Inputs::Attribution {
        referrer_id: &referral.referrer,
        code: &referral.code,
        program: &referral.program,
        signed_up_at: referral.signed_up_at(),
        terms: TermsView::of(&referral.terms),
    };
    new(referral.created_at, "attributed", "pending", inputs)
}

fn noted(note: &Note) -> Decision<'_> {
    match note {
        Note::Operator(entry) => {
            let inputs = Inputs::Operator { operator: entry.operator.as_deref() };
            let decision = new(entry.at, "operator", entry.action.as_str(), inputs);
            Decision { reason: Some(Reason::Text(&entry.reason)), ..decision }
        }
        Note::Order(RefusedOrder { at, order_id, event, paid, placed_at, reason }) => {
            let inputs = Inputs::Refused { order_id, event, paid: *paid, placed_at: *placed_at };
            Decision { reason: Some(Reason::Order(*reason)), ..new(*at, "order", "refused", inputs) }
        }
    }
}

/// An order that converted the referral or is kept, and whether it stands.
fn ordered<'a>(referral: &'a Referral, record: &'a OrderRecord) -> Option<Decision<'a>> {
    let by = referral.orders().find(|known| known.order == record.id)?;
    let is_converting = referral.conversion().is_some_and(|conversion| conversion.order == by.order);
    // An earlier version did not keep all adjustments of an order that it undid.
    let was_undone = match &referral.state {
        State::Voided { reason, is_exact: false, .. } => is_converting && reason.is_of_order(),
        _ => false,
    };
    let has_fallen = was_undone || !record.adjustments.undone(&by.paid, &referral.terms.minimum).is_empty();
    let outcome = match (has_fallen, is_converting) {
        (true, _) => "fallen",
        (false, true) => "converted",
        (false, false) => "candidate",
    };
    let hold_until = match &referral.state {
        State::Converted { due_at, .. } if is_converting => *due_at,
        _ => by.hold_ends_at(&referral.terms),
    };
    let inputs = Inputs::Order { order_id: &by.order, event: &by.event, paid: by.paid, hold_until };
    Some(new(by.at, "order", outcome, inputs))
}

fn adjusted<'a>(order_id: &'a OrderId, dated: &'a DatedAdjustment) -> Decision<'a> {
    let (outcome, inputs) = match &dated.adjustment {
        Adjustment::Cancelled => ("cancelled", Inputs::Cancellation { order_id }),
        Adjustment::Refunded(refund_id, refund) => {
            ("refunded", Inputs::Refund { order_id, refund_id, refund: Some(*refund) })
        }
        Adjustment::RefundFailed(refund_id) => {
            let outcome = if dated.is_by_operator { "refund_ignored" } else { "refund_failed" };
            (outcome, Inputs::Refund { order_id, refund_id, refund: None })
        }
        Adjustment::Disputed(dispute) => {
            let outcome = if dispute.is_won { "dispute_won" } else { "disputed" };
            (outcome, Inputs::Dispute { order_id, dispute_id: dispute.id.as_ref() })
        }
    };
    new(dated.at, "adjusted", outcome, inputs)
}

fn voided(referral: &Referral) -> Option<Decision<'_>> {
    let voided = referral.voided()?;
    let decision = new(voided.at, "voided", "voided", Inputs::Nothing {});
    Some(Decision { reason: Some(Reason::Void(voided.reason)), ..decision })
}

/// The issue of one side's reward, and its delivery.
fn rewarded(referral: &Referral, side: Side) -> Vec<Decision<'_>> {
    let Some(rewards) = referral.rewards() else { return Vec::new() };
    let reward = rewards.of(side);
    let (reward_id, user_id) = (referral.reward_id(side), referral.user_id(side));
    let inputs = Inputs::Reward { reward_id: reward_id.clone(), side, user_id, benefit: reward.benefit.into() };
    let mut all = vec![new(rewards.issued_at, "issued", "issued", inputs)];
    all.extend(delivered(&reward.delivery, &reward_id));
    all
}

fn delivered<'a>(delivery: &'a Delivery, id: &InstructionId) -> impl Iterator<Item = Decision<'a>> {
    let of = |at: Option<Timestamp>, decision, outcome, reason: Option<&'a str>| {
        let inputs = Inputs::Instruction { instruction_id: id.clone() };
        at.map(|at| Decision { reason: reason.map(Reason::Text), ..new(at, decision, outcome, inputs) })
    };
    let called = of(delivery.called_at, "called", "called", None);
    let failed = of(delivery.failed_at, "delivered", "failed", delivery.failure.as_deref());
    let delivered = of(delivery.delivered_at, "delivered", "delivered", None);
    [called, failed, delivered].into_iter().flatten()
}

/// A reversal, and its delivery.
fn reversed<'a>(referral: &'a Referral, reversal: &'a Reversal) -> Vec<Decision<'a>> {
    let inputs = Inputs::Reversal {
        reversal_id: &reversal.id,
        reward_id: reversal.reward_id(),
        side: reversal.id.side,
        benefit: reversal.benefit.into(),
    };
    let reason = referral.voided().map(|voided| Reason::Void(voided.reason));
    let mut all = vec![Decision { reason, ..new(reversal.issued_at, "reversed", "reversed", inputs) }];
    let closed = Inputs::Instruction { instruction_id: reversal.id.clone() };
    all.extend(reversal.closed_at.map(|at| new(at, "delivered", "closed", closed)));
    all.extend(delivered(&reversal.delivery, &reversal.id));
    all
}
