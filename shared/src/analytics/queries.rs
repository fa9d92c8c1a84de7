//! Queries: read counters and add up their shards. They read only the analytics table.

use std::{cmp::Reverse, collections::BTreeMap};

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use futures_util::future::try_join_all;

use super::{
    calendar::Day,
    counters::Counters,
    expressions,
    items::{self, PK, SHARDS},
    store::Analytics,
    subject::Board,
};
use crate::{
    domain::id::{ProgramId, UserId},
    store::{self, StoreError, keys::Item},
};

/// A position on a leaderboard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rank {
    score: i128,
    referrer: UserId,
}

impl Rank {
    /// The position as text, for a cursor.
    pub fn to_text(&self) -> String {
        format!("{}#{}", self.score, self.referrer)
    }

    /// Parses a position from a cursor; `None` if the text is not one.
    pub fn from_text(text: &str) -> Option<Self> {
        let (score, referrer) = text.split_once('#')?;
        let rank = Self { score: score.parse().ok()?, referrer: referrer.parse().ok()? };
        (items::score_of(1)..=HIGHEST).contains(&rank.score).then_some(rank)
    }
}

/// The highest number that DynamoDB stores exactly.
const HIGHEST: i128 = 10_i128.pow(38) - 1;

/// One page of a leaderboard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranked {
    /// The referrers with their counters, most net conversions first. Ties are broken by a fixed order.
    pub referrers: Vec<(UserId, Counters)>,
    /// Where the next page starts; `None` on the last page.
    pub next: Option<Rank>,
}

impl Analytics {
    /// A program's counters by day, from `from` to `to` inclusive. Days without counters are left out.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn days(&self, program: &ProgramId, from: Day, to: Day) -> Result<BTreeMap<Day, Counters>, StoreError> {
        let (from, to) = (from.to_string(), to.to_string());
        let of = |shard| expressions::between(&self.client, &items::days_partition(program, shard), &from, &to);
        let mut days: BTreeMap<_, Counters> = BTreeMap::new();
        for item in self.of_all_shards(of).await? {
            if let Some(day) = items::day_of(&item) {
                days.entry(day).or_default().add_all(&items::counters(&item), 1);
            }
        }
        days.retain(|_, counters| !counters.is_empty());
        Ok(days)
    }

    /// Whether a referral of this program was ever counted.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn has_counted(&self, program: &ProgramId) -> Result<bool, StoreError> {
        let first = |shard| {
            let query = expressions::all(&self.client, &items::days_partition(program, shard));
            query.table_name(&self.table).limit(1).send()
        };
        let answers = try_join_all((0..SHARDS).map(first)).await?;
        Ok(answers.iter().any(|answer| answer.count > 0))
    }

    /// The liability: the rewards that are now held, issued but not delivered, or failed.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn liability(&self) -> Result<Counters, StoreError> {
        let mut owed = Counters::default();
        for item in
            self.of_all_shards(|shard| expressions::all(&self.client, &items::liability_partition(shard))).await?
        {
            owed.add_all(&items::counters(&item), 1);
        }
        Ok(owed)
    }

    /// Up to `limit` referrers of a leaderboard, starting after a position.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn ranked(&self, board: &Board, limit: u32, after: Option<&Rank>) -> Result<Ranked, StoreError> {
        let mut places =
            try_join_all((0..SHARDS).map(|shard| self.shard_of(board, shard, limit, after))).await?.concat();
        // Scores can be equal in different shards, which is very rare. Then the lower shard comes first.
        places.sort_by_key(|(shard, rank)| (Reverse(rank.score), *shard));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = places.len() > limit;
        places.truncate(limit);
        let next = places.last().filter(|_| has_more).map(|(_, rank)| rank.clone());
        let referrers = places.into_iter().map(|(_, rank)| rank.referrer).collect();
        Ok(Ranked { referrers: self.with_counters(board, referrers).await?, next })
    }

    /// The positions of one shard after a position. Reads one more than `limit`, to know whether there is a next page.
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
            // At an equal score, the lower shards come first, so they are already on earlier pages.
            most = if shard < there { score - 1 } else { *score };
            start = (shard == there).then(|| items::board_key(board, referrer, *score));
        }
        let query = expressions::ranked(&self.client, board, shard, most).table_name(&self.table);
        let limit = i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX);
        let answer = query.set_exclusive_start_key(start).limit(limit).send().await?;
        let places = answer.items.iter().flatten().filter_map(items::ranked);
        Ok(places.map(|(referrer, score)| (shard, Rank { score, referrer })).collect())
    }

    async fn with_counters(&self, board: &Board, of: Vec<UserId>) -> Result<Vec<(UserId, Counters)>, StoreError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let key = |referrer: &UserId| items::referrer_key(&board.program, referrer, board.period);
        let found = store::read_batch(&self.client, &self.table, of.iter().map(key).collect()).await?;
        let counters: BTreeMap<_, _> =
            found.iter().filter_map(|item| Some((item.get(PK)?.as_s().ok()?.clone(), items::counters(item)))).collect();
        let of = of.into_iter().map(|referrer| {
            let pk = key(&referrer).remove(PK).and_then(|pk| pk.as_s().ok().cloned()).unwrap_or_default();
            let counters = counters.get(&pk).cloned().unwrap_or_default();
            (referrer, counters)
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
    fn a_rank_survives_its_text_form_and_a_forged_one_is_refused() {
        let rank = Rank { score: items::score_of(3) + 17, referrer: "bob|x".parse().unwrap() };
        assert_eq!(Rank::from_text(&rank.to_text()), Some(rank));
        for text in ["", "#", "3#bob", "-1#bob", &format!("{}#", items::score_of(1)), &format!("{}0#bob", i128::MAX)] {
            assert_eq!(Rank::from_text(text), None, "{text}");
        }
    }
}
