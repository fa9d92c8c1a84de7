//! The subsystems that give rewards: one HTTP call, signed, under a key that never changes.

use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::HttpError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use http::{
    Request, Uri,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use referrals::{
    mutant::{self, Mutant},
    referral::Referral,
    reward::RewardType,
    runtime::{self, Env, Misconfigured},
    time::Timestamp,
    view::RewardView,
};
use serde::Serialize;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use tokio::time::{Sleep, sleep, timeout};

/// What a subsystem's answer means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// 2xx: it has the reward.
    Accepted,
    /// It may or may not have it: ask again.
    Retry(Retry),
    /// It will not take it: status and a short excerpt.
    Refused(String),
}

/// Why a reward has to be offered again, and when at the earliest, if the subsystem said so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Retry {
    pub(crate) reason: String,
    pub(crate) not_before: Option<Duration>,
}

impl<E: std::fmt::Display> From<E> for Retry {
    fn from(problem: E) -> Self {
        Self { reason: problem.to_string(), not_before: None }
    }
}

/// Where each type of reward goes, and how calls are signed.
pub(crate) struct Subsystems {
    http: SharedHttpConnector,
    credit: Option<Uri>,
    coupon: Option<Uri>,
    points: Option<Uri>,
    /// More than one while a secret is being replaced.
    secrets: Vec<Webhook>,
}

/// The body of the call.
#[derive(Serialize)]
struct RewardRequest<'a> {
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
    pub(crate) fn from_env(env: &Env, http: SharedHttpConnector) -> Result<Self, Misconfigured> {
        let secrets: Result<Vec<_>, _> = env.required("WEBHOOK_SECRET")?.split_whitespace().map(Webhook::new).collect();
        let secrets = secrets.map_err(|problem| Misconfigured::new("WEBHOOK_SECRET", problem))?;
        if secrets.is_empty() {
            return Err(Misconfigured::new("WEBHOOK_SECRET", "holds no secret"));
        }
        Ok(Self {
            http,
            credit: endpoint(env, "CREDIT_ENDPOINT")?,
            coupon: endpoint(env, "COUPON_ENDPOINT")?,
            points: endpoint(env, "POINTS_ENDPOINT")?,
            secrets,
        })
    }

    /// Hands a reward over.
    pub(crate) async fn send(&self, referral: &Referral, reward: &RewardView<'_>, now: Timestamp) -> Answer {
        let endpoint = match reward.r#type {
            RewardType::Credit => &self.credit,
            RewardType::Coupon => &self.coupon,
            RewardType::Points => &self.points,
        };
        let Some(endpoint) = endpoint else {
            return Answer::Retry(format!("no endpoint is configured for {:?}", reward.r#type).into());
        };
        match self.request(endpoint, referral, reward, now) {
            Ok(request) => self.call(request, now).await,
            Err(problem) => Answer::Retry(problem.into()),
        }
    }

    /// Redirects are not followed: the connector follows none.
    async fn call(&self, request: HttpRequest, now: Timestamp) -> Answer {
        let call = self.http.call(request);
        let (call, rest) = (timeout(Self::TIMEOUT, call), sleep(Self::TIMEOUT));
        match call.await {
            Ok(Ok(response)) => judge(response, rest, now).await,
            Ok(Err(problem)) => Answer::Retry(format!("no answer: {}", runtime::explain(&problem)).into()),
            Err(_elapsed) => Answer::Retry(format!("no answer within {} s", Self::TIMEOUT.as_secs()).into()),
        }
    }

    fn request(
        &self,
        endpoint: &Uri,
        referral: &Referral,
        reward: &RewardView<'_>,
        now: Timestamp,
    ) -> Result<HttpRequest, Unsendable> {
        let id = reward.reward_id.to_string();
        let body = serde_json::to_string(&RewardRequest {
            reward_id: id.clone(),
            referee_id: referral.referee.as_str(),
            side: reward.side,
            user_id: reward.user_id.as_str(),
            r#type: reward.r#type,
            amount: reward.amount,
            currency: reward.currency,
            issued_at: reward.issued_at,
        })?;
        let key = if mutant::is(Mutant::KeyRedrawn) { format!("{id}:{}", now.millis()) } else { id.clone() };
        let signatures = self.secrets.iter().map(|secret| secret.sign(&id, now.seconds(), body.as_bytes()));
        let signature = signatures.collect::<Result<Vec<_>, _>>()?.join(" ");
        let request = Request::post(endpoint)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .header(HEADER_WEBHOOK_ID, &id)
            .header(HEADER_WEBHOOK_TIMESTAMP, now.seconds())
            .header(HEADER_WEBHOOK_SIGNATURE, signature);
        Ok(request.body(SdkBody::from(body))?.try_into()?)
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
    Request(#[from] http::Error),
    #[error(transparent)]
    Http(#[from] HttpError),
}

fn endpoint(env: &Env, name: &str) -> Result<Option<Uri>, Misconfigured> {
    let Some(url) = env.get(name) else { return Ok(None) };
    let uri: Uri = url.parse().map_err(|problem| Misconfigured::new(name, problem))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok(Some(uri)),
        _ => Err(Misconfigured::new(name, "expected a URL that begins with http:// or https://")),
    }
}

/// What an answer means, whose body is read until `end` at most.
async fn judge(mut response: HttpResponse, end: Sleep, now: Timestamp) -> Answer {
    let status = response.status();
    if status.is_success() || (status.is_client_error() && mutant::is(Mutant::RefusalTakenForSuccess)) {
        // Read to its end, where that is near, so that the connection can be used again.
        excerpt(response.take_body(), sleep(Duration::from_millis(100))).await;
        return Answer::Accepted;
    }
    let not_before = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, now));
    let said = format!("{}: {}", status.as_u16(), excerpt(response.take_body(), end).await);
    if passes(status.as_u16()) { Answer::Retry(Retry { reason: said, not_before }) } else { Answer::Refused(said) }
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
fn passes(status: u16) -> bool {
    (status >= 500 && !mutant::is(Mutant::FailureTakenForRefusal)) || matches!(status, 408 | 409 | 425 | 429)
}

/// The beginning of what the subsystem said, for the operator; a longer answer is not read to its end.
async fn excerpt(body: SdkBody, end: Sleep) -> String {
    const LONGEST: usize = 160;
    let (mut said, mut body) = (Vec::new(), ByteStream::new(body));
    let reading = async {
        while said.len() < LONGEST
            && let Some(Ok(chunk)) = body.next().await
        {
            said.extend_from_slice(&chunk);
        }
    };
    tokio::select! {
        () = reading => {}
        () = end => {}
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
