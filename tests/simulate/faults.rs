//! Faults: what may go wrong, when it does, and how often it did.

use fastrand::Rng;

/// A kind of fault. Adding one is a line here and a call of [`Faults::strikes`] where it can happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    AnswerLost,
    RequestLost,
    Throttled,
    Conflict,
    InternalError,
    SlowCall,
    BatchCut,
    IndexLags,
    Crash,
    Duplicate,
    Reordered,
    PartialBatch,
    RecordLost,
    SweepDelayed,
    SubsystemFails,
    SubsystemAnswerLost,
    SubsystemRefuses,
    BusLosesEntry,
    Late,
    Flagged,
    TakenBack,
    SettingsChanged,
    ClockAhead,
}

impl Kind {
    pub(crate) const ALL: [Self; 23] = [
        Self::AnswerLost,
        Self::RequestLost,
        Self::Throttled,
        Self::Conflict,
        Self::InternalError,
        Self::SlowCall,
        Self::BatchCut,
        Self::IndexLags,
        Self::Crash,
        Self::Duplicate,
        Self::Reordered,
        Self::PartialBatch,
        Self::RecordLost,
        Self::SweepDelayed,
        Self::SubsystemFails,
        Self::SubsystemAnswerLost,
        Self::SubsystemRefuses,
        Self::BusLosesEntry,
        Self::Late,
        Self::Flagged,
        Self::TakenBack,
        Self::SettingsChanged,
        Self::ClockAhead,
    ];
}

impl Kind {
    /// About how many chances a history has for this kind, so that faults strike early and late.
    fn chances(self) -> u32 {
        match self {
            Self::AnswerLost => 16,
            Self::RequestLost | Self::Throttled | Self::InternalError | Self::SlowCall => 24,
            Self::Conflict | Self::Crash | Self::Duplicate => 12,
            Self::SubsystemFails | Self::SubsystemAnswerLost | Self::SubsystemRefuses => 4,
            Self::BusLosesEntry | Self::BatchCut => 8,
            Self::IndexLags => 40,
            Self::Late => 3,
            Self::RecordLost => 2,
            Self::Reordered | Self::SweepDelayed => 1,
            // These come by the plan.
            Self::PartialBatch | Self::Flagged | Self::TakenBack | Self::SettingsChanged | Self::ClockAhead => 1,
        }
    }
}

/// Where a fault struck: at the n-th chance of its kind.
pub(crate) type Strike = (Kind, u32);

/// The faults of one history.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Those that are to strike, if their chance comes.
    ordered: Vec<Strike>,
    chances: [u32; Kind::ALL.len()],
    struck: Vec<Strike>,
    /// At rest nothing goes wrong any more, or there would be no rest.
    over: bool,
}

impl Faults {
    /// How many faults are drawn for a history; some of them never get their chance.
    const DRAWN: usize = 30;
    /// How many calls an outage lasts.
    const OUTAGE: u32 = 8;

    /// Faults of all kinds, spread over the chances that a history has.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0xFA17);
        let strike = |_| {
            let kind = Kind::ALL[rng.usize(..Kind::ALL.len())];
            (kind, rng.u32(1..=kind.chances()))
        };
        let mut strikes: Vec<_> = (0..Self::DRAWN).map(strike).collect();
        if rng.u8(..4) == 0 {
            // For a while the table answers nobody, however often it is asked.
            let first = rng.u32(1..=24);
            strikes.extend((first..first + Self::OUTAGE).map(|chance| (Kind::Throttled, chance)));
        }
        Self::given(strikes)
    }

    /// These and no others.
    pub(crate) fn given(ordered: Vec<Strike>) -> Self {
        Self { ordered, chances: [0; Kind::ALL.len()], struck: Vec::new(), over: false }
    }

    /// Whether a fault of this kind strikes here.
    pub(crate) fn strikes(&mut self, kind: Kind) -> bool {
        if self.over {
            return false;
        }
        let chance = &mut self.chances[kind as usize];
        *chance += 1;
        let strike = (kind, *chance);
        let strikes = self.ordered.contains(&strike);
        if strikes {
            self.struck.push(strike);
        }
        strikes
    }

    /// Notes something that the plan brought and that counts as a fault.
    pub(crate) fn note(&mut self, kind: Kind) {
        self.chances[kind as usize] += 1;
        self.struck.push((kind, self.chances[kind as usize]));
    }

    /// From here on nothing goes wrong any more.
    pub(crate) fn end(&mut self) {
        self.over = true;
    }

    pub(crate) fn struck(&self) -> &[Strike] {
        &self.struck
    }
}
