//! A referral in the form that operators see.

use referrals::{
    domain::time::Timestamp,
    referral::{
        Attention, Referral, State,
        note::{Action, AuditEntry, Note},
    },
    view::ReferralView,
};
use serde::Serialize;

use crate::rewards::RewardItem;

/// A referral, when its hold ends, and why an operator has to decide.
#[derive(Serialize)]
pub(super) struct ReferralEntry<'a> {
    #[serde(flatten)]
    referral: ReferralView<'a, RewardItem<'a>>,
    due_at: Option<Timestamp>,
    attention: Option<Attention>,
}

impl<'a> ReferralEntry<'a> {
    pub(super) fn of(referral: &'a Referral) -> Self {
        let due_at = match &referral.state {
            State::Converted { due_at, .. } => Some(*due_at),
            _ => None,
        };
        let reward = |side| RewardItem::of(referral, &referral.reward_id(side));
        Self { referral: ReferralView::with_rewards(referral, reward), due_at, attention: referral.attention() }
    }
}

/// A referral with its audit entries, the oldest first.
#[derive(Serialize)]
pub(super) struct ReferralWithNotes<'a> {
    #[serde(flatten)]
    entry: ReferralEntry<'a>,
    notes: Vec<NoteView<'a>>,
}

impl<'a> ReferralWithNotes<'a> {
    pub(super) fn of(referral: &'a Referral, notes: &'a [Note]) -> Self {
        let mut notes: Vec<_> = notes.iter().filter_map(NoteView::of).collect();
        notes.sort_by_key(|note| note.at);
        Self { entry: ReferralEntry::of(referral), notes }
    }
}

#[derive(Serialize)]
struct NoteView<'a> {
    at: Timestamp,
    action: Action,
    operator: Option<&'a str>,
    reason: &'a str,
}

impl<'a> NoteView<'a> {
    /// The view of an audit entry; `None` for other notes.
    fn of(note: &'a Note) -> Option<Self> {
        let Note::Operator(AuditEntry { at, action, operator, reason }) = note else { return None };
        Some(Self { at: *at, action: *action, operator: operator.as_deref(), reason })
    }
}
