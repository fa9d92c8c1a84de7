//! Routes: maps method and path to a call.

use lambda_http::http::Method;
use referrals::lambda::http::{decoded, problem::Problem};

/// A call with its percent-decoded path parameters. The parameters are not validated yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// `GET /admin/rewards`
    Rewards,
    /// `POST /admin/rewards/{reward_id}/resend`
    Resend { reward: String },
    /// `POST /admin/rewards/resend`
    ResendAll,
    /// `GET /admin/reversals`
    Reversals,
    /// `POST /admin/reversals/{reversal_id}/resend`
    ResendReversal { reversal: String },
    /// `POST /admin/reversals/resend`
    ResendAllReversals,
    /// `GET /admin/referrals`
    Referrals,
    /// `GET /admin/referrals/{referee_id}`
    Referral { referee: String },
    /// `POST /admin/referrals/{referee_id}/void`
    Void { referee: String },
    /// `POST /admin/referrals/{referee_id}/reopen`
    Reopen { referee: String },
    /// `POST /admin/referrals/{referee_id}/convert`
    Convert { referee: String },
    /// `POST /admin/reviews/{referee_id}/approve`
    Approve { referee: String },
    /// `PUT /admin/accounts/{user_id}/flag`
    Flag { user: String },
    /// `GET /admin/dead-letters`
    DeadLetters,
    /// `POST /admin/dead-letters/{queue}/redrive`
    Redrive { queue: String },
    /// `PATCH /admin/codes/{code}`
    Code { code: String },
    /// `GET /admin/programs/{program}/daily`
    Daily { program: String },
    /// `GET /admin/programs/{program}/referrers`
    Referrers { program: String },
    /// `GET /admin/programs/{program}/cohorts`
    Cohorts { program: String },
    /// `GET /admin/liability`
    Liability,
    /// `GET /dashboard`
    Dashboard,
    /// `GET /dashboard/{file}`
    DashboardFile { file: String },
}

