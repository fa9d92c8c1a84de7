//! The referral program: what qualifies, what each side gets, and for how long a touch counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::ProgramId,
    money::{Amount, Currency, Money},
    order::Order,
    reward::{Benefit, RewardType},
    runtime::{Env, Misconfigured},
};

/// What a program promises. A copy is written on each referral at attribution, so a later change of the program keeps
/// the promise made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The event type that converts.
    pub qualifying_event: String,
    /// The least that the order must be worth.
    pub minimum: Money,
    /// Seconds between conversion and issue.
    pub hold_seconds: u32,
    /// What the referrer gets.
    pub referrer: Benefit,
    /// What the referee gets.
    pub referee: Benefit,
}

impl Terms {
    /// Whether this order converts a referral that has these terms.
    pub fn qualifies(&self, order: &Order) -> bool {
        order.event == self.qualifying_event && order.paid.covers(&self.minimum)
    }

    /// The time between conversion and issue.
    pub fn hold(&self) -> Duration {
        Duration::from_secs(self.hold_seconds.into())
    }
}

/// The program that a stack runs, from its settings.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its id: `default`.
    pub id: ProgramId,
    /// What is promised to those who are attributed from now on.
    pub terms: Terms,
    /// For how long a touch counts.
    pub window: Duration,
}

impl Program {
    const DAY: u64 = 24 * 60 * 60;

    /// Events that have a meaning of their own, so that none of them can be an order too.
    const SPOKEN_FOR: [&str; 6] = [
        "order.refunded",
        "order.cancelled",
        "payment.disputed",
        "customer.signed_up",
        "account.flagged",
        "account.cleared",
    ];

    /// Reads the settings: `QUALIFYING_EVENT` (`order.completed`), `MINIMUM_AMOUNT` (0), `CURRENCY` (`USD`),
    /// `HOLD_SECONDS` (0), `ATTRIBUTION_WINDOW_DAYS` (90), and for each side `REFERRER_REWARD_TYPE` (`credit`) and
    /// `REFERRER_REWARD_AMOUNT` (1000), `REFEREE_REWARD_TYPE` and `REFEREE_REWARD_AMOUNT` likewise.
    ///
    /// # Errors
    /// When a setting cannot be read; it names the variable.
    pub fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        let currency = env.parsed("CURRENCY", Currency::USD)?;
        let qualifying_event = env.get("QUALIFYING_EVENT").unwrap_or("order.completed");
        if Self::SPOKEN_FOR.contains(&qualifying_event) {
            return Err(Misconfigured::new("QUALIFYING_EVENT", "this event means something else already"));
        }
        let days: u16 = env.parsed("ATTRIBUTION_WINDOW_DAYS", 90)?;
        Ok(Self {
            id: Self::default_id(),
            terms: Terms {
                qualifying_event: qualifying_event.to_owned(),
                minimum: Money { amount: env.parsed("MINIMUM_AMOUNT", Amount::ZERO)?, currency },
                hold_seconds: env.parsed("HOLD_SECONDS", 0)?,
                referrer: benefit(env, "REFERRER", currency)?,
                referee: benefit(env, "REFEREE", currency)?,
            },
            window: Duration::from_secs(u64::from(days) * Self::DAY),
        })
    }

    #[allow(clippy::expect_used, reason = "a constant that the tests read")]
    fn default_id() -> ProgramId {
        "default".parse().expect("an id")
    }
}

fn benefit(env: &Env, side: &str, currency: Currency) -> Result<Benefit, Misconfigured> {
    let kind = env.parsed(&format!("{side}_REWARD_TYPE"), RewardType::Credit)?;
    let amount = env.parsed(&format!("{side}_REWARD_AMOUNT"), DEFAULT_REWARD)?;
    Ok(Benefit::new(kind, amount, currency))
}

/// In minor units: ten dollars.
const DEFAULT_REWARD: Amount = Amount::small(1000);

#[cfg(test)]
mod tests {
    use super::*;

    fn order(event: &str, amount: u64, currency: &str) -> Order {
        Order {
            id: "o-1".parse().unwrap(),
            event: event.to_owned(),
            user: "bob".parse().unwrap(),
            paid: Money { amount: amount.try_into().unwrap(), currency: currency.parse().unwrap() },
        }
    }

    #[test]
    fn without_settings_a_thousand_cents_of_credit_for_each_side() {
        let program = Program::from_env(&Env::default()).unwrap();
        let thousand = Benefit::Credit(order("", 1000, "USD").paid);
        assert_eq!((program.terms.referrer, program.terms.referee), (thousand, thousand));
        assert_eq!(program.terms.hold(), Duration::ZERO);
        assert_eq!(program.window, Duration::from_secs(90 * 24 * 60 * 60));
        assert_eq!(program.id.as_str(), "default");
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
    fn a_broken_setting_is_named() {
        for (name, value) in [
            ("CURRENCY", "dollars"),
            ("REFEREE_REWARD_TYPE", "cash"),
            ("HOLD_SECONDS", "-1"),
            ("QUALIFYING_EVENT", "customer.signed_up"),
        ] {
            let problem = Program::from_env(&Env::default().with(name, value)).unwrap_err();
            assert!(problem.to_string().contains(name), "{problem}");
        }
    }
}
