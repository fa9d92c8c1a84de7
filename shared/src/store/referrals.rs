//! Referrals: writing the first item, every step after it, and reading them back.

use super::{Store, StoreError, WriteResult, guard, retry::Attempts, take};
use crate::{
    account::Account,
    code::{Code, OwnedCode},
    fraud::{Evidence, Reported},
    id::UserId,
    machine::{Decision, Refusal, Transition},
    mutant::{self, Mutant},
    referral::Referral,
    table::{self, Item, Key},
};

/// What an attribution came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attributed {
    /// The referral is new.
    New(Referral),
    /// The referee had one: this one.
    Existing(Referral),
}

/// What an event came to, after deciding as often as the table asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The step was written.
    Applied(Referral),
    /// It had been written before.
    AlreadyDone(Referral),
    /// It changes nothing, for this reason.
    Refused(Refusal, Referral),
}

/// What decides whether a sign-up becomes a referral, read in one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignUpEvidence {
    /// The code as the table has it now.
    pub code: Option<OwnedCode>,
    /// The referral that the referee already has.
    pub existing: Option<Referral>,
    /// The evidence for the fraud rules. The caller adds what belongs to the sign-up: the device and the reported
    /// properties.
    pub evidence: Evidence,
}

/// Part of a list, newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The referrals.
    pub items: Vec<Referral>,
    /// Where the next page begins (see [`table::place`]); `None` after the last.
    pub next: Option<String>,
}

impl Store {
    /// The referral of this referee.
    ///
    /// # Errors
    /// When the table does not answer, or holds something else there.
    pub async fn referral(&self, referee: &UserId) -> Result<Option<Referral>, StoreError> {
        Ok(self.get(&Key::referral(referee)).await?.map(table::referral_from).transpose()?)
    }

    /// Reads what decides whether `referee` can be attributed to `referrer` by this code.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or an item is invalid.
    pub async fn sign_up_evidence(
        &self,
        code: &Code,
        referrer: &UserId,
        referee: &UserId,
    ) -> Result<SignUpEvidence, StoreError> {
        let (code, account) = (Key::code(code), Key::account(referrer));
        let (own, existing) = (Key::referral(referrer), Key::referral(referee));
        let keys = [code.clone(), account.clone(), own.clone(), existing.clone()];
        let mut items = self.get_all(keys).await?;
        // In a self-referral both keys are the same, and the batch returns one item for them.
        let existing = take(&mut items, &existing).map(table::referral_from).transpose()?;
        Ok(SignUpEvidence {
            code: take(&mut items, &code).map(table::code_from).transpose()?,
            existing,
            evidence: Evidence {
                referrer: referrer.clone(),
                referee: referee.clone(),
                referrer_account: take_account(&mut items, &account)?,
                referee_account: Account::default(),
                referrers_own: take(&mut items, &own).map(table::referral_from).transpose()?,
                device: None,
                reported: Reported::default(),
            },
        })
    }

    /// Reads the evidence that decides whether this referral's rewards can be issued.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or an item is invalid.
    pub async fn issue_evidence(&self, referral: &Referral) -> Result<Evidence, StoreError> {
        let (referrer, referee) = (Key::account(&referral.referrer), Key::account(&referral.referee));
        let own = Key::referral(&referral.referrer);
        let mut items = self.get_all([referrer.clone(), referee.clone(), own.clone()]).await?;
        Ok(Evidence {
            referrer: referral.referrer.clone(),
            referee: referral.referee.clone(),
            referrer_account: take_account(&mut items, &referrer)?,
            referee_account: take_account(&mut items, &referee)?,
            referrers_own: take(&mut items, &own).map(table::referral_from).transpose()?,
            device: referral.device.clone(),
            reported: Reported::default(),
        })
    }

