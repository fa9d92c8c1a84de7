//! The item of an order. The store changes it by update expressions only, so it is read and never written as a whole.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Deserialize;

use super::{InvalidItem, from_image};
use crate::{
    domain::{id::UserId, money::Money},
    store::keys::Item,
};

#[derive(Deserialize)]
struct OrderItem {
    #[serde(rename = "referee", default)]
    claimed_by: Option<UserId>,
}

/// Reads who claimed an order; `None` if no one did.
///
/// # Errors
/// Returns an error when the item is not an order.
pub fn claimed_by(item: Item) -> Result<Option<UserId>, InvalidItem> {
    Ok(from_image::<OrderItem>(item.into())?.claimed_by)
}

/// What was paid, as an attribute.
///
/// # Errors
/// Returns an error when the amount cannot be serialized.
pub(in crate::store) fn to_paid(paid: &Money) -> Result<AttributeValue, InvalidItem> {
    serde_dynamo::to_attribute_value(paid).map_err(|problem| InvalidItem::at(&Item::new(), &problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::{CLAIMED_BY, Key, text};

    #[test]
    fn an_order_can_be_unclaimed() {
        let mut item = Key::order(&"o-1".parse().unwrap()).attributes();
        assert_eq!(claimed_by(item.clone()).unwrap(), None);
        item.insert(CLAIMED_BY.to_owned(), text("bob"));
        assert_eq!(claimed_by(item.clone()).unwrap(), Some("bob".parse().unwrap()));
        item.insert(CLAIMED_BY.to_owned(), text("b b"));
        assert!(claimed_by(item).is_err());
    }
}
