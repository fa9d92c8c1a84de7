//! HTTP, as the functions behind API Gateway speak it: requests read, answers and problems written, in one way.

pub mod answer;
pub mod input;
pub mod problem;

use std::future::{Future, ready};

use lambda_http::{
    Adapter, Body, BoxFuture, Context, Error, IntoResponse, LambdaEvent, Request, Response, Service,
    request::LambdaRequest, service_fn,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Serialize;

use self::problem::Problem;

/// A request as an HTTP API of API Gateway sends it.
pub use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequest as Event;

/// Has `handle` answer one request, and gives what the gateway expects back.
///
/// # Errors
/// None: whatever goes wrong is an answer.
pub async fn invoke<F, A>(mut event: Event, context: Context, handle: F) -> Result<impl Serialize, Error>
where
    F: Fn(Request) -> A + Send,
    A: Future<Output = Response<Body>> + Send,
{
    if let Some(query) = &mut event.raw_query_string {
        *query = utf8_percent_encode(query, UNFIT_FOR_A_QUERY).to_string();
    }
    let handler = service_fn(|request| {
        let answer = handle(request);
        async move { Ok::<_, Error>(Text(answer.await)) }
    });
    Adapter::from(handler).call(LambdaEvent::new(LambdaRequest::ApiGatewayV2(event), context)).await
}

/// An answer that is text already. `lambda_http` would look up its encoding, in tables that are a thirtieth of a binary.
struct Text(Response<Body>);

impl IntoResponse for Text {
    fn into_response(self) -> BoxFuture<'static, Response<Body>> {
        Box::pin(ready(self.0))
    }
}

/// What a client may send in a query, and `lambda_http` would panic at when it makes a URI of it.
const UNFIT_FOR_A_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// A part of a path, decoded.
///
/// # Errors
/// When it is not UTF-8.
pub fn decoded(part: &str) -> Result<String, Problem> {
    match percent_decode_str(part).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Problem::invalid("the path is not UTF-8")),
    }
}
