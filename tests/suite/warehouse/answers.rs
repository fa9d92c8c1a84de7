//! The values of the analytics table and of the views, under common names.

use std::collections::BTreeSet;

use referrals::{
    analytics::{
        Analytics, Board, Counters, Period, TIME_TO_CONVERT,
        calendar::{Day, Month, Week},
        counters::{NET_CONVERSIONS, Stage},
    },
    domain::id::ProgramId,
    referral::{
        Referral,
        reward::{Benefit, Reward, Side},
    },
};

use crate::world::{
    duck::{Answer, Row},
    recount::Tally,
};

const PROGRAMS: [&str; 2] = ["default", "other"];

/// Values by name.
#[derive(Default)]
pub(super) struct Values(Tally);

impl Values {
    fn add(&mut self, about: &str, name: &str, count: i128) {
        *self.0.entry(format!("{about} {name}")).or_default() += count;
    }

    /// Adds rewards of one kind, under the names of the counters.
    fn add_rewards(&mut self, about: &str, name: &str, count: i128, amount: i128) {
        self.add(about, name, amount);
        self.add(about, &format!("{name}.n"), count);
    }
}

/// The expected values. They come from the analytics table, except refusals: it counts only those without a later delivery,
/// so they are counted from the referrals.
pub(super) async fn expected(analytics: &Analytics, lives: &[Vec<Referral>]) -> Tally {
    let mut values = Values::default();
    for program in PROGRAMS {
        let program: ProgramId = program.parse().unwrap();
        let (first, last) = ("1970-01-01".parse().unwrap(), "9999-12-31".parse().unwrap());
        let days = analytics.days(&program, first, last).await.unwrap();
        days.iter().for_each(|(day, counters)| of_day(&mut values, &program, *day, counters));
        let months: BTreeSet<_> = days.keys().map(|day| Month::of(*day)).collect();
        for period in months.into_iter().map(Period::Month).chain([Period::All]) {
            of_board(&mut values, analytics, Board { program: program.clone(), period }).await;
        }
    }
    for ((stage, kind), sum) in analytics.liability().await.unwrap().rewards() {
        let currency = kind.currency.map(|currency| format!(".{currency}")).unwrap_or_default();
        match stage {
            Stage::Held => values.add("owed", "held", sum.count),
            _ => values.add_rewards("owed", &format!("{}{currency}", kind.r#type.as_str()), sum.count, sum.amount),
        }
    }
    lives.iter().for_each(|life| refusals(&mut values, life));
    values.0
}

fn of_day(values: &mut Values, program: &ProgramId, day: Day, counters: &Counters) {
    let about = format!("day {program} {day}");
    let cohort = format!("cohort {program} {}", Week::of(day).monday());
    for (name, count) in counters.iter().filter(|(name, _)| !name.starts_with("failed.")) {
        if name.starts_with("after.") {
            values.add(&about, "converted_since", count);
            values.add(&cohort, name, count);
        } else {
            values.add(&about, name, count);
        }
        if name == "attributed" {
            values.add(&cohort, name, count);
        }
    }
}

async fn of_board(values: &mut Values, analytics: &Analytics, board: Board) {
    let mut after = None;
    loop {
        let page = analytics.ranked(&board, 100, after.as_ref()).await.unwrap();
        for (referrer, counters) in page.referrers {
            let about = format!("referrer {} {referrer} {}", board.program, board.period);
            let mut voided = 0;
            for (name, count) in counters.iter().filter(|(name, _)| !name.starts_with("failed.")) {
                match name.starts_with("voided.") {
                    true => voided += count,
                    false => values.add(&about, name, count),
                }
            }
            values.add(&about, "voided", voided);
        }
        match page.next {
            None => return,
            next => after = next,
        }
    }
}

/// Counts each refusal on its day, and the rewards that were refused once, and are neither delivered nor taken back.
fn refusals(values: &mut Values, life: &[Referral]) {
    let last = life.last().unwrap();
    for side in Side::BOTH {
        let reward = |referral: &Referral| referral.rewards().map(|rewards| rewards.of(side).clone());
        let mut was_refused = false;
        for (before, after) in life.iter().zip(&life[1..]) {
            let at = |referral| reward(referral).and_then(|reward| reward.delivery.failed_at);
            if let (None, Some(at)) = (at(before), at(after)) {
                let (name, amount) = kind(reward(after).unwrap().benefit);
                let about = format!("day {} {}", after.program, Day::of(at));
                values.add_rewards(&about, &format!("failed.{name}"), 1, amount);
                was_refused = true;
            }
        }
        let is_owed = |reward: &Reward| reward.delivery.delivered_at.is_none() && reward.reversed.is_none();
        if let Some(reward) = reward(last).filter(|reward| was_refused && is_owed(reward)) {
            let (name, amount) = kind(reward.benefit);
            values.add_rewards("owed", &format!("{name} refused"), 1, amount);
        }
    }
}

fn kind(benefit: Benefit) -> (String, i128) {
    let currency = benefit.currency().map(|currency| format!(".{currency}")).unwrap_or_default();
    (format!("{}{currency}", benefit.kind().as_str()), u64::from(benefit.amount()).into())
}

/// Adds the values of a row.
pub(super) type AddRow = fn(&mut Values, &Line<'_>);

/// The views that are compared, each with the function that adds a row's values.
pub(super) const QUERIES: [(&str, AddRow); 9] = [
    ("daily", |values, row| {
        for name in ["attributed", "converted", "converted_since", "rewarded"] {
            values.add(&row.day(), name, row.number(name));
        }
    }),
    ("daily_voids", |values, row| {
        values.add(&row.day(), &format!("voided.{}", row.text("void_reason")), row.number("voided"));
    }),
    ("daily_rewards", |values, row| row.rewards(values, &row.day(), &format!("{}.", row.text("stage")))),
    ("daily_time_to_convert", |values, row| {
        let below = row.option("below");
        let bucket =
            TIME_TO_CONVERT.iter().position(|(bound, _)| Some(*bound) == below).unwrap_or(TIME_TO_CONVERT.len());
        values.add(&row.day(), &format!("took.{bucket}"), row.number("conversions"));
    }),
    ("referrers", |values, row| {
        for name in [NET_CONVERSIONS, "attributed", "converted", "rewarded", "voided"] {
            values.add(&row.referrer(), name, row.number(name));
        }
    }),
    ("referrer_rewards", |values, row| {
        if row.text("stage") != "failed" {
            row.rewards(values, &row.referrer(), &format!("{}.", row.text("stage")));
        }
    }),
    ("cohorts", |values, row| {
        let about = format!("cohort {} {}", row.text("program"), row.text("week"));
        values.0.insert(format!("{about} attributed"), row.number("attributed"));
        if let Some(weeks) = row.option("weeks_later") {
            values.add(&about, &format!("after.{weeks}"), row.number("converted"));
        }
    }),
    ("liability", |values, row| {
        row.rewards(values, "owed", "");
        let (count, amount) = (row.number("refused_rewards"), row.number("refused_amount"));
        values.add_rewards("owed", &format!("{} refused", row.kind()), count, amount);
    }),
    // Both rewards of each referral.
    ("held", |values, row| values.add("owed", "held", 2 * row.number("referrals"))),
];

/// A row of a result.
pub(super) struct Line<'a>(pub(super) &'a Row);

impl Line<'_> {
    fn option(&self, column: &str) -> Option<&str> {
        self.0[column].as_deref()
    }

    pub(super) fn text(&self, column: &str) -> &str {
        self.option(column).unwrap_or_else(|| panic!("no {column} in {:?}", self.0))
    }

    fn number(&self, column: &str) -> i128 {
        self.text(column).parse().unwrap()
    }

    fn day(&self) -> String {
        format!("day {} {}", self.text("program"), self.text("day"))
    }

    fn referrer(&self) -> String {
        format!("referrer {} {} {}", self.text("program"), self.text("referrer_id"), self.text("period"))
    }

    fn kind(&self) -> String {
        let currency = self.option("currency").map(|currency| format!(".{currency}")).unwrap_or_default();
        format!("{}{currency}", self.text("reward_type"))
    }

    fn rewards(&self, values: &mut Values, about: &str, prefix: &str) {
        let name = format!("{prefix}{}", self.kind());
        values.add_rewards(about, &name, self.number("rewards"), self.number("amount"));
    }
}

/// The values of the views. Like the leaderboards of the analytics, they leave out referrers without net conversions.
pub(super) fn tally(answer: &Answer) -> Tally {
    let mut values = Values::default();
    for ((_, of), rows) in QUERIES.iter().zip(&answer.answers) {
        rows.iter().for_each(|row| of(&mut values, &Line(row)));
    }
    let has_net_conversions = |name: &str| {
        let about = name.rsplit_once(' ').unwrap().0;
        values.0.get(&format!("{about} {NET_CONVERSIONS}")).is_some_and(|count| *count > 0)
    };
    let mut tally = values.0.clone();
    tally.retain(|name, _| !name.starts_with("referrer ") || has_net_conversions(name));
    tally
}
