//! Figures: what counters hold, each under a name.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    money::{Amount, Currency},
    referral::VoidReason,
    reward::{Benefit, RewardType},
};

/// Referrals that were attributed.
pub const ATTRIBUTED: &str = "attributed";
/// Referrals that an order converted, whatever came of them later.
pub const CONVERTED: &str = "converted";
/// Referrals that were converted and are not voided. Referrers are ranked by it.
pub const LASTING: &str = "lasting";
/// Referrals whose rewards were decided.
pub const REWARDED: &str = "rewarded";

/// Figures by name. What is zero is not there: a counter that went up and down again is as if it had never moved.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures(BTreeMap<String, i128>);

impl Figures {
    /// Adds to a figure.
    pub fn add(&mut self, name: impl Into<String>, count: i128) {
        let name = name.into();
        let sum = self.0.remove(&name).unwrap_or_default().saturating_add(count);
        if sum != 0 {
            self.0.insert(name, sum);
        }
    }

    /// Adds each of these figures so many times.
    pub fn add_all(&mut self, others: &Self, times: i128) {
        for (name, count) in &others.0 {
            self.add(name.as_str(), count.saturating_mul(times));
        }
    }

    /// The figure of this name.
    pub fn get(&self, name: &str) -> i128 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Takes the figure of this name out.
    pub fn take(&mut self, name: &str) -> i128 {
        self.0.remove(name).unwrap_or_default()
    }

    /// Whether all are zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are not zero, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i128)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// How many referrals were voided for this reason.
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

/// How far a reward has got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Converted: it is issued when the hold ends.
    Held,
    /// Decided. Among what is owed: and on its way.
    Issued,
    /// The subsystem took it.
    Delivered,
    /// The subsystem refused it for good, and has not taken it since.
    Failed,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Held, Self::Issued, Self::Delivered, Self::Failed];

    /// The name in figures and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Issued => "issued",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// What rewards of one kind have in common: their amounts can be added up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kind {
    /// The type.
    pub r#type: RewardType,
    /// The currency; points have none.
    pub currency: Option<Currency>,
}

impl From<Benefit> for Kind {
    fn from(benefit: Benefit) -> Self {
        Self { r#type: benefit.kind(), currency: benefit.currency() }
    }
}

/// Several rewards of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sum {
    /// How many.
    pub count: i128,
    /// What they amount to, in minor units or points.
    pub amount: i128,
}

/// The figure of referrals voided for this reason.
pub fn voided(reason: VoidReason) -> String {
    format!("{VOIDED}{}", reason.as_str())
}

/// The figure of conversions so many weeks after the attribution's: the attribution's day keeps it.
pub fn after(weeks: usize) -> String {
    format!("after.{weeks}")
}

/// The figure of conversions that took a time between these bounds, the last of which is open.
pub fn took(bucket: usize) -> String {
    format!("took.{bucket}")
}

impl Figures {
    /// Counts one reward at this stage, with what it is worth.
    pub fn add_reward(&mut self, stage: Stage, benefit: Benefit) {
        let Kind { r#type, currency } = benefit.into();
        let currency = currency.map(|currency| format!(".{currency}")).unwrap_or_default();
        let name = format!("{}.{}{currency}", stage.as_str(), r#type.as_str());
        self.add(format!("{name}{NUMBER}"), 1);
        self.add(name, amount(benefit.amount()));
    }
}

const VOIDED: &str = "voided.";
/// At the end of a name: how many rewards, and not how much.
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
    fn rewards_are_added_up_by_stage_type_and_currency() {
        let mut figures = Figures::default();
        figures.add_reward(Stage::Issued, Benefit::Credit(money(500)));
        figures.add_reward(Stage::Issued, Benefit::Credit(money(700)));
        figures.add_reward(Stage::Held, Benefit::Points(Amount::small(3)));
        figures.add(voided(VoidReason::OrderRefunded), 1);
        let credit = Kind { r#type: RewardType::Credit, currency: Some(Currency::USD) };
        let points = Kind { r#type: RewardType::Points, currency: None };
        let expected = [
            ((Stage::Held, points), Sum { count: 1, amount: 3 }),
            ((Stage::Issued, credit), Sum { count: 2, amount: 1200 }),
        ];
        assert_eq!(figures.rewards(), BTreeMap::from(expected));
        assert_eq!(figures.voided().collect::<Vec<_>>(), [("order_refunded", 1)]);
    }

    #[test]
    fn what_went_up_and_down_again_is_not_there() {
        let (mut up, mut both) = (Figures::default(), Figures::default());
        up.add(CONVERTED, 2);
        both.add_all(&up, 1);
        both.add_all(&up, -1);
        assert_eq!(both, Figures::default());
        assert!(both.is_empty());
    }
}
