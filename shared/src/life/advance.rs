//! Advance: decides what a referral's time has come for. Stream and sweep both call it, and the table lets one win.

use std::time::Duration;

use crate::{
    fraud::{self, Evidence, Gate},
    machine::{Command, Decision, Refusal},
    mutant::{self, Mutant},
    referral::{Lane, Referral, Status},
    reward::Side,
    store::{Outcome, Store, StoreError, Written},
    time::Timestamp,
};

/// Issues a converted referral's rewards once its hold is over, or voids it where fraud has shown since; leaves every
/// other referral alone.
///
/// # Errors
/// When the table does not answer, or others get in between time and again.
pub async fn advance(store: &Store, read: Referral, now: Timestamp) -> Result<Outcome, StoreError> {
    let mut referral = read;
    for _ in 0..Store::DECISIONS {
        if let Some(reason) = not_due(&referral, now) {
            return Ok(Outcome::Refused(reason, referral));
        }
        let evidence = store.issue_evidence(&referral).await?;
        referral = match referral.decide(&verdict(&evidence), now) {
            Decision::AlreadyDone => return Ok(Outcome::AlreadyDone(referral)),
            Decision::Refuse(reason) => return Ok(Outcome::Refused(reason, referral)),
            Decision::Apply(after, verb) => match store.write(&referral, *after, verb).await? {
                Written::Done(after) => {
                    tell(&after);
                    return Ok(Outcome::Applied(after));
                }
                Written::Found(found) => found,
            },
        };
    }
    Err(store.contended(&referral))
}

/// One line in the log for what came of it, whoever advanced it.
fn tell(after: &Referral) {
    let (correlation_id, outcome) = (after.referee.hashed(), after.status().as_str());
    match after.rewards() {
        Some(_) => tracing::info!(outcome, correlation_id, issued = Side::BOTH.len()),
        None => tracing::info!(outcome, correlation_id),
    }
}

fn not_due(referral: &Referral, now: Timestamp) -> Option<Refusal> {
    match (referral.status(), referral.work()) {
        (Status::Converted, Some(work)) if work.at <= now || mutant::is(Mutant::HoldSkipped) => None,
        (Status::Converted, _) => Some(Refusal::NotDue),
        (status, _) => Some(Refusal::Status(status)),
    }
}

/// What to do with a converted referral whose hold is over.
fn verdict(evidence: &Evidence) -> Command<'static> {
    fraud::check(Gate::Issue, evidence).map_or(Command::Issue, |reason| Command::Void(reason.into()))
}

/// Takes it upon this caller alone to announce a referral's undelivered rewards again, by moving its due time on.
///
/// Only what has been on its way for longer than `grace` is announced again. The next look is as far away as the
/// rewards are old, so the pauses double, up to [`LONGEST_PAUSE`].
///
/// # Errors
/// When the table does not answer, or others get in between time and again.
pub async fn claim(store: &Store, read: Referral, grace: Duration, now: Timestamp) -> Result<Outcome, StoreError> {
    store.apply(read, |referral| reclaimed(referral, grace, now)).await
}

/// A subsystem that was down for days is tried at least this often.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// From when on the sweep has something to do for this referral: issue it once its hold is over, or announce its rewards
/// again once they have been on their way for longer than `grace` and nobody claimed them since. `None`: nothing.
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
    let age = now.since(rewards.issued_at);
    referral.decide(&Command::Claim(now.plus(age.max(grace).min(LONGEST_PAUSE))), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::Account,
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
            reported: Reported::default(),
        };
        assert_eq!(verdict(&clean), Command::Issue);
        let flagged = Evidence { referee_account: Account { flagged: true, ..Account::default() }, ..clean };
        assert_eq!(verdict(&flagged), Command::Void(FraudReason::RefereeFlagged.into()));
    }

    #[test]
    fn claims_come_after_the_grace_with_doubling_pauses() {
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
