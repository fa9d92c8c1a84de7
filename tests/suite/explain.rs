//! Explain: every decision about a referral, with its inputs.

use serde_json::{Value, json};

use crate::world::World;

async fn explained(world: &World, referee: &str) -> Vec<Value> {
    let answer = world.get(&format!("/v1/referrals/{referee}/explain")).await.with(200);
    assert_eq!(answer["referee_id"], referee);
    let decisions = answer["decisions"].as_array().unwrap().clone();
    assert!(decisions.iter().all(|decision| decision["at"].is_string()), "{decisions:#?}");
    let times: Vec<_> = decisions.iter().map(|decision| decision["at"].to_string()).collect();
    assert!(times.is_sorted(), "{decisions:#?}");
    decisions
}

/// The decisions of this kind, with these fields only.
fn of_kind<const N: usize>(decisions: &[Value], kind: &str, fields: [&str; N]) -> Vec<[Value; N]> {
    let of_kind = decisions.iter().filter(|decision| decision["decision"] == kind);
    of_kind.map(|decision| fields.map(|field| decision[field].clone())).collect()
}

async fn order(world: &World, user: &str, order: &str, amount: u64, at: Value) {
    let detail = json!({"order_id": order, "user_id": user, "amount": amount, "currency": "USD", "occurred_at": at});
    world.publish("order.completed", detail).await;
    world.until_idle().await;
}

#[tokio::test]
async fn every_decision_of_a_life_is_explained() {
    let world = World::with_env([("HOLD_SECONDS", "1"), ("MINIMUM_AMOUNT", "2500")]).await;
    world.refer("alice", "bob").await;
    world.refer("alice", "carol").await;
    order(&world, "carol", "o-other", 4200, Value::Null).await;
    order(&world, "bob", "o-small", 2499, Value::Null).await;
    order(&world, "bob", "o-old", 4200, json!("2020-01-01T00:00:00Z")).await;
    order(&world, "bob", "o-other", 4200, Value::Null).await;
    order(&world, "bob", "o-1", 4200, Value::Null).await;
    order(&world, "bob", "o-2", 4300, Value::Null).await;
    world.publish("order.cancelled", json!({"order_id": "o-1"})).await;
    let part = json!({"refund_id": "r-1", "order_id": "o-2", "amount": 100, "currency": "USD"});
    world.publish("order.refunded", part).await;
    world.until_idle().await;
    // The hold ends.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    world.service().sweep_now().await.unwrap();
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    world.publish("payment.disputed", json!({"order_id": "o-2", "dispute_id": "d-1"})).await;
    world.until_status("bob", "voided").await;
    world.until_idle().await;

    let all = explained(&world, "bob").await;
    let attributed = &all[0];
    assert_eq!((&attributed["decision"], &attributed["outcome"]), (&json!("attributed"), &json!("pending")));
    assert_eq!((&attributed["referrer_id"], &attributed["program"]), (&json!("alice"), &json!("default")));
    let reward = json!({"type": "credit", "amount": 1000, "currency": "USD"});
    let terms = json!({
        "event": "order.completed", "minimum": {"amount": 2500, "currency": "USD"}, "hold_seconds": 1,
        "rewards": {"referrer": reward, "referee": reward},
    });
    assert_eq!(attributed["terms"], terms);

    let mut orders = of_kind(&all, "order", ["order_id", "outcome", "reason", "amount"]);
    orders.sort_by_key(|[order, ..]| order.to_string());
    let expected = [
        json!(["o-1", "refused", "order_undone", 4200]),
        json!(["o-2", "fallen", null, 4300]),
        json!(["o-old", "refused", "order_before_sign_up", 4200]),
        json!(["o-other", "refused", "order_of_another_user", 4200]),
        json!(["o-small", "refused", "not_qualifying", 2499]),
    ];
    assert_eq!(orders.iter().map(|order| json!(order)).collect::<Vec<_>>(), expected);
    let old = all.iter().find(|decision| decision["order_id"] == "o-old").unwrap();
    assert_eq!(old["placed_at"], "2020-01-01T00:00:00.000Z");

    let mut adjusted = of_kind(&all, "adjusted", ["outcome", "order_id", "refund_id", "dispute_id", "amount"]);
    adjusted.sort_by_key(|[outcome, ..]| outcome.to_string());
    let expected = [
        json!(["cancelled", "o-1", null, null, null]),
        json!(["disputed", "o-2", null, "d-1", null]),
        json!(["refunded", "o-2", "r-1", null, 100]),
    ];
    assert_eq!(adjusted.iter().map(|adjusted| json!(adjusted)).collect::<Vec<_>>(), expected);

    let of_both = |id: fn(&str) -> String| ["referee", "referrer"].map(|side| Value::from(id(side))).to_vec();
    let ids = |kind, field| {
        let mut ids: Vec<Value> = of_kind(&all, kind, [field]).into_iter().flatten().collect();
        ids.sort_by_key(Value::to_string);
        ids
    };
    assert_eq!(ids("issued", "reward_id"), of_both(|side| format!("bob:{side}")));
    assert_eq!(ids("reversed", "reversal_id"), of_both(|side| format!("bob:{side}:reversal")));
    assert_eq!(of_kind(&all, "voided", ["reason"]), [[json!("payment_disputed")]]);
    assert_eq!(
        of_kind(&all, "reversed", ["reason", "amount"]),
        [[json!("payment_disputed"), json!(1000)], [json!("payment_disputed"), json!(1000)]]
    );
    let mut delivered = of_kind(&all, "delivered", ["instruction_id", "outcome"]);
    delivered.sort_by_key(|[id, _]| id.to_string());
    let expected = ["bob:referee", "bob:referee:reversal", "bob:referrer", "bob:referrer:reversal"];
    assert_eq!(delivered, expected.map(|id| [json!(id), json!("delivered")]));
    assert_eq!(of_kind(&all, "called", ["instruction_id"]).len(), 2);

    // The copies of the events, 15 minutes later, change nothing.
    world.until_redelivered().await;
    assert_eq!(explained(&world, "bob").await, all);
    world.end().await;
}

