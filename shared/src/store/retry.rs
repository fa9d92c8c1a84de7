//! Which DynamoDB errors the SDK retries immediately. By default it does not retry transaction conflicts.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeTransmitInterceptorContextRef, InterceptorContext},
        retry::{ClassifyRetry, RetryAction},
    },
    error::{BoxError, ProvideErrorMetadata},
    operation::{put_item::PutItemError, transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::CancellationReason,
};

use crate::mutant::{self, Mutant};

/// Retries a write that conflicted with another transaction, and a transaction that was partly throttled.
///
/// In both cases DynamoDB wrote nothing, so a retry is safe. The SDK waits and tries again, with its usual jitter.
#[derive(Debug)]
pub(super) struct Conflicts;

impl ClassifyRetry for Conflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = context.output_or_error() else { return RetryAction::NoActionIndicated };
        let Some(error) = error.as_operation_error() else { return RetryAction::NoActionIndicated };
        let conflict = error.downcast_ref::<TransactWriteItemsError>().is_some_and(is_conflict)
            || error.downcast_ref::<PutItemError>().is_some_and(PutItemError::is_transaction_conflict_exception)
            || error.downcast_ref::<UpdateItemError>().is_some_and(UpdateItemError::is_transaction_conflict_exception);
        let conflict = conflict && !mutant::is(Mutant::ConflictNotRetried);
        if conflict { RetryAction::transient_error() } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "write conflicts"
    }
}

fn is_conflict(error: &TransactWriteItemsError) -> bool {
    match error {
        TransactWriteItemsError::TransactionCanceledException(canceled) => {
            canceled.cancellation_reasons().iter().any(is_transient)
        }
        other => other.code() == Some("TransactionConflictException"),
    }
}

fn is_transient(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded" | "RequestLimitExceeded")
    )
}

/// Counts how often one write was sent. Clones share the counter.
///
/// Two callers with the same request in the same millisecond write the same item. Only a caller that sent its write more
/// than once may treat the item that it finds as its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    /// Whether an earlier attempt can have succeeded although its answer was lost.
    pub(super) fn were_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "attempts"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
