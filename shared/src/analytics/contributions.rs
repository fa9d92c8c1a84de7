//! Counts: what the facts of a referral add to which counters.

use std::{collections::BTreeMap, time::Duration};

use super::{
    calendar::{Day, Month, Week},
    counters::{self, Figures, Stage},
    facts::Facts,
    queries::Period,
};
use crate::{
    id::{ProgramId, UserId},
    reward::Side,
};

/// The bounds of the histogram of times from attribution to conversion; what is above the last has a place of its own.
pub const TOOK: [(&str, Duration); 9] = [
    ("1m", Duration::from_secs(60)),
    ("10m", Duration::from_secs(600)),
    ("1h", Duration::from_secs(3600)),
    ("6h", Duration::from_secs(6 * 3600)),
    ("1d", Duration::from_secs(86_400)),
    ("3d", Duration::from_secs(3 * 86_400)),
    ("7d", Duration::from_secs(7 * 86_400)),
    ("14d", Duration::from_secs(14 * 86_400)),
    ("30d", Duration::from_secs(30 * 86_400)),
];

/// The last week of a cohort's life that is told apart: what converts later counts there.
pub const LATEST_WEEK: usize = 26;

/// What is counted together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Subject {
    /// What came to pass in a program on a day, and of those attributed on it, how many converted when.
    Day(ProgramId, Day),
    /// What came to pass in a program by one referrer in a month, or ever.
    Referrer(ProgramId, UserId, Period),
    /// What a program owes now.
    Liability(ProgramId),
}

/// What a referral adds to each counter, or a change of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts(pub(super) BTreeMap<Subject, Figures>);

impl Counts {
    fn of(&mut self, subject: Subject) -> &mut Figures {
        self.0.entry(subject).or_default()
    }

    /// What must be added so that these become of those before.
    #[must_use]
    pub(super) fn minus(mut self, before: &Self) -> Self {
        for (subject, figures) in &before.0 {
            self.of(subject.clone()).add_all(figures, -1);
        }
        self.0.retain(|_, figures| !figures.is_empty());
        self
    }
}

/// What these facts add to which counters.
pub fn contributions(facts: &Facts) -> Counts {
    let mut counts = Counts::default();
    count_conversion(&mut counts, facts);
    let mut came_to_pass = |at, figure: &str| count(&mut counts, facts, Day::of(at), |figures| figures.add(figure, 1));
    came_to_pass(facts.attributed_at, counters::ATTRIBUTED);
    if let Some(at) = facts.rewarded_at {
        came_to_pass(at, counters::REWARDED);
    }
    if let Some(voided) = &facts.voided {
        came_to_pass(voided.at, &counters::voided(voided.reason));
    }
    count_rewards(&mut counts, facts);
    counts
}

/// Counts for the program's day, the referrer's month, and the referrer for all time.
fn count(counts: &mut Counts, facts: &Facts, day: Day, add: impl Fn(&mut Figures)) {
    add(counts.of(Subject::Day(facts.program.clone(), day)));
    count_for_referrer(counts, facts, day, add);
}

fn count_for_referrer(counts: &mut Counts, facts: &Facts, day: Day, add: impl Fn(&mut Figures)) {
    for period in [Period::All, Period::Month(Month::of(day))] {
        add(counts.of(Subject::Referrer(facts.program.clone(), facts.referrer.clone(), period)));
    }
}

fn count_conversion(counts: &mut Counts, facts: &Facts) {
    let Some(at) = facts.converted_at else { return };
    let (attributed, converted) = (Day::of(facts.attributed_at), Day::of(at));
    count(counts, facts, converted, |figures| figures.add(counters::CONVERTED, 1));
    if facts.voided.is_none() {
        count_for_referrer(counts, facts, converted, |figures| figures.add(counters::LASTING, 1));
    }
    let bucket = bucket(at.since(facts.attributed_at));
    counts.of(Subject::Day(facts.program.clone(), converted)).add(counters::took(bucket), 1);
    let weeks = Week::of(converted).since(Week::of(attributed));
    // Two machines' clocks may differ: nobody converts before the attribution.
    let weeks = usize::try_from(weeks).unwrap_or_default().min(LATEST_WEEK);
    counts.of(Subject::Day(facts.program.clone(), attributed)).add(counters::after(weeks), 1);
}

