//! What metrics and views say, under the same names.

use std::collections::BTreeSet;

use referrals::{
    analytics::{
        Board, Figures, Metrics, Period, TOOK,
        calendar::{Day, Month, Week},
        counters::{LASTING, Stage},
    },
    id::ProgramId,
    referral::Referral,
    reward::{Benefit, Side},
};

use crate::world::{
    duck::{Answer, Row},
    recount::Tally,
};

const PROGRAMS: [&str; 2] = ["default", "other"];

/// Figures under the names that both sides are put in.
#[derive(Default)]
pub(super) struct Said(Tally);

impl Said {
    fn add(&mut self, about: &str, figure: &str, count: i128) {
        *self.0.entry(format!("{about} {figure}")).or_default() += count;
    }

    /// Rewards of one kind, as figures are named.
    fn add_rewards(&mut self, about: &str, name: &str, count: i128, amount: i128) {
        self.add(about, name, amount);
        self.add(about, &format!("{name}.n"), count);
    }
}

/// What the metrics say, and of refusals, of which these know only those that stand, the lives themselves.
pub(super) async fn expected(metrics: &Metrics, lives: &[Vec<Referral>]) -> Tally {
    let mut said = Said::default();
    for program in PROGRAMS {
        let program: ProgramId = program.parse().unwrap();
        let (first, last) = ("1970-01-01".parse().unwrap(), "9999-12-31".parse().unwrap());
        let days = metrics.days(&program, first, last).await.unwrap();
        days.iter().for_each(|(day, figures)| of_day(&mut said, &program, *day, figures));
        let months: BTreeSet<_> = days.keys().map(|day| Month::of(*day)).collect();
        for period in months.into_iter().map(Period::Month).chain([Period::All]) {
            of_board(&mut said, metrics, Board { program: program.clone(), period }).await;
        }
    }
    for ((stage, kind), sum) in metrics.liability().await.unwrap().rewards() {
        let currency = kind.currency.map(|currency| format!(".{currency}")).unwrap_or_default();
        match stage {
            Stage::Held => said.add("owed", "held", sum.count),
            _ => said.add_rewards("owed", &format!("{}{currency}", kind.r#type.as_str()), sum.count, sum.amount),
        }
    }
    lives.iter().for_each(|life| refusals(&mut said, life));
    said.0
}

fn of_day(said: &mut Said, program: &ProgramId, day: Day, figures: &Figures) {
    let about = format!("day {program} {day}");
    let cohort = format!("cohort {program} {}", Week::of(day).monday());
    for (name, count) in figures.iter().filter(|(name, _)| !name.starts_with("failed.")) {
        if name.starts_with("after.") {
            said.add(&about, "converted_since", count);
            said.add(&cohort, name, count);
        } else {
            said.add(&about, name, count);
        }
        if name == "attributed" {
            said.add(&cohort, name, count);
        }
    }
}

async fn of_board(said: &mut Said, metrics: &Metrics, board: Board) {
    let mut after = None;
    loop {
        let page = metrics.ranked(&board, 100, after.as_ref()).await.unwrap();
        for (referrer, figures) in page.referrers {
            let about = format!("referrer {} {referrer} {}", board.program, board.period);
            let mut voided = 0;
            for (name, count) in figures.iter().filter(|(name, _)| !name.starts_with("failed.")) {
                match name.starts_with("voided.") {
                    true => voided += count,
                    false => said.add(&about, name, count),
                }
            }
            said.add(&about, "voided", voided);
        }
        match page.next {
            None => return,
            next => after = next,
        }
    }
}

/// Each refusal, on its day; and what was refused once and is not delivered.
fn refusals(said: &mut Said, life: &[Referral]) {
    let last = life.last().unwrap();
    for side in Side::BOTH {
        let reward = |referral: &Referral| referral.rewards().map(|rewards| rewards.of(side).clone());
        let mut was_refused = false;
        for (before, after) in life.iter().zip(&life[1..]) {
            let at = |referral| reward(referral).and_then(|reward| reward.delivery.failed_at);
            if let (None, Some(at)) = (at(before), at(after)) {
                let (name, amount) = kind(reward(after).unwrap().benefit);
                let about = format!("day {} {}", after.program, Day::of(at));
                said.add_rewards(&about, &format!("failed.{name}"), 1, amount);
                was_refused = true;
            }
        }
        if let Some(reward) = reward(last).filter(|reward| was_refused && reward.delivery.delivered_at.is_none()) {
            let (name, amount) = kind(reward.benefit);
            said.add_rewards("owed", &format!("{name} refused"), 1, amount);
        }
    }
}

fn kind(benefit: Benefit) -> (String, i128) {
    let currency = benefit.currency().map(|currency| format!(".{currency}")).unwrap_or_default();
    (format!("{}{currency}", benefit.kind().as_str()), u64::from(benefit.amount()).into())
}

/// How a row says what it says.
pub(super) type Says = fn(&mut Said, &Line<'_>);

/// The views that answer questions, each with what its rows say.
pub(super) const QUESTIONS: [(&str, Says); 9] = [
    ("daily", |said, row| {
        for figure in ["attributed", "converted", "converted_since", "rewarded"] {
            said.add(&row.day(), figure, row.number(figure));
        }
    }),
    ("daily_voids", |said, row| {
        said.add(&row.day(), &format!("voided.{}", row.text("void_reason")), row.number("voided"));
    }),
    ("daily_rewards", |said, row| row.rewards(said, &row.day(), &format!("{}.", row.text("stage")))),
    ("daily_took", |said, row| {
        let below = row.option("below");
        let bucket = TOOK.iter().position(|(bound, _)| Some(*bound) == below).unwrap_or(TOOK.len());
        said.add(&row.day(), &format!("took.{bucket}"), row.number("conversions"));
    }),
    ("referrers", |said, row| {
        for figure in [LASTING, "attributed", "converted", "rewarded", "voided"] {
            said.add(&row.referrer(), figure, row.number(figure));
        }
    }),
    ("referrer_rewards", |said, row| {
        if row.text("stage") != "failed" {
            row.rewards(said, &row.referrer(), &format!("{}.", row.text("stage")));
        }
    }),
    ("cohorts", |said, row| {
        let about = format!("cohort {} {}", row.text("program"), row.text("week"));
        said.0.insert(format!("{about} attributed"), row.number("attributed"));
        if let Some(weeks) = row.option("weeks_later") {
            said.add(&about, &format!("after.{weeks}"), row.number("converted"));
        }
    }),
    ("liability", |said, row| {
        row.rewards(said, "owed", "");
        let (count, amount) = (row.number("refused_rewards"), row.number("refused_amount"));
        said.add_rewards("owed", &format!("{} refused", row.kind()), count, amount);
    }),
    // Of each referral both rewards.
    ("held", |said, row| said.add("owed", "held", 2 * row.number("referrals"))),
];

/// A row of an answer.
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

    fn rewards(&self, said: &mut Said, about: &str, prefix: &str) {
        let name = format!("{prefix}{}", self.kind());
        said.add_rewards(about, &name, self.number("rewards"), self.number("amount"));
    }
}

/// What the views say. Like the metrics' boards it leaves referrers out none of whose referrals last.
pub(super) fn answered(answer: &Answer) -> Tally {
    let mut said = Said::default();
    for ((_, of), rows) in QUESTIONS.iter().zip(&answer.answers) {
        rows.iter().for_each(|row| of(&mut said, &Line(row)));
    }
    let lasts = |name: &str| {
        let about = name.rsplit_once(' ').unwrap().0;
        said.0.get(&format!("{about} {LASTING}")).is_some_and(|count| *count > 0)
    };
    let mut tally = said.0.clone();
    tally.retain(|name, _| !name.starts_with("referrer ") || lasts(name));
    tally
}
