//! The state machine through the service's interfaces: every phase of a referral against every event. Also tests that a
//! referral keeps its terms when the settings change.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use referrals::domain::time::Timestamp;
use serde_json::{Value, json};

use crate::world::{Folder, World, plain};

/// The state of the referral before the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    NeverReferred,
    Pending,
    OnHold,
    Rewarded,
    Voided,
}

impl Phase {
    const ALL: [Self; 5] = [Self::NeverReferred, Self::Pending, Self::OnHold, Self::Rewarded, Self::Voided];
}

/// The event. The order that converts the referral is always `first-<referee>`, of 4200 cents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trigger {
    FirstOrder,
    OtherOrder,
    SmallOrder,
    ForeignOrder,
    OtherUsersOrder,
    FullRefund,
    LargerRefund,
    PartialRefund,
    SmallRefund,
    ForeignRefund,
    FailedRefund,
    OtherOrderRefunded,
    Cancelled,
    OtherOrderCancelled,
    Disputed,
    OtherOrderDisputed,
    DisputeWon,
    ReferrerFlagged,
    RefereeFlagged,
    ReferrerCleared,
    RefereeCleared,
    SignedUp,
    SignedUpByAnother,
    SignedUpWithoutCode,
}

impl Trigger {
    const ALL: [Self; 24] = [
        Self::FirstOrder,
        Self::OtherOrder,
        Self::SmallOrder,
        Self::ForeignOrder,
        Self::OtherUsersOrder,
        Self::FullRefund,
        Self::LargerRefund,
        Self::PartialRefund,
        Self::SmallRefund,
        Self::ForeignRefund,
        Self::FailedRefund,
        Self::OtherOrderRefunded,
        Self::Cancelled,
        Self::OtherOrderCancelled,
        Self::Disputed,
        Self::OtherOrderDisputed,
        Self::DisputeWon,
        Self::ReferrerFlagged,
        Self::RefereeFlagged,
        Self::ReferrerCleared,
        Self::RefereeCleared,
        Self::SignedUp,
        Self::SignedUpByAnother,
        Self::SignedUpWithoutCode,
    ];

    /// The type and detail of the event.
    fn event(self, of: &Case) -> (&'static str, Value) {
        let (user, referrer) = (of.referee(), of.referrer());
        let order = |user: &str, id: &str, amount: u64, currency: &str| {
            let order_id = of.order(id);
            let detail = json!({"order_id": order_id, "user_id": user, "amount": amount, "currency": currency});
            ("order.completed", detail)
        };
        let refund = |id: &str, amount: u64, currency: &str| {
            let (_, mut detail) = order(&user, id, amount, currency);
            detail["refund_id"] = json!("r");
            ("order.refunded", detail)
        };
        let undone = |what, id: &str| (what, json!({"order_id": of.order(id), "user_id": user}));
        let flagged = |who: &str| ("account.flagged", json!({"user_id": who, "reason": "stolen card"}));
        let cleared = |who: &str| ("account.cleared", json!({"user_id": who}));
        match self {
            Self::FirstOrder => order(&user, "first", 4200, "USD"),
            Self::OtherOrder => order(&user, "other", 4200, "USD"),
            Self::SmallOrder => order(&user, "small", 2499, "USD"),
            Self::ForeignOrder => order(&user, "foreign", 4200, "EUR"),
            Self::OtherUsersOrder => order("other-user", "first", 4200, "USD"),
            Self::FullRefund => refund("first", 4200, "USD"),
            Self::LargerRefund => refund("first", 4201, "USD"),
            // 2500 is the minimum.
            Self::PartialRefund => refund("first", 1701, "USD"),
            Self::SmallRefund => refund("first", 1700, "USD"),
            Self::FailedRefund => {
                ("order.refund_failed", json!({"refund_id": "r", "order_id": of.order("first"), "user_id": user}))
            }
            Self::ForeignRefund => refund("first", 4200, "EUR"),
            Self::OtherOrderRefunded => refund("other", 4200, "USD"),
            Self::Cancelled => undone("order.cancelled", "first"),
            Self::OtherOrderCancelled => undone("order.cancelled", "other"),
            Self::Disputed => undone("payment.disputed", "first"),
            Self::OtherOrderDisputed => undone("payment.disputed", "other"),
            Self::DisputeWon => undone("payment.dispute_won", "first"),
            Self::ReferrerFlagged => flagged(&referrer),
            Self::RefereeFlagged => flagged(&user),
            Self::ReferrerCleared => cleared(&referrer),
            Self::RefereeCleared => cleared(&user),
            Self::SignedUp => ("customer.signed_up", json!({"user_id": user, "code": of.code})),
            Self::SignedUpByAnother => ("customer.signed_up", json!({"user_id": user, "code": "rival"})),
            Self::SignedUpWithoutCode => ("customer.signed_up", json!({"user_id": user})),
        }
    }
}

