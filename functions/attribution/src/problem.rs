//! Problems of this API's own, on top of those of every API.

use lambda_http::http::StatusCode;
use referrals::{http::problem::Problem, life::attribute::Reason};

/// The code was minted for somebody else.
pub(crate) fn code_taken() -> Problem {
    Problem::new(StatusCode::CONFLICT, "code_taken", "this code belongs to somebody else")
}

/// Nobody was referred under this id.
pub(crate) fn referral_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "referral_not_found", "this user was not referred")
}

/// A sign-up that is no referral, or a question about what is not there.
pub(crate) fn refused(reason: Reason) -> Problem {
    let (status, name, detail) = match reason {
        Reason::ProgramNotFound => (StatusCode::NOT_FOUND, "program_not_found", "there is no such program here"),
        Reason::CodeNotFound => (StatusCode::NOT_FOUND, "code_not_found", "nobody has this code"),
        Reason::AlreadyReferred => {
            (StatusCode::CONFLICT, "already_referred", "this user was referred by another code before")
        }
        Reason::CodeExpired => (StatusCode::GONE, "code_expired", "the code had expired"),
        Reason::SelfReferral => (StatusCode::UNPROCESSABLE_ENTITY, "self_referral", "nobody can refer themselves"),
        Reason::ReferrerFlagged => {
            (StatusCode::UNPROCESSABLE_ENTITY, "referrer_flagged", "the referrer's account is flagged")
        }
        Reason::DeviceMatch => {
            (StatusCode::UNPROCESSABLE_ENTITY, "device_match", "the device is one of the referrer's")
        }
        Reason::ReciprocalReferral => {
            (StatusCode::UNPROCESSABLE_ENTITY, "reciprocal_referral", "the referrer was referred by this user")
        }
    };
    Problem::new(status, name, detail)
}
