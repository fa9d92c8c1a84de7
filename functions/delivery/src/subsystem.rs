//! The subsystems that give rewards: one HTTP call, signed, under a key that never changes.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use referrals::{
    referral::Referral,
    reward::RewardType,
    runtime::{self, Env, Misconfigured},
    time::Timestamp,
    view::RewardView,
};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use serde::Serialize;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

/// What a subsystem's answer means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// 2xx: it has the reward.
    Taken,
    /// It may or may not have it: ask again.
    Again(Again),
    /// It will not take it: status and a short excerpt.
    Refused(String),
}

/// Why a reward has to be offered again, and when at the earliest, if the subsystem said so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Again {
    pub(crate) reason: String,
    pub(crate) not_before: Option<Duration>,
}

impl<E: std::fmt::Display> From<E> for Again {
    fn from(problem: E) -> Self {
        Self { reason: problem.to_string(), not_before: None }
    }
}

/// Where each type of reward goes, and how calls are signed.
pub(crate) struct Subsystems {
    client: Client,
    credit: Option<Url>,
    coupon: Option<Url>,
    points: Option<Url>,
    /// More than one while a secret is being replaced.
    secrets: Vec<Webhook>,
}

/// The body of the call.
#[derive(Serialize)]
struct Gift<'a> {
    reward_id: String,
    referee_id: &'a str,
    side: referrals::reward::Side,
    user_id: &'a str,
    r#type: RewardType,
    amount: referrals::money::Amount,
    currency: Option<referrals::money::Currency>,
    issued_at: Timestamp,
}

impl Subsystems {
    /// Half of what the function has, so that the mark has its time too.
    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Reads the endpoints and `WEBHOOK_SECRET`: one or more secrets (`whsec_` and base64) parted by spaces.
    pub(crate) fn from_env(env: &Env) -> Result<Self, Misconfigured> {
        // A second call finds the provider in place, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(Self::TIMEOUT)
            .connect_timeout(Duration::from_secs(2))
            .redirect(Policy::none())
            // It would read the proxy from the environment, where nobody of ours put one.
            .no_proxy()
            .build()
            .map_err(|problem| Misconfigured::new("SSL_CERT_FILE", problem))?;
        let secrets: Result<Vec<_>, _> = env.required("WEBHOOK_SECRET")?.split_whitespace().map(Webhook::new).collect();
        let secrets = secrets.map_err(|problem| Misconfigured::new("WEBHOOK_SECRET", problem))?;
        if secrets.is_empty() {
            return Err(Misconfigured::new("WEBHOOK_SECRET", "holds no secret"));
        }
        Ok(Self {
            client,
            credit: endpoint(env, "CREDIT_ENDPOINT")?,
            coupon: endpoint(env, "COUPON_ENDPOINT")?,
            points: endpoint(env, "POINTS_ENDPOINT")?,
            secrets,
        })
    }

    /// Hands a reward over.
    pub(crate) async fn give(&self, referral: &Referral, reward: &RewardView<'_>, now: Timestamp) -> Answer {
        let endpoint = match reward.r#type {
            RewardType::Credit => &self.credit,
            RewardType::Coupon => &self.coupon,
            RewardType::Points => &self.points,
        };
        let Some(endpoint) = endpoint else {
            return Answer::Again(format!("no endpoint is configured for {:?}", reward.r#type).into());
        };
        match self.request(endpoint, referral, reward, now) {
            Ok(request) => match request.send().await {
                Ok(response) => judge(response, now).await,
                Err(problem) => Answer::Again(no_answer(problem).into()),
            },
            Err(problem) => Answer::Again(problem.into()),
        }
    }

    fn request(
        &self,
        endpoint: &Url,
        referral: &Referral,
        reward: &RewardView<'_>,
        now: Timestamp,
    ) -> Result<reqwest::RequestBuilder, Unsendable> {
        let id = reward.reward_id.to_string();
        let body = serde_json::to_string(&Gift {
            reward_id: id.clone(),
            referee_id: referral.referee.as_str(),
            side: reward.side,
            user_id: reward.user_id.as_str(),
            r#type: reward.r#type,
            amount: reward.amount,
            currency: reward.currency,
            issued_at: reward.issued_at,
        })?;
        let signatures = self.secrets.iter().map(|secret| secret.sign(&id, now.seconds(), body.as_bytes()));
        let signature = signatures.collect::<Result<Vec<_>, _>>()?.join(" ");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("idempotency-key", HeaderValue::from_str(&id)?);
        headers.insert(HEADER_WEBHOOK_ID, HeaderValue::from_str(&id)?);
        headers.insert(HEADER_WEBHOOK_TIMESTAMP, HeaderValue::from(now.seconds()));
        headers.insert(HEADER_WEBHOOK_SIGNATURE, HeaderValue::from_str(&signature)?);
        Ok(self.client.post(endpoint.clone()).headers(headers).body(body))
    }
}

/// A call that cannot be put together. Ids and bases of signatures are plain ASCII, so this is not expected.
#[derive(Debug, thiserror::Error)]
enum Unsendable {
    #[error(transparent)]
    Body(#[from] serde_json::Error),
    #[error(transparent)]
    Signature(#[from] standardwebhooks::WebhookError),
    #[error(transparent)]
    Header(#[from] http::header::InvalidHeaderValue),
}

fn endpoint(env: &Env, name: &str) -> Result<Option<Url>, Misconfigured> {
    env.get(name).map(|url| url.parse().map_err(|problem| Misconfigured::new(name, problem))).transpose()
}

/// What went wrong, down to its cause, without the address: that may hold a secret.
fn no_answer(problem: reqwest::Error) -> String {
    format!("no answer: {}", runtime::explain(&problem.without_url()))
}

async fn judge(response: Response, now: Timestamp) -> Answer {
    let status = response.status();
    if status.is_success() {
        return Answer::Taken;
    }
    let not_before = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
    let said = format!("{}: {}", status.as_u16(), excerpt(response).await);
    if passes(status) { Answer::Again(Again { reason: said, not_before }) } else { Answer::Refused(said) }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(value.trim()).ok()?;
            let at = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            at.checked_sub(Duration::from_millis(u64::try_from(now.millis()).ok()?))
        }
    }
}

/// Whether the same call may well be answered otherwise later. A redirect is not followed: it would take the signed
/// reward to wherever the answer says.
fn passes(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// The beginning of what the subsystem said, for the operator; a longer answer is not read to its end.
async fn excerpt(mut response: Response) -> String {
    const LONGEST: usize = 160;
    let mut said = Vec::new();
    while said.len() < LONGEST
        && let Ok(Some(chunk)) = response.chunk().await
    {
        said.extend_from_slice(&chunk);
    }
    said.truncate(LONGEST);
    String::from_utf8_lossy(&said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::try_from("2026-01-31T09:30:00.000Z".to_owned()).unwrap();
        let seconds = |value| retry_after(value, now).map(|pause| pause.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sat, 31 Jan 2026 09:31:30 GMT"), Some(90));
        for useless in ["Sat, 31 Jan 2026 09:29:00 GMT", "-1", "soon", ""] {
            assert_eq!(seconds(useless), None, "{useless}");
        }
    }
}
