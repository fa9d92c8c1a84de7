//! Expressions: every condition, update and key expression that is sent to the analytics table.

use aws_sdk_dynamodb::{Client, operation::query::builders::QueryFluentBuilder};

use super::{
    counters::{Counters, NET_CONVERSIONS},
    facts::Facts,
    items::{self, BOARD, PK, REV, SCORE, SK},
    subject::{Board, Subject},
};
use crate::{
    domain::id::UserId,
    store::{
        Write,
        keys::{Item, text},
    },
};

/// Replaces the facts that were read, or creates them if none were found. A failed condition returns the stored item.
pub(super) fn replace(item: Item, known: Option<&Facts>) -> Write {
    let put = Write::put(item).returning_found();
    match known {
        None => put.when("attribute_not_exists(#pk)").name("#pk", PK),
        Some(known) => put.when("#rev = :rev").name("#rev", REV).value(":rev", items::number(known.rev.into())),
    }
}

/// Adds to a subject's counters. Net conversions are added to the score, by which the index sorts.
pub(super) fn add(subject: &Subject, referee: &UserId, counters: &Counters) -> Write {
    let mut counters = counters.clone();
    let net_conversions = counters.remove(NET_CONVERSIONS);
    let ranked = match subject {
        Subject::Referrer(program, referrer, period) if net_conversions != 0 => {
            Some((Board { program: program.clone(), period: *period }, referrer))
        }
        _ => None,
    };
    let added: Vec<_> = counters.iter().enumerate().map(|(place, _)| format!("#f{place} :f{place}")).collect();
    let mut clauses = Vec::new();
    if !added.is_empty() {
        clauses.push(format!("ADD {}", added.join(", ")));
    }
    if ranked.is_some() {
        clauses.push("SET #board = :board, #score = if_not_exists(#score, :tie) + :points".to_owned());
    }
    let mut write = Write::update(items::counter_key(subject, referee), clauses.join(" "));
    for (place, (name, count)) in counters.iter().enumerate() {
        write = write.name(format!("#f{place}"), name).value(format!(":f{place}"), items::number(count));
    }
    match ranked {
        Some((board, referrer)) => write
            .name("#board", BOARD)
            .name("#score", SCORE)
            .value(":board", text(items::board_partition(&board, items::board_shard(referrer))))
            .value(":tie", items::number(items::tie_break(referrer)))
            .value(":points", items::number(items::score_of(net_conversions))),
        None => write,
    }
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
        let first = replace(item(), None).into_put();
        assert_eq!(first.condition_expression(), Some("attribute_not_exists(#pk)"));
        let next = replace(item(), Some(&facts)).into_put();
        assert_eq!(next.condition_expression(), Some("#rev = :rev"));
        assert_eq!(next.expression_attribute_values().unwrap()[":rev"], items::number(3));
    }

    #[test]
    fn only_a_change_of_net_conversions_updates_the_score() {
        let (facts, counts) = (Facts::from(&rewarded()), contributions(&Facts::from(&rewarded())));
        for (subject, counters) in &counts.0 {
            let moves = |counters: &Counters| {
                let write = add(subject, &facts.referee, counters);
                write.expression().unwrap().contains("#board")
            };
            let mut others = counters.clone();
            others.remove(NET_CONVERSIONS);
            assert_eq!(moves(counters), matches!(subject, Subject::Referrer(..)), "{subject:?}");
            assert!(!moves(&others), "{subject:?}");
        }
    }
}
