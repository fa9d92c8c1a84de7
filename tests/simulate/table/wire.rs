//! What the table answers, as the SDK expects it on the wire.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde_json::Value;

use super::DynamoError;

/// An answer, or a refusal, as it comes back over the wire.
pub(crate) fn respond(answer: &Result<Value, DynamoError>) -> HttpResponse {
    match answer {
        Ok(answer) => local::answers::respond(200, answer),
        Err(problem) => local::answers::respond(problem.status(), &problem.document()),
    }
}
