//! An HTTP connector for the table's own tests: answers the SDK's requests in process, without sockets or delays.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use serde_json::Value;

use super::{DynamoError, Table, wire::respond};

/// A client whose calls this table answers.
pub(crate) fn connector(table: &Arc<Mutex<Table>>) -> SharedHttpClient {
    SharedHttpClient::new(Wire(Arc::clone(table)))
}

/// The operation of a request, such as `GetItem`.
pub(crate) fn operation(request: &HttpRequest) -> String {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    target.strip_prefix("DynamoDB_20120810.").unwrap_or_default().to_owned()
}

/// Answers one request.
pub(crate) async fn answer(table: &Mutex<Table>, mut request: HttpRequest) -> HttpResponse {
    let operation = operation(&request);
    let body = std::mem::replace(request.body_mut(), SdkBody::empty());
    let body = ByteStream::new(body).collect().await.map(|body| body.into_bytes());
    let answer = match body.map(|body| serde_json::from_slice::<Value>(&body)) {
        Ok(Ok(request)) => table.lock().unwrap_or_else(PoisonError::into_inner).answer(&operation, &request),
        Ok(Err(_)) | Err(_) => Err(DynamoError::serialization()),
    };
    respond(&answer)
}

#[derive(Clone, Debug)]
struct Wire(Arc<Mutex<Table>>);

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let table = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move { Ok(answer(&table, request).await) })
    }
}
