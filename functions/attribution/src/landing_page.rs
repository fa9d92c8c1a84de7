//! The landing page: where a link redirects to.

use lambda_http::http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use referrals::{
    domain::code::Code,
    runtime::{Env, Misconfigured},
};

/// The parameter of a link that names a path below the landing page.
const PATH_PARAMETER: &str = "landing";

/// Characters of a path that are escaped. Dots and slashes of a checked path are safe.
const ESCAPED_IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The landing page of the program.
pub(crate) struct LandingPage {
    /// The URL as it is configured.
    url: HeaderValue,
    /// Its parts: scheme, host and path; query; fragment.
    base: String,
    query: String,
    fragment: Option<String>,
    /// The parameter that gives the landing page the code.
    code_parameter: Option<String>,
}

impl LandingPage {
    /// Reads `LANDING_URL`, and `LANDING_CODE_PARAMETER` (empty: the code is not added).
    ///
    /// # Errors
    /// Returns an error, which names the variable, when a setting is invalid.
    pub(crate) fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        let text = env.get("LANDING_URL").unwrap_or("https://example.com/");
        let url = HeaderValue::from_str(text).map_err(|problem| Misconfigured::new("LANDING_URL", problem))?;
        let (rest, fragment) = text.split_once('#').map_or((text, None), |(rest, fragment)| (rest, Some(fragment)));
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let code_parameter = env.get("LANDING_CODE_PARAMETER").map(str::to_owned);
        if code_parameter.as_deref().is_some_and(|name| !is_parameter_name(name)) {
            return Err(Misconfigured::new("LANDING_CODE_PARAMETER", "expected letters, digits, - and _"));
        }
        Ok(Self {
            url,
            base: base.to_owned(),
            query: query.to_owned(),
            fragment: fragment.map(str::to_owned),
            code_parameter,
        })
    }

    /// Where a link with this query redirects to. `code` is the live code of the link.
    ///
    /// The parameters of the link follow those of the landing page.
    pub(crate) fn location(&self, link_query: &str, code: Option<&Code>) -> HeaderValue {
        let path = parameters(link_query).find(|(name, _)| name == PATH_PARAMETER);
        let path = path.and_then(|(_, value)| below(&decoded(value_of(value))));
        let passed = parameters(link_query).filter(|(name, _)| !self.is_own(name)).map(|(_, pair)| pair.to_owned());
        let code = self.code_parameter.as_ref().zip(code).map(|(name, code)| format!("{name}={code}"));
        let own = Some(self.query.clone()).filter(|query| !query.is_empty());
        let query: Vec<String> = own.into_iter().chain(passed).chain(code).collect();
        if path.is_none() && query.len() == usize::from(!self.query.is_empty()) {
            return self.url.clone();
        }
        let mut url = match path {
            Some(path) => format!("{}/{path}", self.base.trim_end_matches('/')),
            None => self.base.clone(),
        };
        for (separator, part) in [('?', Some(query.join("&"))), ('#', self.fragment.clone())] {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                url.push(separator);
                url.push_str(&part);
            }
        }
        HeaderValue::from_str(&url).unwrap_or_else(|_| self.url.clone())
    }

    /// Whether this service reads or writes the parameter, so that it is not passed on.
    fn is_own(&self, name: &str) -> bool {
        name == PATH_PARAMETER || self.code_parameter.as_deref() == Some(name)
    }
}

fn is_parameter_name(name: &str) -> bool {
    name != PATH_PARAMETER && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The parameters of a query: the decoded name, and name and value as they were received.
fn parameters(query: &str) -> impl Iterator<Item = (String, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| (decoded(pair.split_once('=').map_or(pair, |(name, _)| name)), pair))
}

fn value_of(pair: &str) -> &str {
    pair.split_once('=').map_or("", |(_, value)| value)
}

