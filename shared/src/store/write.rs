//! A write is a value: the item it addresses, what it changes, and its condition. A check changes nothing and only has a
//! condition.
//!
//! The same value is sent as a single call or becomes one part of a transaction. So a later step can add another write
//! to a transaction, such as a counter, without a second version of either write.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    error::{BuildError, SdkError},
    operation::{
        put_item::{PutItemError, builders::PutItemFluentBuilder},
        transact_write_items::TransactWriteItemsError,
        update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    },
    types::{
        AttributeValue, CancellationReason, ConditionCheck, Put, ReturnValue, ReturnValuesOnConditionCheckFailure,
        TransactWriteItem, Update,
    },
};

use super::{StoreError, keys::Item, retry::Attempts};
use crate::mutant::{self, Mutant};

/// One conditional write of one item.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Write {
    action: Action,
    condition: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    returns_new: bool,
    returns_found: bool,
}

#[derive(Clone, PartialEq, Debug)]
enum Action {
    Put(Item),
    Update { key: Item, expression: String },
    Check { key: Item },
}

/// What the table answered to a conditional write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteResult<W, C = W> {
    /// It was written.
    Written(W),
    /// The condition did not hold.
    Conflict(C),
}

impl Write {
    /// Replaces the whole item.
    pub(crate) fn put(item: Item) -> Self {
        Self::new(Action::Put(item))
    }

    /// Changes attributes of the item with this key, by an update expression.
    pub(crate) fn update(key: Item, expression: impl Into<String>) -> Self {
        Self::new(Action::Update { key, expression: expression.into() })
    }

    /// Requires a condition of the item with this key, without changing the item. Only a transaction can contain it.
    pub(crate) fn check(key: Item) -> Self {
        Self::new(Action::Check { key })
    }

    fn new(action: Action) -> Self {
        let (names, values) = (HashMap::new(), HashMap::new());
        Self { action, condition: None, names, values, returns_new: false, returns_found: false }
    }