/// The expected result.
enum Outcome {
    Unchanged,
    Attributed {
        referrer: String,
    },
    Converted {
        order: &'static str,
    },
    /// The other order is kept, in case the first one is undone.
    Kept,
    /// The order was adjusted and still stands.
    Adjusted,
    /// The order was adjusted, and it is unclear whether it still stands.
    Unclear,
    Voided {
        reason: &'static str,
    },
    /// Voided after the issue. Both rewards are taken back.
    Reversed {
        reason: &'static str,
    },
}

/// The expected transition table.
fn outcome(case: &Case) -> Outcome {
    use Trigger as H;
    match (case.phase, case.trigger) {
        (Phase::NeverReferred, H::SignedUp) => Outcome::Attributed { referrer: case.referrer() },
        (Phase::NeverReferred, H::SignedUpByAnother) => Outcome::Attributed { referrer: "rival".to_owned() },
        (Phase::Pending, H::FirstOrder) => Outcome::Converted { order: "first" },
        (Phase::Pending, H::OtherOrder) => Outcome::Converted { order: "other" },
        (Phase::OnHold, H::OtherOrder) => Outcome::Kept,
        // In the phase `Voided` the first order is cancelled.
        (Phase::Voided, H::OtherOrder) => Outcome::Converted { order: "other" },
        (Phase::Rewarded | Phase::OnHold | Phase::Voided, H::ForeignRefund) => Outcome::Unclear,
        (Phase::Rewarded, H::SmallRefund | H::FailedRefund | H::DisputeWon)
        | (Phase::OnHold | Phase::Voided, H::SmallRefund | H::FailedRefund | H::DisputeWon)
        | (Phase::Voided, H::FullRefund | H::LargerRefund | H::PartialRefund | H::Disputed) => Outcome::Adjusted,
        (Phase::OnHold, H::FullRefund | H::LargerRefund | H::PartialRefund) => {
            Outcome::Voided { reason: "order_refunded" }
        }
        (Phase::OnHold, H::Cancelled) => Outcome::Voided { reason: "order_cancelled" },
        (Phase::OnHold, H::Disputed) => Outcome::Voided { reason: "payment_disputed" },
        (Phase::Rewarded, H::FullRefund | H::LargerRefund | H::PartialRefund) => {
            Outcome::Reversed { reason: "order_refunded" }
        }
        (Phase::Rewarded, H::Cancelled) => Outcome::Reversed { reason: "order_cancelled" },
        (Phase::Rewarded, H::Disputed) => Outcome::Reversed { reason: "payment_disputed" },
        _ => Outcome::Unchanged,
    }
}

/// One phase and one event, with separate users.
struct Case {
    phase: Phase,
    trigger: Trigger,
    code: Value,
}

impl Case {
    fn referee(&self) -> String {
        format!("{:?}-{:?}", self.phase, self.trigger)
    }

    fn referrer(&self) -> String {
        format!("by-{}", self.referee())
    }

    /// The id of this order of the referee.
    fn order(&self, name: &str) -> String {
        format!("{name}-{}", self.referee())
    }

    fn key(&self) -> String {
        format!("REFEREE#{}", self.referee())
    }

    /// Mints the referrer's code and attributes the referee, except in the phase `NeverReferred`.
    async fn prepare(mut self, world: &World) -> Self {
        let code = world.put(&format!("/v1/users/{}/code", self.referrer()), json!({})).await.with(201);
        self.code = code["code"].clone();
        if self.phase != Phase::NeverReferred {
            world.attribute(&self.referee(), self.code.as_str().unwrap()).await.with(201);
        }
        self
    }

