//! Faults: which kinds exist, when they strike, and how often they did.

use fastrand::Rng;

/// A kind of fault. To add one, add a line here and call [`Faults::strikes`] where it can happen.
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
    EventDelayed,
    Flagged,
    OrderAdjusted,
    OrderRestored,
    NextOrderConverts,
    RewardReversed,
    SettingsChanged,
    ClockAhead,
    ProductClockAhead,
    InvalidEvent,
    OrderBackfilled,
    SignUpReportedLate,
    OrderOfOther,
    OperatorActs,
    ForeignRefund,
    OrderFull,
}

impl Kind {
    pub(crate) const ALL: [Self; 34] = [
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
        Self::EventDelayed,
        Self::Flagged,
        Self::OrderAdjusted,
        Self::OrderRestored,
        Self::NextOrderConverts,
        Self::RewardReversed,
        Self::SettingsChanged,
        Self::ClockAhead,
        Self::ProductClockAhead,
        Self::InvalidEvent,
        Self::OrderBackfilled,
        Self::SignUpReportedLate,
        Self::OrderOfOther,
        Self::OperatorActs,
        Self::ForeignRefund,
        Self::OrderFull,
    ];
}

impl Kind {
    /// The approximate number of opportunities for this kind in a history, so that faults strike early and late.
    fn chances(self) -> u32 {
        match self {
            Self::AnswerLost => 16,
            Self::RequestLost | Self::Throttled | Self::InternalError | Self::SlowCall => 24,
            Self::Conflict | Self::Crash | Self::Duplicate => 12,
            Self::SubsystemFails | Self::SubsystemAnswerLost | Self::SubsystemRefuses => 4,
            Self::BusLosesEntry | Self::BatchCut => 8,
            Self::IndexLags => 40,
            Self::EventDelayed => 3,
            Self::RecordLost => 2,
            Self::Reordered | Self::SweepDelayed => 1,
            // The plan decides about these.
            Self::PartialBatch
            | Self::Flagged
            | Self::OrderAdjusted
            | Self::OrderRestored
            | Self::NextOrderConverts
            | Self::RewardReversed
            | Self::SettingsChanged
            | Self::ClockAhead
            | Self::ProductClockAhead
            | Self::InvalidEvent
            | Self::OrderBackfilled
            | Self::SignUpReportedLate
            | Self::OrderOfOther
            | Self::OperatorActs
            | Self::ForeignRefund
            | Self::OrderFull => 1,
        }
    }
}

/// A fault that strikes at the n-th opportunity of its kind.
pub(crate) type Strike = (Kind, u32);

/// The faults of one history.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// The faults that strike if their opportunity comes.
    planned: Vec<Strike>,
    chances: [u32; Kind::ALL.len()],
    struck: Vec<Strike>,
    /// No faults strike at the end of a history, so that it can become idle.
    disabled: bool,
}

impl Faults {
    /// How many faults are chosen for a history. Some of them never get an opportunity.
    const FAULTS: usize = 30;
    /// How many calls an outage lasts.
    const OUTAGE_CALLS: u32 = 8;

    /// Random faults of all kinds, spread over the opportunities of a history.
    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0xFA17);
        let strike = |_| {
            let kind = Kind::ALL[rng.usize(..Kind::ALL.len())];
            (kind, rng.u32(1..=kind.chances()))
        };
        let mut strikes: Vec<_> = (0..Self::FAULTS).map(strike).collect();
        if rng.u8(..4) == 0 {
            // An outage: the table throttles all calls for a while.
            let first = rng.u32(1..=24);
            strikes.extend((first..first + Self::OUTAGE_CALLS).map(|chance| (Kind::Throttled, chance)));
        }
        Self::only(strikes)
    }

    /// Only these faults.
    pub(crate) fn only(planned: Vec<Strike>) -> Self {
        Self { planned, chances: [0; Kind::ALL.len()], struck: Vec::new(), disabled: false }
    }

    /// Counts an opportunity for this kind and returns whether a fault strikes.
    pub(crate) fn strikes(&mut self, kind: Kind) -> bool {
        if self.disabled {
            return false;
        }
        let chance = &mut self.chances[kind as usize];
        *chance += 1;
        let strike = (kind, *chance);
        let strikes = self.planned.contains(&strike);
        if strikes {
            self.struck.push(strike);
        }
        strikes
    }

    /// Counts a fault that the plan contains.
    pub(crate) fn note(&mut self, kind: Kind) {
        self.chances[kind as usize] += 1;
        self.struck.push((kind, self.chances[kind as usize]));
    }

    /// Disables faults from now on.
    pub(crate) fn end(&mut self) {
        self.disabled = true;
    }

    pub(crate) fn struck(&self) -> &[Strike] {
        &self.struck
    }
}
