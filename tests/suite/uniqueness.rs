//! Uniqueness: each constraint of the table holds for fifty concurrent requests.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::{Answer, World, plain};

const REQUESTS: usize = 50;

/// Sends all requests concurrently.
async fn at_once(send: impl AsyncFn(usize) -> Answer) -> Vec<Answer> {
    join_all((0..REQUESTS).map(|number| send(number))).await
}

/// The number of the request that got a 201. Asserts that there is exactly one.
fn winner(answers: &[Answer]) -> usize {
    let won = |(_, answer): &(usize, &Answer)| answer.status == 201;
    let winners: Vec<_> = answers.iter().enumerate().filter(won).map(|(number, _)| number).collect();
    let all: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(winners.len(), 1, "{all:?}");
    winners[0]
}

/// The items whose sort key begins with this text.
async fn items(world: &World, sk: &str) -> Vec<Value> {
    let items = world.items().await;
    items.iter().map(plain).filter(|item| item["sk"].as_str().unwrap().starts_with(sk)).collect()
}

#[tokio::test]
async fn one_of_fifty_users_gets_a_vanity_code() {
    let world = World::start().await;
    // All spellings are the same code.
    let spelled = ["SOLE-LILO", "sole-lilo", "S01E1110", "s-o-l-e-l-i-l-o"];
    let answers = at_once(async |number| {
        let code = spelled[number % spelled.len()];
        world.put(&format!("/v1/users/user-{number}/code"), json!({"code": code})).await
    })
    .await;

    let winner = winner(&answers);
    for (number, answer) in answers.iter().enumerate().filter(|(number, _)| *number != winner) {
        answer.refused(409, "code_taken");
        world.get(&format!("/v1/users/user-{number}/code")).await.refused(404, "code_not_found");
    }
    let owner = format!("user-{winner}");
    assert_eq!(answers[winner].body["user_id"], owner);
    assert_eq!(world.get("/v1/codes/sole-lilo").await.with(200), answers[winner].body);
    let codes = items(&world, "CODE").await;
    assert_eq!(codes.len(), 2, "the code and its owner's item: {codes:#?}");
    assert!(codes.iter().any(|item| item["pk"] == "CODE#S01E1110" && item["owner"] == owner), "{codes:#?}");
    assert!(codes.iter().any(|item| item["pk"] == format!("USER#{owner}")), "{codes:#?}");

    // A user who did not get the code can choose another.
    let loser = (winner + 1) % REQUESTS;
    world.mint(&format!("user-{loser}"), "ANOTHER").await;
    world.end().await;
}

/// Mints fifty times concurrently for one user, and checks that all answers contain the same code.
async fn mint_at_once(body: impl Fn(usize) -> Value) {
    let world = World::start().await;
    let answers = at_once(async |number| world.put("/v1/users/alice/code", body(number)).await).await;

    let winner = winner(&answers);
    for answer in &answers {
        assert!([200, 201].contains(&answer.status.as_u16()), "{answer:?}");
        assert_eq!(answer.body, answers[winner].body);
    }
    let codes = items(&world, "CODE").await;
    assert_eq!(codes.len(), 2, "the code and its owner's item: {codes:#?}");
    for item in &codes {
        assert_eq!(item["code"], answers[winner].body["code"], "{item:#}");
    }
    assert_eq!(world.get("/v1/users/alice/code").await.with(200), answers[winner].body);
    world.end().await;
}

#[tokio::test]
async fn fifty_concurrent_mints_create_one_random_code() {
    mint_at_once(|_| json!({})).await;
}

#[tokio::test]
async fn fifty_concurrent_vanity_codes_leave_a_user_with_one() {
    mint_at_once(|number| json!({"code": format!("VANITY-{number}")})).await;
}

#[tokio::test]
async fn one_vanity_code_requested_fifty_times_is_minted_once() {
    mint_at_once(|_| json!({"code": "ALICE-2026"})).await;
}

#[tokio::test]
async fn one_of_fifty_codes_gets_the_referee() {
    let world = World::start().await;
    at_once(async |number| {
        world.put(&format!("/v1/users/user-{number}/code"), json!({"code": format!("CODE-{number}")})).await
    })
    .await
    .into_iter()
    .for_each(|answer| drop(answer.with(201)));
    let answers = at_once(async |number| world.attribute("bob", &format!("CODE-{number}")).await).await;

    let winner = winner(&answers);
    answers.iter().filter(|answer| answer.status != 201).for_each(|answer| answer.refused(409, "already_referred"));
    let stored = items(&world, "REFERRAL").await;
    assert_eq!(stored.len(), 1, "{stored:#?}");
    assert_eq!(stored[0]["code"], format!("CODE-{winner}"));
    assert_eq!(stored[0]["referrer"], format!("REFERRER#user-{winner}"));
    let referral = world.referral("bob").await;
    assert_eq!(referral, answers[winner].body);
    assert_eq!(referral["referrer_id"], format!("user-{winner}"));

    // Only this referrer is rewarded.
    world.order("bob", "o-1").await;
    world.until_status("bob", "rewarded").await;
    world.until_idle().await;
    let mut paid: Vec<_> = world.deliveries().await.iter().map(|call| call["body"]["user_id"].to_string()).collect();
    paid.sort();
    assert_eq!(paid, ["\"bob\"".to_owned(), format!("\"user-{winner}\"")]);
    world.end().await;
}

#[tokio::test]
async fn fifty_sign_ups_by_one_code_create_one_referral() {
    let world = World::start().await;
    world.mint("alice", "ALICE").await;
    let answers = at_once(async |_| world.attribute("bob", "alice").await).await;

    let winner = winner(&answers);
    for answer in &answers {
        assert!([200, 201].contains(&answer.status.as_u16()), "{answer:?}");
        assert_eq!(answer.body, answers[winner].body);
    }
    assert_eq!(items(&world, "REFERRAL").await.len(), 1);
    assert_eq!(world.referral("bob").await, answers[winner].body);
    world.end().await;
}
