//! Expressions: every condition, update and key expression that is sent to the analytics table.

use aws_sdk_dynamodb::{
    Client,
    operation::query::builders::QueryFluentBuilder,
    types::{Put, ReturnValuesOnConditionCheckFailure, Update},
};

use super::{
    counters::{Counters, NET_CONVERSIONS},
    facts::Facts,
    items::{self, BOARD, PK, REV, SCORE, SK},
    subject::{Board, Subject},
};
use crate::{
    domain::id::UserId,
    store::keys::{Item, text},
};

/// Replaces the facts that were read, or creates them if none were found. A failed condition returns the stored item.
pub(super) fn replace(table: &str, item: Item, known: Option<&Facts>) -> Option<Put> {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let put = match known {
        None => put.condition_expression("attribute_not_exists(#pk)").expression_attribute_names("#pk", PK),
        Some(known) => put
            .condition_expression("#rev = :rev")
            .expression_attribute_names("#rev", REV)
            .expression_attribute_values(":rev", items::number(known.rev.into())),
    };
    put.build().ok()
}

/// Adds to a subject's counters. Net conversions go into the score, which the index sorts by.
pub(super) fn add(table: &str, subject: &Subject, referee: &UserId, counters: &Counters) -> Option<Update> {
    let mut counters = counters.clone();
    let net_conversions = counters.remove(NET_CONVERSIONS);
    let mut update = Update::builder().table_name(table).set_key(Some(items::counter_key(subject, referee)));
    let mut added = Vec::new();
    for (place, (name, count)) in counters.iter().enumerate() {
        added.push(format!("#f{place} :f{place}"));
        update = update
            .expression_attribute_names(format!("#f{place}"), name)
            .expression_attribute_values(format!(":f{place}"), items::number(count));
    }
    let mut clauses = Vec::new();
    if !added.is_empty() {
        clauses.push(format!("ADD {}", added.join(", ")));
    }
    if let (Subject::Referrer(program, referrer, period), true) = (subject, net_conversions != 0) {
        let board = Board { program: program.clone(), period: *period };
        clauses.push("SET #board = :board, #score = if_not_exists(#score, :tie) + :points".to_owned());
        update = update
            .expression_attribute_names("#board", BOARD)
            .expression_attribute_names("#score", SCORE)
            .expression_attribute_values(":board", text(items::board_partition(&board, items::board_shard(referrer))))
            .expression_attribute_values(":tie", items::number(items::tie_break(referrer)))
            .expression_attribute_values(":points", items::number(items::score_of(net_conversions)));
    }
    update.update_expression(clauses.join(" ")).build().ok()
}

/// Reads the items of a partition whose sort keys are between these two, inclusive.
pub(super) fn between(client: &Client, pk: &str, from: &str, to: &str) -> QueryFluentBuilder {
    client
        .query()
        .key_condition_expression("#pk = :pk AND #sk BETWEEN :from AND :to")
        .expression_attribute_names("#pk", PK)
        .expression_attribute_names("#sk", SK)
        .expression_attribute_values(":pk", text(pk))
        .expression_attribute_values(":from", text(from))
        .expression_attribute_values(":to", text(to))
}

/// Reads all items of a partition.
pub(super) fn all(client: &Client, pk: &str) -> QueryFluentBuilder {
    client
        .query()
        .key_condition_expression("#pk = :pk")
        .expression_attribute_names("#pk", PK)
        .expression_attribute_values(":pk", text(pk))
}

/// Reads a shard of a leaderboard, from the score `most` down to one net conversion.
pub(super) fn ranked(client: &Client, board: &Board, shard: u32, most: i128) -> QueryFluentBuilder {
    client
        .query()
        .index_name(BOARD)
        .scan_index_forward(false)
        .key_condition_expression("#board = :board AND #score BETWEEN :least AND :most")
        .expression_attribute_names("#board", BOARD)
        .expression_attribute_names("#score", SCORE)
        .expression_attribute_values(":board", text(items::board_partition(board, shard)))
        .expression_attribute_values(":least", items::number(items::score_of(1)))
        .expression_attribute_values(":most", items::number(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analytics::contributions::contributions, sample::rewarded};

    #[test]
    fn facts_replace_only_the_facts_that_were_read() {
        let facts = Facts::from(&rewarded());
        let item = || items::facts_item(&facts).unwrap();
        let first = replace("analytics", item(), None).unwrap();
        assert_eq!(first.condition_expression(), Some("attribute_not_exists(#pk)"));
        let next = replace("analytics", item(), Some(&facts)).unwrap();
        assert_eq!(next.condition_expression(), Some("#rev = :rev"));
        assert_eq!(next.expression_attribute_values().unwrap()[":rev"], items::number(3));
    }

    #[test]
    fn only_a_change_of_net_conversions_updates_the_score() {
        let (facts, counts) = (Facts::from(&rewarded()), contributions(&Facts::from(&rewarded())));
        for (subject, counters) in &counts.0 {
            let moves = |counters: &Counters| {
                let update = add("analytics", subject, &facts.referee, counters).unwrap();
                update.update_expression().contains("#board")
            };
            let mut others = counters.clone();
            others.remove(NET_CONVERSIONS);
            assert_eq!(moves(counters), matches!(subject, Subject::Referrer(..)), "{subject:?}");
            assert!(!moves(&others), "{subject:?}");
        }
    }
}
