//! Issue: decides the rewards of a converted referral when its hold ends, and re-announces undelivered rewards. The stream
//! and the sweep both do this; conditional writes let only one of them succeed.

use std::time::Duration;

use crate::{
    domain::time::Timestamp,
    fraud::{self, Evidence, Gate},
    mutant::{self, Mutant},
    referral::{
        Lane, Referral, Status,
        machine::{Command, Decision, Refusal},
        reward::Side,
    },
    runtime::{Env, Misconfigured, log_outcome::LogOutcome},
    store::{Outcome, Store, StoreError, WriteResult},
};

/// Issues the rewards of a converted referral whose hold is over, or voids it if it now breaks a fraud rule. All other
/// referrals stay unchanged.
///
/// # Errors
/// Returns an error when DynamoDB is unavailable, or when concurrent writes cause too many conflicts.
pub async fn issue_or_void(store: &Store, read: Referral, now: Timestamp) -> Result<Outcome, StoreError> {
    let mut referral = read;
    for _ in 0..Store::MAX_DECISIONS {
        if let Some(reason) = not_due(&referral, now) {
            return Ok(Outcome::Refused(reason, referral));
        }
        let evidence = store.issue_evidence(&referral).await?;
        referral = match referral.decide(&verdict(&evidence), now) {
            Decision::AlreadyDone => return Ok(Outcome::AlreadyDone(referral)),
            Decision::Refuse(reason) => return Ok(Outcome::Refused(reason, referral)),
            Decision::Apply(after, verb) => match store.write(&referral, *after, verb).await? {
                WriteResult::Written(after) => {
                    log(&after);
                    return Ok(Outcome::Applied(after, verb));
                }
                WriteResult::Conflict(found) => found,
            },
        };
    }
    Err(store.contended(&referral))
}

/// Logs the result in one line, in the same form for the stream and the sweep.
fn log(after: &Referral) {
    let correlation_id = after.correlation_id();
    match after.rewards() {
        Some(_) => {
            let outcome = LogOutcome::Rewarded.as_str();
            tracing::info!(outcome, correlation_id, issued = Side::BOTH.len());
        }
        None => tracing::info!(outcome = LogOutcome::Voided.as_str(), correlation_id),
    }
}

fn not_due(referral: &Referral, now: Timestamp) -> Option<Refusal> {
    match (referral.status(), referral.work()) {
        (Status::Converted, Some(work)) if work.lane == Lane::Attention && !mutant::is(Mutant::UnclearOrderIssued) => {
            Some(Refusal::NeedsAttention)
        }
        (Status::Converted, Some(work)) if work.at <= now || mutant::is(Mutant::HoldSkipped) => None,
        (Status::Converted, _) => Some(Refusal::NotDue),
        (status, _) => Some(Refusal::Status(status)),
    }
}

/// What to do with a converted referral whose hold is over.
fn verdict(evidence: &Evidence) -> Command<'static> {
    fraud::check(Gate::Issue, evidence).map_or(Command::Issue, |reason| Command::Void(reason.into()))
}

/// Claims the right to re-announce a referral's undelivered rewards, by moving its due time.
///
/// Only rewards issued longer than `grace` ago are re-announced. The time until the next attempt equals the age of the
/// rewards, so the pauses double, up to [`LONGEST_PAUSE`].
///
/// # Errors
/// Returns an error when DynamoDB is unavailable, or when concurrent writes cause too many conflicts.
pub async fn claim(store: &Store, read: Referral, grace: Duration, now: Timestamp) -> Result<Outcome, StoreError> {
    store.apply(read, |referral| reclaimed(referral, grace, now)).await
}

/// The longest time between two attempts, also for a subsystem that has been unavailable for days.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// The time from which the sweep has work to do for this referral: issue its rewards after the hold, or re-announce them
/// if they were issued longer than `grace` ago and no other sweep has claimed them since. `None`: it has none.
pub fn due_for_sweep(referral: &Referral, grace: Duration) -> Option<Timestamp> {
    let work = referral.work().filter(|work| work.lane == Lane::Due)?;
    Some(referral.rewards().map_or(work.at, |rewards| work.at.max(rewards.issued_at.plus(grace))))
}

fn reclaimed(referral: &Referral, grace: Duration, now: Timestamp) -> Decision {
    let (Some(rewards), Some(due)) = (referral.rewards(), due_for_sweep(referral, grace)) else {
        return Decision::Refuse(Refusal::Status(referral.status()));
    };
    if due > now {
        return Decision::Refuse(Refusal::NotDue);
    }
    let pause = pause_after(now.since(rewards.issued_at), grace);
    referral.decide(&Command::Claim(now.plus(pause)), now)
}

/// The time until the next attempt to announce an instruction of this age.
pub fn pause_after(age: Duration, grace: Duration) -> Duration {
    age.max(grace).min(LONGEST_PAUSE)
}

/// Reads `GRACE_SECONDS` (default 600): how long a reward may be undelivered before it is announced again. By then the queues
/// have retried several times.
///
/// # Errors
/// Returns an error when the variable is invalid.
pub fn grace_period(env: &Env) -> Result<Duration, Misconfigured> {
    Ok(Duration::from_secs(env.parsed::<u32>("GRACE_SECONDS", 600)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::account::Account,
        fraud::{FraudReason, Reported},
        referral::State,
        sample,
    };

    #[test]
    fn only_a_converted_referral_whose_hold_is_over_is_due() {
        let due = sample::converted().work().unwrap().at;
        let early = Timestamp::from_millis(due.millis() - 1).unwrap();
        assert_eq!(not_due(&sample::converted(), early), Some(Refusal::NotDue));
        assert_eq!(not_due(&sample::converted(), due), None);
        for other in [sample::pending(), sample::rewarded()] {
            assert_eq!(not_due(&other, sample::at(99_000)), Some(Refusal::Status(other.status())));
        }
    }

    #[test]
    fn evidence_of_fraud_voids_and_everything_else_is_issued() {
        let clean = Evidence {
            referrer: "alice".parse().unwrap(),
            referee: "bob".parse().unwrap(),
            referrer_account: Account::default(),
            referee_account: Account::default(),
            referrers_own: None,
            device: None,
            device_aliases: Vec::new(),
            reported: Reported::default(),
        };
        assert_eq!(verdict(&clean), Command::Issue);
        let flagged = Evidence { referee_account: Account { flagged: true, ..Account::default() }, ..clean };
        assert_eq!(verdict(&flagged), Command::Void(FraudReason::RefereeFlagged.into()));
    }

    #[test]
    fn claims_start_after_the_grace_period_and_their_pauses_double() {
        let grace = Duration::from_secs(10);
        let issued = sample::rewarded().rewards().unwrap().issued_at;
        let claim =
            |referral: &Referral, age: u64| match reclaimed(referral, grace, issued.plus(Duration::from_secs(age))) {
                Decision::Apply(after, _) => match after.state {
                    State::Rewarded { due_at, .. } => Some((due_at.since(issued).as_secs(), *after)),
                    other => panic!("{other:?}"),
                },
                _ => None,
            };
        assert!(claim(&sample::rewarded(), 9).is_none());
        let (next, claimed) = claim(&sample::rewarded(), 10).unwrap();
        assert_eq!(next, 20);
        assert!(claim(&claimed, 19).is_none());
        let (next, claimed) = claim(&claimed, 20).unwrap();
        assert_eq!(next, 40);
        let (next, _) = claim(&claimed, 1_000_000).unwrap();
        assert_eq!(next, 1_000_000 + LONGEST_PAUSE.as_secs());
        assert!(claim(&sample::converted(), 99).is_none());
    }
}
