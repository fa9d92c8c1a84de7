//! News: what an event on the bus says, once it has been read.

use std::time::Duration;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use referrals::{
    account::Standing,
    device::DeviceFingerprint,
    id::{OrderId, RefundId, UserId},
    life::attribute::{Report, SignUp},
    money::Money,
    order::{AdjustmentCause, Order, OrderAdjustment},
    time::Timestamp,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// What an event asks for.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// An order that may convert.
    Order(Order),
    /// An order that does not stand any more.
    Withdrawal(OrderAdjustment),
    /// An account flagged or cleared.
    Standing(UserId, Standing),
    /// A new member.
    SignedUp(SignedUp),
}

/// A new member, and how they came.
#[derive(Clone, Debug)]
pub(crate) struct SignedUp {
    pub(crate) user: UserId,
    pub(crate) device_fingerprint: Option<DeviceFingerprint>,
    /// Only who came by a code.
    pub(crate) attribution: Option<SignUp>,
}

/// What reading came to.
#[derive(Clone, Debug)]
pub(crate) enum Reading {
    News(News),
    /// Not meant for us.
    Unknown,
    /// Meant for us, but it cannot be read, for this reason.
    Broken(String),
}

impl News {
    /// Whom it is about.
    pub(crate) fn user(&self) -> &UserId {
        match self {
            Self::Order(order) => &order.user,
            Self::Withdrawal(withdrawal) => &withdrawal.user,
            Self::Standing(user, _) => user,
            Self::SignedUp(sign_up) => &sign_up.user,
        }
    }
}

/// Reads an event; orders come under the program's own qualifying type too.
pub(crate) fn read(payload: &Value, qualifying_event: &str, now: Timestamp) -> Reading {
    let event: EventBridgeEvent<Value> = match EventBridgeEvent::deserialize(payload) {
        Ok(event) => event,
        Err(problem) => return Reading::Broken(format!("the envelope: {problem}")),
    };
    let sent_at = event.time.map_or(now, Timestamp::from);
    let detail = event.detail;
    let news = match event.detail_type.as_str() {
        "order.refunded" => parse::<Refunded>(detail).map(|refund| refund.news()),
        "order.cancelled" => parse::<OfOrder>(detail).map(|order| order.news(AdjustmentCause::Cancelled)),
        "payment.disputed" => parse::<OfOrder>(detail).map(|order| order.news(AdjustmentCause::Disputed)),
        "account.flagged" => parse::<Flagged>(detail).and_then(|flagged| flagged.news(sent_at)),
        "account.cleared" => parse::<Cleared>(detail).and_then(|cleared| cleared.news(sent_at)),
        "customer.signed_up" => parse::<CustomerSignedUp>(detail).map(|customer| customer.news(sent_at.min(now))),
        // Referrals keep the terms of their day, so the default type goes on converting when the setting has changed.
        known if known == "order.completed" || known == qualifying_event => {
            parse::<Completed>(detail).map(|completed| completed.news(known))
        }
        _ => return Reading::Unknown,
    };
    match news {
        Ok(news) => Reading::News(news),
        Err(problem) => Reading::Broken(format!("the detail of {}: {problem}", event.detail_type)),
    }
}

/// Why a detail cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Form(#[from] serde_json::Error),
    // The library would take a list for the fields in their order.
    #[error("expected an object")]
    NoObject,
    // It would outweigh all later news of the account until its day has come.
    #[error("occurred_at lies after the event itself")]
    FromTheFuture,
}

fn parse<T: DeserializeOwned>(detail: Value) -> Result<T, Unreadable> {
    if !detail.is_object() {
        return Err(Unreadable::NoObject);
    }
    Ok(serde_json::from_value(detail)?)
}

/// When an account's standing was decided: as the event says, else when it was sent.
fn decided_at(occurred_at: Option<Timestamp>, sent_at: Timestamp) -> Result<Timestamp, Unreadable> {
    /// Clocks differ, and the envelope's time is cut to the second.
    const TOLERANCE: Duration = Duration::from_secs(300);
    let at = occurred_at.unwrap_or(sent_at);
    if at > sent_at.plus(TOLERANCE) { Err(Unreadable::FromTheFuture) } else { Ok(at) }
}

#[derive(Deserialize)]
struct Completed {
    order_id: OrderId,
    user_id: UserId,
    #[serde(flatten)]
    paid: Money,
    #[serde(rename = "occurred_at")]
    _occurred_at: Option<Timestamp>,
}

impl Completed {
    fn news(self, event: &str) -> News {
        News::Order(Order { id: self.order_id, event: event.to_owned(), user: self.user_id, paid: self.paid })
    }
}

#[derive(Deserialize)]
struct OfOrder {
    order_id: OrderId,
    user_id: UserId,
}

