//! The properties: what always holds, what holds at rest, and what the model must be able to reach at all.

use referrals::{
    referral::{Lane, Status},
    reward::{RewardStatus, Side},
};
use stateright::Property;

use crate::{
    Protocol,
    actions::order,
    state::{News, World},
};

type Holds = fn(&Protocol, &World) -> bool;

/// Stateright's `eventually` misses whatever a cycle or two ways into one state hide. So what must come to pass is said
/// of states at rest instead: those in which nothing is left for the service to do. That every way ends in one is a
/// test of its own.
const ALWAYS: [(&str, Holds); 14] = [
    ("each write leads where the machine does", |_, world| !world.memory.strayed),
    ("one conversion at most", |_, world| world.memory.conversions <= 1),
    ("rewarded has both rewards and nothing else has", |_, world| {
        world.item.rewards().is_some() == (world.item.status() == Status::Rewarded)
    }),
    ("nothing is issued to whom the issue saw flagged", |_, world| !world.memory.issued_to_flagged),
    ("nothing is issued before the hold is over", |_, world| !world.memory.issued_early),
    ("what is voided was not paid", |_, world| {
        world.item.status() != Status::Voided || Side::BOTH.iter().all(|side| world.booked.of(*side) == 0)
    }),
    ("booked once at most", |_, world| Side::BOTH.iter().all(|side| world.booked.of(*side) <= 1)),
    ("marked delivered only after it was booked", |_, world| {
        Side::BOTH.into_iter().all(|side| world.booked.of(side) > 0 || !is(world, side, RewardStatus::Delivered))
    }),
    ("what was marked delivered stays so", |_, world| {
        Side::BOTH.into_iter().all(|side| !world.memory.marked.of(side) || is(world, side, RewardStatus::Delivered))
    }),
    ("what is owed is in the index of work, and nothing else is", |_, world| {
        let on_its_way = Side::BOTH.into_iter().any(|side| is(world, side, RewardStatus::Issued));
        let owes = world.item.status() == Status::Converted || on_its_way;
        owes == (lane(world) == Some(Lane::Due))
    }),
    ("no event is acknowledged without its effect", |_, world| {
        let memory = &world.memory;
        (!memory.order_taken || world.item.conversion().is_some())
            && (!memory.cancellation_taken || world.item.status() != Status::Converted)
    }),
    ("what was withdrawn before it came voids", |_, world| {
        let by_it = world.item.conversion().is_some_and(|conversion| conversion.order == order(News::Order).id);
        !world.memory.overtaken || !by_it || world.item.status() == Status::Voided
    }),
    ("nothing is announced again without cause", |protocol, world| {
        let scope = &protocol.scope;
        let causes = 1 + (scope.faults - world.faults) + (scope.resends - world.resends);
        Side::BOTH.iter().all(|side| world.queued.of(*side) <= causes)
    }),
    ("at rest, all that is owed is settled", |protocol, world| {
        !is_at_rest(protocol, world)
            || match world.item.status() {
                // No order came.
                Status::Pending => !world.memory.order_taken,
                Status::Converted => false,
                Status::Rewarded => Side::BOTH.into_iter().all(|side| {
                    (is(world, side, RewardStatus::Failed) && lane(world) == Some(Lane::Attention))
                        || (is(world, side, RewardStatus::Delivered) && world.booked.of(side) == 1)
                }),
                // Had nobody been flagged and nothing cancelled, it would have had to be paid.
                Status::Voided => world.memory.ever_flagged || world.memory.withdrawn || world.memory.overtaken,
            }
    }),
];

/// If one of these could not be reached, the model would be too small to prove anything.
const SOMETIMES: [(&str, Holds); 7] = [
    ("both are paid", |protocol, world| {
        is_at_rest(protocol, world) && Side::BOTH.into_iter().all(|side| is(world, side, RewardStatus::Delivered))
    }),
    ("a flag voids", |_, world| {
        world.item.status() == Status::Voided && !world.memory.withdrawn && !world.memory.overtaken
    }),
    ("a cancellation voids", |_, world| world.item.status() == Status::Voided && !world.memory.ever_flagged),
    ("a cancellation overtakes its order", |_, world| world.memory.overtaken),
    ("a refusal waits for an operator", |protocol, world| {
        is_at_rest(protocol, world) && Side::BOTH.into_iter().any(|side| is(world, side, RewardStatus::Failed))
    }),
    ("what was refused is paid after all", |protocol, world| {
        let all = Side::BOTH.into_iter().all(|side| is(world, side, RewardStatus::Delivered));
        is_at_rest(protocol, world) && world.resends < protocol.scope.resends && all
    }),
    ("own work is recognised", |_, world| world.running.iter().any(|process| world.finds_own_work(process))),
];

/// All of them.
pub(crate) fn all() -> Vec<Property<Protocol>> {
    let always = ALWAYS.map(|(name, holds)| Property::always(name, holds));
    always.into_iter().chain(SOMETIMES.map(|(name, holds)| Property::sometimes(name, holds))).collect()
}

/// Nothing is left for the service to do: nobody runs, nothing is in flight, nothing will be due.
fn is_at_rest(protocol: &Protocol, world: &World) -> bool {
    world.is_quiet() && {
        let mut left = Vec::new();
        protocol.inside(world, &mut left);
        left.is_empty()
    }
}

fn is(world: &World, side: Side, status: RewardStatus) -> bool {
    world.item.rewards().is_some_and(|rewards| rewards.of(side).status() == status)
}

fn lane(world: &World) -> Option<Lane> {
    world.listed.map(|work| work.lane)
}