fn bucket(took: Duration) -> usize {
    TOOK.iter().position(|(_, below)| took < *below).unwrap_or(TOOK.len())
}

fn count_rewards(counts: &mut Counts, facts: &Facts) {
    for (side, share) in facts.shares.iter().flat_map(super::facts::Shares::both) {
        let mut came_to_pass = |at, stage| {
            let (day, add) = (Day::of(at), |figures: &mut Figures| figures.add_reward(stage, share.benefit));
            match side {
                Side::Referrer => count(counts, facts, day, add),
                // The other side's reward is none of the referrer's.
                Side::Referee => add(counts.of(Subject::Day(facts.program.clone(), day))),
            }
        };
        if let Some(at) = facts.rewarded_at {
            came_to_pass(at, Stage::Issued);
        }
        if let Some(at) = share.delivered_at {
            came_to_pass(at, Stage::Delivered);
        }
        if let Some(at) = share.failed_at {
            came_to_pass(at, Stage::Failed);
        }
        let stage = facts.stage(share);
        if stage != Stage::Delivered {
            counts.of(Subject::Liability(facts.program.clone())).add_reward(stage, share.benefit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fraud::FraudReason,
        machine::Command,
        referral::Referral,
        reward::RewardType,
        sample::{applied, at, converted, grant, order, pending, rewarded},
    };

    fn counted(referral: &Referral) -> Counts {
        contributions(&referral.into())
    }

    fn day(counts: &Counts) -> Figures {
        let day = "1970-01-01".parse().unwrap();
        counts.0.get(&Subject::Day("default".parse().unwrap(), day)).cloned().unwrap_or_default()
    }

    fn referrer(counts: &Counts, period: Period) -> Figures {
        let subject = Subject::Referrer("default".parse().unwrap(), "alice".parse().unwrap(), period);
        counts.0.get(&subject).cloned().unwrap_or_default()
    }

    fn owed(counts: &Counts) -> Figures {
        counts.0.get(&Subject::Liability("default".parse().unwrap())).cloned().unwrap_or_default()
    }

    fn figures(of: &[(&str, i128)]) -> Figures {
        let mut figures = Figures::default();
        of.iter().for_each(|(name, count)| figures.add(*name, *count));
        figures
    }

    #[test]
    fn a_conversion_counts_when_it_came_and_for_those_it_came_from() {
        let counts = counted(&converted());
        assert_eq!(day(&counts), figures(&[("attributed", 1), ("converted", 1), ("took.0", 1), ("after.0", 1)]));
        for period in [Period::All, Period::Month("1970-01".parse().unwrap())] {
            let expected = figures(&[("attributed", 1), ("converted", 1), ("lasting", 1)]);
            assert_eq!(referrer(&counts, period), expected);
        }
        assert_eq!(owed(&counts), figures(&[("held.credit.USD", 2000), ("held.credit.USD.n", 2)]));
        assert_eq!(owed(&counted(&pending())), Figures::default());
    }

    #[test]
    fn what_is_called_off_came_to_pass_and_is_not_owed() {
        let counts = counted(&applied(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20))));
        assert_eq!((day(&counts).get("converted"), day(&counts).get("voided.referee_flagged")), (1, 1));
        assert_eq!(referrer(&counts, Period::All).get("lasting"), 0);
        assert_eq!(owed(&counts), Figures::default());
    }

    #[test]
    fn a_reward_is_owed_until_it_is_delivered() {
        let failed = applied(rewarded().decide(&Command::MarkFailed(&grant(Side::Referrer), "400", 0), at(30)));
        let delivered = applied(failed.decide(&Command::MarkDelivered(&grant(Side::Referee)), at(40)));
        let counts = counted(&delivered);
        let expected = [("failed.credit.USD", 1000), ("failed.credit.USD.n", 1)];
        assert_eq!(owed(&counts), figures(&expected));
        let rewards = day(&counts).rewards();
        let of = |stage| rewards.iter().find(|((found, _), _)| *found == stage).map(|(_, sum)| (sum.count, sum.amount));
        assert_eq!((of(Stage::Issued), of(Stage::Delivered)), (Some((2, 2000)), Some((1, 1000))));
        assert!(rewards.keys().all(|(_, kind)| kind.r#type == RewardType::Credit));
        // Of the two, the referrer's own reward alone is theirs.
        let own = referrer(&counts, Period::All);
        assert_eq!((own.get("issued.credit.USD.n"), own.get("delivered.credit.USD.n")), (1, 0));

        let resent = applied(delivered.decide(&Command::Resend(&grant(Side::Referrer), at(99)), at(50)));
        let settled = applied(resent.decide(&Command::MarkDelivered(&grant(Side::Referrer)), at(60)));
        assert_eq!(owed(&counted(&resent)).get("issued.credit.USD.n"), 1);
        assert_eq!(owed(&counted(&settled)), Figures::default());
        assert_eq!(day(&counted(&settled)).get("failed.credit.USD.n"), 0);
    }

    #[test]
    fn any_way_through_the_revisions_comes_to_the_latest() {
        let failed = applied(rewarded().decide(&Command::MarkFailed(&grant(Side::Referrer), "400", 0), at(30)));
        let resent = applied(failed.decide(&Command::Resend(&grant(Side::Referrer), at(99)), at(50)));
        let revisions = [pending(), converted(), rewarded(), failed, resent];
        let latest = counted(revisions.last().unwrap());
        // Each subset of the revisions that holds the latest: the others got lost, or came too late.
        for present in 0..1_u32 << (revisions.len() - 1) {
            let (mut known, mut sum) = (Counts::default(), Counts::default());
            let came = revisions
                .iter()
                .enumerate()
                .filter(|(place, _)| *place + 1 == revisions.len() || present >> place & 1 == 1);
            for (_, revision) in came {
                let counts = counted(revision);
                let difference = counts.clone().minus(&known);
                for (subject, figures) in &difference.0 {
                    sum.of(subject.clone()).add_all(figures, 1);
                }
                known = counts;
            }
            sum.0.retain(|_, figures| !figures.is_empty());
            assert_eq!(sum, latest);
        }
    }

    #[test]
    fn a_conversion_is_told_apart_by_weeks_and_by_how_long_it_took() {
        let (mut cohort, order) = (pending(), order("o-1"));
        cohort.created_at = "2026-11-22T23:59:59.999Z".parse().unwrap();
        for (converted_at, week, took) in [
            ("2026-11-22T23:59:59.999Z", "after.0", "took.0"),
            ("2026-11-23T00:00:59.998Z", "after.1", "took.0"),
            ("2026-11-23T00:00:59.999Z", "after.1", "took.1"),
            ("2026-12-01T00:00:00Z", "after.2", "took.7"),
            ("2027-11-23T00:00:00Z", "after.26", "took.9"),
            ("2026-11-20T00:00:00Z", "after.0", "took.0"),
        ] {
            let converted = applied(cohort.decide(&Command::Convert(&order), converted_at.parse().unwrap()));
            let counts = counted(&converted);
            let all = |name: &str| -> i128 { counts.0.values().map(|figures| figures.get(name)).sum() };
            assert_eq!((all(week), all(took)), (1, 1), "{converted_at}");
            let attributed = Subject::Day("default".parse().unwrap(), "2026-11-22".parse().unwrap());
            assert_eq!(counts.0[&attributed].get(week), 1);
        }
    }
}
