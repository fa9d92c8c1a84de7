//! Backoff: when a message whose reward was not taken comes again, told to the queue that it came from.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::Client;
use referrals::{
    aws::Lazy,
    batch::Message,
    runtime::{self, Call, Env, Misconfigured},
};

/// The queues, and how long the first pause is.
pub(crate) struct Backoff {
    client: Lazy<Client>,
    /// By name.
    urls: HashMap<String, String>,
    first: Duration,
}

impl Backoff {
    /// In seconds. Eight attempts then take about as long as the grace, after which the sweep stands in.
    const FIRST: u32 = 5;
    /// No pause of ours is longer.
    const LONGEST: Duration = Duration::from_secs(15 * 60);
    /// A subsystem may ask for a longer one, up to this. SQS takes twelve hours.
    const LONGEST_ASKED: Duration = Duration::from_secs(6 * 60 * 60);

    /// Reads `CREDIT_QUEUE_URL`, `COUPON_QUEUE_URL`, `POINTS_QUEUE_URL` and `RETRY_SECONDS` (5): the first pause; 0
    /// leaves pauses to the queues.
    pub(crate) fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        let urls = ["CREDIT_QUEUE_URL", "COUPON_QUEUE_URL", "POINTS_QUEUE_URL"].map(|name| {
            let url = env.required(name)?.to_owned();
            Ok((url.rsplit('/').next().unwrap_or_default().to_owned(), url))
        });
        let first: u32 = env.parsed("RETRY_SECONDS", Self::FIRST)?;
        Ok(Self { client, urls: urls.into_iter().collect::<Result<_, _>>()?, first: Duration::from_secs(first.into()) })
    }

    /// Has the queue wait before it brings this message again, at least as long as the subsystem `asked` for; says how
    /// long. `None`: the queue goes by its own visibility timeout, which is also what it does when it cannot be told.
    pub(crate) async fn put_off(&self, message: &Message, asked: Option<Duration>, call: Call) -> Option<Duration> {
        let pause = pause(self.first, message.receives, call.fraction(&message.id)).max(asked.unwrap_or_default());
        let seconds = i32::try_from(pause.min(Self::LONGEST_ASKED).as_millis().div_ceil(1000)).ok()?;
        let url = self.urls.get(&message.queue).filter(|_| seconds > 0)?;
        let change = self.client.change_message_visibility().queue_url(url).receipt_handle(&message.receipt);
        match change.visibility_timeout(seconds).send().await {
            Ok(_) => Some(pause),
            Err(problem) => {
                let problem = runtime::explain(&problem);
                tracing::warn!(outcome = "the queue was not told to wait", message = message.id, problem);
                None
            }
        }
    }
}

/// The pause after the attempt of this number: twice the one before, and up to half of it taken off by chance, so that
/// what failed together does not come again together.
fn pause(first: Duration, attempt: u32, chance: f64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(Backoff::LONGEST);
    doubled.mul_f64(1.0 - chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let first = Duration::from_secs(5);
        let seconds = |chance| (1..=10).map(|attempt| pause(first, attempt, chance).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(0.0), [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(seconds(1.0), [2, 5, 10, 20, 40, 80, 160, 320, 450, 450]);
        assert_eq!(pause(first, u32::MAX, 0.0), Backoff::LONGEST);
        assert_eq!(pause(Duration::ZERO, 7, 0.5), Duration::ZERO);
    }
}