    /// Writes only if this condition holds.
    pub(crate) fn when(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    /// Defines an expression attribute name: `name` (`#status`) stands for this attribute in the expressions.
    pub(crate) fn name(mut self, name: impl Into<String>, attribute: impl Into<String>) -> Self {
        self.names.insert(name.into(), attribute.into());
        self
    }

    /// Defines an expression attribute value: `name` (`:status`) stands for this value in the expressions.
    pub(crate) fn value(mut self, name: impl Into<String>, value: AttributeValue) -> Self {
        self.values.insert(name.into(), value);
        self
    }

    /// If the condition does not hold, the answer contains the item that was found.
    pub(crate) fn returning_found(mut self) -> Self {
        self.returns_found = true;
        self
    }

    /// The answer contains the item as it is after the write. Only a single call of an update can return it.
    pub(crate) fn returning_new(mut self) -> Self {
        self.returns_new = true;
        self
    }

    /// Sends the write as a single call. `attempts` counts how often the SDK sent it.
    ///
    /// # Errors
    /// Returns an error when it is unknown whether the table wrote it.
    pub(crate) async fn send(
        self,
        client: &Client,
        table: &str,
        attempts: Option<&Attempts>,
    ) -> Result<WriteResult<Option<Item>>, StoreError> {
        let on_failure = self.on_failure();
        let (names, values) = (some(self.names), some(self.values));
        match self.action {
            Action::Put(item) => {
                let call = client
                    .put_item()
                    .table_name(table)
                    .set_item(Some(item))
                    .set_condition_expression(self.condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values_on_condition_check_failure(on_failure);
                send_put(call, attempts).await
            }
            Action::Update { key, expression } => {
                let call = client
                    .update_item()
                    .table_name(table)
                    .set_key(Some(key))
                    .update_expression(expression)
                    .set_condition_expression(self.condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values(self.returns_new.then_some(ReturnValue::AllNew))
                    .set_return_values_on_condition_check_failure(on_failure);
                send_update(call, attempts).await
            }
            Action::Check { .. } => Err(StoreError::Unavailable("a check outside a transaction".to_owned())),
        }
    }

    /// The write as one part of a transaction.
    fn in_transaction(self, table: &str) -> Result<TransactWriteItem, BuildError> {
        let on_failure = self.on_failure();
        let (names, values) = (some(self.names), some(self.values));
        let part = TransactWriteItem::builder();
        Ok(match self.action {
            Action::Put(item) => {
                let put = Put::builder()
                    .table_name(table)
                    .set_item(Some(item))
                    .set_condition_expression(self.condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values_on_condition_check_failure(on_failure);
                part.put(put.build()?).build()
            }
            Action::Update { key, expression } => {
                let update = Update::builder()
                    .table_name(table)
                    .set_key(Some(key))
                    .update_expression(expression)
                    .set_condition_expression(self.condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values_on_condition_check_failure(on_failure);
                part.update(update.build()?).build()
            }
            Action::Check { key } => {
                let check = ConditionCheck::builder()
                    .table_name(table)
                    .set_key(Some(key))
                    .set_condition_expression(self.condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values_on_condition_check_failure(on_failure);
                part.condition_check(check.build()?).build()
            }
        })
    }

    fn on_failure(&self) -> Option<ReturnValuesOnConditionCheckFailure> {
        self.returns_found.then_some(ReturnValuesOnConditionCheckFailure::AllOld)
    }
}

/// DynamoDB rejects an empty map of expression attribute names or values.
fn some<V>(map: HashMap<String, V>) -> Option<HashMap<String, V>> {
    (!map.is_empty()).then_some(map)
}

async fn send_put(
    call: PutItemFluentBuilder,
    attempts: Option<&Attempts>,
) -> Result<WriteResult<Option<Item>>, StoreError> {
    let answer = match attempts {
        Some(attempts) => call.customize().interceptor(attempts.clone()).send().await,
        None => call.send().await,
    };
    let Err(problem) = answer else { return Ok(WriteResult::Written(None)) };
    if !problem.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception) {
        return Err(problem.into());
    }
    Ok(WriteResult::Conflict(match problem.into_service_error() {
        PutItemError::ConditionalCheckFailedException(conflict) => conflict.item,
        _ => None,
    }))
}

async fn send_update(
    call: UpdateItemFluentBuilder,
    attempts: Option<&Attempts>,
) -> Result<WriteResult<Option<Item>>, StoreError> {
    let answer = match attempts {
        Some(attempts) => call.customize().interceptor(attempts.clone()).send().await,
        None => call.send().await,
    };
    let problem = match answer {
        Ok(written) => return Ok(WriteResult::Written(written.attributes)),
        Err(problem) => problem,
    };
    if !problem.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) {
        return Err(problem.into());
    }
    Ok(WriteResult::Conflict(match problem.into_service_error() {
        UpdateItemError::ConditionalCheckFailedException(conflict) => conflict.item,
        _ => None,
    }))
}

/// The conditions of a transaction that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Conflicts(Vec<CancellationReason>);

impl Conflicts {
    /// Whether the condition of the write at this position did not hold.
    pub(crate) fn is_at(&self, position: usize) -> bool {
        self.0.get(position).is_some_and(is_conflict)
    }

    /// Removes and returns the item that the write at this position found instead.
    pub(crate) fn take_found(&mut self, position: usize) -> Option<Item> {
        self.0.get_mut(position)?.item.take()
    }

    /// The position of the first condition that did not hold.
    pub(crate) fn first(&self) -> Option<usize> {
        self.0.iter().position(is_conflict)
    }
}

fn is_conflict(reason: &CancellationReason) -> bool {
    let is_other_transaction = reason.code() == Some("TransactionConflict");
    reason.code() == Some("ConditionalCheckFailed")
        || (is_other_transaction && mutant::is(Mutant::ConflictTakenForRefusal))
}

/// Sends all writes as one transaction. `attempts` counts how often the SDK sent it.
///
/// # Errors
/// Returns an error when it is unknown whether the table wrote them, or when DynamoDB cancelled the transaction for a
/// reason other than a failed condition.
pub(crate) async fn transact(
    client: &Client,
    table: &str,
    writes: Vec<Write>,
    attempts: Option<&Attempts>,
) -> Result<WriteResult<(), Conflicts>, StoreError> {
    let parts: Result<Vec<_>, _> = writes.into_iter().map(|write| write.in_transaction(table)).collect();
    let parts = parts.map_err(|problem| StoreError::Unavailable(problem.to_string()))?;
    let call = client.transact_write_items().set_transact_items(Some(parts));
    let answer = match attempts {
        Some(attempts) => call.customize().interceptor(attempts.clone()).send().await,
        None => call.send().await,
    };
    let problem = match answer {
        Ok(_) => return Ok(WriteResult::Written(())),
        Err(problem) => problem,
    };
    match conflicts(&problem) {
        Some(conflicts) => Ok(WriteResult::Conflict(conflicts)),
        None => Err(problem.into()),
    }
}

fn conflicts<R>(problem: &SdkError<TransactWriteItemsError, R>) -> Option<Conflicts> {
    let TransactWriteItemsError::TransactionCanceledException(canceled) = problem.as_service_error()? else {
        return None;
    };
    let conflicts = Conflicts(canceled.cancellation_reasons().to_vec());
    conflicts.first().is_some().then_some(conflicts)
}

#[cfg(test)]
impl Write {
    pub(crate) fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }

    pub(crate) fn expression(&self) -> Option<&str> {
        match &self.action {
            Action::Put(_) | Action::Check { .. } => None,
            Action::Update { expression, .. } => Some(expression),
        }
    }

    /// The put as a part of a transaction on the table `table`.
    pub(crate) fn into_put(self) -> Put {
        self.in_transaction("table").unwrap().put.unwrap()
    }

    /// The update as a part of a transaction on the table `table`.
    pub(crate) fn into_update(self) -> Update {
        self.in_transaction("table").unwrap().update.unwrap()
    }

    /// The check as a part of a transaction on the table `table`.
    pub(crate) fn into_check(self) -> ConditionCheck {
        self.in_transaction("table").unwrap().condition_check.unwrap()
    }
}
