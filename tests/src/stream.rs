//! The pump of the table's stream: records to functions in their order, by Lambda's rules.
//!
//! A batch that fails stands in the way of what comes after it, until it succeeds, or was tried often enough and is
//! put aside. How far the reader has come is noted only when a batch is done with.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use dynoxide::actions::get_records::Record;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    clock::{self, REGION},
    deployment::StreamFeed,
    dynamodb::DynamoError,
    functions::Failure,
    journal::JournalError,
    queue::{backoff, failed_items, millis},
    service::{Local, Stop},
};

/// Functions write, and every invocation wakes the pump; this is for whoever writes to the table from outside.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the pump waits when it cannot read.
const TROUBLE: Duration = Duration::from_secs(1);
/// Records that are read at once; DynamoDB gives no more.
const READ: usize = 1000;

/// The reader of the stream for one function.
pub(crate) struct Reader {
    local: Arc<Local>,
    feed: StreamFeed,
}

/// The stream or the journal cannot be read.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Stream(#[from] DynamoError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A record in Lambda's spelling, and what the pump needs to know of it.
#[derive(Clone)]
pub(crate) struct Change {
    sequence: String,
    pub(crate) record: Value,
}

/// A batch on its way through a function: what is left of it, in order, and how often its front was tried.
struct Work<'a> {
    parts: VecDeque<&'a [Change]>,
    attempt: u32,
    attempts: u32,
    bisect: bool,
}

/// What became of a part that was handed over.
#[derive(Default)]
struct Settled<'a> {
    done: &'a [Change],
    given_up: &'a [Change],
    /// The rest is tried again, after the pause that follows this attempt.
    pause_after: Option<u32>,
}

/// How a batch failed.
enum Failed {
    /// All of it.
    Whole(String),
    /// From the record at this place on; those before it are done.
    From(usize),
}

impl Reader {
    /// All readers of the deployment.
    pub(crate) fn all(local: &Arc<Local>) -> Vec<Self> {
        local.deployment.streams.iter().map(|feed| Self { local: Arc::clone(local), feed: feed.clone() }).collect()
    }

