//! The item of an order. The store changes it by update expressions only, so it is read and never written as a whole. Each
//! adjustment is an attribute, whose name contains its id.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::de::DeserializeOwned;

use super::InvalidItem;
use crate::{
    domain::{
        adjustments::{Adjustment, Dispute},
        id::{OrderId, UserId},
        money::Money,
        order::OrderRecord,
    },
    mutant::{self, Mutant},
    store::keys::{ADJUSTMENTS, CANCELLED, CLAIMED_BY, DISPUTE, Item, PAID, REFUND, REFUND_FAILED, text},
};

/// Reads the item of this order.
///
/// # Errors
/// Returns an error when the item is not an order.
pub fn from_order_item(id: &OrderId, item: &Item) -> Result<OrderRecord, InvalidItem> {
    let mut record =
        OrderRecord { id: id.clone(), claimed_by: read(item, CLAIMED_BY)?, paid: read(item, PAID)?, ..empty(id) };
    let adjustments = &mut record.adjustments;
    adjustments.version = read(item, ADJUSTMENTS)?.unwrap_or_default();
    adjustments.is_cancelled = item.contains_key(CANCELLED);
    for name in item.keys() {
        if let Some(id) = name.strip_prefix(REFUND_FAILED) {
            adjustments.failed_refunds.extend(parsed(item, id)?);
        } else if let Some(id) = name.strip_prefix(REFUND) {
            adjustments.refunds.extend(parsed(item, id)?.zip(read::<Money>(item, name)?));
        } else if let Some(id) = name.strip_prefix(DISPUTE) {
            let state: Option<String> = read(item, name)?;
            let is_open = state.is_some_and(|state| state.ends_with(OPEN));
            adjustments.disputes.insert(if id.is_empty() { None } else { parsed(item, id)? }, is_open);
        }
    }
    Ok(record)
}

fn empty(id: &OrderId) -> OrderRecord {
    OrderRecord { id: id.clone(), claimed_by: None, paid: None, adjustments: Default::default() }
}

fn read<T: DeserializeOwned>(item: &Item, name: &str) -> Result<Option<T>, InvalidItem> {
    let value = item.get(name).cloned().map(serde_dynamo::from_attribute_value).transpose();
    value.map_err(|problem| InvalidItem::at(item, &problem))
}

/// The id in the name of an attribute.
fn parsed<T: DeserializeOwned>(item: &Item, id: &str) -> Result<Option<T>, InvalidItem> {
    let id = serde_dynamo::from_attribute_value(text(id)).map(Some);
    id.map_err(|problem| InvalidItem::at(item, &problem))
}

/// Reads who claimed an order; `None` if no one did.
///
/// # Errors
/// Returns an error when the item is not an order.
pub fn claimed_by(item: &Item) -> Result<Option<UserId>, InvalidItem> {
    read(item, CLAIMED_BY)
}

/// What was paid, as an attribute.
///
/// # Errors
/// Returns an error when the amount cannot be serialized.
pub(in crate::store) fn to_paid(paid: &Money) -> Result<AttributeValue, InvalidItem> {
    serde_dynamo::to_attribute_value(paid).map_err(|problem| InvalidItem::at(&Item::new(), &problem))
}

/// The state of a dispute follows its time. An open dispute is the greater text, so at the same time it wins.
const OPEN: &str = " payment.disputed";
const WON: &str = " payment.dispute_won";

/// The name and value of an adjustment's attribute.
///
/// # Errors
/// Returns an error when the amount cannot be serialized.
pub(in crate::store) fn to_attribute(adjustment: &Adjustment) -> Result<(String, AttributeValue), InvalidItem> {
    Ok(match adjustment {
        Adjustment::Cancelled => (CANCELLED.to_owned(), AttributeValue::Bool(true)),
        Adjustment::Refunded(id, refund) => (format!("{REFUND}{id}"), to_paid(refund)?),
        Adjustment::RefundFailed(id) => (format!("{REFUND_FAILED}{id}"), AttributeValue::Bool(true)),
        Adjustment::Disputed(Dispute { id, at, is_won }) => {
            let id = id.as_ref().map_or("", |id| id.as_str());
            let state = if *is_won && !mutant::is(Mutant::DisputeWonIgnored) { WON } else { OPEN };
            (format!("{DISPUTE}{id}"), text(format!("{at}{state}")))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::adjustments::Adjustments,
        sample::{at, money},
        store::keys::Key,
    };

    #[test]
    fn an_item_without_adjustments_is_an_order_that_stands() {
        let id = "o-1".parse().unwrap();
        let mut item = Key::order(&id).attributes();
        assert_eq!(from_order_item(&id, &item).unwrap(), empty(&id));
        item.insert(CLAIMED_BY.to_owned(), text("bob"));
        item.insert(PAID.to_owned(), to_paid(&money(500)).unwrap());
        let record = from_order_item(&id, &item).unwrap();
        assert_eq!((record.claimed_by, record.paid), (Some("bob".parse().unwrap()), Some(money(500))));
        item.insert(CLAIMED_BY.to_owned(), text("b b"));
        assert!(from_order_item(&id, &item).is_err());
        assert!(claimed_by(&item).is_err());
    }

    #[test]
    fn adjustments_are_read_back() {
        let dispute = |id: Option<&str>, is_won| {
            Adjustment::Disputed(Dispute { id: id.map(|id| id.parse().unwrap()), at: at(5), is_won })
        };
        let written = [
            Adjustment::Cancelled,
            Adjustment::Refunded("r-1".parse().unwrap(), money(200)),
            Adjustment::RefundFailed("r-2".parse().unwrap()),
            dispute(None, false),
            dispute(Some("d-1"), true),
        ];
        let mut item: Item = written.iter().map(|adjustment| to_attribute(adjustment).unwrap()).collect();
        item.insert(ADJUSTMENTS.to_owned(), AttributeValue::N("5".to_owned()));
        let expected = Adjustments {
            version: 5,
            is_cancelled: true,
            refunds: [("r-1".parse().unwrap(), money(200))].into(),
            failed_refunds: ["r-2".parse().unwrap()].into(),
            disputes: [(None, true), (Some("d-1".parse().unwrap()), false)].into(),
        };
        assert_eq!(from_order_item(&"o-1".parse().unwrap(), &item).unwrap().adjustments, expected);
    }

    #[test]
    fn at_the_same_time_an_open_dispute_is_greater() {
        assert!(WON < OPEN);
    }
}
