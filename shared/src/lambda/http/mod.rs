//! HTTP for the functions behind API Gateway: requests, responses and problem documents.

pub mod problem;
pub mod request;
pub mod response;

use std::future::{Future, ready};

use lambda_http::{
    Adapter, Body, BoxFuture, Context, Error, IntoResponse, LambdaEvent, Request, Response, Service,
    request::LambdaRequest, service_fn,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Serialize;

use self::problem::Problem;

/// A request in the format of API Gateway's HTTP APIs.
pub use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequest as Event;

/// Answers one request with `handle`, in the format that API Gateway expects.
///
/// # Errors
/// Never returns an error: every failure is an HTTP answer.
pub async fn invoke<F, A>(mut event: Event, context: Context, handle: F) -> Result<impl Serialize, Error>
where
    F: Fn(Request) -> A + Send,
    A: Future<Output = Response<Body>> + Send,
{
    if let Some(query) = &mut event.raw_query_string {
        *query = utf8_percent_encode(query, ESCAPED_IN_QUERY).to_string();
    }
    let handler = service_fn(|request| {
        let answer = handle(request);
        async move { Ok::<_, Error>(Text(answer.await)) }
    });
    Adapter::from(handler).call(LambdaEvent::new(LambdaRequest::ApiGatewayV2(event), context)).await
}

/// A response whose body is text. `lambda_http` would look up its encoding in tables that take 1/30 of the binary.
struct Text(Response<Body>);

impl IntoResponse for Text {
    fn into_response(self) -> BoxFuture<'static, Response<Body>> {
        Box::pin(ready(self.0))
    }
}

/// Characters that a query can contain, and with which `lambda_http` would panic when it builds a URI.
const ESCAPED_IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Decodes a part of a path.
///
/// # Errors
/// Returns an error when it is not UTF-8.
pub fn decoded(part: &str) -> Result<String, Problem> {
    match percent_decode_str(part).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Problem::invalid("path: expected UTF-8")),
    }
}