    /// Writes a new referral, unless its referee has one.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn attribute(&self, referral: Referral) -> Result<Attributed, StoreError> {
        let write = guard::create(table::referral_item(&referral)?, Mutant::ReferralOverwritten);
        let found = match self.send(write, None).await? {
            WriteResult::Written(_) => return Ok(Attributed::New(referral)),
            WriteResult::Conflict(found) => self.found(found, &referral)?,
        };
        // Our own write, whose first answer got lost, bears our mark, whatever has been built upon it since.
        let is_twin = found.created_at == referral.created_at && mutant::is(Mutant::TwinsTakenForOne);
        let is_marked = found.mark == referral.mark || is_twin || mutant::is(Mutant::OthersReferralTakenForOurs);
        let is_ours = is_marked && !mutant::is(Mutant::OwnReferralNotRecognised);
        Ok(if is_ours { Attributed::New(found) } else { Attributed::Existing(found) })
    }

    /// Writes what a step made of a referral, if the table still holds the referral from which it was decided.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn write(
        &self,
        before: &Referral,
        after: Referral,
        verb: Transition,
    ) -> Result<WriteResult<Referral>, StoreError> {
        let write = guard::step(&table::referral_item(before)?, &table::referral_item(&after)?, verb);
        let attempts = Attempts::default();
        let found = match self.send(write, Some(&attempts)).await? {
            WriteResult::Written(_) => return Ok(WriteResult::Written(after)),
            WriteResult::Conflict(found) => self.found(found, before)?,
        };
        // Our own write, whose first answer got lost, looks like this: exactly what we wanted is there.
        let is_ours = attempts.were_many() && (found == after || mutant::is(Mutant::OthersStepTakenForOurs));
        Ok(if is_ours { WriteResult::Written(found) } else { WriteResult::Conflict(found) })
    }

    /// Decides and writes, and decides again from what was found as long as others get in between.
    ///
    /// # Errors
    /// When the table does not answer, or others get in between time and again.
    pub async fn apply(
        &self,
        read: Referral,
        decide: impl Fn(&Referral) -> Decision + Send,
    ) -> Result<Outcome, StoreError> {
        let mut referral = read;
        for _ in 0..Self::DECISIONS {
            referral = match decide(&referral) {
                Decision::AlreadyDone => return Ok(Outcome::AlreadyDone(referral)),
                Decision::Refuse(reason) => return Ok(Outcome::Refused(reason, referral)),
                Decision::Apply(after, verb) => match self.write(&referral, *after, verb).await? {
                    WriteResult::Written(after) => return Ok(Outcome::Applied(after)),
                    WriteResult::Conflict(found) if mutant::is(Mutant::RefusedStepIsDone) => {
                        return Ok(Outcome::AlreadyDone(found));
                    }
                    WriteResult::Conflict(_) if mutant::is(Mutant::StepNotDecidedAgain) => break,
                    WriteResult::Conflict(found) => found,
                },
            };
        }
        Err(self.contended(&referral))
    }

    pub(crate) fn contended(&self, referral: &Referral) -> StoreError {
        StoreError::Contended(format!("the referral of {}", referral.referee.hashed()))
    }

    /// A page of the referrals by this referrer that are older than `before` (all of them when `None`), newest first.
    ///
    /// # Errors
    /// When the table does not answer, or an item cannot be read.
    pub async fn referrals_by(&self, referrer: &UserId, limit: u32, before: Option<&str>) -> Result<Page, StoreError> {
        let (places, more) = self.places(referrer, limit, before).await?;
        let next = more.then(|| places.last().cloned()).flatten();
        Ok(Page { items: self.at_places(&places).await?, next })
    }

    /// The same, with the referral by which the user came themselves in its place among them: all that can hold a
    /// reward for this user.
    ///
    /// # Errors
    /// When the table does not answer, or an item cannot be read.
    pub async fn referrals_with(&self, user: &UserId, limit: u32, before: Option<&str>) -> Result<Page, StoreError> {
        let (mut places, mut more) = self.places(user, limit, before).await?;
        if let Some(own) = self.referral(user).await? {
            let own = table::place(own.created_at, &own.referee);
            let begins_here = before.is_none_or(|before| own.as_str() < before);
            let ends_here = !more || places.last().is_some_and(|last| own > *last);
            if begins_here && ends_here {
                let at = places.partition_point(|place| *place > own);
                places.insert(at, own);
                more |= places.len() > limit as usize;
                places.truncate(limit as usize);
            }
        }
        let next = more.then(|| places.last().cloned()).flatten();
        Ok(Page { items: self.at_places(&places).await?, next })
    }

    /// Places in the index, newest first, and whether there are more behind.
    async fn places(
        &self,
        referrer: &UserId,
        limit: u32,
        before: Option<&str>,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let query = guard::referred_before(&self.client, referrer, before)
            .table_name(&self.table)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = query.send().await?;
        let more = answer.last_evaluated_key.is_some();
        let place = |item: Item| item.get(table::REFERRED_AT).and_then(|place| place.as_s().ok()).cloned();
        Ok((answer.items.unwrap_or_default().into_iter().filter_map(place).collect(), more))
    }

    /// The referrals at these places, in this order.
    async fn at_places(&self, places: &[String]) -> Result<Vec<Referral>, StoreError> {
        let keys: Vec<Key> =
            places.iter().filter_map(|place| Some(Key::referral(&table::referee_at(place)?))).collect();
        let mut items = self.get_all(keys.iter().cloned()).await?;
        let found = keys.iter().filter_map(|key| take(&mut items, key));
        Ok(found.map(table::referral_from).collect::<Result<_, _>>()?)
    }

    /// The referral that a conflict returned. It returns none only if the referral was deleted, which this service does
    /// not do.
    fn found(&self, found: Option<Item>, wanted: &Referral) -> Result<Referral, StoreError> {
        match found {
            Some(item) => Ok(table::referral_from(item)?),
            None => Err(self.contended(wanted)),
        }
    }
}

fn take_account(items: &mut Vec<Item>, key: &Key) -> Result<Account, StoreError> {
    Ok(take(items, key).map(table::account_from).transpose()?.unwrap_or_default())
}
