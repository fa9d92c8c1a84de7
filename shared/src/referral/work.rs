//! The unfinished work of a referral: its place in the index of work.

use super::{
    Attention, Conversion, Referral, Rewards, State,
    reward::{RewardStatus, Side},
};
use crate::{
    domain::time::Timestamp,
    mutant::{self, Mutant},
};

/// A referral's place in the index of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    pub lane: Lane,
    /// In the lane `Due`: when the work is due. In the lane `Attention`: when the last reward was refused, or, if an operator has to
    /// decide, when the hold ends, or when the rewards were issued or taken back.
    pub at: Timestamp,
}

/// Who has to do the work. The lanes are separate so that the sweep never reads work that only an operator can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// The sweep.
    Due,
    /// An operator, because a subsystem refused a reward permanently or something about the order is unclear ([`Attention`]).
    Attention,
}

impl Referral {
    /// The referral's place in the index of work, or `None` if no work is left.
    pub fn work(&self) -> Option<Work> {
        with_mutants(&self.state, work(&self.state))
    }
}

/// The unfinished work in this state. An undelivered reward takes precedence over a refused one. A reversal has its own work.
fn work(state: &State) -> Option<Work> {
    match state {
        State::Pending | State::Voided { .. } => None,
        State::Converted { conversion, due_at } => {
            Some(Work { lane: conversion.attention.map_or(Lane::Due, |_| Lane::Attention), at: *due_at })
        }
        State::Rewarded { conversion, rewards, due_at } => match rewards.undelivered().next() {
            Some(_) => Some(Work { lane: Lane::Due, at: *due_at }),
            None => refused(rewards).or_else(|| unclear(conversion, rewards.issued_at)),
        },
        State::Reversed { at, conversion, rewards, due_at, .. } => match rewards.unanswered().next() {
            Some(_) => Some(Work { lane: Lane::Due, at: *due_at }),
            None => unclear(conversion, *at),
        },
    }
}

/// The work of an operator: to decide about the order.
fn unclear(conversion: &Conversion, at: Timestamp) -> Option<Work> {
    conversion.attention.map(|_: Attention| Work { lane: Lane::Attention, at })
}

/// The work of an operator: the permanently refused rewards.
fn refused(rewards: &Rewards) -> Option<Work> {
    let deliveries = Side::BOTH.into_iter().map(|side| &rewards.of(side).delivery);
    let failed = deliveries.filter(|delivery| delivery.status() == RewardStatus::Failed);
    failed.filter_map(|delivery| delivery.failed_at).max().map(|at| Work { lane: Lane::Attention, at })
}

/// Applies the mutants of the index of work. Without the feature `mutants` it returns `work`.
fn with_mutants(state: &State, work: Option<Work>) -> Option<Work> {
    let State::Rewarded { rewards, due_at, .. } = state else { return work };
    match rewards.undelivered().next() {
        Some(_) if mutant::is(Mutant::WorkDroppedAtIssue) => None,
        Some(Side::Referee) if mutant::is(Mutant::WorkDroppedAtFirstDelivery) => None,
        None if mutant::is(Mutant::WorkKeptAtLastDelivery) => Some(Work { lane: Lane::Due, at: *due_at }),
        None if mutant::is(Mutant::WorkDroppedAtRefusal) => None,
        None if mutant::is(Mutant::AttentionAsDue) => work.map(|work| Work { lane: Lane::Due, ..work }),
        Some(_) | None => work,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fraud::FraudReason,
        referral::machine::Command,
        sample::{applied, at, converted, grant, pending, rewarded},
    };

    #[test]
    fn only_referrals_with_work_left_are_in_the_index() {
        let due = |millis| Some(Work { lane: Lane::Due, at: at(millis) });
        assert_eq!(pending().work(), None);
        assert_eq!(converted().work(), due(1010));
        assert_eq!(rewarded().work(), due(1010));
        let voided = applied(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20)));
        assert_eq!(voided.work(), None);

        let claimed = applied(rewarded().decide(&Command::Claim(at(9000)), at(30)));
        assert_eq!(claimed.work(), due(9000));
        let one_failed = applied(claimed.decide(&Command::MarkFailed(&grant(Side::Referrer), "400", 0), at(40)));
        assert_eq!(one_failed.work(), due(9000));
        let both_answered = applied(one_failed.decide(&Command::MarkDelivered(&grant(Side::Referee)), at(50)));
        assert_eq!(both_answered.work(), Some(Work { lane: Lane::Attention, at: at(40) }));
        let delivered = applied(both_answered.decide(&Command::MarkDelivered(&grant(Side::Referrer)), at(60)));
        assert_eq!(delivered.work(), None);
    }
}
