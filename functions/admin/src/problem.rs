//! Problems of this API's own, on top of those of every API.

use lambda_http::http::StatusCode;
use referrals::http::problem::Problem;

/// No reward has this id.
pub(crate) fn reward_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "reward_not_found", "there is no such reward")
}

/// Nobody has this code.
pub(crate) fn code_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "code_not_found", "nobody has this code")
}

/// There is nothing to send again.
pub(crate) fn already_delivered() -> Problem {
    Problem::new(StatusCode::CONFLICT, "already_delivered", "the subsystem has this reward")
}

/// No dead-letter queue has this name.
pub(crate) fn queue_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "queue_not_found", "expected credit, coupon, points or conversion")
}

/// A queue is drained once at a time.
pub(crate) fn under_way() -> Problem {
    Problem::new(StatusCode::CONFLICT, "under_way", "this queue is being drained already")
}

/// The page has no such file.
pub(crate) fn file_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "file_not_found", "the dashboard has no such file")
}
