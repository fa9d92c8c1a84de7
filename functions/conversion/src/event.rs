//! Inbound events: parses an event of the product into a typed event.

use std::time::Duration;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use referrals::{
    domain::{
        account::AccountFlag,
        adjustments::{Adjustment, Dispute, OrderAdjustment},
        code::NamedCode,
        device::DeviceFingerprint,
        id::{DisputeId, OrderId, RefundId, UserId},
        money::Money,
        order::Order,
        time::Timestamp,
    },
    lifecycle::{
        attribute::{AttributionRefusal, SignUp},
        details::SignUpDetails,
    },
    mutant::{self, Mutant},
    program::QualifyingEvents,
    runtime::{Env, Misconfigured},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::time::{EventTime, InTheFuture};

/// A valid event.
#[derive(Clone, Debug)]
pub(crate) enum InboundEvent {
    /// An order, which converts the referral if it meets the referral's terms.
    Order(Order),
    Adjustment(OrderAdjustment),
    /// A user's account was flagged or cleared.
    Flag(UserId, AccountFlag),
    SignedUp(SignedUp),
}

/// A new member.
#[derive(Clone, Debug)]
pub(crate) struct SignedUp {
    pub(crate) user: UserId,
    pub(crate) device_fingerprint: Option<DeviceFingerprint>,
    /// `None` if the event names no code, and an error if what it names cannot be one.
    pub(crate) attribution: Option<Result<SignUp, AttributionRefusal>>,
}

/// Which events are orders, and for which sign-ups an order counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Orders {
    qualifying: QualifyingEvents,
    /// How long before the sign-up of its user an order may be placed. A shop may report the sign-up of a guest after the order.
    lead: Duration,
    /// How much later than an event its delayed copy arrives.
    delay: Duration,
}

impl Orders {
    /// Reads `ORDER_LEAD_SECONDS` (900), `DELAY_SECONDS` (900) and the qualifying events.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when a setting is invalid.
    pub(crate) fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        let lead = Duration::from_secs(env.parsed("ORDER_LEAD_SECONDS", 900)?);
        let delay = Duration::from_secs(env.parsed("DELAY_SECONDS", 900)?);
        Ok(Self { qualifying: QualifyingEvents::from_env(env)?, lead, delay })
    }

    /// The earliest end of the hold of an order that converts because of a late event: other events may be as late.
    fn hold_until(&self, at: Timestamp, time: EventTime) -> Option<Timestamp> {
        let is_late = time.is_late || at.plus(self.delay) < time.now;
        (is_late && !mutant::is(Mutant::LateOrderNotHeld)).then(|| time.now.plus(self.delay))
    }
}

/// The result of parsing.
#[derive(Clone, Debug)]
pub(crate) enum Parsed {
    Event(Box<InboundEvent>),
    /// The type is unknown.
    Ignored,
    /// The type is known, but the event is invalid. The text says why.
    Invalid(String),
}

impl InboundEvent {
    /// The user that the event is about, if it names one.
    pub(crate) fn user(&self) -> Option<&UserId> {
        match self {
            Self::Order(order) => Some(&order.user),
            Self::Adjustment(adjustment) => adjustment.user.as_ref(),
            Self::Flag(user, _) => Some(user),
            Self::SignedUp(sign_up) => Some(&sign_up.user),
        }
    }
}

