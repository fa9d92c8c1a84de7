//! The event of API Gateway, reduced to the parts that the functions use.
//!
//! `lambda_http` builds a URL from the headers `host` and `x-forwarded-proto`, the path and the query, and decodes the body. It
//! panics if one of them is invalid, and a panic ends a released function. Visitors choose these values. Therefore the request is
//! built here, no step of it can panic, and `lambda_http` gets an empty event.

use base64::{Engine, engine::general_purpose::STANDARD};
use lambda_http::{
    Body, Request, RequestExt,
    aws_lambda_events::{
        apigw::{
            ApiGatewayRequestAuthorizer, ApiGatewayRequestAuthorizerIamDescription,
            ApiGatewayRequestAuthorizerJwtDescription, ApiGatewayV2httpRequestContext,
        },
        query_map::QueryMap,
    },
    http::{HeaderValue, Uri, header::COOKIE},
    request::RequestContext,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;

use super::problem::Problem;

/// A request in the format of API Gateway's HTTP APIs. All other parts are skipped unread, whatever they contain.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Event {
    raw_path: Option<String>,
    raw_query_string: Option<String>,
    cookies: Option<Vec<String>>,
    headers: Option<Headers>,
    request_context: Option<Gateway>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

/// The headers that the functions use. API Gateway sends their names in lower case.
#[derive(Clone, Debug, Default, Deserialize)]
struct Headers {
    cookie: Option<String>,
}

/// What API Gateway adds to the request.
#[derive(Clone, Debug, Default, Deserialize)]
struct Gateway {
    http: Option<Http>,
    authorizer: Option<Authorizer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Http {
    method: Option<String>,
}

/// Who called. The claims of a token can have any type, so only the one that is used is read.
#[derive(Clone, Debug, Default, Deserialize)]
struct Authorizer {
    iam: Option<Role>,
    jwt: Option<Token>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    user_arn: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Token {
    claims: Option<Claims>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Claims {
    sub: Option<String>,
}

/// Characters that a URI's query cannot contain.
const ESCAPED_IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

impl Event {
    /// Builds the request.
    ///
    /// # Errors
    /// Returns an error when the method or the encoding of the body is invalid.
    pub(super) fn into_request(self) -> Result<Request, Problem> {
        let Self { raw_path, raw_query_string, cookies, headers, request_context, body, is_base64_encoded } = self;
        let Gateway { http, authorizer } = request_context.unwrap_or_default();
        let query = raw_query_string.unwrap_or_default();
        let method = http.and_then(|http| http.method).unwrap_or_default();

        let mut request = Request::new(decoded(body, is_base64_encoded.unwrap_or_default())?);
        *request.method_mut() =
            method.parse().map_err(|_| Problem::invalid("method: expected the name of an HTTP method"))?;
        *request.uri_mut() = uri(&query);
        let cookies = cookies.or_else(|| headers.and_then(|headers| headers.cookie).map(|line| vec![line]));
        if let Some(cookies) = cookies.as_deref().and_then(joined) {
            request.headers_mut().insert(COOKIE, cookies);
        }
        let mut context = ApiGatewayV2httpRequestContext::default();
        context.authorizer = authorizer.map(caller);
        Ok(request
            .with_raw_http_path(raw_path.unwrap_or_default())
            .with_query_string_parameters(query.parse::<QueryMap>().unwrap_or_default())
            .with_request_context(RequestContext::ApiGatewayV2(context)))
    }
}

fn decoded(body: Option<String>, is_base64_encoded: bool) -> Result<Body, Problem> {
    match body {
        None => Ok(Body::Empty),
        Some(text) if !is_base64_encoded => Ok(Body::Text(text)),
        Some(text) => {
            let bytes = STANDARD.decode(text).map_err(|_| Problem::invalid("body: expected base64"))?;
            Ok(Body::Binary(bytes))
        }
    }
}

/// A URI with this query. The functions read the path from the event, because the library's URL would normalise it.
fn uri(query: &str) -> Uri {
    format!("/?{}", utf8_percent_encode(query, ESCAPED_IN_QUERY)).parse().unwrap_or_default()
}

/// All cookies as one header. A cookie that cannot be part of a header is left out, so that it does not hide the others.
fn joined(cookies: &[String]) -> Option<HeaderValue> {
    let cookies = cookies.iter().flat_map(|line| line.split(';')).map(str::trim);
    let valid: Vec<_> = cookies.filter(|cookie| !cookie.is_empty() && !cookie.contains(char::is_control)).collect();
    if valid.is_empty() { None } else { HeaderValue::from_str(&valid.join("; ")).ok() }
}

/// The caller in the form of the library.
fn caller(from: Authorizer) -> ApiGatewayRequestAuthorizer {
    let mut caller = ApiGatewayRequestAuthorizer::default();
    if let Some(Role { user_arn }) = from.iam {
        let mut role = ApiGatewayRequestAuthorizerIamDescription::default();
        role.user_arn = user_arn;
        caller.iam = Some(role);
    }
    if let Some(sub) = from.jwt.and_then(|token| token.claims).and_then(|claims| claims.sub) {
        let mut token = ApiGatewayRequestAuthorizerJwtDescription::default();
        token.claims.insert("sub".to_owned(), sub);
        caller.jwt = Some(token);
    }
    caller
}

#[cfg(test)]
mod tests {
    use lambda_http::http::Method;
    use serde_json::{Value, json};

    use super::*;

    fn request(event: Value) -> Result<Request, Problem> {
        serde_json::from_value::<Event>(event).unwrap().into_request()
    }

    fn get(mut event: Value) -> Request {
        event["requestContext"]["http"]["method"] = json!("GET");
        request(event).unwrap()
    }

    #[test]
    fn a_request_has_the_parts_that_the_functions_use() {
        let authorizer = json!({"iam": {"userArn": "arn:olga"}, "jwt": {"claims": {"sub": "op-7", "exp": 1}}});
        let request = request(json!({
            "rawPath": "/v1/a b", "rawQueryString": "a=1&a=%20#", "cookies": ["a=1", "b=2"], "body": "{}",
            "headers": {"cookie": "c=3", "host": "a b", "x-forwarded-proto": ""},
            "requestContext": {"http": {"method": "PUT"}, "authorizer": authorizer, "stage": {}},
        }))
        .unwrap();
        assert_eq!((request.method(), request.raw_http_path()), (&Method::PUT, "/v1/a b"));
        assert_eq!(request.uri().query(), Some("a=1&a=%20%23"));
        assert_eq!(request.query_string_parameters().all("a"), Some(vec!["1", " #"]));
        assert_eq!((request.headers().len(), &request.headers()[COOKIE]), (1, &HeaderValue::from_static("a=1; b=2")));
        assert_eq!(request.body(), &Body::Text("{}".to_owned()));
        let RequestContext::ApiGatewayV2(context) = request.request_context() else { panic!("another context") };
        let caller = context.authorizer.unwrap();
        assert_eq!(caller.iam.unwrap().user_arn.as_deref(), Some("arn:olga"));
        assert_eq!(caller.jwt.unwrap().claims, [("sub".to_owned(), "op-7".to_owned())].into());
    }

    #[test]
    fn a_cookie_that_cannot_be_part_of_a_header_is_left_out() {
        let cookies = |event| get(event).headers().get(COOKIE).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(cookies(json!({"cookies": ["a=\u{1}; b=2", "\u{7f}", "", "c=3"]})).as_deref(), Some("b=2; c=3"));
        assert_eq!(cookies(json!({"headers": {"cookie": "a=1;b=\r\n2"}})).as_deref(), Some("a=1"));
        assert_eq!(cookies(json!({"cookies": ["\0"]})), None);
    }

    #[test]
    fn a_body_is_decoded_or_refused() {
        assert_eq!(get(json!({"body": "e30=", "isBase64Encoded": true})).body(), &Body::Binary(b"{}".to_vec()));
        assert_eq!(get(json!({"body": null})).body(), &Body::Empty);
        let context = json!({"http": {"method": "GET"}});
        let event = json!({"body": "%", "isBase64Encoded": true, "requestContext": context});
        assert_eq!(request(event).unwrap_err().detail(), "body: expected base64");
    }

    #[test]
    fn an_event_without_a_valid_method_is_refused() {
        for event in
            [json!({}), json!({"requestContext": null}), json!({"requestContext": {"http": {"method": "a b"}}})]
        {
            assert!(request(event).is_err());
        }
    }

    #[test]
    fn a_query_that_is_too_long_for_a_uri_is_still_parsed() {
        let long = "x".repeat(70_000);
        let request = get(json!({"rawQueryString": format!("a={long}")}));
        assert_eq!((request.uri().query(), request.query_string_parameters().first("a")), (None, Some(&*long)));
    }
}