impl OfOrder {
    fn news(self, cause: AdjustmentCause) -> News {
        News::Withdrawal(OrderAdjustment { order: self.order_id, user: self.user_id, cause })
    }
}

#[derive(Deserialize)]
struct Refunded {
    #[serde(rename = "refund_id")]
    _refund_id: RefundId,
    #[serde(flatten)]
    of: OfOrder,
    #[serde(flatten)]
    refund: Money,
}

impl Refunded {
    fn news(self) -> News {
        self.of.news(AdjustmentCause::Refunded(self.refund))
    }
}

#[derive(Deserialize)]
struct Flagged {
    user_id: UserId,
    reason: String,
    occurred_at: Option<Timestamp>,
}

impl Flagged {
    /// Longer reasons are cut: an account's item stays small.
    const LONGEST_REASON: usize = 256;

    fn news(self, sent_at: Timestamp) -> Result<News, Unreadable> {
        let reason = self.reason.chars().take(Self::LONGEST_REASON).collect();
        let at = decided_at(self.occurred_at, sent_at)?;
        Ok(News::Standing(self.user_id, Standing { flag: Some(reason), at }))
    }
}

#[derive(Deserialize)]
struct Cleared {
    user_id: UserId,
    occurred_at: Option<Timestamp>,
}

impl Cleared {
    fn news(self, sent_at: Timestamp) -> Result<News, Unreadable> {
        Ok(News::Standing(self.user_id, Standing { flag: None, at: decided_at(self.occurred_at, sent_at)? }))
    }
}

#[derive(Deserialize)]
struct CustomerSignedUp {
    user_id: UserId,
    #[serde(flatten)]
    report: Report,
}

impl CustomerSignedUp {
    fn news(self, sent_at: Timestamp) -> News {
        let Self { user_id: user, report } = self;
        let judged_at = report.signed_up_at(sent_at);
        let device_fingerprint = report.device_fingerprint.clone();
        let attribution = report.code.clone().map(|code| report.sign_up(user.clone(), code, judged_at));
        News::SignedUp(SignedUp { user, device_fingerprint, attribution })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_event(detail_type: &str, detail: Value) -> Reading {
        let event =
            json!({"detail-type": detail_type, "source": "shop", "time": "2026-01-31T09:30:00Z", "detail": detail});
        read(&event, "subscription.started", Timestamp::from_millis(0).unwrap())
    }

    #[test]
    fn the_programs_own_event_is_an_order_too() {
        let detail = json!({"order_id": "o-1", "user_id": "bob", "amount": 500, "currency": "USD", "new": "field"});
        for detail_type in ["order.completed", "subscription.started"] {
            match read_event(detail_type, detail.clone()) {
                Reading::News(News::Order(order)) => assert_eq!(order.event, detail_type),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(read_event("order.shipped", detail), Reading::Unknown));
    }

    #[test]
    fn the_events_own_time_beats_the_envelopes() {
        let at = |detail| match read_event("account.flagged", detail) {
            Reading::News(News::Standing(_, standing)) => standing.at.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(at(json!({"user_id": "bob", "reason": "x"})), "2026-01-31T09:30:00.000Z");
        let own = json!({"user_id": "bob", "reason": "x", "occurred_at": "2026-01-30T00:00:00Z"});
        assert_eq!(at(own), "2026-01-30T00:00:00.000Z");
    }

    #[test]
    fn what_is_meant_for_us_and_broken_says_why() {
        for (detail_type, detail) in [
            ("order.completed", json!({"order_id": "o-1", "user_id": "bob", "amount": -1, "currency": "USD"})),
            ("order.completed", json!({"order_id": "o-1", "user_id": "bob", "amount": 1.5, "currency": "USD"})),
            ("order.completed", json!({"order_id": "o-1", "user_id": "b b", "amount": 1, "currency": "USD"})),
            ("order.completed", json!("text")),
            ("order.refunded", json!({"order_id": "o-1", "user_id": "bob", "amount": 1, "currency": "USD"})),
            ("order.cancelled", json!({"order_id": "o-1"})),
            ("payment.disputed", json!(null)),
            ("account.flagged", json!({"user_id": "bob"})),
            ("account.cleared", json!({"user_id": 7})),
            ("account.cleared", json!({"user_id": "bob", "occurred_at": "2026-02-01T00:00:00Z"})),
            ("order.cancelled", json!(["o-1", "bob"])),
            ("customer.signed_up", json!({"user_id": "bob", "code": "!"})),
            ("customer.signed_up", json!({"user_id": "bob", "ip": "somewhere"})),
        ] {
            match read_event(detail_type, detail) {
                Reading::Broken(reason) => assert!(reason.contains(detail_type), "{reason}"),
                other => panic!("{detail_type}: {other:?}"),
            }
        }
        assert!(matches!(read(&json!("no event"), "", Timestamp::from_millis(0).unwrap()), Reading::Broken(_)));
    }
}
