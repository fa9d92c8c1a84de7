//! Settings: reads the program from environment variables.

use std::time::Duration;

use super::{
    Program, Terms,
    benefit::{Benefit, Promise, RewardType},
};
use crate::{
    domain::{
        id::ProgramId,
        money::{Amount, Currency, Money},
    },
    runtime::{Env, Misconfigured},
};

/// In minor units: ten dollars.
const DEFAULT_REWARD: Amount = Amount::small(1000);

const DEFAULT_QUALIFYING_EVENT: &str = "order.completed";

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// Event types that have a fixed meaning and can therefore not report an order.
const RESERVED_EVENTS: [&str; 8] = [
    "order.refunded",
    "order.refund_failed",
    "order.cancelled",
    "payment.disputed",
    "payment.dispute_won",
    "customer.signed_up",
    "account.flagged",
    "account.cleared",
];

/// The event types that report an order: those in the rule of the event bus, and `order.completed`.
///
/// The terms of a referral name one type, and only this type converts it. A type must stay in the list as long as there
/// are pending referrals with terms that name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QualifyingEvents(Vec<String>);

impl QualifyingEvents {
    /// Reads `QUALIFYING_EVENTS`, a comma-separated list. If it is empty, the list is `QUALIFYING_EVENT`.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when an event in the list has a fixed meaning, or when the list does
    /// not contain the event that `QUALIFYING_EVENT` names, because no referral would then convert.
    pub fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        const NAME: &str = "QUALIFYING_EVENTS";
        let own = qualifying_event(env)?;
        let listed = env.get(NAME).into_iter().flat_map(|list| list.split(','));
        let listed: Vec<&str> = listed.map(str::trim).filter(|event| !event.is_empty()).collect();
        if listed.is_empty() {
            return Ok(Self(vec![own.to_owned()]));
        }
        if let Some(reserved) = listed.iter().find(|event| RESERVED_EVENTS.contains(event)) {
            return Err(Misconfigured::new(NAME, format!("{reserved} has a fixed meaning and cannot report an order")));
        }
        let events = Self(listed.into_iter().map(str::to_owned).collect());
        if !events.contains(own) {
            let problem = format!("does not contain {own}, the event that QUALIFYING_EVENT names");
            return Err(Misconfigured::new(NAME, problem));
        }
        Ok(events)
    }

    /// Whether an event of this type reports an order.
    pub fn contains(&self, event: &str) -> bool {
        // The rule always contains the default type, so that referrals with older terms still convert.
        event == DEFAULT_QUALIFYING_EVENT || self.0.iter().any(|known| known == event)
    }
}

impl Program {
    /// Reads the settings: `QUALIFYING_EVENT` (`order.completed`), `QUALIFYING_EVENTS` (empty), `MINIMUM_AMOUNT` (0),
    /// `CURRENCY` (`USD`), `HOLD_SECONDS` (0), `ATTRIBUTION_WINDOW_DAYS` (90), `NEW_WITHIN_DAYS` (0: no limit), and for
    /// each side `REFERRER_REWARD_TYPE` (`credit`) and `REFERRER_REWARD_AMOUNT` (1000), and the same for `REFEREE`.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when a setting is invalid.
    pub fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        let currency = env.parsed("CURRENCY", Currency::USD)?;
        QualifyingEvents::from_env(env)?;
        Ok(Self {
            id: Self::default_id(),
            terms: Terms {
                qualifying_event: qualifying_event(env)?.to_owned(),
                minimum: Money { amount: env.parsed("MINIMUM_AMOUNT", Amount::ZERO)?, currency },
                hold_seconds: env.parsed("HOLD_SECONDS", 0)?,
                referrer: promise(env, "REFERRER", currency)?,
                referee: promise(env, "REFEREE", currency)?,
            },
            window: days(env, "ATTRIBUTION_WINDOW_DAYS", 90)?,
            new_within: Some(days(env, "NEW_WITHIN_DAYS", 0)?).filter(|limit| !limit.is_zero()),
        })
    }

    #[allow(clippy::expect_used, reason = "a constant that the tests read")]
    fn default_id() -> ProgramId {
        "default".parse().expect("an id")
    }
}

fn days(env: &Env, name: &str, default: u16) -> Result<Duration, Misconfigured> {
    Ok(Duration::from_secs(u64::from(env.parsed(name, default)?) * SECONDS_PER_DAY))
}

