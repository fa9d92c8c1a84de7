//! Backoff: sets the visibility timeout of a message whose instruction has to be sent again.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::Client;
use referrals::{
    aws::Lazy,
    lambda::sqs::Message,
    runtime::{self, Call, Env, Misconfigured, log_outcome::LogOutcome},
};

/// The queues and the length of the first pause.
pub(crate) struct Backoff {
    client: Lazy<Client>,
    /// Queue URLs by queue name.
    urls: HashMap<String, String>,
    first: Duration,
}

impl Backoff {
    /// In seconds. With this value eight attempts take about as long as the grace period, after which the sweep
    /// announces the reward again.
    const DEFAULT_FIRST: u32 = 5;
    /// The maximum pause, unless the subsystem requests a longer one.
    const MAX: Duration = Duration::from_secs(15 * 60);
    /// The maximum pause that a subsystem can request. SQS allows twelve hours.
    const MAX_REQUESTED: Duration = Duration::from_secs(6 * 60 * 60);

    /// Reads `CREDIT_QUEUE_URL`, `COUPON_QUEUE_URL`, `POINTS_QUEUE_URL` and `RETRY_SECONDS` (default 5): the first
    /// pause. With 0, the visibility timeouts of the queues apply.
    pub(crate) fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        let urls = ["CREDIT_QUEUE_URL", "COUPON_QUEUE_URL", "POINTS_QUEUE_URL"].map(|name| {
            let url = env.required(name)?.to_owned();
            Ok((url.rsplit('/').next().unwrap_or_default().to_owned(), url))
        });
        let first: u32 = env.parsed("RETRY_SECONDS", Self::DEFAULT_FIRST)?;
        Ok(Self { client, urls: urls.into_iter().collect::<Result<_, _>>()?, first: Duration::from_secs(first.into()) })
    }

    /// Delays the next delivery of this message, at least as long as the subsystem `requested`. Returns the pause, or `None`
    /// when the queue's own visibility timeout applies. That is also the case when the call to the queue fails.
    pub(crate) async fn delay(&self, message: &Message, requested: Option<Duration>, call: Call) -> Option<Duration> {
        let pause = pause(self.first, message.receives, call.fraction(&message.id)).max(requested.unwrap_or_default());
        let seconds = i32::try_from(pause.min(Self::MAX_REQUESTED).as_millis().div_ceil(1000)).ok()?;
        let url = self.urls.get(&message.queue).filter(|_| seconds > 0)?;
        let change = self.client.change_message_visibility().queue_url(url).receipt_handle(&message.receipt);
        match change.visibility_timeout(seconds).send().await {
            Ok(_) => Some(pause),
            Err(problem) => {
                let problem = runtime::explain(&problem);
                tracing::warn!(outcome = LogOutcome::RetryDelayNotSet.as_str(), message = message.id, problem);
                None
            }
        }
    }
}

/// The pause after this attempt: exponential backoff with up to 50 % jitter (`jitter` from 0 to 1), so that messages that
/// failed together are not retried together.
fn pause(first: Duration, attempt: u32, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(Backoff::MAX);
    doubled.mul_f64(1.0 - jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_maximum_with_jitter() {
        let first = Duration::from_secs(5);
        let seconds = |jitter| (1..=10).map(|attempt| pause(first, attempt, jitter).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(0.0), [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(seconds(1.0), [2, 5, 10, 20, 40, 80, 160, 320, 450, 450]);
        assert_eq!(pause(first, u32::MAX, 0.0), Backoff::MAX);
        assert_eq!(pause(Duration::ZERO, 7, 0.5), Duration::ZERO);
    }
}
