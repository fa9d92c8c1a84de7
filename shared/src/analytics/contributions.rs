//! Contributions: what the facts of one referral add to the counters.

use std::{collections::BTreeMap, time::Duration};

use super::{
    calendar::{Day, Month, Period, Week},
    counters::{self, Counters, Stage},
    facts::Facts,
    subject::Subject,
};
use crate::referral::reward::Side;

/// The upper bounds of the histogram of the time from attribution to conversion. One more bucket holds longer times.
pub const TIME_TO_CONVERT: [(&str, Duration); 9] = [
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

/// The last week of a cohort that has its own counter. It also counts all later conversions.
pub const LATEST_WEEK: usize = 26;

/// What a referral adds to the counters of each subject, or the difference between two such contributions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contributions(pub(super) BTreeMap<Subject, Counters>);

impl Contributions {
    fn of(&mut self, subject: Subject) -> &mut Counters {
        self.0.entry(subject).or_default()
    }

    /// The difference that turns the contributions `before` into these.
    #[must_use]
    pub(super) fn minus(mut self, before: &Self) -> Self {
        for (subject, counters) in &before.0 {
            self.of(subject.clone()).add_all(counters, -1);
        }
        self.0.retain(|_, counters| !counters.is_empty());
        self
    }
}

/// What these facts add to the counters. Only this function decides what is counted.
pub fn contributions(facts: &Facts) -> Contributions {
    let mut counts = Contributions::default();
    count_conversion(&mut counts, facts);
    let mut count_at = |at, counter: &str| count(&mut counts, facts, Day::of(at), |counters| counters.add(counter, 1));
    count_at(facts.attributed_at, counters::ATTRIBUTED);
    if let Some(at) = facts.rewarded_at {
        count_at(at, counters::REWARDED);
    }
    if let Some(voided) = &facts.voided {
        count_at(voided.at, &counters::voided(voided.reason));
    }
    count_rewards(&mut counts, facts);
    counts
}

/// Adds to the program's day, to the referrer's month and to the referrer's total.
fn count(counts: &mut Contributions, facts: &Facts, day: Day, add: impl Fn(&mut Counters)) {
    add(counts.of(Subject::Day(facts.program.clone(), day)));
    count_for_referrer(counts, facts, day, add);
}

fn count_for_referrer(counts: &mut Contributions, facts: &Facts, day: Day, add: impl Fn(&mut Counters)) {
    for period in [Period::All, Period::Month(Month::of(day))] {
        add(counts.of(Subject::Referrer(facts.program.clone(), facts.referrer.clone(), period)));
    }
}

fn count_conversion(counts: &mut Contributions, facts: &Facts) {
    let Some(at) = facts.converted_at else { return };
    let (attributed, converted) = (Day::of(facts.attributed_at), Day::of(at));
    count(counts, facts, converted, |counters| counters.add(counters::CONVERTED, 1));
    if facts.voided.is_none() {
        count_for_referrer(counts, facts, converted, |counters| counters.add(counters::NET_CONVERSIONS, 1));
    }
    let bucket = bucket(at.since(facts.attributed_at));
    counts.of(Subject::Day(facts.program.clone(), converted)).add(counters::time_to_convert(bucket), 1);
    let weeks = Week::of(converted).since(Week::of(attributed));
    // Clocks differ between machines, so a conversion can seem to be earlier than its attribution. It then counts in
    // week 0.
    let weeks = usize::try_from(weeks).unwrap_or_default().min(LATEST_WEEK);
    counts.of(Subject::Day(facts.program.clone(), attributed)).add(counters::converted_after_weeks(weeks), 1);
}

fn bucket(time_to_convert: Duration) -> usize {
    TIME_TO_CONVERT.iter().position(|(_, below)| time_to_convert < *below).unwrap_or(TIME_TO_CONVERT.len())
}

fn count_rewards(counts: &mut Contributions, facts: &Facts) {
    for (side, share) in facts.shares.iter().flat_map(super::facts::Shares::both) {
        let mut count_at = |at, stage| {
            let (day, add) = (Day::of(at), |counters: &mut Counters| counters.add_reward(stage, share.benefit));
            match side {
                Side::Referrer => count(counts, facts, day, add),
                // A referrer's counters contain only the referrer's own rewards.
                Side::Referee => add(counts.of(Subject::Day(facts.program.clone(), day))),
            }
        };
        if let Some(at) = facts.rewarded_at {
            count_at(at, Stage::Issued);
        }
        if let Some(at) = share.delivered_at {
            count_at(at, Stage::Delivered);
        }
        if let Some(at) = share.failed_at {
            count_at(at, Stage::Failed);
        }
        if let Some(at) = share.reversed_at {
            count_at(at, Stage::Reversed);
        }
        let stage = facts.stage(share);
        if !matches!(stage, Stage::Delivered | Stage::Reversed) {
            counts.of(Subject::Liability(facts.program.clone())).add_reward(stage, share.benefit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{adjustments::Adjustments, order::Order},
        fraud::FraudReason,
        referral::{Referral, machine::Command, reward::RewardType},
        sample::{applied, at, cancelled, convert, converted, grant, order, pending, rewarded},
    };

    fn counted(referral: &Referral) -> Contributions {
        contributions(&referral.into())
    }

    fn day(counts: &Contributions) -> Counters {
        let day = "1970-01-01".parse().unwrap();
        counts.0.get(&Subject::Day("default".parse().unwrap(), day)).cloned().unwrap_or_default()
    }

    fn referrer(counts: &Contributions, period: Period) -> Counters {
        let subject = Subject::Referrer("default".parse().unwrap(), "alice".parse().unwrap(), period);
        counts.0.get(&subject).cloned().unwrap_or_default()
    }

    fn owed(counts: &Contributions) -> Counters {
        counts.0.get(&Subject::Liability("default".parse().unwrap())).cloned().unwrap_or_default()
    }

    fn counters(of: &[(&str, i128)]) -> Counters {
        let mut counters = Counters::default();
        of.iter().for_each(|(name, count)| counters.add(*name, *count));
        counters
    }

    #[test]
    fn a_conversion_counts_on_its_day_and_in_the_cohort_of_its_attribution() {
        let counts = counted(&converted());
        assert_eq!(day(&counts), counters(&[("attributed", 1), ("converted", 1), ("took.0", 1), ("after.0", 1)]));
        for period in [Period::All, Period::Month("1970-01".parse().unwrap())] {
            let expected = counters(&[("attributed", 1), ("converted", 1), ("net_conversions", 1)]);
            assert_eq!(referrer(&counts, period), expected);
        }
        assert_eq!(owed(&counts), counters(&[("held.credit.USD", 2000), ("held.credit.USD.n", 2)]));
        assert_eq!(owed(&counted(&pending())), Counters::default());
    }

    #[test]
    fn a_voided_conversion_stays_counted_and_is_not_owed() {
        let counts = counted(&applied(converted().decide(&Command::Void(FraudReason::RefereeFlagged.into()), at(20))));
        assert_eq!((day(&counts).get("converted"), day(&counts).get("voided.referee_flagged")), (1, 1));
        assert_eq!(referrer(&counts, Period::All).get("net_conversions"), 0);
        assert_eq!(owed(&counts), Counters::default());
    }

    #[test]
    fn a_reward_is_owed_until_it_is_delivered() {
        let failed = applied(rewarded().decide(&Command::MarkFailed(&grant(Side::Referrer), "400", 0), at(30)));
        let delivered = applied(failed.decide(&Command::MarkDelivered(&grant(Side::Referee)), at(40)));
        let counts = counted(&delivered);
        let expected = [("failed.credit.USD", 1000), ("failed.credit.USD.n", 1)];
        assert_eq!(owed(&counts), counters(&expected));
        let rewards = day(&counts).rewards();
        let of = |stage| rewards.iter().find(|((found, _), _)| *found == stage).map(|(_, sum)| (sum.count, sum.amount));
        assert_eq!((of(Stage::Issued), of(Stage::Delivered)), (Some((2, 2000)), Some((1, 1000))));
        assert!(rewards.keys().all(|(_, kind)| kind.r#type == RewardType::Credit));
        // The referrer's counters contain the referrer's reward, not the referee's.
        let own = referrer(&counts, Period::All);
        assert_eq!((own.get("issued.credit.USD.n"), own.get("delivered.credit.USD.n")), (1, 0));

        let resent = applied(delivered.decide(&Command::Resend(&grant(Side::Referrer), at(99)), at(50)));
        let settled = applied(resent.decide(&Command::MarkDelivered(&grant(Side::Referrer)), at(60)));
        assert_eq!(owed(&counted(&resent)).get("issued.credit.USD.n"), 1);
        assert_eq!(owed(&counted(&settled)), Counters::default());
        assert_eq!(day(&counted(&settled)).get("failed.credit.USD.n"), 0);
    }

    #[test]
    fn any_subset_of_revisions_sums_up_to_the_latest_one() {
        let failed = applied(rewarded().decide(&Command::MarkFailed(&grant(Side::Referrer), "400", 0), at(30)));
        let resent = applied(failed.decide(&Command::Resend(&grant(Side::Referrer), at(99)), at(50)));
        assert_any_subset_sums_up(&[pending(), converted(), rewarded(), failed, resent]);
        // Another order converts, on another day.
        let (other, day) = (order("o-2"), 86_400_000);
        let kept = applied(converted().decide(&convert(&other), at(day)));
        let next = applied(kept.decide(&Command::Adjust(&cancelled("o-1"), None), at(2 * day)));
        let voided = applied(next.decide(&Command::Adjust(&cancelled("o-2"), None), at(3 * day)));
        assert_any_subset_sums_up(&[pending(), converted(), kept.clone(), next.clone()]);
        assert_any_subset_sums_up(&[pending(), converted(), kept, next, voided]);
    }

    fn assert_any_subset_sums_up(revisions: &[Referral]) {
        let latest = counted(revisions.last().unwrap());
        // Each subset of the revisions that contains the latest one: the others were lost, or arrived too late.
        for present in 0..1_u32 << (revisions.len() - 1) {
            let (mut known, mut sum) = (Contributions::default(), Contributions::default());
            let came = revisions
                .iter()
                .enumerate()
                .filter(|(place, _)| *place + 1 == revisions.len() || present >> place & 1 == 1);
            for (_, revision) in came {
                let counts = counted(revision);
                let difference = counts.clone().minus(&known);
                for (subject, counters) in &difference.0 {
                    sum.of(subject.clone()).add_all(counters, 1);
                }
                known = counts;
            }
            sum.0.retain(|_, counters| !counters.is_empty());
            assert_eq!(sum, latest);
        }
    }

    #[test]
    fn a_conversion_counts_by_week_and_by_time_to_convert() {
        let cohort = Referral { created_at: "2026-11-22T23:59:59.999Z".parse().unwrap(), ..pending() };
        let order = Order { latest_sign_up: cohort.created_at, ..order("o-1") };
        for (converted_at, week, took) in [
            ("2026-11-22T23:59:59.999Z", "after.0", "took.0"),
            ("2026-11-23T00:00:59.998Z", "after.1", "took.0"),
            ("2026-11-23T00:00:59.999Z", "after.1", "took.1"),
            ("2026-12-01T00:00:00Z", "after.2", "took.7"),
            ("2027-11-23T00:00:00Z", "after.26", "took.9"),
            ("2026-11-20T00:00:00Z", "after.0", "took.0"),
        ] {
            let converted =
                applied(cohort.decide(&Command::Convert(&order, Adjustments::NONE), converted_at.parse().unwrap()));
            let counts = counted(&converted);
            let all = |name: &str| -> i128 { counts.0.values().map(|counters| counters.get(name)).sum() };
            assert_eq!((all(week), all(took)), (1, 1), "{converted_at}");
            let attributed = Subject::Day("default".parse().unwrap(), "2026-11-22".parse().unwrap());
            assert_eq!(counts.0[&attributed].get(week), 1);
        }
    }
}