fn qualifying_event(env: &Env) -> Result<&str, Misconfigured> {
    let event = env.get("QUALIFYING_EVENT").unwrap_or(DEFAULT_QUALIFYING_EVENT);
    if RESERVED_EVENTS.contains(&event) {
        return Err(Misconfigured::new(
            "QUALIFYING_EVENT",
            "this event has a fixed meaning and cannot report an order",
        ));
    }
    Ok(event)
}

fn promise(env: &Env, side: &str, currency: Currency) -> Result<Promise, Misconfigured> {
    let kind = env.parsed(&format!("{side}_REWARD_TYPE"), RewardType::Credit)?;
    let amount = env.parsed(&format!("{side}_REWARD_AMOUNT"), DEFAULT_REWARD)?;
    Ok(Promise::Fixed(Benefit::new(kind, amount, currency)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::order::Order, sample};

    fn order(event: &str, amount: u64, currency: &str) -> Order {
        let paid = Money { amount: amount.try_into().unwrap(), currency: currency.parse().unwrap() };
        Order { event: event.to_owned(), paid, ..sample::order("o-1") }
    }

    #[test]
    fn the_default_promise_is_a_credit_of_ten_dollars_for_each_side() {
        let program = Program::from_env(&Env::default()).unwrap();
        let thousand = Promise::Fixed(Benefit::Credit(order("", 1000, "USD").paid));
        assert_eq!((program.terms.referrer, program.terms.referee), (thousand, thousand));
        assert_eq!(program.terms.hold(), Duration::ZERO);
        assert_eq!(program.window, Duration::from_secs(90 * 24 * 60 * 60));
        assert_eq!(program.new_within, None);
        assert_eq!(program.id.as_str(), "default");
    }

    #[test]
    fn a_limit_of_days_since_the_sign_up_can_be_set() {
        let within =
            |days: &str| Program::from_env(&Env::default().with("NEW_WITHIN_DAYS", days)).map(|it| it.new_within);
        assert_eq!(within("7").unwrap(), Some(Duration::from_secs(7 * 24 * 60 * 60)));
        assert_eq!(within("0").unwrap(), None);
        assert!(within("-1").is_err());
    }

    #[test]
    fn an_order_qualifies_by_event_amount_and_currency() {
        let env = Env::default().with("MINIMUM_AMOUNT", "2500").with("QUALIFYING_EVENT", "subscription.started");
        let terms = Program::from_env(&env).unwrap().terms;
        assert!(terms.qualifies(&order("subscription.started", 2500, "USD")));
        assert!(!terms.qualifies(&order("subscription.started", 2499, "USD")));
        assert!(!terms.qualifies(&order("subscription.started", 2500, "EUR")));
        assert!(!terms.qualifies(&order("order.completed", 2500, "USD")));
    }

    #[test]
    fn an_invalid_setting_is_named() {
        for (name, value) in [
            ("CURRENCY", "dollars"),
            ("REFEREE_REWARD_TYPE", "cash"),
            ("HOLD_SECONDS", "-1"),
            ("QUALIFYING_EVENT", "customer.signed_up"),
            ("QUALIFYING_EVENTS", "order.completed,account.flagged"),
        ] {
            let problem = Program::from_env(&Env::default().with(name, value)).unwrap_err();
            assert!(problem.to_string().contains(name), "{problem}");
        }
    }

    #[test]
    fn the_qualifying_events_are_a_list_that_contains_the_programs_event() {
        let events = |list: &str, own: &str| {
            QualifyingEvents::from_env(&Env::default().with("QUALIFYING_EVENTS", list).with("QUALIFYING_EVENT", own))
        };
        let both = events("subscription.started, trial.ended", "trial.ended").unwrap();
        for known in ["order.completed", "subscription.started", "trial.ended"] {
            assert!(both.contains(known), "{known}");
        }
        assert!(!both.contains("order.shipped"));
        let one = events("", "trial.ended").unwrap();
        assert!(one.contains("trial.ended") && one.contains("order.completed"));
        assert!(!one.contains("subscription.started"));
        let problem = events("subscription.started,order.shipped", "trial.ended").unwrap_err().to_string();
        assert!(problem.contains("QUALIFYING_EVENTS") && problem.contains("trial.ended"), "{problem}");
    }
}