/// Decodes a name or a value of a query. Bytes that are not UTF-8 become `U+FFFD`.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// This path in its escaped form; `None` if a browser or a server could read it as another host, or as a path that is not
/// below the landing page.
///
/// An escape (`%`) is refused, because it was decoded before: what is still escaped would be decoded once more later.
/// Some servers ignore what follows a `;` in a segment, and so read `..;` as `..`.
fn below(path: &str) -> Option<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let is_name = |part: &str| !part.trim_matches(|c: char| c == '.' || c.is_whitespace()).is_empty();
    let is_safe = !path.contains(|c: char| c.is_control() || "\\%?#;\u{fffd}".contains(c))
        && path.strip_suffix('/').unwrap_or(path).split('/').all(is_name);
    is_safe.then(|| utf8_percent_encode(path, ESCAPED_IN_PATH).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(url: &str) -> LandingPage {
        LandingPage::from_env(&Env::default().with("LANDING_URL", url)).unwrap()
    }

    fn location(page: &LandingPage, query: &str) -> String {
        page.location(query, None).to_str().unwrap().to_owned()
    }

    #[test]
    fn parameters_of_the_link_are_passed_on() {
        for (url, query, expected) in [
            ("https://example.com/", "", "https://example.com/"),
            ("https://example.com/?", "", "https://example.com/?"),
            ("https://example.com", "a=b", "https://example.com?a=b"),
            (
                "https://example.com/in?from=friend",
                "utm_source=mail&x",
                "https://example.com/in?from=friend&utm_source=mail&x",
            ),
            ("https://example.com/app#/welcome", "a=%20+%26&&b=", "https://example.com/app?a=%20+%26&b=#/welcome"),
            ("https://example.com/?a=1#top", "landing=%2e%2e", "https://example.com/?a=1#top"),
            ("https://example.com/", "landing=", "https://example.com/"),
            ("https://example.com/", "x=\u{7f}", "https://example.com/"),
        ] {
            assert_eq!(location(&page(url), query), expected, "{url} {query}");
        }
    }

    #[test]
    fn a_path_below_the_landing_page_is_added() {
        for (url, query, expected) in [
            ("https://example.com", "landing=shoes", "https://example.com/shoes"),
            ("https://example.com/", "landing=/shoes/red", "https://example.com/shoes/red"),
            ("https://example.com/in/", "landing=shoes%2Fred/", "https://example.com/in/shoes/red/"),
            (
                "https://example.com/in?a=1#top",
                "b=2&l%61nding=shoes&c=3",
                "https://example.com/in/shoes?a=1&b=2&c=3#top",
            ),
            (
                "https://example.com/in",
                "landing=summer+sale/caf%C3%A9",
                "https://example.com/in/summer%20sale/caf%C3%A9",
            ),
            ("https://example.com", "landing=@evil.example", "https://example.com/%40evil.example"),
            ("https://example.com", "landing=.well-known", "https://example.com/.well-known"),
        ] {
            assert_eq!(location(&page(url), query), expected, "{url} {query}");
        }
    }

    /// Each of these could lead to another host, or out of the landing page's path.
    #[test]
    fn a_hostile_path_is_ignored() {
        let page = page("https://example.com/in");
        for path in [
            "//evil.example",
            "///evil.example",
            "/%2Fevil.example",
            "%2F%2Fevil.example",
            "%252F%252Fevil.example",
            "https://evil.example",
            "https:%2F%2Fevil.example",
            "\\\\evil.example",
            "/\\evil.example",
            "%5C%5Cevil.example",
            "%255Cevil.example",
            "a\\..\\..\\b",
            "..",
            "../admin",
            "a/../../admin",
            "a/./b",
            "%2e%2e/admin",
            "%2e%2e%2fadmin",
            ".%2e/admin",
            "%252e%252e/admin",
            "a//b",
            "a/%20/b",
            "a/..%20/b",
            "a/..;/b",
            "a;b",
            "a%0D%0ASet-Cookie:x=y",
            "a%00",
            "a%09b",
            "a%C2%85b",
            "a%FF",
            "a%3Fb=c",
            "a%23b",
            "/",
            "%20",
            ".",
        ] {
            assert_eq!(location(&page, &format!("landing={path}")), "https://example.com/in", "{path}");
        }
        assert_eq!(location(&page, "landing=..&landing=shoes"), "https://example.com/in", "the first one counts");
    }

    #[test]
    fn the_code_is_added_under_the_configured_name() {
        let env = Env::default().with("LANDING_URL", "https://example.com/?a=1");
        let page = LandingPage::from_env(&env.clone().with("LANDING_CODE_PARAMETER", "ref")).unwrap();
        let code: Code = "ada-invites".parse().unwrap();
        let with_code = |query: &str| page.location(query, Some(&code)).to_str().unwrap().to_owned();
        assert_eq!(with_code(""), "https://example.com/?a=1&ref=ada-invites");
        assert_eq!(with_code("ref=other&b=2&landing=x"), "https://example.com/x?a=1&b=2&ref=ada-invites");
        assert_eq!(location(&page, "ref=other"), "https://example.com/?a=1");
        for name in ["landing", "a b", "a=b", "a&b"] {
            let problem = LandingPage::from_env(&env.clone().with("LANDING_CODE_PARAMETER", name)).err().unwrap();
            assert!(problem.to_string().contains("LANDING_CODE_PARAMETER"), "{problem}");
        }
    }
}
