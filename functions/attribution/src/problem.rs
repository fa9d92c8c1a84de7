//! The problems that only this API returns.

use referrals::{
    fraud::FraudReason,
    lambda::http::problem::{Problem, Reason},
    lifecycle::attribute::AttributionRefusal,
};

/// The vanity code belongs to another member, or is a code of this member that has ended.
pub(crate) fn code_taken() -> Problem {
    Problem::new(Reason::CodeTaken, "This code belongs to another user, or has ended.")
}

/// No referral has this referee.
pub(crate) fn referral_not_found() -> Problem {
    Problem::new(Reason::ReferralNotFound, "This user was not referred.")
}

/// A refused sign-up, or a program or code that does not exist.
pub(crate) fn refused(refusal: AttributionRefusal) -> Problem {
    let (reason, detail) = match refusal {
        AttributionRefusal::ProgramNotFound => (Reason::ProgramNotFound, "This program does not exist."),
        AttributionRefusal::CodeNotFound => (Reason::CodeNotFound, "This code does not exist."),
        AttributionRefusal::AlreadyReferred => {
            (Reason::AlreadyReferred, "This user was already referred by another code.")
        }
        AttributionRefusal::CodeExpired => (Reason::CodeExpired, "This code has expired."),
        AttributionRefusal::NotNew => {
            (Reason::NotNew, "This user signed up before the visit or the code, or too long ago.")
        }
        AttributionRefusal::Fraud(reason) => (Reason::Fraud(reason), fraud_detail(reason)),
    };
    Problem::new(reason, detail)
}

fn fraud_detail(reason: FraudReason) -> &'static str {
    match reason {
        FraudReason::SelfReferral => "Users cannot refer themselves.",
        FraudReason::ReferrerFlagged => "The account of the referrer is flagged.",
        FraudReason::RefereeFlagged => "The account of the referee is flagged.",
        FraudReason::DeviceMatch => "The device belongs to the referrer.",
        FraudReason::ReciprocalReferral => "The referrer was referred by this user.",
    }
}
