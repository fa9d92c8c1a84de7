//! The reward subsystems: one signed HTTP call per instruction, with an idempotency key that never changes.

use std::{
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

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
    domain::time::Timestamp,
    mutant::{self, Mutant},
    referral::reward::{InstructionId, InstructionKind, RewardType},
    runtime::{self, Env, Misconfigured, secret::Secret},
};
use serde::Serialize;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use tokio::time::{Sleep, sleep, timeout};

use crate::secret;

/// The meaning of a subsystem's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// 2xx.
    Accepted,
    /// The subsystem may or may not have processed the call: send it again.
    Retry(Retry),
    /// The subsystem refused permanently: status and the beginning of the body.
    Refused(String),
}

/// Why an instruction has to be sent again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Retry {
    pub(crate) reason: String,
    /// The minimum delay, if the subsystem requested one (`Retry-After`).
    pub(crate) not_before: Option<Duration>,
}

impl<E: std::fmt::Display> From<E> for Retry {
    fn from(problem: E) -> Self {
        Self { reason: problem.to_string(), not_before: None }
    }
}

/// The endpoint of each reward type and the keys that sign the calls.
pub(crate) struct Subsystems {
    http: SharedHttpConnector,
    credit: Option<Endpoint>,
    coupon: Option<Endpoint>,
    points: Option<Endpoint>,
    /// More than one during the rotation of a secret.
    secrets: Secret<Vec<Webhook>>,
    /// How long a call waits for its answer.
    timeout: Duration,
}

/// The URLs of a reward type.
pub(crate) struct Endpoint {
    grants: Uri,
    /// The same URL with `/reversals` at the end of its path.
    reversals: Uri,
}

impl Subsystems {
    /// In seconds. The function has 10 seconds. It stops one second before its end, and the mark may need another 2.5.
    const TIMEOUTS: RangeInclusive<u8> = 1..=6;
    /// In seconds: half of the function's timeout.
    const DEFAULT_TIMEOUT: u8 = 5;

    /// Reads the endpoints, `WEBHOOK_SECRET`: one or more secrets, separated by spaces, and `SUBSYSTEM_TIMEOUT_SECONDS`
    /// (5).
    pub(crate) fn from_env(env: &Env, http: SharedHttpConnector) -> Result<Self, Misconfigured> {
        let secrets = env.secret("WEBHOOK_SECRET", |values| {
            let texts: Vec<_> = values.all().collect();
            secret::webhooks(&texts.join(" ")).map_err(|problem| problem.to_string())
        })?;
        Ok(Self {
            http,
            credit: endpoint(env, "CREDIT_ENDPOINT")?,
            coupon: endpoint(env, "COUPON_ENDPOINT")?,
            points: endpoint(env, "POINTS_ENDPOINT")?,
            secrets,
            timeout: call_timeout(env)?,
        })
    }

    /// Sends an instruction to the subsystem of this reward type.
    pub(crate) async fn send(
        &self,
        id: &InstructionId,
        r#type: RewardType,
        body: &impl Serialize,
        now: Timestamp,
    ) -> Answer {
        let endpoint = match self.require(r#type) {
            Ok(endpoint) => endpoint,
            Err(retry) => return Answer::Retry(retry),
        };
        match self.request(endpoint, id, body, now) {
            Ok(request) => self.call(request, now).await,
            Err(problem) => Answer::Retry(problem.into()),
        }
    }

    /// The endpoint of this reward type. An instruction without one waits until one is configured.
    pub(crate) fn require(&self, r#type: RewardType) -> Result<&Endpoint, Retry> {
        let endpoint = match r#type {
            RewardType::Credit => &self.credit,
            RewardType::Coupon => &self.coupon,
            RewardType::Points => &self.points,
        };
        endpoint.as_ref().ok_or_else(|| format!("no endpoint is configured for {type:?}").into())
    }

    /// Sends the request. The connector does not follow redirects, so they are classified like any other status.
    async fn call(&self, request: HttpRequest, now: Timestamp) -> Answer {
        let call = self.http.call(request);
        let (call, rest) = (timeout(self.timeout, call), sleep(self.timeout));
        match call.await {
            Ok(Ok(response)) => classify(response, rest, now).await,
            Ok(Err(problem)) => Answer::Retry(format!("no answer: {}", runtime::explain(&problem)).into()),
            Err(_elapsed) => Answer::Retry(format!("no answer within {} s", self.timeout.as_secs()).into()),
        }
    }

    fn request(
        &self,
        endpoint: &Endpoint,
        id: &InstructionId,
        body: &impl Serialize,
        now: Timestamp,
    ) -> Result<HttpRequest, InvalidRequest> {
        let url = if id.kind == InstructionKind::Grant { &endpoint.grants } else { &endpoint.reversals };
        let (id, body) = (id.to_string(), serde_json::to_string(body)?);
        let key = if mutant::is(Mutant::KeyRedrawn) { format!("{id}:{}", now.millis()) } else { id.clone() };
        let secrets = self.secrets.get();
        let signatures = secrets.iter().map(|secret| secret.sign(&id, now.seconds(), body.as_bytes()));
        let signature = signatures.collect::<Result<Vec<_>, _>>()?.join(" ");
        let request = Request::post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .header(HEADER_WEBHOOK_ID, &id)
            .header(HEADER_WEBHOOK_TIMESTAMP, now.seconds())
            .header(HEADER_WEBHOOK_SIGNATURE, signature);
        Ok(request.body(SdkBody::from(body))?.try_into()?)
    }
}

