//! The reader of the table's stream: passes records to functions in order, by Lambda's rules.
//!
//! A failed batch blocks the records after it until it succeeds, or until it has no attempts left and is moved to the
//! failure destination. The reader's position is stored only when a batch is finished.

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

/// Every invocation wakes the reader, because functions write to the table. This interval is for other writers.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long the reader waits after a read error.
const RETRY_AFTER_ERROR: Duration = Duration::from_secs(1);
/// The most records of one read, as on DynamoDB.
const READ_LIMIT: usize = 1000;

/// The reader of the stream for one function.
pub(crate) struct Reader {
    local: Arc<Local>,
    feed: StreamFeed,
}

/// The stream or the journal cannot be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Stream(#[from] DynamoError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A record in Lambda's spelling, and its sequence number.
#[derive(Clone)]
pub(crate) struct Change {
    sequence: String,
    pub(crate) record: Value,
}

/// A batch in progress: its remaining parts, in order, and the number of attempts for the first one.
struct Progress<'a> {
    parts: VecDeque<&'a [Change]>,
    attempt: u32,
    attempts: u32,
    bisect: bool,
}

/// The result of one part.
#[derive(Default)]
struct PartResult<'a> {
    done: &'a [Change],
    given_up: &'a [Change],
    /// The rest is retried after the delay that follows this attempt.
    retry_after_attempt: Option<u32>,
}

/// How a batch failed.
enum Failed {
    /// As a whole.
    Whole(String),
    /// From the record at this index; the records before it are done.
    From(usize),
}

impl Reader {
    /// All readers of the deployment.
    pub(crate) fn all(local: &Arc<Local>) -> Vec<Self> {
        local.deployment.streams.iter().map(|feed| Self { local: Arc::clone(local), feed: feed.clone() }).collect()
    }

