//! Checks of operators' actions, of what needs their attention, and of notes: audit entries and refused orders.

use std::collections::{BTreeMap, BTreeSet};

use referrals::{
    domain::adjustments::Adjustments,
    referral::{Attention, Referral, State as Phase, Status, VoidReason},
    store::keys,
};
use serde_json::Value;

use super::{Given, Invocation, Oracle, adjustments::is_of_refund};
use crate::history::Acknowledged;

/// What operators did.
#[derive(Clone, Debug, Default)]
pub(super) struct Operators {
    /// The actions that began, with the referee.
    begun: BTreeSet<(String, &'static str)>,
    /// How often each referral changed by each action, as the table shows it.
    effects: BTreeMap<(String, &'static str), usize>,
    /// The keys of all notes.
    notes: BTreeSet<(String, String)>,
    /// The last image of each order.
    orders: BTreeMap<String, Value>,
    /// The orders that have as many adjustments as are kept, from the beginning.
    full: BTreeSet<String>,
    /// The referees for whose orders an operator has resolved a refund.
    approved: BTreeSet<String>,
    /// The ids of the unclear adjustments that were quarantined.
    quarantined: BTreeSet<String>,
}

/// The actions in paths and in audit entries.
const ACTIONS: [&str; 4] = ["void", "reopen", "convert", "approve"];

/// The referee and the action in a path of the operators' API.
fn action(path: &str) -> Option<(&str, &'static str)> {
    let mut parts = path.split('/').skip(3);
    let (referee, name) = (parts.next()?, parts.next()?);
    ACTIONS.into_iter().find(|action| *action == name).map(|action| (referee, action))
}

impl Oracle {
    /// Records that an operator's call begins.
    pub(crate) fn operating(&mut self, path: &str) {
        if let Some((referee, action)) = action(path) {
            self.operators.begun.insert((referee.to_owned(), action));
        }
    }

    fn has_begun(&self, referee: &str, action: &'static str) -> bool {
        self.operators.begun.contains(&(referee.to_owned(), action))
    }

    /// Checks the answer to an operator's call.
    pub(crate) fn operated(&mut self, path: &str, body: &Value, given: &Given) {
        let Some((referee, action)) = action(path).filter(|_| given.status == 200) else { return };
        let Some(referral) = self.referrals.get(referee) else { return };
        let is_final =
            referral.rewards().is_some() || referral.voided().is_some_and(|voided| !voided.reason.is_of_order());
        let is_voided = referral.status() == Status::Voided && is_final;
        if action == "void" && !is_voided && !self.has_begun(referee, "reopen") {
            self.fail(format!("{referee}: an operator voided it, and it is not final"));
        }
        if action == "convert" && given.body["order_id"] != body["order_id"] {
            self.fail(format!("{referee}: an operator converted it by {}, but: {}", body["order_id"], given.body));
        }
    }

    /// Checks the write of a note, which never changes.
    pub(super) fn check_note(&mut self, key: &str, sk: &str, old: &Value) {
        if !old.is_null() {
            self.fail(format!("{key} {sk}: a note was overwritten"));
        }
        self.operators.notes.insert((key.to_owned(), sk.to_owned()));
    }

    /// Records an order that has as many adjustments as are kept.
    pub(crate) fn order_filled(&mut self, order: &str) {
        self.operators.full.insert(order.to_owned());
    }

    pub(super) fn is_full(&self, order: &str) -> bool {
        self.operators.full.contains(order)
    }

    /// Whether this is an adjustment that an operator has to look at: a refund in another currency, or one beyond the limit.
    pub(super) fn is_for_operators(&self, event: &Value) -> bool {
        let order = event["detail"]["order_id"].as_str().unwrap_or_default();
        let is_published = self.published_of(order).any(|known| known["id"] == event["id"]);
        is_published && ((self.is_full(order) && is_of_refund(event)) || event["detail"]["currency"] == "EUR")
    }

    pub(super) fn unclear_quarantined(&mut self, id: &str) {
        self.operators.quarantined.insert(id.to_owned());
    }

    /// Checks that each adjustment beyond the limit was quarantined.
    pub(super) fn check_excess_at_rest(&mut self) {
        let of_full = self.operators.full.iter().flat_map(|order| self.published_of(order));
        let ids: Vec<_> = of_full
            .filter(|event| is_of_refund(event))
            .filter_map(|event| event["id"].as_str().map(str::to_owned))
            .collect();
        for id in ids.into_iter().filter(|id| !self.operators.quarantined.contains(id)).collect::<Vec<_>>() {
            self.fail(format!("{id}: an adjustment beyond the limit was not quarantined"));
        }
    }

    /// Checks the write of an order: a refund fails only because the provider says so, or an operator.
    pub(super) fn check_order(&mut self, key: &str, old: &Value, new: &Value) {
        let order = key.strip_prefix("ORDER#").unwrap_or_default().to_owned();
        let referee = new[keys::CLAIMED_BY]["S"].as_str().unwrap_or_default().to_owned();
        let failed = new.as_object().into_iter().flat_map(|item| item.keys());
        let failed = failed.filter(|name| old.get(*name).is_none());
        let failed: Vec<_> = failed.filter_map(|name| name.strip_prefix(keys::REFUND_FAILED)).collect();
        for refund in failed {
            let is_reported = self
                .published_of(&order)
                .any(|event| event["detail-type"] == "order.refund_failed" && event["detail"]["refund_id"] == *refund);
            if !is_reported && !self.is_full(&order) {
                self.operators.approved.insert(referee.clone());
            }
            if !is_reported && !self.has_begun(&referee, "approve") && !self.is_full(&order) {
                self.fail(format!("{order}: refund {refund} failed, and no one said so"));
            }
        }
        let count = |image: &Value| image[keys::ADJUSTMENTS]["N"].as_str().and_then(|count| count.parse::<u32>().ok());
        let is_marked = old.get(keys::EXCESS).is_none() && new.get(keys::EXCESS).is_some();
        if is_marked && count(old) < Some(Adjustments::MOST) {
            self.fail(format!("{order}: marked as full with {:?} adjustments", count(old)));
        }
        self.operators.orders.insert(order, new.clone());
    }

    /// Whether it is unclear how much of this order is left: it was refunded in another currency, or it was adjusted too often. Only
    /// adjustments that `counts` accepts count.
    fn is_unclear(&self, order: &str, counts: impl Fn(&Value) -> bool) -> bool {
        let image = self.operators.orders.get(order).unwrap_or(&Value::Null);
        let is_foreign = |event: &Value| {
            let detail = &event["detail"];
            let failed = format!("{}{}", keys::REFUND_FAILED, detail["refund_id"].as_str().unwrap_or_default());
            detail["currency"] == "EUR" && image.get(failed).is_none()
        };
        let mut events = self.published_of(order).filter(|event| counts(event));
        if self.is_full(order) {
            return events.any(is_of_refund) && image[keys::EXCESS]["BOOL"] != false;
        }
        events.any(is_foreign)
    }

    /// Checks an issue: nothing is unclear about the order, as far as adjustments were acknowledged.
    pub(super) fn check_clear(&mut self, key: &str, referral: &Referral) {
        let Some(conversion) = referral.conversion() else { return };
        let order = conversion.order.as_str();
        if self.is_unclear(order, |event| self.is_acknowledged(event)) {
            self.fail(format!("{key}: issued although an operator has to decide about {order}"));
        }
    }

    /// Checks a transition that only operators can cause, and counts it.
    pub(super) fn check_operation(&mut self, key: &str, before: &Referral, after: &Referral, by: Option<&Invocation>) {
        let referee = after.referee.as_str().to_owned();
        let reason = |referral: &Referral| referral.voided().map(|voided| voided.reason);
        let is_void = reason(after) == Some(VoidReason::Operator) && reason(before) != reason(after);
        let is_reopen = after.reopened != before.reopened;
        let order = |referral: &Referral| referral.conversion().map(|by| (by.order.clone(), by.event.clone()));
        let is_new_order = order(after).is_some_and(|(_, event)| event == "operator")
            && order(before) != order(after)
            && !before.orders().any(|known| Some(&known.order) == order(after).as_ref().map(|(order, _)| order));
        for (action, happened) in [("void", is_void), ("reopen", is_reopen), ("convert", is_new_order)] {
            if happened && !self.has_begun(&referee, action) {
                self.fail(format!("{key}: {action} without an operator"));
            }
            if happened {
                *self.operators.effects.entry((referee.clone(), action)).or_default() += 1;
            }
        }
        if is_reopen && (after.reopened != before.reopened + 1 || before.rewards().is_some()) {
            self.fail(format!("{key}: reopened {} times after {}", after.reopened, before.reopened));
        }
        for user in [&after.referrer, &after.referee] {
            if is_reopen && self.was_flagged(user, by) {
                self.fail(format!("{key}: reopened although {user} was flagged before"));
            }
        }
    }

    /// Checks what needs attention at the end.
    pub(super) fn check_attention_at_rest(&mut self, referral: &Referral) {
        let Some(conversion) = referral.conversion() else { return };
        let (referee, order) = (referral.referee.as_str(), conversion.order.as_str());
        let is_unclear = self.is_unclear(order, |_| true);
        let found = referral.attention();
        let is_right = match &referral.state {
            Phase::Converted { .. } | Phase::Rewarded { .. } => {
                found.is_some() == is_unclear && found != Some(Attention::OrderStandsAgain)
            }
            Phase::Reversed { reason, .. } if self.has_begun(referee, "approve") => {
                found.is_none() || reason.is_of_order()
            }
            Phase::Reversed { reason, .. } => {
                let stands_again = reason.is_of_order() && !self.is_undone(order);
                found == stands_again.then_some(Attention::OrderStandsAgain)
            }
            Phase::Pending | Phase::Voided { .. } => found.is_none(),
        };
        if !is_right {
            self.fail(format!("{referee}: {found:?} at the end, and whether {order} is unclear: {is_unclear}"));
        }
    }

    /// Checks that each effect of an operator has its audit entry, and no entry is without an effect.
    pub(super) fn check_audit_at_rest(&mut self) {
        let mut entries = BTreeMap::new();
        for (key, sk) in &self.operators.notes {
            let action = sk.rsplit('#').next().and_then(|name| ACTIONS.into_iter().find(|action| *action == name));
            if let (Some(action), Some(referee)) = (action, key.strip_prefix("REFEREE#")) {
                *entries.entry((referee.to_owned(), action)).or_default() += 1;
            }
        }
        // An approval after a reversal changes no order.
        for referee in self.operators.approved.clone() {
            if !entries.contains_key(&(referee.clone(), "approve")) {
                self.fail(format!("{referee}: approved without an audit entry"));
            }
        }
        entries.retain(|(_, action), _| *action != "approve");
        if entries != self.operators.effects {
            let effects = self.operators.effects.clone();
            self.fail(format!("operators changed {effects:?}, and the audit entries are {entries:?}"));
        }
    }

    /// Checks that a referral that still waits for an order has a note of each order that it refused.
    pub(super) fn check_refused_orders(&mut self, referral: &Referral, acknowledged: &[Acknowledged]) {
        if referral.status() != Status::Pending || referral.reopened > 0 {
            return;
        }
        let referee = referral.referee.as_str();
        let key = format!("REFEREE#{referee}");
        let created = self.moments.get(&key).map_or(0, |moments| moments.created);
        let of_referee = acknowledged.iter().filter(|known| known.began > created);
        for known in of_referee.filter(|known| known.event["detail"]["user_id"] == referee) {
            let Some(order) = known.event["detail"]["order_id"].as_str() else { continue };
            let is_order = known.event["detail-type"] == "order.completed";
            let name = format!("#order:{order}");
            let is_noted = self.operators.notes.iter().any(|(pk, sk)| *pk == key && sk.ends_with(&name));
            if is_order && !self.counts(order, referral) && !is_noted {
                self.fail(format!("{referee}: {order} was refused without a note"));
            }
        }
    }
}
