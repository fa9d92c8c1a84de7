//! The item of an order. The store changes it by update expressions only, so it is read and never written as a whole. Each
//! adjustment is an attribute, whose name contains its id.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::InvalidItem;
use crate::{
    domain::{
        adjustments::{Adjustment, Dispute},
        id::{OrderId, RefundId, UserId},
        money::Money,
        order::OrderRecord,
        time::Timestamp,
    },
    mutant::{self, Mutant},
    store::keys::{ADJUSTMENTS, CANCELLED, CLAIMED_BY, DISPUTE, EXCESS, Item, PAID, REFUND, REFUND_FAILED, text},
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
    adjustments.has_excess = read(item, EXCESS)?.unwrap_or_default();
    for DatedAdjustment { adjustment, .. } in dated_adjustments(item)? {
        match adjustment {
            Adjustment::Cancelled => adjustments.is_cancelled = true,
            Adjustment::Refunded(id, refund) => drop(adjustments.refunds.insert(id, refund)),
            Adjustment::RefundFailed(id) => drop(adjustments.failed_refunds.insert(id)),
            Adjustment::Disputed(Dispute { id, is_won, .. }) => drop(adjustments.disputes.insert(id, !is_won)),
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

/// The name and value of an adjustment's attribute. The value contains the time of the write, except for a dispute, which has its
/// own.
///
/// # Errors
/// Returns an error when the amount cannot be serialized.
pub(in crate::store) fn to_attribute(
    adjustment: &Adjustment,
    now: Timestamp,
) -> Result<(String, AttributeValue), InvalidItem> {
    Ok(match adjustment {
        Adjustment::Cancelled => (CANCELLED.to_owned(), text(now.to_string())),
        Adjustment::Refunded(id, refund) => (format!("{REFUND}{id}"), to_refund(refund, now)?),
        Adjustment::RefundFailed(id) => (refund_failed(id), text(now.to_string())),
        Adjustment::Disputed(Dispute { id, at, is_won }) => {
            let id = id.as_ref().map_or("", |id| id.as_str());
            let state = if *is_won && !mutant::is(Mutant::DisputeWonIgnored) { WON } else { OPEN };
            (format!("{DISPUTE}{id}"), text(format!("{at}{state}")))
        }
    })
}

/// The name of the attribute that says that a refund failed.
pub(in crate::store) fn refund_failed(id: &RefundId) -> String {
    format!("{REFUND_FAILED}{id}")
}

/// A refund and when it was written. Earlier versions did not store the time, and ignore it.
#[derive(Serialize, Deserialize)]
struct StoredRefund {
    #[serde(flatten)]
    refund: Money,
    #[serde(default)]
    at: Option<Timestamp>,
}

fn to_refund(refund: &Money, now: Timestamp) -> Result<AttributeValue, InvalidItem> {
    let stored = StoredRefund { refund: *refund, at: Some(now) };
    serde_dynamo::to_attribute_value(stored).map_err(|problem| InvalidItem::at(&Item::new(), &problem))
}

/// The value of a refund that counts as failed because an operator decided so.
pub(in crate::store) fn resolved_at(now: Timestamp) -> String {
    format!("{now}{BY_OPERATOR}")
}

const BY_OPERATOR: &str = " operator";

/// An adjustment of an order, and when it was written or, for a dispute, happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatedAdjustment {
    /// `None`: an earlier version wrote it.
    pub at: Option<Timestamp>,
    /// Whether it is an operator's decision, and not an event.
    pub is_by_operator: bool,
    pub adjustment: Adjustment,
}

/// The adjustments of an order with their times, in no defined order.
///
/// # Errors
/// Returns an error when the item is not an order.
pub fn dated_adjustments(item: &Item) -> Result<Vec<DatedAdjustment>, InvalidItem> {
    let dated = item.keys().map(|name| dated_adjustment(item, name));
    dated.filter_map(Result::transpose).collect()
}

/// The adjustment in this attribute; `None` if the attribute is not one.
fn dated_adjustment(item: &Item, name: &str) -> Result<Option<DatedAdjustment>, InvalidItem> {
    // A time, and what follows it. Earlier versions wrote a flag.
    let (at, rest) = item.get(name).and_then(|value| value.as_s().ok()).map_or((None, ""), |text| dated(text));
    let new = |at, adjustment| DatedAdjustment { at, is_by_operator: rest == BY_OPERATOR, adjustment };
    if name == CANCELLED {
        return Ok(Some(new(at, Adjustment::Cancelled)));
    }
    if let Some(id) = name.strip_prefix(REFUND_FAILED) {
        return Ok(parsed(item, id)?.map(|id| new(at, Adjustment::RefundFailed(id))));
    }
    if let Some(id) = name.strip_prefix(REFUND) {
        let refund = parsed(item, id)?.zip(read::<StoredRefund>(item, name)?);
        return Ok(refund.map(|(id, StoredRefund { refund, at })| new(at, Adjustment::Refunded(id, refund))));
    }
    let Some(id) = name.strip_prefix(DISPUTE) else { return Ok(None) };
    let id = if id.is_empty() { None } else { parsed(item, id)? };
    let dispute = Dispute { id, at: at.unwrap_or(Timestamp::FIRST), is_won: rest != OPEN };
    Ok(Some(new(at, Adjustment::Disputed(dispute))))
}

/// The time at the beginning of a text, and the rest.
fn dated(text: &str) -> (Option<Timestamp>, &str) {
    let (at, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    (at.parse().ok(), rest)
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
        let mut item: Item = written.iter().map(|adjustment| to_attribute(adjustment, at(9)).unwrap()).collect();
        item.insert(ADJUSTMENTS.to_owned(), AttributeValue::N("5".to_owned()));
        let expected = Adjustments {
            version: 5,
            is_cancelled: true,
            refunds: [("r-1".parse().unwrap(), money(200))].into(),
            failed_refunds: ["r-2".parse().unwrap()].into(),
            disputes: [(None, true), (Some("d-1".parse().unwrap()), false)].into(),
            has_excess: false,
        };
        let dated = dated_adjustments(&item).unwrap();
        for adjustment in &written {
            let at = if matches!(adjustment, Adjustment::Disputed(_)) { at(5) } else { at(9) };
            let expected = DatedAdjustment { at: Some(at), is_by_operator: false, adjustment: adjustment.clone() };
            assert!(dated.contains(&expected), "{adjustment:?} in {dated:?}");
        }
        assert_eq!(dated.len(), written.len());
        assert_eq!(from_order_item(&"o-1".parse().unwrap(), &item).unwrap().adjustments, expected);
    }

    #[test]
    fn adjustments_of_an_earlier_version_have_no_time() {
        let mut item = Item::from([(CANCELLED.to_owned(), AttributeValue::Bool(true))]);
        item.insert(format!("{REFUND}r-1"), to_paid(&money(200)).unwrap());
        item.insert(format!("{REFUND_FAILED}r-1"), AttributeValue::Bool(true));
        let dated = dated_adjustments(&item).unwrap();
        assert_eq!((dated.len(), dated.iter().find(|dated| dated.at.is_some())), (3, None));
        item.insert(format!("{REFUND_FAILED}r-1"), text(resolved_at(at(9))));
        let resolved = dated_adjustments(&item).unwrap().into_iter().find(|dated| dated.is_by_operator);
        assert_eq!(resolved.and_then(|resolved| resolved.at), Some(at(9)));
    }

    #[test]
    fn at_the_same_time_an_open_dispute_is_greater() {
        assert!(WON < OPEN);
    }
}