    /// Compares the complete items before and after the event.
    fn check(&self, before: Option<&Value>, after: Option<&Value>) {
        let name = self.referee();
        match outcome(self) {
            Outcome::Unchanged => assert_eq!(before, after, "{name}"),
            Outcome::Attributed { referrer } => {
                let after = after.unwrap_or_else(|| panic!("{name} was not attributed"));
                assert_eq!(before, None, "{name}");
                assert_eq!((&after["status"], &after["rev"]), (&json!("pending"), &json!(1)), "{name}");
                assert_eq!(after["referrer"], format!("REFERRER#{referrer}"), "{name}");
            }
            Outcome::Converted { order } => {
                let (mut expected, after) = (before.unwrap().clone(), after.unwrap());
                let at =
                    after["conversion"]["at"].as_str().unwrap_or_else(|| panic!("{name} did not convert: {after}"));
                let due_at = Timestamp::try_from(at.to_owned()).unwrap().plus(HOLD).to_string();
                expected["status"] = json!("converted");
                expected["rev"] = json!(before.unwrap()["rev"].as_u64().unwrap() + 1);
                let order = self.order(order);
                let mut conversion =
                    json!({"event": "order.completed", "order": order, "amount": 4200, "currency": "USD", "at": at});
                if self.phase == Phase::Voided {
                    conversion["number"] = json!(2);
                    expected.as_object_mut().unwrap().remove("voided");
                    let mut undone = before.unwrap()["conversion"].clone();
                    undone["undone"] = json!(true);
                    expected["candidates"] = json!([undone]);
                }
                expected["conversion"] = conversion;
                expected["due_at"] = json!(due_at);
                expected["work"] = after["work"].clone();
                assert!(after["work"].as_str().is_some_and(|lane| lane.starts_with("due#")), "{name}: {after}");
                assert_eq!(&expected, after, "{name}");
            }
            Outcome::Kept => {
                let (mut expected, after) = (before.unwrap().clone(), after.unwrap());
                expected["rev"] = json!(before.unwrap()["rev"].as_u64().unwrap() + 1);
                let mut candidate = before.unwrap()["conversion"].clone();
                candidate["order"] = json!(self.order("other"));
                candidate["at"] = after["candidates"][0]["at"].clone();
                assert!(candidate["at"].is_string(), "{name}: {after}");
                expected["candidates"] = json!([candidate]);
                assert_eq!(&expected, after, "{name}");
            }
            Outcome::Unclear => {
                let (mut expected, after) = (before.unwrap().clone(), after.unwrap());
                expected["rev"] = json!(before.unwrap()["rev"].as_u64().unwrap() + 1);
                let adjusted = before.unwrap()["conversion"]["adjusted"].as_u64().unwrap_or_default() + 1;
                expected["conversion"]["adjusted"] = json!(adjusted);
                expected["conversion"]["attention"] = json!("refund_in_other_currency");
                if self.phase != Phase::Voided {
                    let due_at = &before.unwrap()["due_at"];
                    expected["due_at"] =
                        if due_at.is_null() { after["rewards"]["issued_at"].clone() } else { due_at.clone() };
                    expected["work"] = after["work"].clone();
                    assert!(after["work"].as_str().is_some_and(|lane| lane.starts_with("parked#")), "{name}: {after}");
                }
                assert_eq!(&expected, after, "{name}");
            }
            Outcome::Adjusted => {
                let (mut expected, after) = (before.unwrap().clone(), after.unwrap());
                expected["rev"] = json!(before.unwrap()["rev"].as_u64().unwrap() + 1);
                let adjusted = before.unwrap()["conversion"]["adjusted"].as_u64().unwrap_or_default() + 1;
                expected["conversion"]["adjusted"] = json!(adjusted);
                assert_eq!(&expected, after, "{name}");
            }
            Outcome::Voided { reason } => {
                let (mut expected, after) = (before.unwrap().clone(), after.unwrap());
                let fields = expected.as_object_mut().unwrap();
                assert!(fields.remove("work").is_some() && fields.remove("due_at").is_some(), "{name}");
                expected["status"] = json!("voided");
                expected["rev"] = json!(3);
                expected["conversion"]["adjusted"] = json!(1);
                expected["voided"] = json!({"reason": reason, "at": after["voided"]["at"], "exact": true});
                assert!(after["voided"]["at"].is_string(), "{name}: {after}");
                assert_eq!(&expected, after, "{name}");
            }
            Outcome::Reversed { reason } => {
                let (mut expected, after) = (before.unwrap().clone(), after.unwrap());
                expected["status"] = json!("voided");
                expected["rev"] = json!(before.unwrap()["rev"].as_u64().unwrap() + 1);
                expected["conversion"]["adjusted"] = json!(1);
                expected["voided"] = json!({"reason": reason, "at": after["voided"]["at"]});
                for side in ["referrer", "referee"] {
                    expected["rewards"][side]["reversed"] = json!(1000);
                }
                assert!(after["voided"]["at"].is_string(), "{name}: {after}");
                assert_eq!(&expected, after, "{name}");
            }
        }
    }
}

