//! Referrals: the first write, every step after it, and reads.

use super::{
    Store, StoreError, WriteResult,
    cursor::ListCursor,
    guard,
    items::{
        account,
        code::from_code_item,
        note::to_note_item,
        referral::{from_referral_item, to_referral_item},
    },
    keys::{Item, Key, REFERRED_AT},
    notes,
    orders::ResolvedOrder,
    retry::Attempts,
    reversals, take, transact,
    write::Write,
};
use crate::{
    domain::{
        account::Account,
        code::{Code, OwnedCode},
        id::UserId,
    },
    fraud::{Evidence, OwnReferral, Reported},
    mutant::{self, Mutant},
    referral::{
        Referral,
        machine::{Decision, Refusal, Transition},
        note::{AuditEntry, Note, Subject},
    },
};

/// The result of writing a new referral.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attributed {
    New(Referral),
    /// The referee already had this referral.
    Existing(Referral),
}

/// The result of a command. It contains the referral as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// This step was written.
    Applied(Referral, Transition),
    /// An earlier command had the same effect.
    AlreadyDone(Referral),
    /// The command changes nothing.
    Refused(Refusal, Referral),
}

impl Outcome {
    /// The referral as it is now.
    pub fn referral(&self) -> &Referral {
        match self {
            Self::Applied(referral, _) | Self::AlreadyDone(referral) | Self::Refused(_, referral) => referral,
        }
    }
}

/// The stored data that decides whether a sign-up becomes a referral, read in one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignUpEvidence {
    /// The code as the table has it now.
    pub code: Option<OwnedCode>,
    /// The referral that the referee already has.
    pub existing: Option<Referral>,
    /// The evidence for the fraud rules. The caller adds the sign-up's own data: the device and the reported
    /// properties.
    pub evidence: Evidence,
}

/// A page of a list, newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub items: Vec<Referral>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<ListCursor>,
}

impl Store {
    /// The referral of this referee.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or the item is invalid.
    pub async fn referral(&self, referee: &UserId) -> Result<Option<Referral>, StoreError> {
        Ok(self.get(&Key::referral(referee)).await?.map(from_referral_item).transpose()?)
    }

    /// Reads the data that decides whether `referee` can be attributed to `referrer` by this code.
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
        // In a self-referral both keys are equal. The batch then returns one item, which becomes `existing`.
        let existing = take(&mut items, &existing).map(from_referral_item).transpose()?;
        Ok(SignUpEvidence {
            code: take(&mut items, &code).map(from_code_item).transpose()?,
            existing,
            evidence: Evidence {
                referrer: referrer.clone(),
                referee: referee.clone(),
                referrer_account: take_account(&mut items, &account)?,
                referee_account: Account::default(),
                referrers_own: own_referral(take(&mut items, &own))?,
                device: None,
                device_aliases: Vec::new(),
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
            referrers_own: own_referral(take(&mut items, &own))?,
            device: referral.device.clone(),
            device_aliases: Vec::new(),
            reported: Reported::default(),
        })
    }

