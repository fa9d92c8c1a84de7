//! Walks through the index of work. A walk can stop at the end of any page and continue later.

use referrals::{
    domain::time::Timestamp,
    lambda::http::request::Cursor,
    referral::{Lane, Referral, reversal::Reversal},
    runtime::Call,
    store::{Store, StoreError, WorkCursor, WorkPartition},
};

use crate::App;

/// What a walk found on a page.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) referrals: Vec<Referral>,
    pub(crate) reversals: Vec<Reversal>,
}

/// A position of a walk, and when the walk began.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct WalkCursor {
    pub(crate) began_at: Timestamp,
    lanes: Lanes,
    /// The number of the partition: first those of the first lane, then those of the second.
    partition: u32,
    /// The last referral or reversal that was returned from this partition.
    after: Option<WorkCursor>,
}

/// The lanes of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lanes {
    Due,
    Attention,
    /// Both lanes, because a referral with a refused reward stays in the lane `Due` while its other reward has no
    /// answer.
    AttentionAndDue,
}

impl Lanes {
    fn at(self, partition: u32) -> Option<WorkPartition> {
        let lanes: &[Lane] = match self {
            Self::Due => &[Lane::Due],
            Self::Attention => &[Lane::Attention],
            Self::AttentionAndDue => &[Lane::Attention, Lane::Due],
        };
        WorkPartition::nth(lanes, partition)
    }

    fn letter(self) -> char {
        match self {
            Self::Due => 'd',
            Self::Attention => 'a',
            Self::AttentionAndDue => 'p',
        }
    }
}

impl WalkCursor {
    pub(crate) fn start(lanes: Lanes, now: Timestamp) -> Self {
        Self { began_at: now, lanes, partition: 0, after: None }
    }

    /// Where a walk starts: at the cursor, or else at the beginning.
    pub(crate) fn start_at(cursor: Option<&Cursor>, lanes: Lanes, call: &Call) -> Self {
        let place = cursor.and_then(|cursor| Self::from_text(cursor.place(), lanes));
        place.unwrap_or_else(|| Self::start(lanes, call.now))
    }

    /// Returns up to `limit` referrals and reversals, the earliest due time first, and the next position; `None` at the end.
    ///
    /// `horizon` is the latest time at which an undelivered reward can be due. Conversions whose hold ends later are
    /// left out.
    pub(crate) async fn walk(
        &self,
        store: &Store,
        limit: u32,
        horizon: Timestamp,
    ) -> Result<(Found, Option<Self>), StoreError> {
        let Some(partition) = self.lanes.at(self.partition) else { return Ok((Found::default(), None)) };
        let by = if partition.lane() == Lane::Due { horizon } else { Timestamp::LAST };
        let mut page = store.due(partition, by, limit, self.after.clone()).await?;
        page.referrals.sort_by_key(|referral| referral.work().map(|work| work.at));
        page.reversals.sort_by_key(|reversal| reversal.delivery.failed_at.unwrap_or(reversal.due_at));
        let next = match page.next.filter(|next| next.to_text().is_some()) {
            Some(after) => Self { after: Some(after), ..self.clone() },
            None => Self { partition: self.partition + 1, after: None, ..self.clone() },
        };
        let there_is_more = next.lanes.at(next.partition).is_some();
        let found = Found { referrals: page.referrals, reversals: page.reversals };
        Ok((found, there_is_more.then_some(next)))
    }

    /// The cursor as text. Clients keep it across releases, so its format must not change.
    pub(crate) fn to_text(&self) -> String {
        let after = self.after.as_ref().and_then(WorkCursor::to_text).map(|after| format!("#{after}"));
        format!("{}#{}{}{}", self.began_at, self.lanes.letter(), self.partition, after.unwrap_or_default())
    }

    /// Reads the cursor of a walk through these lanes; `None` when the text is not one.
    pub(crate) fn from_text(text: &str, lanes: Lanes) -> Option<Self> {
        let mut parts = text.splitn(3, '#');
        let began_at = Timestamp::try_from(parts.next()?.to_owned()).ok()?;
        let partition = parts.next()?.strip_prefix(lanes.letter())?.parse().ok()?;
        let in_partition = lanes.at(partition)?;
        let after = parts.next().map(|after| WorkCursor::from_text(in_partition, after)).transpose().ok()?;
        Some(Self { began_at, lanes, partition, after })
    }
}

/// Collects selected entries until there are `limit` of them, or the walk or the time ends. Returns them and the next position.
/// Work that is due later than `horizon` is left out.
pub(crate) async fn collect<T>(
    app: &App,
    call: &Call,
    start: WalkCursor,
    limit: u32,
    horizon: Timestamp,
    select: impl Fn(Found) -> Vec<T>,
) -> Result<(Vec<T>, Option<WalkCursor>), StoreError> {
    let (mut found, mut next) = (Vec::new(), Some(start));
    while let Some(place) = next.take_if(|_| found.len() < limit as usize && !call.deadline.is_near()) {
        let left = limit - u32::try_from(found.len()).unwrap_or(limit);
        let (page, rest) = place.walk(&app.store, left, horizon).await?;
        found.extend(select(page));
        next = rest;
    }
    Ok((found, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_keeps_its_text_and_a_forged_one_is_refused() {
        let now = Timestamp::from_millis(0).unwrap();
        let start = WalkCursor::start(Lanes::AttentionAndDue, now);
        let after = WorkCursor::from_text(Lanes::AttentionAndDue.at(13).unwrap(), "1970-01-01T00:00:00.000Z#bob|x");
        let later = WalkCursor { partition: 13, after: Some(after.unwrap()), ..start.clone() };
        assert_eq!(later.to_text(), "1970-01-01T00:00:00.000Z#p13#1970-01-01T00:00:00.000Z#bob|x");
        for cursor in [start, later] {
            assert_eq!(WalkCursor::from_text(&cursor.to_text(), Lanes::AttentionAndDue), Some(cursor.clone()));
            assert_eq!(WalkCursor::from_text(&cursor.to_text(), Lanes::Due), None);
        }
        for text in ["", "#", "1970-01-01T00:00:00.000Z#p20", "1970-01-01T00:00:00.000Z#p1#x", "x#p0"] {
            assert_eq!(WalkCursor::from_text(text, Lanes::AttentionAndDue), None, "{text}");
        }
    }
}
