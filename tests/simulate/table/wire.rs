//! The table's answers in the wire format that the SDK expects.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde_json::Value;

use super::DynamoError;

/// The HTTP response for an answer or an error.
pub(crate) fn respond(answer: &Result<Value, DynamoError>) -> HttpResponse {
    match answer {
        Ok(answer) => local::answers::respond(200, answer),
        Err(problem) => local::answers::respond(problem.status(), &problem.document()),
    }
}
