//! The item of a note: an audit entry, or an order that was refused.

use super::{InvalidItem, from_image, to_item};
use crate::{
    referral::note::{Note, Subject},
    store::keys::{Item, Key},
};

/// The item of a note.
///
/// # Errors
/// Returns an error when the note cannot be serialized.
pub fn to_note_item(subject: &Subject, note: &Note) -> Result<Item, InvalidItem> {
    to_item(&Key::note(subject, note), note)
}

/// Reads a note from its item.
///
/// # Errors
/// Returns an error when the item is not a note.
pub fn from_note_item(item: Item) -> Result<Note, InvalidItem> {
    from_image(item.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        referral::note::{Action, AuditEntry, OrderRefusal, RefusedOrder},
        sample::{at, order},
        store::keys::SK,
    };

    #[test]
    fn notes_are_read_back() {
        let subject = Subject::Referral("bob".parse().unwrap());
        let entry = AuditEntry { at: at(5), action: Action::Void, operator: None, reason: "asked".to_owned() };
        let refused = RefusedOrder::of(&order("o-1"), OrderRefusal::NotQualifying, at(9));
        for (note, sk) in [
            (Note::Operator(entry), "NOTE#1970-01-01T00:00:00.005Z#void"),
            (Note::Order(refused), "NOTE#1970-01-01T00:00:00.000Z#order:o-1"),
        ] {
            let item = to_note_item(&subject, &note).unwrap();
            assert_eq!(item[SK].as_s().map(String::as_str), Ok(sk));
            assert_eq!(from_note_item(item).unwrap(), note);
        }
    }
}
