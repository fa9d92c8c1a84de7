//! The properties: what always holds, what holds in finished states, and which states must be reachable.

use referrals::referral::{
    Lane, Status,
    reward::{Delivery, RewardStatus, Side},
};
use stateright::Property;

use crate::{
    Protocol,
    actions::order,
    state::{BySide, Event, ReversalItem, World},
};

type Holds = fn(&Protocol, &World) -> bool;

/// Stateright's `eventually` misses violations hidden by cycles or joining paths. So liveness is expressed as
/// properties of finished states, in which the service has no work left. A separate test checks that every path ends in
/// one.
const ALWAYS: [(&str, Holds); 17] = [
    ("each write is a transition of the state machine", |_, world| !world.history.invalid_transition),
    ("at most one conversion, or a second one after a cancellation", |_, world| {
        let is_cancelled = world.history.cancelled || world.history.cancelled_before_order;
        world.history.conversions <= 1 + u8::from(is_cancelled)
    }),
    ("a rewarded referral has rewards, and a voided one with rewards takes both back", |_, world| {
        let is_reversed = Side::BOTH.into_iter().all(|side| is(world, side, RewardStatus::Reversed));
        match world.item.status() {
            Status::Rewarded => world.item.rewards().is_some(),
            Status::Voided => world.item.rewards().is_none() || is_reversed,
            Status::Pending | Status::Converted => world.item.rewards().is_none(),
        }
    }),
    ("no reward is issued if the issue read a flag", |_, world| !world.history.issued_to_flagged),
    ("no reward is issued before the hold ends", |_, world| !world.history.issued_early),
    ("a referral that was voided before the issue was not paid", |_, world| {
        let is_before = world.item.status() == Status::Voided && world.item.rewards().is_none();
        !is_before || Side::BOTH.iter().all(|side| world.booked.of(*side) == 0)
    }),
    ("taken back only after booking", |_, world| {
        Side::BOTH.iter().all(|side| !world.taken_back.of(*side) || world.booked.of(*side) > 0)
    }),
    ("a reversal is delivered only after it was taken back", |_, world| {
        let is_delivered = |side: &Side| world.reversals.of(*side) == ReversalItem::Delivered;
        Side::BOTH.iter().all(|side| !is_delivered(side) || world.taken_back.of(*side))
    }),
    ("booked at most once", |_, world| Side::BOTH.iter().all(|side| world.booked.of(*side) <= 1)),
    ("delivered only after booking", |_, world| {
        Side::BOTH.into_iter().all(|side| world.booked.of(side) > 0 || !is_granted(world, side))
    }),
    ("a delivered reward stays delivered", |_, world| {
        Side::BOTH.into_iter().all(|side| !world.history.marked.of(side) || is_granted(world, side))
    }),
    ("the work index holds exactly the outstanding work", |_, world| {
        let is_voided = world.item.status() == Status::Voided;
        let on_its_way = Side::BOTH.into_iter().any(|side| {
            let delivery = world.item.rewards().map(|rewards| &rewards.of(side).delivery);
            // After a reversal only the answer of a call that was made counts.
            let is_wanted = |delivery: &&Delivery| !is_voided || delivery.called_at.is_some();
            delivery.filter(is_wanted).is_some_and(|delivery| delivery.status() == RewardStatus::Issued)
        });
        let owes = world.item.status() == Status::Converted || on_its_way;
        owes == (lane(world) == Some(Lane::Due))
    }),
    ("no event is acknowledged without its effect", |_, world| {
        let history = &world.history;
        (!(history.order_acknowledged || history.other_acknowledged) || world.item.conversion().is_some())
            && (!history.cancellation_acknowledged || !is_open(world) || !by_first(world))
    }),
    ("an order that stands converts, now or after another one", |_, world| {
        // After the issue no other order counts.
        let is_before = world.item.rewards().is_none();
        let is_voided = world.item.status() == Status::Voided && is_before && !world.history.ever_flagged;
        !world.history.other_acknowledged || (world.item.status() != Status::Pending && !is_voided)
    }),
    ("an order cancelled before it arrives voids the referral", |_, world| {
        !world.history.cancelled_before_order || !by_first(world) || world.item.status() == Status::Voided
    }),
    ("no announcement is repeated without a cause", |protocol, world| {
        let scope = &protocol.scope;
        let causes = 1 + (scope.faults - world.faults) + (scope.resends - world.resends);
        Side::BOTH.iter().all(|side| world.queued.of(*side) <= causes)
    }),
    ("a finished referral has no open reward", |protocol, world| {
        !is_finished(protocol, world)
            || match world.item.status() {
                // No order arrived.
                Status::Pending => !world.history.order_acknowledged && !world.history.other_acknowledged,
                Status::Converted => false,
                Status::Rewarded => Side::BOTH.into_iter().all(|side| {
                    (is(world, side, RewardStatus::Failed) && lane(world) == Some(Lane::Attention))
                        || (is(world, side, RewardStatus::Delivered) && world.booked.of(side) == 1)
                }),
                // Without a flag or a cancellation it would have to be paid.
                Status::Voided => {
                    let history = &world.history;
                    let books_agree = |side: Side| world.booked.of(side) == u8::from(world.taken_back.of(side));
                    (history.ever_flagged || history.cancelled || history.cancelled_before_order)
                        && Side::BOTH.into_iter().all(books_agree)
                        && Side::BOTH.into_iter().all(|side| world.reversals.of(side) != ReversalItem::Open)
                }
            }
    }),
];

