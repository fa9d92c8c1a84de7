//! HTTP for the functions behind API Gateway: requests, responses and problem documents.

mod event;
pub mod problem;
pub mod request;
pub mod response;

use std::future::{Future, ready};

use lambda_http::{
    Adapter, Body, BoxFuture, Context, Error, IntoResponse, LambdaEvent, Request, Response, Service,
    aws_lambda_events::apigw::ApiGatewayV2httpRequest, request::LambdaRequest, service_fn,
};
use percent_encoding::percent_decode_str;
use serde::Serialize;

pub use self::event::Event;
use self::problem::Problem;

/// Answers one request with `handle`, in the format that API Gateway expects.
///
/// # Errors
/// Never returns an error: every failure is an HTTP answer.
pub async fn invoke<F, A>(event: Event, context: Context, handle: F) -> Result<impl Serialize, Error>
where
    F: FnOnce(Request) -> A,
    A: Future<Output = Response<Body>>,
{
    let mut answer = match event.into_request() {
        // Boxed, because the nested future types of a whole function are otherwise too deep for the compiler.
        Ok(request) => Box::pin(handle(request)).await,
        Err(problem) => problem.respond(),
    };
    let answered = service_fn(move |_: Request| ready(Ok::<_, Error>(Text(std::mem::take(&mut answer)))));
    // The library only converts the answer: its conversion of an event can panic.
    let empty = LambdaRequest::ApiGatewayV2(ApiGatewayV2httpRequest::default());
    Adapter::from(answered).call(LambdaEvent::new(empty, context)).await
}

/// A response whose body is text. `lambda_http` would look up its encoding in tables that take 1/30 of the binary.
struct Text(Response<Body>);

impl IntoResponse for Text {
    fn into_response(self) -> BoxFuture<'static, Response<Body>> {
        Box::pin(ready(self.0))
    }
}

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
