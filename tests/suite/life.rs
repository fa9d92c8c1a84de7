//! The lifecycle of a referral, from a shared code to two delivered rewards. The test checks the stored item after each
//! step.

use serde_json::{Value, json};

use crate::world::{World, plain};

/// Replaces the values that differ from run to run.
fn normalized(mut item: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => fields.values_mut().for_each(walk),
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::String(text) => {
                if let Some(at) =
                    text.find("20").filter(|at| text[*at..].len() >= 24 && text.as_bytes()[at + 10] == b'T')
                {
                    text.replace_range(at..at + 24, "<time>");
                }
            }
            _ => {}
        }
    }
    walk(&mut item);
    item
}

async fn referral(world: &World) -> Value {
    let mut item = normalized(plain(&world.item("REFEREE#bob", "REFERRAL").await.unwrap()));
    if item["mark"].is_u64() {
        item["mark"] = json!("<number>");
    }
    item
}

#[tokio::test]
async fn the_stored_item_after_each_step_of_the_lifecycle() {
    let world = World::with_env([("HOLD_SECONDS", "1")]).await;

    let code = world.mint("alice", "ALICE-2026").await;
    assert_eq!(code["link"], format!("{}/r/ALICE-2026", world.service().url()));
    let items: Vec<Value> = world.items().await.iter().map(|item| normalized(plain(item))).collect();
    let minted = json!({
        "pk": "CODE#A11CE2026", "sk": "CODE", "code": "ALICE-2026", "owner": "alice", "program": "default",
        "created_at": "<time>",
    });
    assert!(items.contains(&minted), "{items:#?}");
    assert!(items.contains(&json!({"pk": "USER#alice", "sk": "CODE#default", "code": "ALICE-2026"})), "{items:#?}");
    assert_eq!(items.len(), 2);

    let cookie = world.land("alice-2026").await.unwrap();
    let created = world.attribute_by_cookie("bob", &cookie).await.with(201);
    assert_eq!((&created["status"], &created["rewards"]), (&json!("pending"), &json!([])));
    let credit = json!({"type": "credit", "amount": 1000, "currency": "USD"});
    let mut expected = json!({
        "pk": "REFEREE#bob", "sk": "REFERRAL", "referrer": "REFERRER#alice", "referred_at": "<time>#bob",
        "code": "ALICE-2026", "program": "default", "status": "pending", "rev": 1, "mark": "<number>",
        "terms": {
            "qualifying_event": "order.completed", "minimum": {"amount": 0, "currency": "USD"}, "hold_seconds": 1,
            "referrer": credit, "referee": credit,
        },
    });
    // It is written once, and no later step changes it.
    let stored = referral(&world).await;
    expected["correlation_id"] = stored["correlation_id"].clone();
    assert_eq!(expected["correlation_id"].as_str().map(str::len), Some(16));
    assert_eq!(stored, expected);

    world.order("bob", "o-1").await;
    world.until_status("bob", "converted").await;
    expected["status"] = json!("converted");
    expected["rev"] = json!(2);
    expected["conversion"] =
        json!({"event": "order.completed", "order": "o-1", "amount": 4200, "currency": "USD", "at": "<time>"});
    expected["due_at"] = json!("<time>");
    let converted = referral(&world).await;
    assert!(converted["work"].as_str().unwrap().starts_with("due#"), "{converted:#}");
    expected["work"] = converted["work"].clone();
    assert_eq!(converted, expected);

    // A sweep before the end of the hold changes nothing. After the hold, it issues the rewards.
    world.service().sweep_now().await.unwrap();
    assert_eq!(referral(&world).await, expected);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    world.service().sweep_now().await.unwrap();
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let mut delivered = credit.clone();
    (delivered["called_at"], delivered["delivered_at"]) = (json!("<time>"), json!("<time>"));
    expected["status"] = json!("rewarded");
    expected["rev"] = json!(7);
    expected["rewards"] = json!({"issued_at": "<time>", "calls": true, "referrer": delivered, "referee": delivered});
    expected.as_object_mut().unwrap().remove("work");
    expected.as_object_mut().unwrap().remove("due_at");
    assert_eq!(referral(&world).await, expected);

    let shown = world.referral("bob").await;
    assert_eq!(shown["rewards"][0]["reward_id"], "bob:referrer");
    assert_eq!(shown["rewards"][1]["user_id"], "bob");
    world.end().await;
}

/// Bus and queues do not preserve order, so an adjustment can arrive before its order. The result is the same: no reward is
/// paid.
#[tokio::test]
async fn an_order_that_arrives_after_its_adjustment_voids_the_referral() {
    let world = World::start().await;
    let refund = ("order.refunded", json!({"refund_id": "r", "amount": 4200, "currency": "USD"}));
    let undone = |what| (what, json!({}));
    let ways = [undone("order.cancelled"), undone("payment.disputed"), refund];
    for (number, (what, mut detail)) in ways.into_iter().enumerate() {
        let bob = format!("bob-{number}");
        world.refer(&format!("alice-{number}"), &bob).await;
        let order = format!("o-{number}");
        (detail["user_id"], detail["order_id"]) = (json!(bob), json!(order));
        world.publish(what, detail).await;
        world.until_idle().await;
        assert_eq!(world.referral(&bob).await["status"], "pending", "{what}");
        world.order(&bob, &order).await;
        world.until_status(&bob, "voided").await;
        let stored = world.stored(&bob).await;
        let told = (&stored["status"], &stored["conversion"]["order"], stored.get("withdrawn"), stored.get("work"));
        assert_eq!(told, (&json!("voided"), &json!(order), None, None), "{what}: {stored:#}");
    }
    assert!(world.deliveries().await.is_empty());
    world.end().await;
}