/// Parses an event with this time. Whether an order qualifies is decided later, by the terms of the referral.
pub(crate) fn parse(payload: &Value, orders: &Orders, time: EventTime) -> Parsed {
    let event: EventBridgeEvent<Value> = match EventBridgeEvent::deserialize(payload) {
        Ok(event) => event,
        Err(problem) => return Parsed::Invalid(format!("the envelope: {problem}")),
    };
    let detail = event.detail;
    let parsed = match event.detail_type.as_str() {
        "order.refunded" => read::<Refunded>(detail).map(Refunded::event),
        "order.refund_failed" => read::<RefundFailed>(detail).map(RefundFailed::event),
        "order.cancelled" => read::<OfOrder>(detail).map(|order| order.event(Adjustment::Cancelled)),
        "payment.disputed" => read::<Disputed>(detail).and_then(|disputed| disputed.event(time, false)),
        "payment.dispute_won" => read::<Disputed>(detail).and_then(|disputed| disputed.event(time, true)),
        "account.flagged" => read::<Flagged>(detail).and_then(|flagged| flagged.event(time)),
        "account.cleared" => read::<Cleared>(detail).and_then(|cleared| cleared.event(time)),
        "customer.signed_up" => CustomerSignedUp::read(detail).map(|customer| customer.event(time.sent_at)),
        // Referrals keep the terms of their attribution, so the default type still converts when the setting has changed.
        known if known == "order.completed" || orders.qualifying.contains(known) => {
            read::<Completed>(detail).map(|completed| completed.event(known, time, orders))
        }
        _ => return Parsed::Ignored,
    };
    match parsed {
        Ok(InboundEvent::Adjustment(adjustment)) => {
            let hold_until = orders.hold_until(time.sent_at, time);
            Parsed::Event(Box::new(InboundEvent::Adjustment(OrderAdjustment { hold_until, ..adjustment })))
        }
        Ok(event) => Parsed::Event(Box::new(event)),
        Err(problem) => Parsed::Invalid(format!("the detail of {}: {problem}", event.detail_type)),
    }
}

