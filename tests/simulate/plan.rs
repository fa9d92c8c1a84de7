//! Plans: what users and the product do in a history, and when. Random by seed, and shrunk after a violation.

use std::ops::Range;

use fastrand::Rng;

use crate::oracle::ORDER_AMOUNT;

/// Which of stream and sweep are active. One of them is usually off, so that it cannot hide a defect of the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Only the stream.
    Stream,
    /// Only the sweep.
    Sweep,
    /// Both, and the stream may lose records.
    Both,
}

/// How the product dates a flag or a clearance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dated {
    /// By `occurred_at`, from a correct clock.
    Correctly,
    /// By the envelope only, from a clock that is this many milliseconds ahead.
    Ahead(u64),
    /// By an `occurred_at` that is this many milliseconds ahead, which is too far.
    TooFarAhead(u64),
}

/// What happens to an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Adjust {
    Cancel,
    /// The refund with this number.
    Refund {
        refund: u8,
        amount: u64,
    },
    RefundFailed {
        refund: u8,
    },
    /// The refund with this number, in another currency than the order.
    ForeignRefund {
        refund: u8,
    },
    Dispute,
    DisputeWon,
}

/// What an operator does with the referral of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operate {
    Void,
    Reopen,
    Approve,
    Convert { order: usize },
}

/// An action of a user or the product.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A member requests a code.
    Mint {
        user: usize,
    },
    /// A member requests a code that belongs to another user now or later.
    MintTaken {
        user: usize,
        owner: usize,
    },
    /// A member requests the first code again, or another one, with this number.
    MintNumber {
        user: usize,
        number: usize,
    },
    /// An operator disables a code; below, removes its end.
    EndCode {
        user: usize,
        number: usize,
    },
    ReviveCode {
        user: usize,
        number: usize,
    },
    /// The product reports a sign-up with someone's code.
    Attribute {
        referee: usize,
        referrer: usize,
    },
    /// The product reports a sign-up that happened this many milliseconds ago.
    AttributeLate {
        referee: usize,
        referrer: usize,
        ago: u64,
    },
    /// The product reports the sign-up of a user who has been a member for years.
    AttributeMember {
        referee: usize,
        referrer: usize,
    },
    /// An order event.
    Order {
        user: usize,
        order: usize,
    },
    /// The product reports an order for another user too, such as a guest who then registers.
    OrderOfOther {
        user: usize,
        order: usize,
    },
    /// The product reports an order that was placed this many milliseconds ago.
    Backfill {
        user: usize,
        order: usize,
        ago: u64,
        /// Whether only the envelope says so.
        by_envelope: bool,
    },
    /// An order of a user is adjusted, by an event that may name the user.
    Adjust {
        user: usize,
        order: usize,
        what: Adjust,
        names_user: bool,
    },
    /// An account is flagged; below, cleared.
    Flag {
        user: usize,
        dated: Dated,
    },
    Clear {
        user: usize,
        dated: Dated,
    },
    /// An operator acts.
    Operate {
        user: usize,
        what: Operate,
    },
    /// An order has as many adjustments as are kept, before it arrives. None of them has an effect.
    FillOrder {
        order: usize,
    },
    /// The product publishes an invalid order.
    InvalidOrder {
        user: usize,
    },
    /// The functions are deployed with other settings.
    Settings {
        variant: usize,
    },
}

/// An action and its time, in milliseconds since the start of the history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) action: Action,
}

/// The plan of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    /// The settings at the start.
    pub(crate) variant: usize,
    /// The function whose clock is ahead, and by how many milliseconds.
    pub(crate) skew: Option<(usize, u64)>,
    pub(crate) steps: Vec<Step>,
}

/// The users. The first two invite the others. One of the invited users may invite one of the first two.
pub(crate) const USERS: [&str; 5] = ["ann", "ben", "cat", "dan", "eve"];
/// The most orders of a user.
const ORDERS: usize = 3;
/// The most codes of a user. The first one has the number 0.
const CODES: usize = 3;
/// How far a function's clock can be ahead, in milliseconds.
pub(crate) const MAX_SKEW: u64 = 120_000;
/// The time within which the actions begin, in milliseconds.
const SPAN: u64 = 4_000;
/// When an adjustment arrives that is late enough for the sweep to deliver the rewards before it, in milliseconds.
const AFTER_DELIVERY: Range<u64> = 610_000..2_000_000;
/// How long before the sign-up an order may be placed, in milliseconds.
pub(crate) const ORDER_LEAD: u64 = 900_000;
/// How late a sign-up is reported at most, in milliseconds. The code was minted up to [`MAX_SKEW`] later, by its own time, and a
/// user who signed up five minutes before the code existed is not new.
const LATEST_REPORT: u64 = 170_000;

impl Dated {
    fn random(rng: &mut Rng) -> Self {
        match rng.u8(..10) {
            0..6 => Self::Correctly,
            6..8 => Self::ahead(rng),
            // Ahead of what a function with a clock that is ahead accepts. Some are in the past when the copy arrives.
            _ => Self::TooFarAhead(MAX_SKEW + 300_000 + rng.u64(1_000..2_000_000)),
        }
    }