impl Route {
    /// The name in log lines. It contains no user ids.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rewards => "GET /admin/rewards",
            Self::Resend { .. } => "POST /admin/rewards/{reward_id}/resend",
            Self::ResendAll => "POST /admin/rewards/resend",
            Self::Reversals => "GET /admin/reversals",
            Self::ResendReversal { .. } => "POST /admin/reversals/{reversal_id}/resend",
            Self::ResendAllReversals => "POST /admin/reversals/resend",
            Self::Referrals => "GET /admin/referrals",
            Self::Referral { .. } => "GET /admin/referrals/{referee_id}",
            Self::Void { .. } => "POST /admin/referrals/{referee_id}/void",
            Self::Reopen { .. } => "POST /admin/referrals/{referee_id}/reopen",
            Self::Convert { .. } => "POST /admin/referrals/{referee_id}/convert",
            Self::Approve { .. } => "POST /admin/reviews/{referee_id}/approve",
            Self::Flag { .. } => "PUT /admin/accounts/{user_id}/flag",
            Self::DeadLetters => "GET /admin/dead-letters",
            Self::Redrive { .. } => "POST /admin/dead-letters/{queue}/redrive",
            Self::Code { .. } => "PATCH /admin/codes/{code}",
            Self::Daily { .. } => "GET /admin/programs/{program}/daily",
            Self::Referrers { .. } => "GET /admin/programs/{program}/referrers",
            Self::Cohorts { .. } => "GET /admin/programs/{program}/cohorts",
            Self::Liability => "GET /admin/liability",
            Self::Dashboard => "GET /dashboard",
            Self::DashboardFile { .. } => "GET /dashboard/{file}",
        }
    }

    /// Finds the route of a raw path, which every type of gateway sends.
    pub(crate) fn of(method: &Method, path: &str) -> Result<Self, Problem> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (allowed, route) = match parts.as_slice() {
            ["admin", "rewards"] => (Method::GET, Self::Rewards),
            ["admin", "rewards", "resend"] => (Method::POST, Self::ResendAll),
            ["admin", "rewards", reward, "resend"] => (Method::POST, Self::Resend { reward: decoded(reward)? }),
            ["admin", "reversals"] => (Method::GET, Self::Reversals),
            ["admin", "reversals", "resend"] => (Method::POST, Self::ResendAllReversals),
            ["admin", "reversals", reversal, "resend"] => {
                (Method::POST, Self::ResendReversal { reversal: decoded(reversal)? })
            }
            ["admin", "referrals"] => (Method::GET, Self::Referrals),
            ["admin", "referrals", referee] => (Method::GET, Self::Referral { referee: decoded(referee)? }),
            ["admin", "referrals", referee, "void"] => (Method::POST, Self::Void { referee: decoded(referee)? }),
            ["admin", "referrals", referee, "reopen"] => (Method::POST, Self::Reopen { referee: decoded(referee)? }),
            ["admin", "referrals", referee, "convert"] => (Method::POST, Self::Convert { referee: decoded(referee)? }),
            ["admin", "reviews", referee, "approve"] => (Method::POST, Self::Approve { referee: decoded(referee)? }),
            ["admin", "accounts", user, "flag"] => (Method::PUT, Self::Flag { user: decoded(user)? }),
            ["admin", "dead-letters"] => (Method::GET, Self::DeadLetters),
            ["admin", "dead-letters", queue, "redrive"] => (Method::POST, Self::Redrive { queue: decoded(queue)? }),
            ["admin", "codes", code] => (Method::PATCH, Self::Code { code: decoded(code)? }),
            ["admin", "programs", program, "daily"] => (Method::GET, Self::Daily { program: decoded(program)? }),
            ["admin", "programs", program, "referrers"] => {
                (Method::GET, Self::Referrers { program: decoded(program)? })
            }
            ["admin", "programs", program, "cohorts"] => (Method::GET, Self::Cohorts { program: decoded(program)? }),
            ["admin", "liability"] => (Method::GET, Self::Liability),
            ["dashboard"] => (Method::GET, Self::Dashboard),
            ["dashboard", file] => (Method::GET, Self::DashboardFile { file: (*file).to_owned() }),
            _ => return Err(Problem::not_found()),
        };
        match allowed {
            _ if allowed == *method => Ok(route),
            Method::GET => Err(Problem::method_not_allowed("GET")),
            Method::PATCH => Err(Problem::method_not_allowed("PATCH")),
            Method::PUT => Err(Problem::method_not_allowed("PUT")),
            _ => Err(Problem::method_not_allowed("POST")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_are_mapped_to_calls() {
        let route = |method: Method, path| Route::of(&method, path);
        let resend = Route::Resend { reward: "bob:referrer".to_owned() };
        assert_eq!(route(Method::POST, "/admin/rewards/bob:referrer/resend"), Ok(resend.clone()));
        assert_eq!(route(Method::POST, "/admin/rewards/bob%3Areferrer/resend"), Ok(resend));
        assert_eq!(route(Method::POST, "/admin/rewards/resend"), Ok(Route::ResendAll));
        assert_eq!(route(Method::GET, "/admin/reversals"), Ok(Route::Reversals));
        assert_eq!(route(Method::POST, "/admin/reversals/resend"), Ok(Route::ResendAllReversals));
        let resend = Route::ResendReversal { reversal: "bob:referrer:reversal".to_owned() };
        assert_eq!(route(Method::POST, "/admin/reversals/bob:referrer:reversal/resend"), Ok(resend));
        assert_eq!(
            route(Method::GET, "/admin/programs/default/daily"),
            Ok(Route::Daily { program: "default".to_owned() })
        );
        assert_eq!(route(Method::GET, "/admin/liability"), Ok(Route::Liability));
        let bob = || "bob".to_owned();
        assert_eq!(route(Method::POST, "/admin/referrals/bob/void"), Ok(Route::Void { referee: bob() }));
        assert_eq!(route(Method::PUT, "/admin/accounts/bob/flag"), Ok(Route::Flag { user: bob() }));
        assert_eq!(route(Method::GET, "/admin/accounts/bob/flag"), Err(Problem::method_not_allowed("PUT")));
        assert_eq!(route(Method::PUT, "/admin/rewards"), Err(Problem::method_not_allowed("GET")));
        assert_eq!(route(Method::GET, "/admin/dead-letters/credit/redrive"), Err(Problem::method_not_allowed("POST")));
        for path in ["/", "/admin", "/admin/rewards/", "/admin/rewards/x", "/v1/codes/x"] {
            assert_eq!(route(Method::GET, path), Err(Problem::not_found()), "{path}");
        }
    }
}
