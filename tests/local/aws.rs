//! The AWS JSON protocol, which SDKs and the AWS CLI use: the entry point of the bus, the queues
//! and the secrets.
//!
//! Signatures are not verified: the service listens on loopback and accepts any credentials.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE},
};
use serde_json::{Value, json};

use crate::{bus, clock, journal::JournalError, service::Local, sqs};

/// An error in the form of the emulated AWS service.
#[derive(Debug)]
pub(crate) struct AwsError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl AwsError {
    /// A client error.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }
}

impl AwsError {
    /// The answer's body.
    pub(crate) fn body(&self) -> Value {
        json!({ "__type": self.code, "message": self.message })
    }
}

impl From<JournalError> for AwsError {
    fn from(problem: JournalError) -> Self {
        tracing::error!(%problem, "cannot store the request");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "InternalException", message: problem.to_string() }
    }
}

/// Answers the operation that the header `X-Amz-Target` names.
pub(crate) fn answer(local: &Local, target: &str, body: &[u8]) -> Response<Body> {
    let (status, answer) = match operation(local, target, body) {
        Ok(answer) => (StatusCode::OK, answer),
        Err(problem) => (problem.status, problem.body()),
    };
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = status;
    let version =
        if target.starts_with("AmazonSQS.") { "application/x-amz-json-1.0" } else { "application/x-amz-json-1.1" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(version));
    if let Ok(id) = HeaderValue::try_from(clock::id()) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

fn operation(local: &Local, target: &str, body: &[u8]) -> Result<Value, AwsError> {
    let request: Value =
        serde_json::from_slice(body).map_err(|problem| AwsError::new("SerializationException", problem.to_string()))?;
    if let Some(operation) = target.strip_prefix("secretsmanager.") {
        return local.secrets.answer(operation, &request);
    }
    match target {
        "AWSEvents.PutEvents" => bus::put_events(local, &request),
        "AWSEvents.PutPartnerEvents" => bus::put_partner_events(local, &request),
        "AmazonSQS.SendMessage" => sqs::send_message(local, &request),
        "AmazonSQS.ChangeMessageVisibility" => sqs::change_message_visibility(local, &request),
        "AmazonSQS.GetQueueAttributes" => sqs::get_queue_attributes(local, &request),
        "AmazonSQS.ListMessageMoveTasks" => sqs::list_message_move_tasks(local, &request),
        "AmazonSQS.StartMessageMoveTask" => sqs::start_message_move_task(local, &request),
        "AmazonSQS.GetQueueUrl" => sqs::get_queue_url(local, &request),
        _ => Err(AwsError::new("UnknownOperationException", format!("{target} is not emulated by the local service"))),
    }
}