const HOLD: Duration = Duration::from_secs(3600);

/// All referral items by partition key.
async fn snapshot(world: &World) -> HashMap<String, Value> {
    let items = world.items().await;
    let referrals = items.iter().map(plain).filter(|item| item["sk"] == "REFERRAL");
    referrals.map(|item| (item["pk"].as_str().unwrap().to_owned(), item)).collect()
}

/// Runs `what` for every case, eight at a time.
async fn for_each(cases: &[Case], what: impl AsyncFn(&Case)) {
    let what = &what;
    stream::iter(cases).for_each_concurrent(8, |case| what(case)).await;
}

/// Ends the hold of this referral by moving its due time into the past.
async fn end_hold(world: &World, case: &Case) {
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let update = world.service().dynamodb().update_item().table_name(table);
    let update =
        update.key("pk", text(&case.key())).key("sk", text("REFERRAL")).update_expression("SET due_at = :past");
    let update = update.expression_attribute_values(":past", text("2026-01-01T00:00:00.000Z"));
    update.condition_expression("attribute_exists(pk)").send().await.unwrap();
}

#[tokio::test]
async fn every_phase_and_event_match_the_transition_table() {
    let hold = HOLD.as_secs().to_string();
    let mut world = World::with_env([("HOLD_SECONDS", &hold), ("MINIMUM_AMOUNT", "2500")]).await;
    world.mint("rival", "rival").await;

    let all = Phase::ALL.into_iter().flat_map(|phase| Trigger::ALL.map(|trigger| (phase, trigger)));
    let all = all.map(|(phase, trigger)| Case { phase, trigger, code: Value::Null });
    let cases: Vec<_> = stream::iter(all.map(|case| case.prepare(&world))).buffer_unordered(8).collect().await;
    assert_eq!(cases.len(), 120);

    let publish = async |case: &Case, trigger: Trigger| {
        let (detail_type, detail) = trigger.event(case);
        world.publish(detail_type, detail).await;
    };
    for_each(&cases, async |case| {
        if matches!(case.phase, Phase::OnHold | Phase::Rewarded | Phase::Voided) {
            publish(case, Trigger::FirstOrder).await;
        }
    })
    .await;
    world.until_idle().await;
    for_each(&cases, async |case| match case.phase {
        Phase::Voided => publish(case, Trigger::Cancelled).await,
        Phase::Rewarded => end_hold(&world, case).await,
        Phase::NeverReferred | Phase::Pending | Phase::OnHold => {}
    })
    .await;
    world.until_idle().await;

    let before = snapshot(&world).await;
    for case in &cases {
        let status = before.get(&case.key()).map(|item| &item["status"]);
        let expected = match case.phase {
            Phase::NeverReferred => None,
            Phase::Pending => Some(json!("pending")),
            Phase::OnHold => Some(json!("converted")),
            Phase::Rewarded => Some(json!("rewarded")),
            Phase::Voided => Some(json!("voided")),
        };
        assert_eq!(status, expected.as_ref(), "{}", case.referee());
    }

    for_each(&cases, async |case| publish(case, case.trigger).await).await;
    world.until_idle().await;
    let after = snapshot(&world).await;
    cases.iter().for_each(|case| case.check(before.get(&case.key()), after.get(&case.key())));

    // Every event arrives again through the delay queue and changes nothing.
    world.until_redelivered().await;
    let later = snapshot(&world).await;
    cases.iter().for_each(|case| assert_eq!(after.get(&case.key()), later.get(&case.key()), "{}", case.referee()));
    assert!(!later.contains_key("REFEREE#other-user"));
    assert_eq!(later.len(), 4 * Trigger::ALL.len() + 2);

    for case in &cases {
        if let Outcome::Voided { reason } = outcome(case) {
            let shown = world.referral(&case.referee()).await;
            assert_eq!((&shown["status"], &shown["void_reason"]), (&json!("voided"), &json!(reason)), "{shown}");
            assert_eq!((&shown["order_id"], &shown["rewards"]), (&json!(case.order("first")), &json!([])), "{shown}");
        }
    }
    for case in cases.iter().filter(|case| matches!(outcome(case), Outcome::Unclear)) {
        let path = format!("/admin/reviews/{}/approve", case.referee());
        let shown = world.post(&path, json!({"reason": "a test"})).await.with(200);
        assert_eq!(shown["attention"], Value::Null, "{shown}");
    }
    world.expect_unprocessed(3);
    let is_reversed = |case: &&Case| matches!(outcome(case), Outcome::Reversed { .. });
    let reversed = cases.iter().filter(is_reversed).count();
    assert_eq!((reversed, world.deliveries().await.len()), (5, 2 * (Trigger::ALL.len() + reversed)));
    world.end().await;
}

