//! Which failures of the table are tried again at once: the SDK leaves out that two transactions met.

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

/// Says "try again" where a write met somebody else's transaction, or part of a transaction was throttled.
///
/// Neither is a refusal: no condition was looked at. The SDK then waits and tries again, with its usual jitter.
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
            canceled.cancellation_reasons().iter().any(is_passing)
        }
        other => other.code() == Some("TransactionConflictException"),
    }
}

fn is_passing(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded" | "RequestLimitExceeded")
    )
}

/// Counts how often one write was sent; clones count together.
///
/// Two callers who ask for the same in the same millisecond write the same item. Only who sent the write again may take
/// what they find there for their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    /// Whether an earlier attempt may have done the work, and only its answer got lost.
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
