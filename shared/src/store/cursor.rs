//! Cursors: positions in the two indexes. Their content is opaque to callers.
//!
//! Clients keep cursors across releases, so their text form must not change.

use std::{fmt, str::FromStr};

use super::keys::{self, Item, Key, WORK_SHARDS};
use crate::{
    domain::{id::UserId, time::Timestamp},
    referral::{
        Lane, Referral,
        reward::{InstructionId, InstructionKind},
    },
};

/// The text is not a cursor of this list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a cursor of this list")]
pub struct InvalidCursor;

/// A position in the list of a referrer's referrals.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ListCursor(String);

impl ListCursor {
    /// The position of a referral in the list of its referrer.
    pub(super) fn at(referral: &Referral) -> Self {
        Self(keys::referred_at(referral.created_at, &referral.referee))
    }

    /// The position with this sort key of the index.
    pub(super) fn from_sort_key(referred_at: String) -> Self {
        Self(referred_at)
    }

    pub(super) fn as_sort_key(&self) -> &str {
        &self.0
    }

    pub(super) fn referee(&self) -> Option<UserId> {
        keys::referred_at_parts(&self.0).map(|(_, referee)| referee)
    }
}

impl FromStr for ListCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let cursor = Self(text.to_owned());
        if cursor.referee().is_some() { Ok(cursor) } else { Err(InvalidCursor) }
    }
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ListCursor> for String {
    fn from(cursor: ListCursor) -> Self {
        cursor.0
    }
}

/// One partition of a lane of the index of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkPartition {
    lane: Lane,
    shard: u32,
}

impl WorkPartition {
    /// All partitions of a lane.
    pub fn all(lane: Lane) -> Vec<Self> {
        (0..WORK_SHARDS).map(|shard| Self { lane, shard }).collect()
    }

    /// Counts the partitions of several lanes in order, and returns the one at `position`.
    pub fn nth(lanes: &[Lane], position: u32) -> Option<Self> {
        let lane = *lanes.get(usize::try_from(position / WORK_SHARDS).ok()?)?;
        Some(Self { lane, shard: position % WORK_SHARDS })
    }

    /// The lane of this partition.
    pub fn lane(self) -> Lane {
        self.lane
    }

    pub(super) fn key(self) -> String {
        keys::work_partition(self.lane, self.shard)
    }
}

/// A position within a partition of the index of work.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkCursor(Item);

impl WorkCursor {
    pub(super) fn from_key(key: Item) -> Self {
        Self(key)
    }

    pub(super) fn into_key(self) -> Item {
        self.0
    }

    /// The position as text; `None` when the item at this position is neither a referral nor a reversal.
    pub fn to_text(&self) -> Option<String> {
        let (due_at, id) = keys::work_key_parts(&self.0)?;
        Some(format!("{due_at}#{id}"))
    }

    /// Parses the text of a position in this partition.
    ///
    /// # Errors
    /// Returns an error when the text is not such a position.
    pub fn from_text(partition: WorkPartition, text: &str) -> Result<Self, InvalidCursor> {
        let (due_at, id) = text.split_once('#').ok_or(InvalidCursor)?;
        let due_at = Timestamp::try_from(due_at.to_owned()).map_err(|_| InvalidCursor)?;
        let reversal = InstructionId::try_from(id.to_owned()).ok().filter(|id| id.kind != InstructionKind::Grant);
        let key = match reversal {
            Some(reversal) => Key::reversal(&reversal),
            None => Key::referral(&id.parse().map_err(|_| InvalidCursor)?),
        };
        Ok(Self(keys::work_key(partition.key(), due_at, &key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_list_cursor_keeps_its_text() {
        let cursor = ListCursor::at(&sample::pending());
        let text = cursor.to_string();
        assert_eq!(text, format!("{}#bob", sample::pending().created_at));
        assert_eq!(text.parse(), Ok(cursor));
        for text in ["", "#", "bob", "2026-01-31#bob", "2026-01-31T09:30:00.000Z#", "2026-01-31T09:30:00.000Z#a b"] {
            assert_eq!(text.parse::<ListCursor>(), Err(InvalidCursor), "{text}");
        }
    }

    #[test]
    fn a_work_cursor_keeps_its_text() {
        let partition = WorkPartition::nth(&[Lane::Attention, Lane::Due], 13).unwrap();
        assert_eq!((partition.lane(), partition.key().as_str()), (Lane::Due, "due#3"));
        assert_eq!(WorkPartition::nth(&[Lane::Attention, Lane::Due], 20), None);
        assert_eq!(WorkPartition::all(Lane::Due)[3], partition);
        for text in ["1970-01-01T00:00:00.000Z#bob|x", "1970-01-01T00:00:00.000Z#bob:referee:reversal"] {
            let cursor = WorkCursor::from_text(partition, text).unwrap();
            assert_eq!(cursor.to_text().as_deref(), Some(text));
        }
        let grant = "1970-01-01T00:00:00.000Z#bob:referee";
        for text in ["", "#", "x", "x#bob", "1970-01-01T00:00:00.000Z#bob#carol", grant] {
            assert_eq!(WorkCursor::from_text(partition, text), Err(InvalidCursor), "{text}");
        }
    }
}
