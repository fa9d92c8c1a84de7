//! Sample referrals for the unit tests: alice referred bob, who placed an order. The hold is one second.

use crate::{
    domain::{
        adjustments::Adjustments,
        money::Money,
        order::{Order, OrderRecord},
        time::Timestamp,
    },
    program::Program,
    referral::{
        Referral, State,
        machine::{Command, Decision},
        reward::{InstructionId, Side},
    },
    runtime::Env,
};

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub(crate) fn money(amount: u64) -> Money {
    Money { amount: amount.try_into().unwrap(), currency: "USD".parse().unwrap() }
}

/// An order of five dollars.
pub(crate) fn order(id: &str) -> Order {
    Order {
        id: id.parse().unwrap(),
        event: "order.completed".to_owned(),
        user: "bob".parse().unwrap(),
        paid: money(500),
        placed_at: at(0),
        is_by_operator: false,
        latest_sign_up: at(0),
        hold_until: None,
    }
}

/// The referral that a decision writes.
pub(crate) fn applied(decision: Decision) -> Referral {
    match decision {
        Decision::Apply(referral, _) => *referral,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn pending() -> Referral {
    Referral {
        referee: "bob".parse().unwrap(),
        referrer: "alice".parse().unwrap(),
        code: "ALICE".parse().unwrap(),
        program: "default".parse().unwrap(),
        terms: Program::from_env(&Env::default().with("HOLD_SECONDS", "1")).unwrap().terms,
        device: None,
        correlation_id: serde_json::from_str("\"0123456789abcdef\"").ok(),
        created_at: at(0),
        signed_up_at: None,
        mark: Some(7),
        notes: Vec::new(),
        candidates: Vec::new(),
        adjusted_order: None,
        reopened: 0,
        rev: 1,
        state: State::Pending,
    }
}

pub(crate) fn converted() -> Referral {
    applied(pending().decide(&convert(&order("o-1")), at(10)))
}

pub(crate) fn rewarded() -> Referral {
    applied(converted().decide(&Command::Issue, at(20)))
}

/// The id of this side's grant.
pub(crate) fn grant(side: Side) -> InstructionId {
    pending().reward_id(side)
}

/// The command for an order to which nothing has happened.
pub(crate) fn convert(order: &Order) -> Command<'_> {
    Command::Convert(order, Adjustments::NONE)
}

/// The order with these adjustments, claimed by bob.
pub(crate) fn adjusted(order: &str, version: u32, adjust: impl FnOnce(&mut Adjustments)) -> OrderRecord {
    let mut adjustments = Adjustments { version, ..Adjustments::default() };
    adjust(&mut adjustments);
    let claimed_by = Some("bob".parse().unwrap());
    OrderRecord { id: order.parse().unwrap(), claimed_by, paid: Some(money(500)), adjustments }
}

pub(crate) fn cancelled(order: &str) -> OrderRecord {
    adjusted(order, 1, |all| all.is_cancelled = true)
}

pub(crate) fn disputed(version: u32, is_open: bool) -> OrderRecord {
    adjusted("o-1", version, |all| all.disputes = [(None, is_open)].into())
}

pub(crate) fn refunded(amount: u64) -> OrderRecord {
    adjusted("o-1", 1, |all| all.refunds = [("r".parse().unwrap(), money(amount))].into())
}
