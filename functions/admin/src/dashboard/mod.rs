//! The dashboard: a page without data, so it is public. The page reads its data from this API with the credentials of the
//! user who signs in, so it needs no permissions of its own.

use lambda_http::{
    Body, Response,
    http::{
        HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
};
use referrals::lambda::http::problem::Problem;

use crate::problem::file_not_found;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The HTML page.
const PAGE: (&str, &str) = (HTML, include_str!("page.html"));

/// The files that the page loads, by name.
const FILES: [(&str, (&str, &str)); 13] = [
    ("style.css", (CSS, include_str!("style.css"))),
    ("page.js", (SCRIPT, include_str!("page.js"))),
    ("sections.js", (SCRIPT, include_str!("sections.js"))),
    ("paged.js", (SCRIPT, include_str!("paged.js"))),
    ("lists.js", (SCRIPT, include_str!("lists.js"))),
    ("referral.js", (SCRIPT, include_str!("referral.js"))),
    ("actions.js", (SCRIPT, include_str!("actions.js"))),
    ("confirm.js", (SCRIPT, include_str!("confirm.js"))),
    ("plot.js", (SCRIPT, include_str!("plot.js"))),
    ("elements.js", (SCRIPT, include_str!("elements.js"))),
    ("api.js", (SCRIPT, include_str!("api.js"))),
    ("entry.js", (SCRIPT, include_str!("entry.js"))),
    ("sign.js", (SCRIPT, include_str!("sign.js"))),
];

/// The page may run only its own scripts, call only its own host, and not be embedded in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers with the page.
pub(crate) fn page() -> Response<Body> {
    answer(PAGE)
}

/// Answers with one of the files.
pub(crate) fn file(name: &str) -> Result<Response<Body>, Problem> {
    let (_, file) = FILES.iter().find(|(known, _)| *known == name).ok_or_else(file_not_found)?;
    Ok(answer(*file))
}

fn answer((kind, text): (&'static str, &'static str)) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        // The files belong together, so a browser must not keep one of them across a deployment.
        (CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
