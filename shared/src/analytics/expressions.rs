//! Guards: every condition and every other expression that the metrics table is asked to keep is written here.

use aws_sdk_dynamodb::{
    Client,
    operation::query::builders::QueryFluentBuilder,
    types::{Put, ReturnValuesOnConditionCheckFailure, Update},
};

use super::{
    contributions::Subject,
    counters::{Figures, LASTING},
    facts::Facts,
    items::{self, BOARD, PK, REV, SCORE, SK},
    queries::Board,
};
use crate::{
    id::UserId,
    store::keys::{Item, text},
};

/// Puts facts in the place of those that were read, or where none were; a refusal brings what is there.
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

/// Adds figures to a counter.
pub(super) fn add(table: &str, subject: &Subject, referee: &UserId, figures: &Figures) -> Option<Update> {
    let mut figures = figures.clone();
    let lasting = figures.take(LASTING);
    let mut update = Update::builder().table_name(table).set_key(Some(items::counter_key(subject, referee)));
    let mut added = Vec::new();
    for (place, (name, count)) in figures.iter().enumerate() {
        added.push(format!("#f{place} :f{place}"));
        update = update
            .expression_attribute_names(format!("#f{place}"), name)
            .expression_attribute_values(format!(":f{place}"), items::number(count));
    }
    let mut clauses = Vec::new();
    if !added.is_empty() {
        clauses.push(format!("ADD {}", added.join(", ")));
    }
    if let (Subject::Referrer(program, referrer, period), true) = (subject, lasting != 0) {
        let board = Board { program: program.clone(), period: *period };
        clauses.push("SET #board = :board, #score = if_not_exists(#score, :tie) + :points".to_owned());
        update = update
            .expression_attribute_names("#board", BOARD)
            .expression_attribute_names("#score", SCORE)
            .expression_attribute_values(":board", text(items::board_partition(&board, items::board_shard(referrer))))
            .expression_attribute_values(":tie", items::number(items::tie_break(referrer)))
            .expression_attribute_values(":points", items::number(items::score_of(lasting)));
    }
    update.update_expression(clauses.join(" ")).build().ok()
}

/// Reads the part of a partition whose sort keys lie between these two.
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

/// Reads a whole partition.
pub(super) fn all(client: &Client, pk: &str) -> QueryFluentBuilder {
    client
        .query()
        .key_condition_expression("#pk = :pk")
        .expression_attribute_names("#pk", PK)
        .expression_attribute_values(":pk", text(pk))
}

/// Reads a shard of a board from a score downwards, as far as referrals last.
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
    use crate::{analytics::contributions, sample::rewarded};

    #[test]
    fn facts_take_the_place_of_those_that_were_read() {
        let facts = Facts::from(&rewarded());
        let item = || items::facts_item(&facts).unwrap();
        let first = replace("metrics", item(), None).unwrap();
        assert_eq!(first.condition_expression(), Some("attribute_not_exists(#pk)"));
        let next = replace("metrics", item(), Some(&facts)).unwrap();
        assert_eq!(next.condition_expression(), Some("#rev = :rev"));
        assert_eq!(next.expression_attribute_values().unwrap()[":rev"], items::number(3));
    }

    #[test]
    fn only_who_moves_on_a_board_is_moved_there() {
        let (facts, counts) = (Facts::from(&rewarded()), contributions(&Facts::from(&rewarded())));
        for (subject, figures) in &counts.0 {
            let moves = |figures: &Figures| {
                let update = add("metrics", subject, &facts.referee, figures).unwrap();
                update.update_expression().contains("#board")
            };
            let mut others = figures.clone();
            others.take(LASTING);
            assert_eq!(moves(figures), matches!(subject, Subject::Referrer(..)), "{subject:?}");
            assert!(!moves(&others), "{subject:?}");
        }
    }
}