/// The request cannot be built. This is not expected, because ids and signatures are ASCII.
#[derive(Debug, thiserror::Error)]
enum InvalidRequest {
    #[error(transparent)]
    Body(#[from] serde_json::Error),
    #[error(transparent)]
    Signature(#[from] standardwebhooks::WebhookError),
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error(transparent)]
    Http(#[from] HttpError),
}

fn endpoint(env: &Env, name: &str) -> Result<Option<Endpoint>, Misconfigured> {
    let Some(url) = env.get(name) else { return Ok(None) };
    let grants: Uri = url.parse().map_err(|problem| Misconfigured::new(name, problem))?;
    if !matches!(grants.scheme_str(), Some("http" | "https")) {
        return Err(Misconfigured::new(name, "expected a URL that starts with http:// or https://"));
    }
    let reversals = reversals_of(&grants).map_err(|problem| Misconfigured::new(name, problem))?;
    Ok(Some(Endpoint { grants, reversals }))
}

/// The URL for reversals. The query stays.
fn reversals_of(grants: &Uri) -> Result<Uri, http::Error> {
    let query = grants.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = grants.clone().into_parts();
    parts.path_and_query = Some(format!("{}/reversals{query}", grants.path().trim_end_matches('/')).parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// The timeout of a call. A larger one would end with the function's own timeout, before the answer is recorded.
fn call_timeout(env: &Env) -> Result<Duration, Misconfigured> {
    const NAME: &str = "SUBSYSTEM_TIMEOUT_SECONDS";
    let allowed = Subsystems::TIMEOUTS;
    let seconds = env.get(NAME).map_or(Some(Subsystems::DEFAULT_TIMEOUT), |value| value.parse().ok());
    let seconds = seconds.filter(|seconds| allowed.contains(seconds)).ok_or_else(|| {
        let problem = format!("expected {} to {} whole seconds", allowed.start(), allowed.end());
        Misconfigured::new(NAME, format!("{problem}, which leaves time to record the answer"))
    })?;
    Ok(Duration::from_secs(seconds.into()))
}

/// Classifies an answer. Reads its body at most until `end`.
async fn classify(mut response: HttpResponse, end: Sleep, now: Timestamp) -> Answer {
    let status = response.status();
    if status.is_success() || (status.is_client_error() && mutant::is(Mutant::RefusalTakenForSuccess)) {
        // Read a short body to its end, so that the connection can be reused.
        excerpt(response.take_body(), sleep(Duration::from_millis(100))).await;
        return Answer::Accepted;
    }
    let not_before = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, now));
    let answer = format!("{}: {}", status.as_u16(), excerpt(response.take_body(), end).await);
    if is_temporary(status.as_u16()) {
        Answer::Retry(Retry { reason: answer, not_before })
    } else {
        Answer::Refused(answer)
    }
}

/// Parses `Retry-After`: seconds or an HTTP date.
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

/// Whether the same call may succeed later. A redirect is a permanent refusal, because following it would send the signed
/// request to another server.
fn is_temporary(status: u16) -> bool {
    (status >= 500 && !mutant::is(Mutant::FailureTakenForRefusal)) || matches!(status, 408 | 409 | 425 | 429)
}

/// The beginning of the subsystem's answer, for the operator. A longer body is not read to its end.
async fn excerpt(body: SdkBody, end: Sleep) -> String {
    const MAX_BYTES: usize = 160;
    let (mut excerpt, mut body) = (Vec::new(), ByteStream::new(body));
    let reading = async {
        while excerpt.len() < MAX_BYTES
            && let Some(Ok(chunk)) = body.next().await
        {
            excerpt.extend_from_slice(&chunk);
        }
    };
    tokio::select! {
        () = reading => {}
        () = end => {}
    }
    excerpt.truncate(MAX_BYTES);
    String::from_utf8_lossy(&excerpt).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_a_few_seconds() {
        let seconds = |value: &str| call_timeout(&Env::default().with("SUBSYSTEM_TIMEOUT_SECONDS", value));
        assert_eq!(call_timeout(&Env::default()), Ok(Duration::from_secs(5)));
        for (value, expected) in [("", 5), ("1", 1), ("6", 6)] {
            assert_eq!(seconds(value), Ok(Duration::from_secs(expected)), "{value}");
        }
        for invalid in ["0", "7", "10", "-1", "2.5", "5s", "300"] {
            let problem = seconds(invalid).unwrap_err().to_string();
            assert!(problem.contains("SUBSYSTEM_TIMEOUT_SECONDS") && problem.contains("1 to 6"), "{problem}");
        }
    }

    #[test]
    fn the_url_for_reversals_extends_the_path() {
        for (grants, reversals) in [
            ("https://shop.example.com/credit", "https://shop.example.com/credit/reversals"),
            ("https://shop.example.com/credit/?key=1", "https://shop.example.com/credit/reversals?key=1"),
            ("http://shop.example.com:8080", "http://shop.example.com:8080/reversals"),
        ] {
            assert_eq!(reversals_of(&grants.parse().unwrap()).unwrap(), reversals);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::try_from("2026-01-31T09:30:00.000Z".to_owned()).unwrap();
        let seconds = |value| retry_after(value, now).map(|pause| pause.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sat, 31 Jan 2026 09:31:30 GMT"), Some(90));
        for invalid in ["Sat, 31 Jan 2026 09:29:00 GMT", "-1", "soon", ""] {
            assert_eq!(seconds(invalid), None, "{invalid}");
        }
    }
}
