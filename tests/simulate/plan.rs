//! Plans: what people and the product do in a history, and when. Drawn from a seed, and cut down when one fails.

use fastrand::Rng;

/// How work gets done besides the bus: by what, and what is turned off so that it hides nothing of the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// The stream alone; no sweep runs.
    Stream,
    /// The sweep alone; the stream is off.
    Sweep,
    /// Both, and the stream may lose records.
    Both,
}

/// Something that happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A member asks for a code.
    Mint {
        user: usize,
    },
    /// A member asks for a code that another user has, or is to have.
    Covet {
        user: usize,
        whose: usize,
    },
    /// The product reports a sign-up by somebody's code.
    Attribute {
        referee: usize,
        referrer: usize,
    },
    /// An order, as an event.
    Order {
        user: usize,
        order: usize,
    },
    /// An order does not stand any more: as a whole or in part.
    Cancel {
        user: usize,
        order: usize,
    },
    Refund {
        user: usize,
        order: usize,
        whole: bool,
    },
    Dispute {
        user: usize,
        order: usize,
    },
    /// An account's standing changes.
    Flag {
        user: usize,
    },
    Clear {
        user: usize,
    },
    /// The functions are deployed anew with other settings.
    Settings {
        variant: usize,
    },
}

/// An action and its moment, in milliseconds since the history began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) action: Action,
}

/// A history before it happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    /// The settings that the history begins with.
    pub(crate) variant: usize,
    /// The function whose clock is ahead, and by how many milliseconds.
    pub(crate) skew: Option<(usize, u64)>,
    pub(crate) steps: Vec<Step>,
}

/// People in a history. The first two invite, the others are invited; one of those may invite back.
pub(crate) const USERS: [&str; 5] = ["ann", "ben", "cat", "dan", "eve"];
/// Orders each of which belongs to one user.
const ORDERS: usize = 2;
/// The time in which everything happens, in milliseconds.
const SPAN: u64 = 4_000;

impl Plan {
    pub(crate) fn draw(seed: u64, variants: usize, functions: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mode = match rng.u8(..100) {
            0..48 => Mode::Stream,
            48..96 => Mode::Sweep,
            _ => Mode::Both,
        };
        let mut steps = vec![Step { at: 0, action: Action::Mint { user: 0 } }];
        let mut add = |at: u64, action| steps.push(Step { at, action });
        if rng.bool() {
            add(rng.u64(..SPAN), Action::Mint { user: 1 });
        }
        if rng.u8(..10) == 0 {
            add(rng.u64(..SPAN), Action::Covet { user: rng.usize(..2), whose: rng.usize(..USERS.len()) });
        }
        for referee in 2..2 + rng.usize(1..=2) {
            people(&mut rng, referee, &mut add);
        }
        let flags = if rng.u8(..10) < 4 { rng.usize(1..=3) } else { 0 };
        for _ in 0..flags {
            let user = rng.usize(..USERS.len());
            let action = if rng.bool() { Action::Flag { user } } else { Action::Clear { user } };
            add(rng.u64(..SPAN), action);
        }
        if rng.u8(..10) < 2 {
            add(rng.u64(..SPAN), Action::Settings { variant: rng.usize(..variants) });
        }
        let skew = (rng.u8(..10) < 2).then(|| (rng.usize(..functions), rng.u64(1_000..120_000)));
        steps.sort_by_key(|step| step.at);
        // Only the sweep ends a hold.
        let variant = if mode == Mode::Stream { 0 } else { rng.usize(..variants) };
        if mode == Mode::Stream {
            steps.retain(|step| !matches!(step.action, Action::Settings { .. }));
        }
        Self { seed, mode, variant, skew, steps }
    }
}

/// One referee's life: signs up, perhaps by two codes, orders, and may take an order back, before or after.
fn people(rng: &mut Rng, referee: usize, add: &mut impl FnMut(u64, Action)) {
    let signed_up = rng.u64(50..SPAN / 2);
    add(signed_up, Action::Attribute { referee, referrer: 0 });
    if rng.u8(..10) < 3 {
        let referrer = rng.usize(..2);
        // Perhaps at the very same moment.
        let at = if rng.bool() { signed_up } else { rng.u64(..SPAN) };
        add(at, Action::Attribute { referee, referrer });
    }
    if rng.u8(..10) < 2 {
        add(rng.u64(..SPAN), Action::Mint { user: referee });
        add(rng.u64(..SPAN), Action::Attribute { referee: 0, referrer: referee });
    }
    for number in 0..rng.usize(1..=ORDERS) {
        let order = referee * ORDERS + number;
        add(rng.u64(..SPAN), Action::Order { user: referee, order });
        let at = rng.u64(..SPAN);
        match rng.u8(..10) {
            0 => add(at, Action::Cancel { user: referee, order }),
            1 => add(at, Action::Refund { user: referee, order, whole: rng.bool() }),
            2 => add(at, Action::Dispute { user: referee, order }),
            _ => {}
        }
    }
}
