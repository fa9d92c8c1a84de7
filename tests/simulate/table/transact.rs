//! Transactions: all writes or none, applied once per client token.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{DynamoError, Table, members, write::Write};

/// The most writes of one transaction.
const MAX_WRITES: usize = 100;
/// How long a token is valid, in milliseconds.
const TOKEN_LIFETIME: i64 = 10 * 60 * 1000;

impl Table {
    pub(super) fn transact_write_items(&mut self, request: &Value) -> Result<Value, DynamoError> {
        members(
            request,
            &["TransactItems", "ClientRequestToken", "ReturnConsumedCapacity", "ReturnItemCollectionMetrics"],
        )?;
        let items = request["TransactItems"].as_array().ok_or_else(DynamoError::serialization)?;
        if !(1..=MAX_WRITES).contains(&items.len()) {
            return Err(DynamoError::validation("a transaction has 1 to 100 writes"));
        }
        let token = request["ClientRequestToken"].as_str();
        if let Some(token) = token
            && let Some((done, at)) = self.tokens.get(token)
            && self.now - at < TOKEN_LIFETIME
        {
            return match done == &request["TransactItems"] {
                true => Ok(json!({})),
                false => Err(DynamoError::new(
                    "IdempotentParameterMismatchException",
                    "The request uses the same client token as a previous, but non-identical request",
                )),
            };
        }
        let writes = items.iter().map(|item| self.part(item)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        if !writes.iter().all(|write| seen.insert(&write.key)) {
            let problem = "Transaction request cannot include multiple operations on one item";
            return Err(DynamoError::validation(problem));
        }
        let outcomes: Vec<_> = writes.iter().map(|write| self.outcome(write)).collect();
        if outcomes.iter().any(Result::is_err) {
            return Err(cancelled(outcomes.iter().map(|outcome| outcome.as_ref().err())));
        }
        for (write, outcome) in writes.into_iter().zip(outcomes) {
            self.keep(write.key, outcome?);
        }
        // Only successful transactions are remembered. A refused one is evaluated again.
        if let Some(token) = token {
            self.tokens.insert(token.to_owned(), (request["TransactItems"].clone(), self.now));
        }
        Ok(json!({}))
    }

    fn part(&self, item: &Value) -> Result<Write, DynamoError> {
        let kinds = item.as_object().ok_or_else(DynamoError::serialization)?;
        let [(kind, request)] = kinds.iter().collect::<Vec<_>>()[..] else {
            return Err(DynamoError::validation("TransactItems can only contain one of Check, Put, Update or Delete"));
        };
        let write = Write::read(kind, request, &[])?;
        self.is_named(request)?;
        Ok(write)
    }
}

fn cancelled<'a>(outcomes: impl Iterator<Item = Option<&'a DynamoError>>) -> DynamoError {
    let mut codes = Vec::new();
    let reasons = outcomes.map(|outcome| {
        let code = match outcome.map(|problem| problem.code) {
            None => "None",
            Some("ConditionalCheckFailedException") => "ConditionalCheckFailed",
            Some(_) => "ValidationError",
        };
        codes.push(code);
        let mut reason = json!({ "Code": code });
        if let Some(problem) = outcome {
            reason["Message"] = json!(problem.message);
            if let Some(item) = &problem.item {
                reason["Item"] = json!(item);
            }
        }
        reason
    });
    let reasons = reasons.collect();
    let codes = codes.join(", ");
    let message = format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]");
    DynamoError { reasons: Some(reasons), ..DynamoError::new("TransactionCanceledException", message) }
}