    /// Reads until stopped; a batch in progress is finished.
    pub(crate) async fn run(self, mut stop: Stop) {
        let mut invoked = self.local.functions.invoked.subscribe();
        while !stop.is_set() {
            // Reset before the stream is read, so that a write during the read wakes the reader again.
            invoked.mark_unchanged();
            let pause = match self.process_stream(&mut stop).await {
                Ok(true) => continue,
                Ok(false) => POLL_INTERVAL,
                Err(problem) => {
                    tracing::error!(%problem, "cannot read the stream");
                    RETRY_AFTER_ERROR
                }
            };
            tokio::select! {
                () = stop.wait() => break,
                _ = invoked.changed(), if pause == POLL_INTERVAL => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Processes the records that the stream holds now. Returns whether there were any.
    async fn process_stream(&self, stop: &mut Stop) -> Result<bool, ReadError> {
        let position = self.local.journal.position(&self.feed.name)?;
        let records = self.local.dynamodb.records(position.as_deref(), READ_LIMIT)?;
        let Some(last) = records.last().map(|record| record.dynamodb.sequence_number.clone()) else {
            return Ok(false);
        };
        let changes: Vec<_> = records.iter().filter_map(|record| self.wanted(record)).collect();
        for batch in changes.chunks(self.feed.batch) {
            if !self.process_batch(batch, stop).await? {
                return Ok(true);
            }
        }
        self.local.journal.set_position(&self.feed.name, &last, None)?;
        Ok(true)
    }

    /// The record as the function receives it, if it passes the filters.
    fn wanted(&self, record: &Record) -> Option<Change> {
        let stream = self.local.dynamodb.stream();
        let change = Change::new(record, stream)?;
        let filters = &self.feed.filters;
        let passes = filters.is_empty() || filters.iter().any(|filter| filter.matches(&change.record));
        passes.then_some(change)
    }

    /// Passes a batch to the function until all parts are finished. Returns `false` if stopped before that.
    async fn process_batch(&self, batch: &[Change], stop: &mut Stop) -> Result<bool, ReadError> {
        let mut progress = Progress::new(batch, self.feed.attempts, self.feed.bisect);
        while let Some(part) = progress.next() {
            let failed = self.invoke(part).await;
            let reason = failed.as_ref().map(Failed::reason).unwrap_or_default();
            let result = progress.record_result(part, failed);
            self.done(result.done)?;
            self.give_up(result.given_up, &reason)?;
            if let Some(attempt) = result.retry_after_attempt
                && !self.pause(attempt, stop).await
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Invokes the function. Returns how the batch failed, if it did.
    async fn invoke(&self, part: &[Change]) -> Option<Failed> {
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
            Some(last) => self.local.journal.set_position(&self.feed.name, &last.sequence, None),
            None => Ok(()),
        }
    }

    /// Sends records to the failure destination in the form that Lambda uses, and continues after them.
    fn give_up(&self, part: &[Change], reason: &str) -> Result<(), JournalError> {
        let (Some(first), Some(last)) = (part.first(), part.last()) else {
            return Ok(());
        };
        tracing::error!(function = self.feed.name, records = part.len(), reason, "gave up on records");
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
        let new_message = self.local.new_message(&self.feed.on_failure, &record.to_string(), attributes);
        self.local.journal.set_position(&self.feed.name, &last.sequence, Some(&new_message))
    }
}

impl<'a> Progress<'a> {
    fn new(batch: &'a [Change], attempts: u32, bisect: bool) -> Self {
        Self { parts: VecDeque::from([batch]), attempt: 1, attempts, bisect }
    }

    /// The next part.
    fn next(&mut self) -> Option<&'a [Change]> {
        self.parts.pop_front()
    }

    /// Decides what happens with a part, based on its result.
    ///
    /// Progress resets the number of attempts. A batch that fails as a whole is split in two, so that fewer good
    /// records fail together with a bad one. After the last attempt the whole part is given up, or only its first
    /// record if batches are split. (AWS gives up the whole part in both cases. On AWS, too, it depends on chance which
    /// records share a part with a bad one.)
    fn record_result(&mut self, part: &'a [Change], failed: Option<Failed>) -> PartResult<'a> {
        match failed {
            None => {
                self.attempt = 1;
                PartResult { done: part, ..PartResult::default() }
            }
            Some(Failed::From(index)) if index > 0 => {
                let (done, rest) = part.split_at(index);
                self.retry_first(&[rest]);
                self.attempt = 1;
                PartResult { done, retry_after_attempt: Some(1), ..PartResult::default() }
            }
            Some(_) if self.attempt >= self.attempts => {
                let (given_up, rest) = part.split_at(if self.bisect { 1.min(part.len()) } else { part.len() });
                self.retry_first(&[rest]);
                self.attempt = 1;
                PartResult { given_up, ..PartResult::default() }
            }
            Some(failed) => {
                match failed {
                    Failed::Whole(_) if self.bisect => self.retry_first(&<[_; 2]>::from(part.split_at(part.len() / 2))),
                    _ => self.retry_first(&[part]),
                }
                self.attempt += 1;
                PartResult { retry_after_attempt: Some(self.attempt - 1), ..PartResult::default() }
            }
        }
    }

    /// Inserts parts before all others.
    fn retry_first(&mut self, parts: &[&'a [Change]]) {
        for part in parts.iter().rev().filter(|part| !part.is_empty()) {
            self.parts.push_front(part);
        }
    }
}

/// Whether every reader has reached the end of the stream.
pub(crate) fn is_at_end(local: &Local) -> bool {
    local.deployment.streams.iter().all(|feed| {
        let position = local.journal.position(&feed.name).ok().flatten();
        local.dynamodb.records(position.as_deref(), 1).is_ok_and(|records| records.is_empty())
    })
}

/// How a batch failed, from the function's answer.
fn first_failed(answer: &Result<Value, Failure>, part: &[Change]) -> Option<Failed> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => return Some(Failed::Whole(failure.to_string())),
    };
    let places = failed_items(answer).into_iter().map(|id| part.iter().position(|change| change.sequence == id));
    match places.collect::<Option<Vec<_>>>() {
        Some(places) => places.into_iter().min().map(Failed::From),
        None => Some(Failed::Whole("the function returned an unknown record as failed".to_owned())),
    }
}

impl Failed {
    fn reason(&self) -> String {
        match self {
            Self::Whole(reason) => reason.clone(),
            Self::From(_) => "the function returned it as failed".to_owned(),
        }
    }
}

impl Change {
    /// The record in Lambda's spelling; `None` for a write that changed nothing, which AWS's streams leave out.
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

    /// Passes a batch to a function that always fails on the record `bad` and either names it or fails as a whole.
    fn run(bisect: bool, names_it: bool) -> (Vec<String>, Vec<String>, usize) {
        let batch = changes(&["1", "2", "bad", "4", "5"]);
        let mut progress = Progress::new(&batch, 4, bisect);
        let (mut done, mut given_up, mut calls) = (Vec::new(), Vec::new(), 0);
        while let Some(part) = progress.next() {
            calls += 1;
            assert!(calls < 100, "it never ends");
            let index = part.iter().position(|change| change.sequence == "bad");
            let failed = match index {
                Some(index) if names_it => Some(Failed::From(index)),
                Some(_) => Some(Failed::Whole("no".to_owned())),
                None => None,
            };
            let result = progress.record_result(part, failed);
            done.extend(result.done.iter().map(|change| change.sequence.clone()));
            given_up.extend(result.given_up.iter().map(|change| change.sequence.clone()));
        }
        (done, given_up, calls)
    }

    #[test]
    fn only_the_bad_record_is_given_up_if_it_is_named() {
        assert_eq!(run(true, true), (["1", "2", "4", "5"].map(str::to_owned).into(), vec!["bad".to_owned()], 6));
    }

    #[test]
    fn bisection_isolates_a_bad_record_that_is_not_named() {
        let (done, given_up, _) = run(true, false);
        assert_eq!((done.join(""), given_up.join("")), ("1245".to_owned(), "bad".to_owned()));
    }

    #[test]
    fn without_bisection_the_whole_batch_is_given_up() {
        let (done, given_up, calls) = run(false, false);
        assert_eq!((done.len(), given_up.len(), calls), (0, 5, 4));
    }

    #[test]
    fn an_error_or_an_unknown_record_fails_the_whole_batch() {
        let part = changes(&["1"]);
        assert!(matches!(first_failed(&Err(Failure::Panic), &part), Some(Failed::Whole(_))));
        assert!(matches!(first_failed(&answer(&["7"]), &part), Some(Failed::Whole(_))));
        assert!(matches!(first_failed(&answer(&[""]), &part), Some(Failed::Whole(_))));
    }
}
