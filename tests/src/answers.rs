//! What a connector answers in DynamoDB's place when it breaks a call: for the tests and the simulator, which do.

use aws_smithy_runtime_api::{
    client::{orchestrator::HttpResponse, result::ConnectorError},
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

/// A call that got lost, or its answer did: nobody can tell.
pub fn lost() -> ConnectorError {
    ConnectorError::io("it was lost on purpose".into())
}

/// A refusal of this kind, such as `InternalServerError`.
pub fn refused(status: u16, kind: &str) -> HttpResponse {
    respond(status, &json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{kind}"), "message": "on purpose"}))
}

/// A transaction is under way on the same item, in the words that this operation has for it.
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

/// An answer with this body.
///
/// # Panics
/// When `status` is none.
#[allow(clippy::expect_used, reason = "the statuses are our own")]
pub fn respond(status: u16, body: &Value) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("a status");
    let mut response = HttpResponse::new(status, SdkBody::from(body.to_string()));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}
