//! Counters: named numbers, and the names under which they are stored.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    domain::money::{Amount, Currency},
    referral::{
        VoidReason,
        reward::{Benefit, RewardType},
    },
};

/// The counter of attributed referrals.
pub const ATTRIBUTED: &str = "attributed";
/// The counter of converted referrals, including those that were voided later.
pub const CONVERTED: &str = "converted";
/// The counter of referrals that are converted and not voided; leaderboards rank by it. The table stores it inside the
/// score (see `items`) and not under this name.
pub const NET_CONVERSIONS: &str = "net_conversions";
/// The counter of referrals whose rewards were issued.
pub const REWARDED: &str = "rewarded";

/// Counters by name. A counter at zero is removed, so that a counter that returned to zero equals one that was never
/// changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters(BTreeMap<String, i128>);

impl Counters {
    /// Adds to the counter of this name.
    pub fn add(&mut self, name: impl Into<String>, count: i128) {
        let name = name.into();
        let sum = self.0.remove(&name).unwrap_or_default().saturating_add(count);
        if sum != 0 {
            self.0.insert(name, sum);
        }
    }

    /// Adds each of the other counters, multiplied by `times`.
    pub fn add_all(&mut self, others: &Self, times: i128) {
        for (name, count) in &others.0 {
            self.add(name.as_str(), count.saturating_mul(times));
        }
    }

    /// The counter of this name; zero if there is none.
    pub fn get(&self, name: &str) -> i128 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Removes the counter of this name and returns its value.
    pub fn remove(&mut self, name: &str) -> i128 {
        self.0.remove(name).unwrap_or_default()
    }

    /// Whether all counters are zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The counters that are not zero, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i128)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// How many referrals were voided, by reason.
    pub fn voided(&self) -> impl Iterator<Item = (&str, i128)> {
        self.iter().filter_map(|(name, count)| Some((name.strip_prefix(VOIDED)?, count)))
    }

    /// The rewards at each stage, by type and currency.
    pub fn rewards(&self) -> BTreeMap<(Stage, Kind), Sum> {
        let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
        for (name, count) in self.iter() {
            let (of, is_number) = name.strip_suffix(NUMBER).map_or((name, false), |of| (of, true));
            if let Some(of) = read_rewards(of) {
                let sum = sums.entry(of).or_default();
                *(if is_number { &mut sum.count } else { &mut sum.amount }) = count;
            }
        }
        sums
    }
}

/// The stage that a reward has reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// The referral is converted; the reward is issued when the hold ends.
    Held,
    /// Issued. The liability counts a reward here only until it is delivered or has failed.
    Issued,
    /// The subsystem accepted it.
    Delivered,
    /// The subsystem refused it permanently, and has not accepted it since.
    Failed,
    /// It was taken back, whether or not it had been delivered.
    Reversed,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 5] = [Self::Held, Self::Issued, Self::Delivered, Self::Failed, Self::Reversed];

    /// The name as it is stored and as the API shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Issued => "issued",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Reversed => "reversed",
        }
    }
}

/// A reward type with its currency. Amounts of one kind can be added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kind {
    pub r#type: RewardType,
    /// `None` for points.
    pub currency: Option<Currency>,
}

impl From<Benefit> for Kind {
    fn from(benefit: Benefit) -> Self {
        Self { r#type: benefit.kind(), currency: benefit.currency() }
    }
}

/// The number of rewards of one kind, and their total amount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sum {
    pub count: i128,
    /// In minor units, or points.
    pub amount: i128,
}

/// The name of the counter of referrals voided for this reason.
pub fn voided(reason: VoidReason) -> String {
    format!("{VOIDED}{}", reason.as_str())
}

/// The name of the counter of conversions that happened `weeks` weeks after the week of the attribution. The counter is
/// stored in the item of the day of the attribution.
pub fn converted_after_weeks(weeks: usize) -> String {
    format!("after.{weeks}")
}

/// The name of the counter of conversions in a bucket of [`TIME_TO_CONVERT`](super::TIME_TO_CONVERT).
pub fn time_to_convert(bucket: usize) -> String {
    format!("took.{bucket}")
}

impl Counters {
    /// Counts one reward at this stage, with its amount.
    pub fn add_reward(&mut self, stage: Stage, benefit: Benefit) {
        let Kind { r#type, currency } = benefit.into();
        let currency = currency.map(|currency| format!(".{currency}")).unwrap_or_default();
        let name = format!("{}.{}{currency}", stage.as_str(), r#type.as_str());
        self.add(format!("{name}{NUMBER}"), 1);
        self.add(name, amount(benefit.amount()));
    }
}

const VOIDED: &str = "voided.";
/// The suffix of counters that hold a number of rewards; without it, a counter holds an amount.
const NUMBER: &str = ".n";

fn amount(amount: Amount) -> i128 {
    u64::from(amount).into()
}

fn read_rewards(name: &str) -> Option<(Stage, Kind)> {
    let mut parts = name.split('.');
    let stage = parts.next()?;
    let stage = Stage::ALL.into_iter().find(|known| known.as_str() == stage)?;
    let kind = Kind { r#type: parts.next()?.parse().ok()?, currency: parts.next().map(str::parse).transpose().ok()? };
    Some((stage, kind)).filter(|_| parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::money;

    #[test]
    fn rewards_are_summed_by_stage_type_and_currency() {
        let mut counters = Counters::default();
        counters.add_reward(Stage::Issued, Benefit::Credit(money(500)));
        counters.add_reward(Stage::Issued, Benefit::Credit(money(700)));
        counters.add_reward(Stage::Held, Benefit::Points(Amount::small(3)));
        counters.add(voided(VoidReason::OrderRefunded), 1);
        let credit = Kind { r#type: RewardType::Credit, currency: Some(Currency::USD) };
        let points = Kind { r#type: RewardType::Points, currency: None };
        let expected = [
            ((Stage::Held, points), Sum { count: 1, amount: 3 }),
            ((Stage::Issued, credit), Sum { count: 2, amount: 1200 }),
        ];
        assert_eq!(counters.rewards(), BTreeMap::from(expected));
        assert_eq!(counters.voided().collect::<Vec<_>>(), [("order_refunded", 1)]);
    }

    #[test]
    fn a_counter_that_returns_to_zero_is_removed() {
        let (mut up, mut both) = (Counters::default(), Counters::default());
        up.add(CONVERTED, 2);
        both.add_all(&up, 1);
        both.add_all(&up, -1);
        assert_eq!(both, Counters::default());
        assert!(both.is_empty());
    }
}
