//! Routes: maps method and path to a call.

use lambda_http::http::Method;
use referrals::lambda::http::{decoded, problem::Problem};

/// A call with its percent-decoded path parameters. The parameters are not validated yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// `PUT /v1/users/{user_id}/code`
    Mint { user: String },
    /// `GET /v1/users/{user_id}/code`
    CodeOf { user: String },
    /// `GET /v1/codes/{code}`
    Code { code: String },
    /// `GET /r/{code}`
    /// `HEAD /r/{code}`
    /// `GET /r/{code}/`
    /// `HEAD /r/{code}/`
    /// `GET /r/`
    /// `HEAD /r/`
    /// `GET /r`
    /// `HEAD /r`
    ///
    /// Without a code, `code` is empty.
    Land { code: String },
    /// `POST /v1/referrals`
    Attribute,
    /// `GET /v1/referrals/{referee_id}`
    Referral { referee: String },
    /// `GET /v1/referrals/{referee_id}/explain`
    Explain { referee: String },
    /// `GET /v1/users/{user_id}/referrals`
    ReferralsOf { user: String },
    /// `GET /v1/users/{user_id}/rewards`
    RewardsOf { user: String },
}

impl Route {
    /// Finds the route of a raw path, which every type of gateway sends.
    pub(crate) fn of(method: &Method, path: &str) -> Result<Self, Problem> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let allowed = match parts.as_slice() {
            ["v1", "users", user, "code"] => match *method {
                Method::PUT => return Ok(Self::Mint { user: decoded(user)? }),
                Method::GET => return Ok(Self::CodeOf { user: decoded(user)? }),
                _ => "GET, PUT",
            },
            ["v1", "referrals"] if method == Method::POST => return Ok(Self::Attribute),
            ["v1", "referrals"] => "POST",
            // A link always redirects, even if it is damaged.
            ["r"] | ["r", _] | ["r", _, ""] if [Method::GET, Method::HEAD].contains(method) => {
                return Ok(Self::Land { code: parts.get(1).and_then(|code| decoded(code).ok()).unwrap_or_default() });
            }
            ["r"] | ["r", _] | ["r", _, ""] => "GET, HEAD",
            ["v1", "codes", _]
            | ["v1", "referrals", _]
            | ["v1", "referrals", _, "explain"]
            | ["v1", "users", _, "referrals" | "rewards"]
                if method != Method::GET =>
            {
                "GET"
            }
            ["v1", "codes", code] => return Ok(Self::Code { code: decoded(code)? }),
            ["v1", "referrals", referee] => return Ok(Self::Referral { referee: decoded(referee)? }),
            ["v1", "referrals", referee, "explain"] => return Ok(Self::Explain { referee: decoded(referee)? }),
            ["v1", "users", user, "referrals"] => return Ok(Self::ReferralsOf { user: decoded(user)? }),
            ["v1", "users", user, "rewards"] => return Ok(Self::RewardsOf { user: decoded(user)? }),
            _ => return Err(Problem::not_found()),
        };
        Err(Problem::method_not_allowed(allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_id_is_decoded() {
        let route = Route::of(&Method::GET, "/v1/referrals/bob%40example.com").unwrap();
        assert_eq!(route, Route::Referral { referee: "bob@example.com".to_owned() });
        let route = Route::of(&Method::GET, "/v1/referrals/a+b").unwrap();
        assert_eq!(route, Route::Referral { referee: "a+b".to_owned() });
    }

    #[test]
    fn every_form_of_a_link_lands() {
        for (path, code) in
            [("/r/abc", "abc"), ("/r/abc/", "abc"), ("/r/a%20", "a "), ("/r/%FF", ""), ("/r/", ""), ("/r", "")]
        {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(Route::of(&method, path), Ok(Route::Land { code: code.to_owned() }), "{method} {path}");
            }
        }
    }

    #[test]
    fn an_unknown_path_is_not_found_for_every_method() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/users/bob",
            "/v1/users//x/code",
            "/r/a/b",
            "/r/a//",
            "/R",
            "/v1/referrals/bob/",
            "/v2/codes/x",
        ] {
            assert_eq!(Route::of(&Method::DELETE, path), Err(Problem::not_found()), "{path}");
        }
    }

    #[test]
    fn a_known_path_names_its_methods() {
        for (path, expected) in [
            ("/v1/users/bob/code", "GET, PUT"),
            ("/v1/referrals", "POST"),
            ("/r/abc", "GET, HEAD"),
            ("/r/abc/", "GET, HEAD"),
            ("/r/", "GET, HEAD"),
            ("/r", "GET, HEAD"),
            ("/v1/codes/abc", "GET"),
            ("/v1/users/bob/rewards", "GET"),
            ("/v1/referrals/bob/explain", "GET"),
        ] {
            assert_eq!(Route::of(&Method::DELETE, path), Err(Problem::method_not_allowed(expected)), "{path}");
        }
    }
}