#[tokio::test]
async fn a_referral_keeps_its_terms_when_the_settings_change() {
    let data = Folder::new();
    let start = async |settings: &[(&str, &str)]| {
        World::with(|options| {
            options.data = Some(data.path().to_owned());
            options.env = settings.iter().fold(options.env.clone(), |env, (name, value)| env.with(name, *value));
        })
        .await
    };

    let world = start(&[("REFERRER_REWARD_AMOUNT", "500")]).await;
    world.refer("alice", "bob").await;
    let promised = world.stored("bob").await["terms"].clone();
    world.end().await;

    let world = start(&[
        ("REFERRER_REWARD_AMOUNT", "7"),
        ("REFEREE_REWARD_TYPE", "points"),
        ("REFEREE_REWARD_AMOUNT", "9"),
        ("CURRENCY", "EUR"),
        ("MINIMUM_AMOUNT", "100000"),
        ("HOLD_SECONDS", "3600"),
        ("QUALIFYING_EVENT", "subscription.started"),
    ])
    .await;
    world.refer("alice", "carol").await;
    world.order("bob", "o-1").await;
    world.order("carol", "o-2").await;
    let bob = world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    assert_eq!(world.stored("bob").await["terms"], promised);
    let gives = |reward: &Value| json!([reward["user_id"], reward["type"], reward["amount"], reward["currency"]]);
    assert_eq!(gives(&bob["rewards"][0]), json!(["alice", "credit", 500, "USD"]));
    assert_eq!(gives(&bob["rewards"][1]), json!(["bob", "credit", 1000, "USD"]));

    // A later referral has the new terms: neither that event type nor that amount qualifies any more.
    assert_eq!(world.stored("carol").await["status"], "pending");
    let detail = json!({"order_id": "o-3", "user_id": "carol", "amount": 100_000, "currency": "EUR"});
    world.publish("subscription.started", detail).await;
    let carol = world.until_status("carol", "converted").await;
    assert_eq!((&carol["conversion_event"], &carol["order_id"]), (&json!("subscription.started"), &json!("o-3")));
    let terms = world.stored("carol").await["terms"].clone();
    assert_eq!(terms["referee"], json!({"type": "points", "amount": 9}));
    assert_eq!(terms["referrer"], json!({"type": "credit", "amount": 7, "currency": "EUR"}));
    world.end().await;
}