    fn ahead(rng: &mut Rng) -> Self {
        Self::Ahead(rng.u64(1_000..2_000_000))
    }
}

impl Plan {
    pub(crate) fn random(seed: u64, variants: usize, functions: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mode = match rng.u8(..100) {
            0..47 => Mode::Stream,
            47..94 => Mode::Sweep,
            _ => Mode::Both,
        };
        let mut steps = vec![Step { at: 0, action: Action::Mint { user: 0 } }];
        let mut add = |at: u64, action| steps.push(Step { at, action });
        if rng.bool() {
            add(rng.u64(..SPAN), Action::Mint { user: 1 });
        }
        if rng.u8(..10) == 0 {
            add(rng.u64(..SPAN), Action::MintTaken { user: rng.usize(..2), owner: rng.usize(..USERS.len()) });
        }
        for referee in 2..2 + rng.usize(1..=2) {
            referee_actions(&mut rng, referee, &mut add);
        }
        let flags = if rng.u8(..10) < 4 { rng.usize(1..=3) } else { 0 };
        for _ in 0..flags {
            let (user, dated) = (rng.usize(..USERS.len()), Dated::random(&mut rng));
            let action = if rng.bool() { Action::Flag { user, dated } } else { Action::Clear { user, dated } };
            add(rng.u64(..SPAN), action);
        }
        if rng.u8(..10) == 0 {
            // A wrong clock, and later the opposite from a correct one.
            let (user, dated) = (rng.usize(..USERS.len()), Dated::ahead(&mut rng));
            let (first, second) = (rng.u64(..SPAN / 2), rng.u64(SPAN / 2..SPAN));
            let correct = Dated::Correctly;
            let (flag, clear) = (|dated| Action::Flag { user, dated }, |dated| Action::Clear { user, dated });
            let (one, other) = if rng.bool() { (flag(dated), clear(correct)) } else { (clear(dated), flag(correct)) };
            add(first, one);
            add(second, other);
        }
        if rng.u8(..10) == 0 {
            add(rng.u64(..SPAN), Action::InvalidOrder { user: rng.usize(..USERS.len()) });
        }
        if rng.u8(..10) < 2 {
            add(rng.u64(..SPAN), Action::Settings { variant: rng.usize(..variants) });
        }
        let skew = (rng.u8(..10) < 2).then(|| (rng.usize(..functions), rng.u64(1_000..MAX_SKEW)));
        if rng.u8(..10) == 0 {
            let step = Action::AttributeMember { referee: rng.usize(2..USERS.len()), referrer: 0 };
            steps.push(Step { at: rng.u64(..SPAN), action: step });
        }
        steps.sort_by_key(|step| step.at);
        // With a hold, rewards need a sweep.
        let variant = if mode == Mode::Stream { 0 } else { rng.usize(..variants) };
        if mode == Mode::Stream {
            steps.retain(|step| !matches!(step.action, Action::Settings { .. }));
        }
        if rng.u8(..10) < 2 {
            code_actions(&mut rng, &mut |at, action| steps.push(Step { at, action }));
            steps.sort_by_key(|step| step.at);
        }
        operations(&mut rng, &mut steps);
        if rng.u8(..10) < 2 {
            orders_of_others(&mut rng, &mut steps);
        }
        if rng.u8(..10) < 2 {
            steps.iter_mut().for_each(|step| step.action.report_late(&mut rng));
        }
        Self { seed, mode, variant, skew, steps }
    }
}

impl Action {
    /// Reports some sign-ups and orders late.
    fn report_late(&mut self, rng: &mut Rng) {
        match *self {
            Self::Attribute { referee, referrer } if rng.bool() => {
                *self = Self::AttributeLate { referee, referrer, ago: rng.u64(1..LATEST_REPORT) };
            }
            Self::Order { user, order } if rng.bool() => {
                let around = ORDER_LEAD - SPAN..ORDER_LEAD + LATEST_REPORT + SPAN;
                let ago = match rng.u8(..3) {
                    0 => rng.u64(1..ORDER_LEAD),
                    1 => rng.u64(around),
                    _ => rng.u64(ORDER_LEAD..1_000 * ORDER_LEAD),
                };
                *self = Self::Backfill { user, order, ago, by_envelope: rng.bool() };
            }
            _ => {}
        }
    }
}

/// Reports some orders for another invited user too, before or after the first report.
fn orders_of_others(rng: &mut Rng, steps: &mut Vec<Step>) {
    let orders: Vec<(usize, usize)> = steps
        .iter()
        .filter_map(|step| match step.action {
            Action::Order { user, order } => Some((user, order)),
            _ => None,
        })
        .collect();
    for (user, order) in orders {
        let other = if user == 2 { 3 } else { 2 };
        steps.push(Step { at: rng.u64(..SPAN), action: Action::OrderOfOther { user: other, order } });
    }
    steps.sort_by_key(|step| step.at);
}