#[tokio::test]
async fn operators_and_refusals_are_explained() {
    let world = World::start().await;
    world.script("credit", json!({"answers": [400, 400]})).await;
    world.refer("alice", "bob").await;
    for action in ["void", "reopen"] {
        let path = format!("/admin/referrals/bob/{action}");
        world.post(&path, json!({"reason": format!("to {action}")})).await.with(200);
    }
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until("both are refused", async || world.announced("reward.failed").await.len() == 2).await;
    world.until_idle().await;
    let all = explained(&world, "bob").await;
    let acts = of_kind(&all, "operator", ["outcome", "reason", "operator"]);
    let act = |action: &str| [json!(action), json!(format!("to {action}")), Value::Null];
    assert_eq!(acts, [act("void"), act("reopen")]);
    let failed = of_kind(&all, "delivered", ["outcome"]);
    assert_eq!(failed, [[json!("failed")], [json!("failed")]]);
    assert!(all.iter().any(|decision| decision["reason"].as_str().is_some_and(|reason| reason.starts_with("400"))));

    world.post("/admin/referrals/bob/void", json!({"reason": "never given"})).await.with(200);
    world.until_idle().await;
    let closed = of_kind(&explained(&world, "bob").await, "delivered", ["outcome"]);
    assert_eq!(closed.iter().filter(|[outcome]| outcome == "closed").count(), 2);
    world.end().await;
}

#[tokio::test]
async fn an_unknown_referral_is_not_explained() {
    let world = World::start().await;
    world.get("/v1/referrals/unknown/explain").await.refused(404, "referral_not_found");
    world.get("/v1/referrals/a%20b/explain").await.refused(400, "invalid_request");
    world.end().await;
}
