//! The part of the report about PostgreSQL.

use super::text::{row, rule, spread};
use crate::peers::postgres::{Postgres, Races, SqlStep};

pub(super) fn section(found: &Postgres) -> String {
    let version = found.version.split(' ').next().unwrap_or_default();
    let Postgres { start_cpu, resident, steps, races, .. } = found;
    format!(
        "## The same on PostgreSQL\n\n\
         Three tables with their constraints, and a worker in Node.js with `pg` on a server of its own (PostgreSQL {version}, which \
         waits for the disk) over a Unix socket: no flags, no devices, no delivery, and not on Lambda. The server runs whether \
         there are referrals or not; the table shows the CPU of the worker's connection. Starting and connecting takes the \
         worker {} ms of CPU and {} MB.\n\n{}\n\n{}",
        spread(*start_cpu),
        spread(*resident),
        costs(steps),
        races_of(races),
    )
}

fn costs(steps: &[SqlStep]) -> String {
    let head = ["step", "statements", "worker: CPU ms", "server: CPU ms"];
    let lines = steps.iter().map(|step| {
        row(&[step.name.clone(), step.statements.to_string(), spread(step.worker_cpu), spread(step.server_cpu)])
    });
    [row(&head), rule(head.len())].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// The rows that were counted after each experiment.
fn races_of(Races { duplicates, two_workers, killed }: &Races) -> String {
    let (one, look) = (&duplicates.condition, &duplicates.look_first);
    let (careful, saved, lost) = (&two_workers.condition, &two_workers.look_first_unique, &two_workers.look_first);
    let lines = [
        ["experiment", "written as", "expected", "counted"].map(str::to_owned),
        [
            format!("{} orders, each ten times concurrently", one.orders / 10),
            "`UPDATE … WHERE status = 'pending'`".to_owned(),
            format!("{} conversions", one.wanted),
            format!("{} conversions", one.conversions),
        ],
        [
            String::new(),
            "`SELECT`, then `UPDATE`".to_owned(),
            format!("{} conversions", look.wanted),
            format!("{} conversions", look.conversions),
        ],
        [
            "two workers issue the same referrals".to_owned(),
            "`UPDATE … WHERE status = 'converted'` and both rewards, in a transaction".to_owned(),
            format!("{} rewards", careful.wanted),
            format!("{} rewards", careful.rewards),
        ],
        [
            String::new(),
            "`SELECT`, then write, in a transaction; rewards `UNIQUE`".to_owned(),
            format!("{} rewards", saved.wanted),
            format!("{} rewards", saved.rewards),
        ],
        [
            String::new(),
            "the same without `UNIQUE` on rewards".to_owned(),
            format!("{} rewards", lost.wanted),
            format!("{} rewards, {} paid twice", lost.rewards, lost.paid_twice),
        ],
        [
            format!("{} workers killed between commit and publishing, then another worker", killed.kills),
            "correctly, without an outbox".to_owned(),
            format!("{} published", killed.rewards),
            format!("{} published, {} never delivered", killed.published, killed.never_delivered),
        ],
    ];
    let [head, rows @ ..] = &lines;
    let rows = rows.iter().map(|line| row(line));
    let table = [row(head), rule(head.len())].into_iter().chain(rows).collect::<Vec<_>>().join("\n");
    format!(
        "The effect of duplicates, races and a crash, counted in the tables afterwards:\n\n{table}\n\n\
         Written with care, the schema holds. It lacks a record of what was committed and not yet published. In this service the \
         table itself is that record: the item is in the index `work` until each of its rewards has a final answer."
    )
}