/// Operators end, reopen and convert referrals, and decide about what is unclear. Some orders are full.
fn operations(rng: &mut Rng, steps: &mut Vec<Step>) {
    let user = rng.usize(2..=3);
    let mut at = if rng.u8(..3) == 0 { rng.u64(AFTER_DELIVERY) } else { rng.u64(..SPAN) };
    let mut add = |rng: &mut Rng, what| {
        steps.push(Step { at, action: Action::Operate { user, what } });
        at += rng.u64(1..1_500);
    };
    match rng.u8(..20) {
        0 => add(rng, Operate::Void),
        1 => add(rng, Operate::Reopen),
        2 => {
            let order = user * ORDERS + rng.usize(..ORDERS);
            add(rng, Operate::Convert { order });
        }
        3 | 4 => {
            add(rng, Operate::Void);
            add(rng, Operate::Reopen);
            if rng.bool() {
                add(rng, Operate::Void);
            }
        }
        _ => {}
    }
    if rng.u8(..20) == 0 {
        steps.insert(0, Step { at: 0, action: Action::FillOrder { order: user * ORDERS } });
    }
    let is_unclear = |step: &Step| {
        matches!(
            step.action,
            Action::FillOrder { .. } | Action::Adjust { what: Adjust::ForeignRefund { .. } | Adjust::DisputeWon, .. }
        )
    };
    if steps.iter().any(is_unclear) && rng.bool() {
        for user in 2..=3 {
            let at = if rng.bool() { rng.u64(..2 * SPAN) } else { rng.u64(AFTER_DELIVERY) };
            steps.push(Step { at, action: Action::Operate { user, what: Operate::Approve } });
        }
    }
    steps.sort_by_key(|step| step.at);
}

/// The first code of a member ends. Then the member and operators change the member's codes, many of them at once.
fn code_actions(rng: &mut Rng, add: &mut impl FnMut(u64, Action)) {
    let user = 0;
    let ended = rng.u64(200..SPAN);
    add(ended, Action::EndCode { user, number: 0 });
    let mut at = ended + rng.u64(1..1_500);
    for _ in 0..rng.usize(2..=5) {
        let number = rng.usize(..CODES);
        let action = match rng.u8(..10) {
            0..5 => Action::MintNumber { user, number },
            5..8 => Action::ReviveCode { user, number },
            _ => Action::EndCode { user, number },
        };
        add(at, action);
        if rng.bool() {
            at += rng.u64(1..1_500);
        }
    }
}

/// The actions of one referee: signs up, perhaps with two codes, orders, and perhaps adjusts an order before or after
/// it.
fn referee_actions(rng: &mut Rng, referee: usize, add: &mut impl FnMut(u64, Action)) {
    let signed_up = rng.u64(50..SPAN / 2);
    add(signed_up, Action::Attribute { referee, referrer: 0 });
    if rng.u8(..10) < 3 {
        let referrer = rng.usize(..2);
        // Perhaps at the same moment.
        let at = if rng.bool() { signed_up } else { rng.u64(..SPAN) };
        add(at, Action::Attribute { referee, referrer });
    }
    if rng.u8(..10) < 2 {
        add(rng.u64(..SPAN), Action::Mint { user: referee });
        add(rng.u64(..SPAN), Action::Attribute { referee: 0, referrer: referee });
    }
    // Often several, so that one of them converts after another one was undone.
    let orders = rng.usize(1..=ORDERS).max(rng.usize(1..=ORDERS));
    for number in 0..orders {
        let order = referee * ORDERS + number;
        add(rng.u64(..SPAN), Action::Order { user: referee, order });
        for what in adjustments(rng) {
            let names_user = rng.bool();
            let at = if rng.u8(..4) == 0 { rng.u64(AFTER_DELIVERY) } else { rng.u64(..SPAN) };
            add(at, Action::Adjust { user: referee, order, what, names_user });
        }
    }
}

/// What happens to an order, in any order.
fn adjustments(rng: &mut Rng) -> Vec<Adjust> {
    let refund = |refund, amount| Adjust::Refund { refund, amount };
    let mut all = match rng.u8(..10) {
        0 => vec![Adjust::Cancel],
        1 => vec![refund(0, ORDER_AMOUNT)],
        // Two parts leave less than the minimum.
        2 => (0..rng.u8(1..=3)).map(|number| refund(number, ORDER_AMOUNT / 3)).collect(),
        3 => vec![Adjust::Dispute],
        4 => vec![Adjust::Dispute, Adjust::DisputeWon],
        5 if rng.bool() => vec![Adjust::ForeignRefund { refund: 7 }],
        _ => return Vec::new(),
    };
    if let (Adjust::ForeignRefund { refund }, 0) = (all[0], rng.u8(..4)) {
        all.push(Adjust::RefundFailed { refund });
    }
    if let (Adjust::Refund { refund, .. }, true) = (all[0], rng.bool()) {
        // Reported again, or failed.
        all.push(if rng.bool() { all[0] } else { Adjust::RefundFailed { refund } });
    }
    if rng.u8(..6) == 0 {
        all.push(Adjust::Dispute);
    }
    all
}
