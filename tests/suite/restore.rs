//! Restore: an older copy of the table is copied into a table, and the service continues from it. Nothing is paid twice.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType as Type,
};
use chrono::Utc;
use referrals::{
    domain::time::Timestamp,
    store::{
        Restored, Store,
        keys::{Item, PK, SK},
    },
};
use restore::Report;

use crate::world::{
    World,
    stand_in::{Reply, SECRET, StandIn},
};

/// The name of the table to which the backup was restored.
const BACKUP: &str = "backup";

async fn world(credit: &StandIn) -> World {
    let mut world =
        World::with_env([("CREDIT_ENDPOINT", credit.url()), ("WEBHOOK_SECRET", SECRET), ("GRACE_SECONDS", "1")]).await;
    world.audit_stand_in(credit);
    world
}

/// A second table with these items, as a point-in-time restore leaves it.
async fn backup(world: &World, items: Vec<Item>) {
    let client = world.service().dynamodb();
    let mut table = client.create_table().table_name(BACKUP).billing_mode(BillingMode::PayPerRequest);
    for (name, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
        let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(Type::S).build().unwrap();
        table = table.key_schema(key).attribute_definitions(attribute);
    }
    table.send().await.unwrap();
    for item in items {
        client.put_item().table_name(BACKUP).set_item(Some(item)).send().await.unwrap();
    }
}

async fn restore_into(world: &World, apply: bool, resume_after: Duration) -> Report {
    let client = world.service().dynamodb();
    let table = world.service().env().get("TABLE_NAME").unwrap().to_owned();
    let (from, into) = (Store::new(&client, BACKUP), Store::new(&client, &table));
    let resume = Timestamp::from(Utc::now()).plus(resume_after);
    restore::restore(&from, &into, resume, apply, |_items| ()).await.unwrap()
}

async fn refer_and_order(world: &World, referee: &str) {
    world.refer("alice", referee).await;
    world.order(referee, &format!("o-{referee}")).await;
}

async fn delivered(world: &World, referee: &str) {
    let done = async || {
        let rewards = world.referral(referee).await["rewards"].clone();
        rewards.as_array().unwrap().iter().filter(|reward| reward["status"] == "delivered").count()
    };
    let what = format!("both rewards of {referee} are delivered");
    world.until(&what, async || done().await == 2).await;
}

fn keys(credit: &StandIn) -> BTreeSet<String> {
    credit.calls().into_iter().map(|call| call.key).collect()
}

/// Bob was paid before the backup, erin's reward was issued but not delivered, carol had not ordered, and frank signed up
/// after it. All were paid in the first life of the table.
#[tokio::test]
async fn a_restored_table_pays_no_reward_twice() {
    let credit = StandIn::start().await;
    let first = world(&credit).await;
    refer_and_order(&first, "bob").await;
    delivered(&first, "bob").await;
    first.refer("alice", "carol").await;
    credit.script("erin:referrer", [const { Reply::Status(503) }; 4]);
    refer_and_order(&first, "erin").await;
    first.until_status("erin", "rewarded").await;
    let items = first.items().await;
    first.order("carol", "o-carol").await;
    refer_and_order(&first, "frank").await;
    for referee in ["carol", "erin", "frank"] {
        delivered(&first, referee).await;
    }
    let mut first = first;
    first.allow_obsolete_dead_letters();
    first.end().await;
    let (paid, booked) = (keys(&credit), credit.booked_count());
    assert_eq!((paid.len(), booked), (8, 8));

    let mut second = world(&credit).await;
    second.allow_reissued_rewards();
    let total = items.len() as u64;
    backup(&second, items).await;
    let planned = restore_into(&second, false, Duration::ZERO).await;
    assert_eq!((planned.count(Restored::Copied), second.items().await.len()), (total, 0), "{planned:?}");
    // Interrupted and repeated: the second run finds everything.
    let done = restore_into(&second, true, Duration::ZERO).await;
    assert_eq!((done.count(Restored::Copied), done.is_complete()), (total, true), "{done:?}");
    let repeated = restore_into(&second, true, Duration::ZERO).await;
    assert_eq!((repeated.count(Restored::Kept), repeated.is_complete()), (total, true), "{repeated:?}");

    // The events since the backup are replayed, the earlier ones too, and the product repeats its sign-up.
    second.order("bob", "o-bob").await;
    second.order("carol", "o-carol").await;
    refer_and_order(&second, "frank").await;
    second.service().sweep_now().await.unwrap();
    for referee in ["bob", "carol", "erin", "frank"] {
        delivered(&second, referee).await;
    }
    second.until_redelivered().await;
    assert_eq!((keys(&credit), credit.booked_count()), (paid, booked), "only the same keys, and no new booking");
    assert_eq!(credit.calls_of("bob:referrer").len(), 1, "it was delivered in the backup");
    second.end().await;
}

/// A cancellation since the backup is replayed before the sweep issues anything from the copies.
#[tokio::test]
async fn later_events_are_replayed_before_anything_is_issued() {
    let credit = StandIn::start().await;
    let held = World::with_env([("HOLD_SECONDS", "1"), ("CREDIT_ENDPOINT", credit.url()), ("WEBHOOK_SECRET", SECRET)]);
    let mut first = held.await;
    first.audit_stand_in(&credit);
    refer_and_order(&first, "bob").await;
    first.until_status("bob", "converted").await;
    let items = first.items().await;
    let cancelled = serde_json::json!({"order_id": "o-bob", "user_id": "bob"});
    first.publish("order.cancelled", cancelled.clone()).await;
    first.until_status("bob", "voided").await;
    first.end().await;

    let second = world(&credit).await;
    backup(&second, items).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    restore_into(&second, true, Duration::from_secs(60)).await;
    second.until_idle().await;
    second.service().sweep_now().await.unwrap();
    assert_eq!(second.referral("bob").await["status"], "converted", "the hold of the original has ended");
    second.publish("order.cancelled", cancelled).await;
    second.until_status("bob", "voided").await;
    assert_eq!(credit.calls().len(), 0);
    second.end().await;
}

/// Into a table that is in use: damaged and missing items come back, and later writes stay.
#[tokio::test]
async fn a_restore_repairs_damage_and_keeps_later_writes() {
    let credit = StandIn::start().await;
    let world = world(&credit).await;
    for referee in ["bob", "carol", "dave"] {
        world.refer("alice", referee).await;
    }
    let items = world.items().await;
    backup(&world, items.clone()).await;
    refer_and_order(&world, "erin").await;
    world.order("bob", "o-bob").await;
    delivered(&world, "bob").await;
    delivered(&world, "erin").await;
    let before = world.contents().await;

    let client = world.service().dynamodb();
    let key = |item: &Item| [PK, SK].map(|name| (name.to_owned(), item[name].clone()));
    let of = |referee: &str| {
        let pk = format!("REFEREE#{referee}");
        items.iter().find(|item| item[PK].as_s().unwrap() == &pk).unwrap().clone()
    };
    let delete = client.delete_item().table_name("referrals").set_key(Some(key(&of("carol")).into()));
    delete.send().await.unwrap();
    let mut damaged = of("dave");
    damaged.remove("status");
    client.put_item().table_name("referrals").set_item(Some(damaged)).send().await.unwrap();

    let report = restore_into(&world, true, Duration::ZERO).await;
    assert_eq!((report.count(Restored::Copied), report.count(Restored::Repaired)), (1, 1), "{report:?}");
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(world.contents().await, before);
    let mut world = world;
    // No function can read the damaged image, in the record of the damage and in that of the repair.
    world.expect_unprocessed(2);
    world.end().await;
}
