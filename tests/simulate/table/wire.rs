//! What the table answers, as the SDK expects it on the wire.

use aws_smithy_runtime_api::{client::orchestrator::HttpResponse, http::StatusCode};
use aws_smithy_types::body::SdkBody;
use serde_json::Value;

use super::DynamoError;

/// An answer, or a refusal, as it comes back over the wire.
#[allow(clippy::expect_used, reason = "the statuses are ours: 200, 400 and 500")]
pub(crate) fn respond(answer: &Result<Value, DynamoError>) -> HttpResponse {
    let (status, body) = match answer {
        Ok(answer) => (200, answer.to_string()),
        Err(problem) => (problem.status(), problem.document().to_string()),
    };
    let status = StatusCode::try_from(status).expect("a status");
    let length = body.len().to_string();
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    let headers = response.headers_mut();
    headers.insert("content-type", "application/x-amz-json-1.0");
    headers.insert("content-length", length);
    headers.insert("x-amzn-requestid", "SIMULATED");
    response
}