    /// Works until told to stop; a batch that is being worked on is finished.
    pub(crate) async fn run(self, mut stop: Stop) {
        let mut invoked = self.local.functions.invoked.subscribe();
        while !stop.is_set() {
            // Seen before the stream is read, so that a write during the reading wakes the pump again.
            invoked.mark_unchanged();
            let pause = match self.read_on(&mut stop).await {
                Ok(true) => continue,
                Ok(false) => LOOK_AGAIN,
                Err(problem) => {
                    tracing::error!(%problem, "cannot read the stream");
                    TROUBLE
                }
            };
            tokio::select! {
                () = stop.wait() => break,
                _ = invoked.changed(), if pause == LOOK_AGAIN => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Works off what is in the stream now; whether there was anything.
    async fn read_on(&self, stop: &mut Stop) -> Result<bool, Trouble> {
        let position = self.local.journal.position(&self.feed.name)?;
        let records = self.local.dynamodb.records(position.as_deref(), READ)?;
        let Some(last) = records.last().map(|record| record.dynamodb.sequence_number.clone()) else {
            return Ok(false);
        };
        let changes: Vec<_> = records.iter().filter_map(|record| self.wanted(record)).collect();
        for batch in changes.chunks(self.feed.batch) {
            if !self.work_off(batch, stop).await? {
                return Ok(true);
            }
        }
        self.local.journal.advance(&self.feed.name, &last, None)?;
        Ok(true)
    }

    /// The record as the function gets it, if it gets it at all.
    fn wanted(&self, record: &Record) -> Option<Change> {
        let stream = self.local.dynamodb.stream();
        let change = Change::new(record, stream)?;
        let filters = &self.feed.filters;
        let passes = filters.is_empty() || filters.iter().any(|filter| filter.matches(&change.record));
        passes.then_some(change)
    }

    /// Hands a batch over until nothing of it is left; `false` if it was told to stop before that.
    async fn work_off(&self, batch: &[Change], stop: &mut Stop) -> Result<bool, Trouble> {
        let mut work = Work::new(batch, self.feed.attempts, self.feed.bisect);
        while let Some(part) = work.next() {
            let failed = self.hand_over(part).await;
            let reason = failed.as_ref().map(Failed::reason).unwrap_or_default();
            let settled = work.settle(part, failed);
            self.done(settled.done)?;
            self.put_aside(settled.given_up, &reason)?;
            if let Some(attempt) = settled.pause_after
                && !self.pause(attempt, stop).await
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Invokes the function; how the batch failed, if it did.
    async fn hand_over(&self, part: &[Change]) -> Option<Failed> {
        let records: Vec<_> = part.iter().map(|change| &change.record).collect();
        let answer = self.local.functions.invoke(self.feed.function, json!({ "Records": records })).await;
        let failed = first_failed(&answer, part);
        if let Some(failed) = &failed {
            tracing::warn!(function = self.feed.name, records = part.len(), reason = failed.reason(), "failed");
        }
        failed
    }

    async fn pause(&self, attempt: u32, stop: &mut Stop) -> bool {
        let pause = backoff(self.local.pace.first_retry, attempt);
        tokio::select! {
            () = stop.wait() => false,
            () = sleep(millis(pause)) => true,
        }
    }

    fn done(&self, part: &[Change]) -> Result<(), JournalError> {
        match part.last() {
            Some(last) => self.local.journal.advance(&self.feed.name, &last.sequence, None),
            None => Ok(()),
        }
    }

    /// Leaves records where a person can find them, as Lambda's destinations do, and goes on behind them.
    fn put_aside(&self, part: &[Change], reason: &str) -> Result<(), JournalError> {
        let (Some(first), Some(last)) = (part.first(), part.last()) else {
            return Ok(());
        };
        tracing::error!(function = self.feed.name, records = part.len(), reason, "put aside");
        let record = json!({
            "version": "1.0",
            "timestamp": clock::text(clock::now()),
            "requestContext": {
                "requestId": clock::id(),
                "functionArn": clock::arn("lambda", &format!("function:{}", self.feed.name)),
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": self.feed.attempts,
            },
            "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": reason },
            "DDBStreamBatchInfo": {
                "shardId": self.local.dynamodb.shard(),
                "startSequenceNumber": first.sequence,
                "endSequenceNumber": last.sequence,
                "batchSize": part.len(),
                "streamArn": self.local.dynamodb.stream(),
            },
            "payload": { "Records": part.iter().map(|change| &change.record).collect::<Vec<_>>() },
        });
        let attributes = json!({ "ErrorMessage": { "DataType": "String", "StringValue": reason } });
        let letter = self.local.letter(&self.feed.on_failure, &record.to_string(), attributes);
        self.local.journal.advance(&self.feed.name, &last.sequence, Some(&letter))
    }
}

impl<'a> Work<'a> {
    fn new(batch: &'a [Change], attempts: u32, bisect: bool) -> Self {
        Self { parts: VecDeque::from([batch]), attempt: 1, attempts, bisect }
    }

    /// The part to hand over next.
    fn next(&mut self) -> Option<&'a [Change]> {
        self.parts.pop_front()
    }

    /// Decides what happens with a part, by how it went.
    ///
    /// Progress starts the count of attempts anew. A batch that fails whole is cut in two, so that one bad record
    /// takes fewer good ones with it; and after the last attempt it is the first record alone that is given up. (AWS
    /// gives up the whole part; which records share a part with a bad one is chance there as well.)
    fn settle(&mut self, part: &'a [Change], failed: Option<Failed>) -> Settled<'a> {
        match failed {
            None => {
                self.attempt = 1;
                Settled { done: part, ..Settled::default() }
            }
            Some(Failed::From(place)) if place > 0 => {
                let (done, rest) = part.split_at(place);
                self.again(&[rest]);
                self.attempt = 1;
                Settled { done, pause_after: Some(1), ..Settled::default() }
            }
            Some(_) if self.attempt >= self.attempts => {
                let (given_up, rest) = part.split_at(if self.bisect { 1.min(part.len()) } else { part.len() });
                self.again(&[rest]);
                self.attempt = 1;
                Settled { given_up, ..Settled::default() }
            }
            Some(failed) => {
                match failed {
                    Failed::Whole(_) if self.bisect => self.again(&<[_; 2]>::from(part.split_at(part.len() / 2))),
                    _ => self.again(&[part]),
                }
                self.attempt += 1;
                Settled { pause_after: Some(self.attempt - 1), ..Settled::default() }
            }
        }
    }

    /// Puts parts in front of all others.
    fn again(&mut self, parts: &[&'a [Change]]) {
        for part in parts.iter().rev().filter(|part| !part.is_empty()) {
            self.parts.push_front(part);
        }
    }
}

/// Whether every reader has read all there is.
pub(crate) fn is_at_end(local: &Local) -> bool {
    local.deployment.streams.iter().all(|feed| {
        let position = local.journal.position(&feed.name).ok().flatten();
        local.dynamodb.records(position.as_deref(), 1).is_ok_and(|records| records.is_empty())
    })
}

/// The record at which a batch failed, by the function's answer.
fn first_failed(answer: &Result<Value, Failure>, part: &[Change]) -> Option<Failed> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => return Some(Failed::Whole(failure.to_string())),
    };
    let places = failed_items(answer).into_iter().map(|id| part.iter().position(|change| change.sequence == id));
    match places.collect::<Option<Vec<_>>>() {
        Some(places) => places.into_iter().min().map(Failed::From),
        None => Some(Failed::Whole("it gave back a record that it was not given".to_owned())),
    }
}

impl Failed {
    fn reason(&self) -> String {
        match self {
            Self::Whole(reason) => reason.clone(),
            Self::From(_) => "the function gave it back".to_owned(),
        }
    }
}

impl Change {
    /// The record in Lambda's spelling; `None` for a write that changed nothing, of which AWS's streams know nothing.
    pub(crate) fn new(record: &Record, stream: &str) -> Option<Self> {
        let images = &record.dynamodb;
        if images.new_image.is_some() && images.new_image == images.old_image {
            return None;
        }
        let sequence = images.sequence_number.clone();
        let mut record = serde_json::to_value(record).ok()?;
        record["awsRegion"] = REGION.into();
        record["eventSourceARN"] = stream.replace(dynoxide::streams::LOCAL_REGION, REGION).into();
        Some(Self { sequence, record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(sequences: &[&str]) -> Vec<Change> {
        sequences.iter().map(|sequence| Change { sequence: (*sequence).to_owned(), record: Value::Null }).collect()
    }

    fn answer(ids: &[&str]) -> Result<Value, Failure> {
        let failures: Vec<_> = ids.iter().map(|id| json!({ "itemIdentifier": id })).collect();
        Ok(json!({ "batchItemFailures": failures }))
    }

    #[test]
    fn a_batch_fails_from_the_first_record_that_is_named() {
        let part = changes(&["1", "2", "3"]);
        assert!(matches!(first_failed(&answer(&["3", "2"]), &part), Some(Failed::From(1))));
        assert!(first_failed(&answer(&[]), &part).is_none());
        assert!(first_failed(&Ok(Value::Null), &part).is_none());
    }

    /// Runs a batch through a function that never takes the record `bad`, and that says so, or just fails.
    fn run(bisect: bool, says_so: bool) -> (Vec<String>, Vec<String>, usize) {
        let batch = changes(&["1", "2", "bad", "4", "5"]);
        let mut work = Work::new(&batch, 4, bisect);
        let (mut done, mut given_up, mut calls) = (Vec::new(), Vec::new(), 0);
        while let Some(part) = work.next() {
            calls += 1;
            assert!(calls < 100, "it never ends");
            let place = part.iter().position(|change| change.sequence == "bad");
            let failed = match place {
                Some(place) if says_so => Some(Failed::From(place)),
                Some(_) => Some(Failed::Whole("no".to_owned())),
                None => None,
            };
            let settled = work.settle(part, failed);
            done.extend(settled.done.iter().map(|change| change.sequence.clone()));
            given_up.extend(settled.given_up.iter().map(|change| change.sequence.clone()));
        }
        (done, given_up, calls)
    }

    #[test]
    fn a_bad_record_that_is_named_is_given_up_alone_and_in_its_turn() {
        assert_eq!(run(true, true), (["1", "2", "4", "5"].map(str::to_owned).into(), vec!["bad".to_owned()], 6));
    }

    #[test]
    fn cutting_in_two_finds_a_bad_record_that_nobody_names() {
        let (done, given_up, _) = run(true, false);
        assert_eq!((done.join(""), given_up.join("")), ("1245".to_owned(), "bad".to_owned()));
    }

    #[test]
    fn without_cutting_the_batch_is_given_up() {
        let (done, given_up, calls) = run(false, false);
        assert_eq!((done.len(), given_up.len(), calls), (0, 5, 4));
    }

    #[test]
    fn an_error_or_a_strange_answer_fails_it_all() {
        let part = changes(&["1"]);
        assert!(matches!(first_failed(&Err(Failure::Panic), &part), Some(Failed::Whole(_))));
        assert!(matches!(first_failed(&answer(&["7"]), &part), Some(Failed::Whole(_))));
        assert!(matches!(first_failed(&answer(&[""]), &part), Some(Failed::Whole(_))));
    }
}