    /// Writes a new referral, unless its referee already has one.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn attribute(&self, referral: Referral) -> Result<Attributed, StoreError> {
        let write = guard::create(to_referral_item(&referral)?, Mutant::ReferralOverwritten);
        let found = match self.send(write, None).await? {
            WriteResult::Written(_) => return Ok(Attributed::New(referral)),
            WriteResult::Conflict(found) => self.found(found, &referral)?,
        };
        // If the answer to our own first attempt was lost, the item has our mark, even if later steps changed it.
        let is_twin = found.created_at == referral.created_at && mutant::is(Mutant::TwinsTakenForOne);
        let is_marked = found.mark == referral.mark || is_twin || mutant::is(Mutant::OthersReferralTakenForOurs);
        let is_ours = is_marked && !mutant::is(Mutant::OwnReferralNotRecognised);
        Ok(if is_ours { Attributed::New(found) } else { Attributed::Existing(found) })
    }

    /// Writes the result of a step, if the table still contains the referral on which the decision was based. Reversals that the step
    /// decides, and notes of orders that an issue passes over, are written in the same transaction.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn write(
        &self,
        before: &Referral,
        after: Referral,
        transition: Transition,
    ) -> Result<WriteResult<Referral>, StoreError> {
        self.write_with(before, after, transition, Vec::new()).await
    }

    /// The same, with an audit entry and the order that an operator has resolved, in one transaction.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable.
    pub async fn write_audited(
        &self,
        before: &Referral,
        after: Referral,
        transition: Transition,
        audit: &AuditEntry,
        resolved: Option<&ResolvedOrder>,
    ) -> Result<WriteResult<Referral>, StoreError> {
        let note = to_note_item(&Subject::Referral(before.referee.clone()), &Note::Operator(audit.clone()))?;
        let note = (!mutant::is(Mutant::AuditEntryForgotten)).then(|| Write::put(note));
        let order = resolved.map(|resolved| resolved.write(audit.at));
        self.write_with(before, after, transition, order.into_iter().chain(note).collect()).await
    }

    async fn write_with(
        &self,
        before: &Referral,
        after: Referral,
        transition: Transition,
        mut further: Vec<Write>,
    ) -> Result<WriteResult<Referral>, StoreError> {
        let write = guard::step(&to_referral_item(before)?, &to_referral_item(&after)?, transition);
        further.extend(reversals::writes_of_step(before, &after)?);
        further.extend(notes::writes_of_step(before, &after)?);
        let attempts = Attempts::default();
        let found = match self.send_step(write, further, &attempts).await? {
            WriteResult::Written(()) => return Ok(WriteResult::Written(after)),
            WriteResult::Conflict(Some(found)) => from_referral_item(found)?,
            // Another item of the transaction has changed.
            WriteResult::Conflict(None) => self.found(self.get(&Key::referral(&before.referee)).await?, before)?,
        };
        // If the answer to our own first attempt was lost, the table contains exactly what we wanted to write.
        let is_ours = attempts.were_many() && (found == after || mutant::is(Mutant::OthersStepTakenForOurs));
        Ok(if is_ours { WriteResult::Written(found) } else { WriteResult::Conflict(found) })
    }

    /// Sends a step, in one transaction with further writes if there are any. A conflict returns the referral that was found.
    async fn send_step(
        &self,
        step: Write,
        further: Vec<Write>,
        attempts: &Attempts,
    ) -> Result<WriteResult<(), Option<Item>>, StoreError> {
        if further.is_empty() {
            return Ok(match self.send(step, Some(attempts)).await? {
                WriteResult::Written(_) => WriteResult::Written(()),
                WriteResult::Conflict(found) => WriteResult::Conflict(found),
            });
        }
        let writes = std::iter::once(step).chain(further).collect();
        Ok(match transact(&self.client, &self.table, writes, Some(attempts)).await? {
            WriteResult::Written(()) => WriteResult::Written(()),
            WriteResult::Conflict(mut conflicts) => WriteResult::Conflict(conflicts.take_found(0)),
        })
    }

    /// Decides and writes. On a conflict, decides again from the referral that was found, at most
    /// `MAX_DECISIONS` times in all.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or each attempt met a conflict.
    pub async fn apply(
        &self,
        read: Referral,
        decide: impl Fn(&Referral) -> Decision + Send,
    ) -> Result<Outcome, StoreError> {
        let mut referral = read;
        for _ in 0..Self::MAX_DECISIONS {
            referral = match decide(&referral) {
                Decision::AlreadyDone => return Ok(Outcome::AlreadyDone(referral)),
                Decision::Refuse(reason) => return Ok(Outcome::Refused(reason, referral)),
                Decision::Apply(after, transition) => match self.write(&referral, *after, transition).await? {
                    WriteResult::Written(after) => return Ok(Outcome::Applied(after, transition)),
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
        StoreError::Contended(format!("the referral of {}", referral.correlation_id()))
    }

    /// A page of the referrals by this referrer, newest first, starting after the cursor.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or an item is invalid.
    pub async fn referrals_by(
        &self,
        referrer: &UserId,
        limit: u32,
        before: Option<&ListCursor>,
    ) -> Result<Page, StoreError> {
        let (positions, more) = self.positions(referrer, limit, before).await?;
        let next = more.then(|| positions.last().cloned()).flatten();
        Ok(Page { items: self.at_positions(&positions).await?, next })
    }

    /// The same list, plus the referral in which the user is the referee, in order of time. These are all referrals
    /// that can contain a reward for this user.
    ///
    /// # Errors
    /// Returns an error when DynamoDB is unavailable or an item is invalid.
    pub async fn referrals_with(
        &self,
        user: &UserId,
        limit: u32,
        before: Option<&ListCursor>,
    ) -> Result<Page, StoreError> {
        let (mut positions, mut more) = self.positions(user, limit, before).await?;
        if let Some(own) = self.referral(user).await? {
            let own = ListCursor::at(&own);
            let begins_here = before.is_none_or(|before| own < *before);
            let ends_here = !more || positions.last().is_some_and(|last| own > *last);
            if begins_here && ends_here {
                let at = positions.partition_point(|position| *position > own);
                positions.insert(at, own);
                more |= positions.len() > limit as usize;
                positions.truncate(limit as usize);
            }
        }
        let next = more.then(|| positions.last().cloned()).flatten();
        Ok(Page { items: self.at_positions(&positions).await?, next })
    }

    /// Positions in the index, newest first, and whether more follow.
    async fn positions(
        &self,
        referrer: &UserId,
        limit: u32,
        before: Option<&ListCursor>,
    ) -> Result<(Vec<ListCursor>, bool), StoreError> {
        let query = guard::referred_before(&self.client, referrer, before)
            .table_name(&self.table)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = query.send().await?;
        let more = answer.last_evaluated_key.is_some();
        let position = |item: Item| {
            let sort_key = item.get(REFERRED_AT).and_then(|sort_key| sort_key.as_s().ok());
            sort_key.cloned().map(ListCursor::from_sort_key)
        };
        Ok((answer.items.unwrap_or_default().into_iter().filter_map(position).collect(), more))
    }

    /// The referrals at these positions, in this order.
    async fn at_positions(&self, positions: &[ListCursor]) -> Result<Vec<Referral>, StoreError> {
        let keys: Vec<Key> =
            positions.iter().filter_map(|position| Some(Key::referral(&position.referee()?))).collect();
        let mut items = self.get_all(keys.iter().cloned()).await?;
        let found = keys.iter().filter_map(|key| take(&mut items, key));
        Ok(found.map(from_referral_item).collect::<Result<_, _>>()?)
    }

    /// The referral that a conflict returned. A conflict without an item means that the referral was deleted, which
    /// this service never does.
    fn found(&self, found: Option<Item>, wanted: &Referral) -> Result<Referral, StoreError> {
        match found {
            Some(item) => Ok(from_referral_item(item)?),
            None => Err(self.contended(wanted)),
        }
    }
}

/// Returns what the fraud rules read of the referrer's own referral.
fn own_referral(item: Option<Item>) -> Result<Option<OwnReferral>, StoreError> {
    let own = item.map(from_referral_item).transpose()?;
    Ok(own.map(|own| OwnReferral { referrer: own.referrer, device: own.device }))
}

fn take_account(items: &mut Vec<Item>, key: &Key) -> Result<Account, StoreError> {
    Ok(take(items, key).map(account::from_item).transpose()?.unwrap_or_default())
}
