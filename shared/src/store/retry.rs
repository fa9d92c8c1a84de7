//! Which failures of the table are tried again at once: the SDK leaves out that two transactions met.

use aws_sdk_dynamodb::{
    config::{
        interceptors::InterceptorContext,
        retry::{ClassifyRetry, RetryAction},
    },
    error::ProvideErrorMetadata,
    operation::{put_item::PutItemError, transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::CancellationReason,
};

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
