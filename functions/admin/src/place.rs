//! Places in the index of work: a walk through all that waits, which can be broken off at a page's end and gone on with.

use referrals::{
    id::UserId,
    referral::{Lane, Referral},
    store::{Store, StoreError},
    table::{self, WORK_SHARDS},
    time::Timestamp,
};

/// Where a walk stands, and since when it is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) began_at: Timestamp,
    lanes: Lanes,
    /// Counts the partitions of the first lane and then those of the second.
    partition: u32,
    /// The last referral seen there.
    after: Option<(Timestamp, UserId)>,
}

/// What a walk goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lanes {
    /// What is on its way.
    Due,
    /// What waits for an operator. It may wait in the other lane, while the other side's reward is on its way.
    ParkedAndDue,
}

impl Lanes {
    fn at(self, partition: u32) -> Option<(Lane, u32)> {
        let lanes: &[Lane] = match self {
            Self::Due => &[Lane::Due],
            Self::ParkedAndDue => &[Lane::Attention, Lane::Due],
        };
        let lane = lanes.get(usize::try_from(partition / WORK_SHARDS).ok()?)?;
        Some((*lane, partition % WORK_SHARDS))
    }

    fn letter(self) -> char {
        match self {
            Self::Due => 'd',
            Self::ParkedAndDue => 'p',
        }
    }
}

impl Place {
    /// The beginning.
    pub(crate) fn start(lanes: Lanes, now: Timestamp) -> Self {
        Self { began_at: now, lanes, partition: 0, after: None }
    }

    /// Up to `limit` referrals from here on, the longest waiting first, and where it goes on; `None` at the end.
    ///
    /// No reward waits for the sweep beyond `horizon`; conversions whose hold ends later do, and are left out.
    pub(crate) async fn walk(
        &self,
        store: &Store,
        limit: u32,
        horizon: Timestamp,
    ) -> Result<(Vec<Referral>, Option<Self>), StoreError> {
        let Some((lane, shard)) = self.lanes.at(self.partition) else { return Ok((Vec::new(), None)) };
        let by = if lane == Lane::Due { horizon } else { Timestamp::LAST };
        let after = self.after.as_ref().map(|(due_at, referee)| table::work_key(lane, shard, *due_at, referee));
        let mut page = store.due(lane, shard, by, limit, after).await?;
        page.referrals.sort_by_key(|referral| referral.work().map(|work| work.at));
        let next = match page.next.as_ref().and_then(table::work_place) {
            Some(after) => Self { after: Some(after), ..self.clone() },
            None => Self { partition: self.partition + 1, after: None, ..self.clone() },
        };
        let there_is_more = next.lanes.at(next.partition).is_some();
        Ok((page.referrals, there_is_more.then_some(next)))
    }

    /// As one text, for a cursor.
    pub(crate) fn to_text(&self) -> String {
        let after = self.after.as_ref().map(|(due_at, referee)| format!("#{due_at}#{referee}")).unwrap_or_default();
        format!("{}#{}{}{after}", self.began_at, self.lanes.letter(), self.partition)
    }

    /// The place in a cursor of a walk through these lanes; `None` when it is none.
    pub(crate) fn from_text(text: &str, lanes: Lanes) -> Option<Self> {
        let time = |text: &str| Timestamp::try_from(text.to_owned()).ok();
        let mut parts = text.split('#');
        let began_at = time(parts.next()?)?;
        let partition = parts.next()?.strip_prefix(lanes.letter())?.parse().ok()?;
        let after = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => None,
            (Some(due_at), Some(referee), None) => Some((time(due_at)?, referee.parse().ok()?)),
            (Some(_), ..) => return None,
        };
        lanes.at(partition)?;
        Some(Self { began_at, lanes, partition, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_a_forged_one_does_not() {
        let now = Timestamp::from_millis(0).unwrap();
        let start = Place::start(Lanes::ParkedAndDue, now);
        let later = Place { partition: 13, after: Some((now, "bob|x".parse().unwrap())), ..start.clone() };
        for place in [start, later] {
            assert_eq!(Place::from_text(&place.to_text(), Lanes::ParkedAndDue), Some(place.clone()));
            assert_eq!(Place::from_text(&place.to_text(), Lanes::Due), None);
        }
        for text in ["", "#", "1970-01-01T00:00:00.000Z#p20", "1970-01-01T00:00:00.000Z#p1#x", "x#p0"] {
            assert_eq!(Place::from_text(text, Lanes::ParkedAndDue), None, "{text}");
        }
    }
}