/// Why a detail is invalid.
#[derive(Debug, thiserror::Error)]
enum InvalidDetail {
    #[error(transparent)]
    Form(#[from] serde_json::Error),
    // Serde also accepts an array with the values of all fields in order, which no product sends intentionally.
    #[error("expected an object")]
    NotAnObject,
    #[error(transparent)]
    Time(#[from] InTheFuture),
}

fn read<T: DeserializeOwned>(detail: Value) -> Result<T, InvalidDetail> {
    if !detail.is_object() {
        return Err(InvalidDetail::NotAnObject);
    }
    Ok(serde_json::from_value(detail)?)
}

#[derive(Deserialize)]
struct Completed {
    order_id: OrderId,
    user_id: UserId,
    #[serde(flatten)]
    paid: Money,
    occurred_at: Option<Timestamp>,
}

impl Completed {
    fn event(self, event: &str, time: EventTime, orders: &Orders) -> InboundEvent {
        let lead = if mutant::is(Mutant::OrderLeadForgotten) { Duration::ZERO } else { orders.lead };
        let placed_at = time.of_order(self.occurred_at);
        InboundEvent::Order(Order {
            id: self.order_id,
            event: event.to_owned(),
            user: self.user_id,
            paid: self.paid,
            placed_at,
            is_by_operator: false,
            latest_sign_up: placed_at.plus(lead),
            hold_until: orders.hold_until(placed_at, time),
        })
    }
}

#[derive(Deserialize)]
struct OfOrder {
    order_id: OrderId,
    user_id: Option<UserId>,
}

impl OfOrder {
    fn event(self, adjustment: Adjustment) -> InboundEvent {
        InboundEvent::Adjustment(OrderAdjustment {
            order: self.order_id,
            user: self.user_id,
            adjustment,
            hold_until: None,
        })
    }
}

#[derive(Deserialize)]
struct Refunded {
    refund_id: RefundId,
    #[serde(flatten)]
    of: OfOrder,
    #[serde(flatten)]
    refund: Money,
}

impl Refunded {
    fn event(self) -> InboundEvent {
        self.of.event(Adjustment::Refunded(self.refund_id, self.refund))
    }
}

#[derive(Deserialize)]
struct RefundFailed {
    refund_id: RefundId,
    #[serde(flatten)]
    of: OfOrder,
}

impl RefundFailed {
    fn event(self) -> InboundEvent {
        self.of.event(Adjustment::RefundFailed(self.refund_id))
    }
}

#[derive(Deserialize)]
struct Disputed {
    #[serde(flatten)]
    of: OfOrder,
    dispute_id: Option<DisputeId>,
    occurred_at: Option<Timestamp>,
}

impl Disputed {
    fn event(self, time: EventTime, is_won: bool) -> Result<InboundEvent, InvalidDetail> {
        let dispute = Dispute { id: self.dispute_id, at: time.of_state(self.occurred_at)?, is_won };
        Ok(self.of.event(Adjustment::Disputed(dispute)))
    }
}

#[derive(Deserialize)]
struct Flagged {
    user_id: UserId,
    reason: String,
    occurred_at: Option<Timestamp>,
}

impl Flagged {
    /// Longer reasons are truncated, so that the item of the account stays small.
    const LONGEST_REASON: usize = 256;

    fn event(self, time: EventTime) -> Result<InboundEvent, InvalidDetail> {
        let reason = self.reason.chars().take(Self::LONGEST_REASON).collect();
        let at = time.of_state(self.occurred_at)?;
        Ok(InboundEvent::Flag(self.user_id, AccountFlag { reason: Some(reason), at }))
    }
}

#[derive(Deserialize)]
struct Cleared {
    user_id: UserId,
    occurred_at: Option<Timestamp>,
}

impl Cleared {
    fn event(self, time: EventTime) -> Result<InboundEvent, InvalidDetail> {
        let at = time.of_state(self.occurred_at)?;
        Ok(InboundEvent::Flag(self.user_id, AccountFlag { reason: None, at }))
    }
}

struct CustomerSignedUp {
    user: UserId,
    details: SignUpDetails,
}

#[derive(Deserialize)]
struct OfUser {
    user_id: UserId,
}

impl CustomerSignedUp {
    /// Reads the required field and the optional ones separately, because serde cannot skip an unreadable value in a
    /// flattened struct.
    fn read(detail: Value) -> Result<Self, InvalidDetail> {
        let OfUser { user_id: user } = read(detail.clone())?;
        Ok(Self { user, details: read(detail)? })
    }

    fn event(self, sent_at: Timestamp) -> InboundEvent {
        let Self { user, details } = self;
        details.log_dropped();
        let signed_up_at = details.signed_up_at(sent_at);
        let device_fingerprint = details.device_fingerprint().cloned();
        let attribution = match details.code.clone() {
            NamedCode::None => None,
            NamedCode::Code(code) => Some(Ok(details.sign_up(user.clone(), code, signed_up_at, None))),
            NamedCode::Invalid => Some(Err(AttributionRefusal::CodeNotFound)),
        };
        InboundEvent::SignedUp(SignedUp { user, device_fingerprint, attribution })
    }
}

#[cfg(test)]
mod tests {
    use referrals::runtime::Env;
    use serde_json::json;

    use super::*;

    fn orders() -> Orders {
        let env = Env::default()
            .with("QUALIFYING_EVENT", "subscription.started")
            .with("QUALIFYING_EVENTS", "subscription.started,trial.ended");
        Orders::from_env(&env).unwrap()
    }

    fn parse_event(detail_type: &str, detail: Value) -> Parsed {
        let event =
            json!({"detail-type": detail_type, "source": "shop", "time": "2026-01-31T09:30:00Z", "detail": detail});
        parse_payload(&event)
    }

    /// Parses an event that is received at ten.
    fn parse_payload(event: &Value) -> Parsed {
        let now = "2026-01-31T10:00:00Z".parse().unwrap();
        parse(event, &orders(), EventTime::of(event, now, now, false))
    }

    #[test]
    fn an_order_that_is_processed_late_is_held_for_the_delay() {
        let held = |event: Value, is_delayed| {
            let now = "2026-01-31T10:00:00Z".parse().unwrap();
            match parse(&event, &orders(), EventTime::of(&event, now, now, is_delayed)) {
                Parsed::Event(event) => match *event {
                    InboundEvent::Order(order) => order.hold_until.map(|until| until.to_string()),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        };
        let placed = |occurred_at: &str| {
            let detail = json!({
                "order_id": "o-1", "user_id": "bob", "amount": 500, "currency": "USD", "occurred_at": occurred_at,
            });
            json!({"detail-type": "order.completed", "source": "shop", "detail": detail})
        };
        let until = Some("2026-01-31T10:15:00.000Z".to_owned());
        assert_eq!(held(placed("2026-01-31T09:45:00Z"), false), None);
        assert_eq!(held(placed("2026-01-31T09:44:59Z"), false), until);
        assert_eq!(held(placed("2026-01-31T09:59:59Z"), true), until);
        let mut replayed = placed("2026-01-31T09:59:59Z");
        replayed["replay-name"] = "noon".into();
        assert_eq!(held(replayed, false), until);
    }

    #[test]
    fn every_qualifying_event_is_an_order() {
        let detail = json!({"order_id": "o-1", "user_id": "bob", "amount": 500, "currency": "USD", "new": "field"});
        for detail_type in ["order.completed", "subscription.started", "trial.ended"] {
            match parse_event(detail_type, detail.clone()) {
                Parsed::Event(event) => match *event {
                    InboundEvent::Order(order) => assert_eq!(order.event, detail_type),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(parse_event("order.shipped", detail), Parsed::Ignored));
    }

    #[test]
    fn an_order_counts_for_sign_ups_until_a_quarter_of_an_hour_after_it() {
        let latest = |occurred_at: Value| {
            let detail = json!({
                "order_id": "o-1", "user_id": "bob", "amount": 500, "currency": "USD", "occurred_at": occurred_at,
            });
            match parse_event("order.completed", detail) {
                Parsed::Event(event) => match *event {
                    InboundEvent::Order(order) => order.latest_sign_up.to_string(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(latest(json!("2026-01-01T00:00:00Z")), "2026-01-01T00:15:00.000Z");
        assert_eq!(latest(Value::Null), "2026-01-31T09:45:00.000Z");
        assert_eq!(latest(json!("2036-01-01T00:00:00Z")), "2026-01-31T10:15:00.000Z", "not later than the receipt");
    }

    #[test]
    fn an_amount_may_have_an_empty_fraction() {
        let order = |amount| json!({"order_id": "o-1", "user_id": "bob", "amount": amount, "currency": "USD"});
        match parse_event("order.completed", order(500.0)) {
            Parsed::Event(event) => assert!(
                matches!(*event, InboundEvent::Order(ref order) if u64::from(order.paid.amount) == 500),
                "{event:?}"
            ),
            other => panic!("{other:?}"),
        }
        assert!(matches!(parse_event("order.completed", order(500.5)), Parsed::Invalid(_)));
    }

    #[test]
    fn the_time_in_the_detail_is_preferred_to_the_envelopes_time() {
        let at = |detail| match parse_event("account.flagged", detail) {
            Parsed::Event(event) => match *event {
                InboundEvent::Flag(_, flag) => flag.at.to_string(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert_eq!(at(json!({"user_id": "bob", "reason": "x"})), "2026-01-31T09:30:00.000Z");
        let own = json!({"user_id": "bob", "reason": "x", "occurred_at": "2026-01-30T00:00:00Z"});
        assert_eq!(at(own), "2026-01-30T00:00:00.000Z");
    }

    #[test]
    fn an_invalid_event_of_a_known_type_says_why() {
        for (detail_type, detail) in [
            ("order.completed", json!({"order_id": "o-1", "user_id": "bob", "amount": -1, "currency": "USD"})),
            ("order.completed", json!({"order_id": "o-1", "user_id": "bob", "amount": 1.5, "currency": "USD"})),
            ("order.completed", json!({"order_id": "o-1", "user_id": "b b", "amount": 1, "currency": "USD"})),
            ("order.completed", json!("text")),
            ("order.refunded", json!({"order_id": "o-1", "user_id": "bob", "amount": 1, "currency": "USD"})),
            ("order.cancelled", json!({"user_id": "bob"})),
            ("order.refund_failed", json!({"order_id": "o-1"})),
            ("payment.dispute_won", json!({"order_id": "o-1", "dispute_id": "d d"})),
            ("payment.disputed", json!({"order_id": "o-1", "occurred_at": "2026-02-01T00:00:00Z"})),
            ("payment.disputed", json!(null)),
            ("account.flagged", json!({"user_id": "bob"})),
            ("account.cleared", json!({"user_id": 7})),
            ("account.cleared", json!({"user_id": "bob", "occurred_at": "2026-02-01T00:00:00Z"})),
            ("order.cancelled", json!(["o-1", "bob"])),
            ("customer.signed_up", json!({"user_id": "b b"})),
        ] {
            match parse_event(detail_type, detail) {
                Parsed::Invalid(reason) => assert!(reason.contains(detail_type), "{reason}"),
                other => panic!("{detail_type}: {other:?}"),
            }
        }
        assert!(matches!(parse_payload(&json!("no event")), Parsed::Invalid(_)));
    }
}