/// States that must be reachable. Otherwise the model would be too small to prove anything.
const SOMETIMES: [(&str, Holds); 12] = [
    ("both rewards are paid", |protocol, world| {
        is_finished(protocol, world) && Side::BOTH.into_iter().all(|side| is(world, side, RewardStatus::Delivered))
    }),
    ("a flag voids the referral", |_, world| {
        world.item.status() == Status::Voided && !world.history.cancelled && !world.history.cancelled_before_order
    }),
    ("a cancellation voids the referral", |_, world| {
        world.item.status() == Status::Voided && !world.history.ever_flagged
    }),
    ("a cancellation arrives before its order", |_, world| world.history.cancelled_before_order),
    ("another order converts after a cancellation", |_, world| {
        world.history.cancelled && world.item.status() == Status::Converted && !by_first(world)
    }),
    ("a candidate converts after a cancellation", |_, world| world.history.next_converted),
    ("a refused reward waits for an operator", |protocol, world| {
        is_finished(protocol, world) && Side::BOTH.into_iter().any(|side| is(world, side, RewardStatus::Failed))
    }),
    ("a refused reward is paid later", |protocol, world| {
        let all = Side::BOTH.into_iter().all(|side| is(world, side, RewardStatus::Delivered));
        is_finished(protocol, world) && world.resends < protocol.scope.resends && all
    }),
    ("both rewards are taken back", |protocol, world| {
        is_finished(protocol, world) && Side::BOTH.iter().all(|side| world.taken_back.of(*side))
    }),
    ("a reversal waits for the answer of a call", |_, world| {
        let rewards = world.item.rewards().filter(|_| world.item.status() == Status::Voided);
        rewards.is_some_and(|rewards| rewards.unanswered().next().is_some())
    }),
    ("a reward is reversed before it is called", |protocol, world| {
        is_finished(protocol, world) && world.item.rewards().is_some() && world.booked == BySide::default()
    }),
    ("a repeated write recognises its own result", |_, world| {
        world.running.iter().any(|process| world.recognises_own_write(process))
    }),
];

/// All properties.
pub(crate) fn all() -> Vec<Property<Protocol>> {
    let always = ALWAYS.map(|(name, holds)| Property::always(name, holds));
    always.into_iter().chain(SOMETIMES.map(|(name, holds)| Property::sometimes(name, holds))).collect()
}

/// Whether the service has no work left: no process runs, no message is in flight, and nothing becomes due.
fn is_finished(protocol: &Protocol, world: &World) -> bool {
    world.is_quiet() && {
        let mut left = Vec::new();
        protocol.service_actions(world, &mut left);
        left.is_empty()
    }
}

/// Whether the first order, which can be cancelled, converted the referral.
fn by_first(world: &World) -> bool {
    world.item.conversion().is_some_and(|conversion| conversion.order == order(Event::Order).id)
}

/// Whether the referral is converted or rewarded.
fn is_open(world: &World) -> bool {
    matches!(world.item.status(), Status::Converted | Status::Rewarded)
}

/// Whether the grant of this side's reward is delivered.
fn is_granted(world: &World, side: Side) -> bool {
    world.item.rewards().is_some_and(|rewards| rewards.of(side).delivery.status() == RewardStatus::Delivered)
}

fn is(world: &World, side: Side, status: RewardStatus) -> bool {
    world.item.rewards().is_some_and(|rewards| rewards.of(side).status() == status)
}

fn lane(world: &World) -> Option<Lane> {
    world.indexed.map(|work| work.lane)
}
