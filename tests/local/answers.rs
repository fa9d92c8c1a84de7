//! Injected DynamoDB failures: answers that a connector returns instead of DynamoDB's answers. Used by the tests and
//! the simulator.

use aws_smithy_runtime_api::{
    client::{orchestrator::HttpResponse, result::ConnectorError},
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

/// A connection error: the request or its response was lost, and the caller cannot know which.
pub fn lost() -> ConnectorError {
    ConnectorError::io("it was lost on purpose".into())
}

/// An error response of this type, such as `InternalServerError`.
pub fn refused(status: u16, kind: &str) -> HttpResponse {
    respond(status, &json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{kind}"), "message": "on purpose"}))
}

/// A transaction conflict, in the form that this operation uses for it.
pub fn conflict(operation: &str) -> HttpResponse {
    if operation != "TransactWriteItems" {
        return refused(400, "TransactionConflictException");
    }
    let reasons = json!([{"Code": "TransactionConflict", "Message": "on purpose"}, {"Code": "None"}]);
    respond(
        400,
        &json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "message": "on purpose",
            "CancellationReasons": reasons,
        }),
    )
}

/// A response with this body.
///
/// # Panics
/// Panics when `status` is not an HTTP status.
#[allow(clippy::expect_used, reason = "the statuses are our own")]
pub fn respond(status: u16, body: &Value) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("a status");
    let mut response = HttpResponse::new(status, SdkBody::from(body.to_string()));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}
