//! Questions: what the counters say, their shards added up. None of them reads anything but the metrics table.

use std::{cmp::Reverse, collections::BTreeMap, fmt, str::FromStr};

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use futures_util::future::try_join_all;

use super::{
    calendar::{Day, InvalidMonth, Month},
    counters::Figures,
    expressions,
    items::{self, PK, SHARDS},
    store::Metrics,
};
use crate::{
    id::{ProgramId, UserId},
    store::{self, StoreError, keys::Item},
};

/// For how long a referrer's referrals are counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Period {
    /// For all time.
    All,
    /// For a month.
    Month(Month),
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Month(month) => month.fmt(f),
        }
    }
}

/// The text is neither `all` nor a month.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected all, or a month, such as 2026-01")]
pub struct InvalidPeriod;

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Month).map_err(|InvalidMonth| InvalidPeriod)
    }
}

/// The referrers of a program in a period, ranked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Board {
    /// The program.
    pub program: ProgramId,
    /// The period.
    pub period: Period,
}

/// A place on a board.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rank {
    score: i128,
    referrer: UserId,
}

impl Rank {
    /// As one text, for a cursor.
    pub fn to_text(&self) -> String {
        format!("{}#{}", self.score, self.referrer)
    }

    /// The place in a cursor; `None` when it is none.
    pub fn from_text(text: &str) -> Option<Self> {
        let (score, referrer) = text.split_once('#')?;
        let rank = Self { score: score.parse().ok()?, referrer: referrer.parse().ok()? };
        (items::score_of(1)..=HIGHEST).contains(&rank.score).then_some(rank)
    }
}

/// The highest number that a table keeps exactly.
const HIGHEST: i128 = 10_i128.pow(38) - 1;

/// Part of a board.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranked {
    /// The referrers with their figures, those first who have most referrals that last. Of two with as many, it is
    /// always the same one that comes first.
    pub referrers: Vec<(UserId, Figures)>,
    /// Behind whom the rest comes.
    pub next: Option<Rank>,
}

impl Metrics {
    /// The figures of a program by day, from one day to another, both among them. Days on which nothing came to pass
    /// are left out.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn days(&self, program: &ProgramId, from: Day, to: Day) -> Result<BTreeMap<Day, Figures>, StoreError> {
        let (from, to) = (from.to_string(), to.to_string());
        let of = |shard| expressions::between(&self.client, &items::days_partition(program, shard), &from, &to);
        let mut days: BTreeMap<_, Figures> = BTreeMap::new();
        for item in self.of_all_shards(of).await? {
            if let Some(day) = items::day_of(&item) {
                days.entry(day).or_default().add_all(&items::figures(&item), 1);
            }
        }
        days.retain(|_, figures| !figures.is_empty());
        Ok(days)
    }

    /// What is owed now: rewards that are held, on their way, or refused for good.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn liability(&self) -> Result<Figures, StoreError> {
        let mut owed = Figures::default();
        for item in
            self.of_all_shards(|shard| expressions::all(&self.client, &items::liability_partition(shard))).await?
        {
            owed.add_all(&items::figures(&item), 1);
        }
        Ok(owed)
    }

    /// Up to `limit` referrers of a board, from behind a place on.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn ranked(&self, board: &Board, limit: u32, after: Option<&Rank>) -> Result<Ranked, StoreError> {
        let mut places =
            try_join_all((0..SHARDS).map(|shard| self.shard_of(board, shard, limit, after))).await?.concat();
        // Each shard is sorted; of the same score, which hardly ever happens, the lower shard comes first.
        places.sort_by_key(|(shard, rank)| (Reverse(rank.score), *shard));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let there_is_more = places.len() > limit;
        places.truncate(limit);
        let next = places.last().filter(|_| there_is_more).map(|(_, rank)| rank.clone());
        let referrers = places.into_iter().map(|(_, rank)| rank.referrer).collect();
        Ok(Ranked { referrers: self.with_figures(board, referrers).await?, next })
    }

    /// The places of one shard behind a place: one more than asked for, which says whether there are more.
    async fn shard_of(
        &self,
        board: &Board,
        shard: u32,
        limit: u32,
        after: Option<&Rank>,
    ) -> Result<Vec<(u32, Rank)>, StoreError> {
        let (mut most, mut start) = (HIGHEST, None);
        if let Some(Rank { score, referrer }) = after {
            let there = items::board_shard(referrer);
            most = if shard < there { score - 1 } else { *score };
            start = (shard == there).then(|| items::board_key(board, referrer, *score));
        }
        let query = expressions::ranked(&self.client, board, shard, most).table_name(&self.table);
        let limit = i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX);
        let answer = query.set_exclusive_start_key(start).limit(limit).send().await?;
        let places = answer.items.iter().flatten().filter_map(items::placed);
        Ok(places.map(|(referrer, score)| (shard, Rank { score, referrer })).collect())
    }

    async fn with_figures(&self, board: &Board, of: Vec<UserId>) -> Result<Vec<(UserId, Figures)>, StoreError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let key = |referrer: &UserId| items::referrer_key(&board.program, referrer, board.period);
        let found = store::read_batch(&self.client, &self.table, of.iter().map(key).collect()).await?;
        let figures: BTreeMap<_, _> =
            found.iter().filter_map(|item| Some((item.get(PK)?.as_s().ok()?.clone(), items::figures(item)))).collect();
        let of = of.into_iter().map(|referrer| {
            let pk = key(&referrer).remove(PK).and_then(|pk| pk.as_s().ok().cloned()).unwrap_or_default();
            let figures = figures.get(&pk).cloned().unwrap_or_default();
            (referrer, figures)
        });
        Ok(of.collect())
    }

    async fn of_all_shards(&self, query: impl Fn(u32) -> QueryFluentBuilder) -> Result<Vec<Item>, StoreError> {
        let shards = (0..SHARDS).map(|shard| {
            let pages = query(shard).table_name(&self.table).into_paginator().items().send();
            async move { pages.collect::<Result<Vec<Item>, _>>().await }
        });
        Ok(try_join_all(shards).await?.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_comes_back_and_a_forged_one_does_not() {
        let rank = Rank { score: items::score_of(3) + 17, referrer: "bob|x".parse().unwrap() };
        assert_eq!(Rank::from_text(&rank.to_text()), Some(rank));
        for text in ["", "#", "3#bob", "-1#bob", &format!("{}#", items::score_of(1)), &format!("{}0#bob", i128::MAX)] {
            assert_eq!(Rank::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_period_is_a_month_or_all_time() {
        for text in ["all", "2026-11"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["", "ALL", "2026", "2026-13"] {
            assert_eq!(text.parse::<Period>(), Err(InvalidPeriod), "{text}");
        }
    }
}
