//! The dead-letter queues: their message counts, and redriving their messages to the source queues.

use aws_sdk_sqs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{
        ListMessageMoveTasksResultEntry,
        QueueAttributeName::{ApproximateNumberOfMessages, QueueArn},
    },
};
use futures_util::future::try_join_all;
use lambda_http::{Body, Response, http::StatusCode};
use referrals::{
    aws::Lazy,
    domain::time::Timestamp,
    lambda::http::{problem::Problem, request, response::json},
    runtime::{self, Env, Misconfigured, log_outcome::LogOutcome},
};
use serde::{Deserialize, Serialize};

use crate::{
    number::within,
    problem::{queue_not_found, under_way},
};

/// The dead-letter queues that can be redriven.
pub(crate) struct DeadLetters {
    client: Lazy<Client>,
    queues: [(&'static str, String); 4],
}

/// A queue in the form that operators see.
#[derive(Serialize)]
struct QueueView {
    queue: &'static str,
    /// The approximate number of messages.
    messages: u64,
    #[serde(skip)]
    arn: String,
}

/// A queue with the state of its last redrive.
#[derive(Serialize)]
struct QueueState {
    #[serde(flatten)]
    queue: QueueView,
    last_redrive: Option<Redrive>,
}

/// A redrive, as SQS reports it. It can fail after it was accepted, for example if a source queue does not exist any
/// more.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Redrive {
    /// `running`, `completed`, `cancelling`, `cancelled` or `failed`.
    status: String,
    started_at: Option<Timestamp>,
    /// The approximate number of messages that were moved.
    moved: u64,
    /// The number of messages when the redrive started, once SQS has counted them.
    to_move: Option<u64>,
    failure_reason: Option<String>,
}

impl From<&ListMessageMoveTasksResultEntry> for Redrive {
    fn from(task: &ListMessageMoveTasksResultEntry) -> Self {
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        Self {
            status: task.status().unwrap_or_default().to_lowercase(),
            started_at: Timestamp::from_millis(task.started_timestamp()),
            moved: count(task.approximate_number_of_messages_moved()),
            to_move: task.approximate_number_of_messages_to_move().map(count),
            failure_reason: task.failure_reason().map(str::to_owned),
        }
    }
}

/// The answer of `GET /admin/dead-letters`.
#[derive(Serialize)]
struct Queues {
    items: Vec<QueueState>,
}

/// The body of `POST /admin/dead-letters/{queue}/redrive`. The body is optional.
#[derive(Debug, Default, Deserialize)]
struct RedriveBody {
    per_second: Option<f64>,
}

impl DeadLetters {
    pub(crate) fn from_env(env: &Env, client: Lazy<Client>) -> Result<Self, Misconfigured> {
        let url = |name| env.required(name).map(str::to_owned);
        Ok(Self {
            client,
            queues: [
                ("credit", url("CREDIT_DEAD_LETTER_QUEUE_URL")?),
                ("coupon", url("COUPON_DEAD_LETTER_QUEUE_URL")?),
                ("points", url("POINTS_DEAD_LETTER_QUEUE_URL")?),
                ("conversion", url("CONVERSION_POISON_QUEUE_URL")?),
            ],
        })
    }

    /// `GET /admin/dead-letters`: the number of messages in each queue, and the state of its last redrive.
    pub(crate) async fn list(&self) -> Result<Response<Body>, Problem> {
        let states = self.queues.iter().map(|(name, url)| async move {
            let queue = self.describe(name, url).await?;
            let last_redrive = self.last_redrive(&queue.arn).await?;
            Ok::<_, Problem>(QueueState { queue, last_redrive })
        });
        Ok(json(StatusCode::OK, &Queues { items: try_join_all(states).await? }))
    }

    /// `POST /admin/dead-letters/{queue}/redrive`: starts moving all messages of a queue back to their source queue.
    pub(crate) async fn redrive(&self, queue: &str, body: &[u8]) -> Result<Response<Body>, Problem> {
        let body: RedriveBody = if body.is_empty() { RedriveBody::default() } else { request::json(body)? };
        let per_second = i32::try_from(within("per_second", body.per_second, 10, 500)?).unwrap_or(1);
        let known = self.queues.iter().find(|(name, _)| *name == queue);
        let (name, url) = known.ok_or_else(queue_not_found)?;
        let found = self.describe(name, url).await?;
        let task = self.client.start_message_move_task().source_arn(&found.arn);
        match task.max_number_of_messages_per_second(per_second).send().await {
            Ok(_) => {
                tracing::info!(outcome = LogOutcome::DeadLettersRedriven.as_str(), queue, messages = found.messages);
                Ok(json(StatusCode::ACCEPTED, &found))
            }
            Err(problem) if is_under_way(&problem) => Err(under_way()),
            Err(problem) => Err(Problem::unavailable(runtime::explain(&problem))),
        }
    }

    /// The last redrive of a queue, running or ended. SQS forgets it after some time.
    async fn last_redrive(&self, arn: &str) -> Result<Option<Redrive>, Problem> {
        let request = self.client.list_message_move_tasks().source_arn(arn).max_results(1);
        let answer = request.send().await.map_err(|problem| Problem::unavailable(runtime::explain(&problem)))?;
        Ok(answer.results().first().map(Redrive::from))
    }

    async fn describe(&self, queue: &'static str, url: &str) -> Result<QueueView, Problem> {
        let request = self.client.get_queue_attributes().queue_url(url);
        let request = request.attribute_names(ApproximateNumberOfMessages).attribute_names(QueueArn);
        let answer = request.send().await.map_err(|problem| Problem::unavailable(runtime::explain(&problem)))?;
        let attribute = |name| answer.attributes.as_ref().and_then(|attributes| attributes.get(&name)).cloned();
        let messages = attribute(ApproximateNumberOfMessages).and_then(|count| count.parse().ok());
        let arn = attribute(QueueArn).ok_or_else(|| Problem::unavailable("the answer of the queue has no ARN"))?;
        Ok(QueueView { queue, messages: messages.unwrap_or_default(), arn })
    }
}

/// Whether a redrive of this queue is already running. SQS documents the error `UnsupportedOperation` for this case, but
/// answers `InvalidParameterValue`, which also has other causes.
fn is_under_way<E: ProvideErrorMetadata, R>(problem: &SdkError<E, R>) -> bool {
    let Some(error) = problem.as_service_error() else { return false };
    error.code().is_some_and(|code| code.ends_with("UnsupportedOperation"))
        || error.message().is_some_and(|message| message.contains("already a task running"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_redrive_shows_its_reason() {
        let task = ListMessageMoveTasksResultEntry::builder()
            .status("FAILED")
            .started_timestamp(1_764_547_200_000)
            .approximate_number_of_messages_moved(2)
            .approximate_number_of_messages_to_move(5)
            .failure_reason("AWS.SimpleQueueService.NonExistentQueue")
            .build();
        let expected = Redrive {
            status: "failed".to_owned(),
            started_at: Timestamp::from_millis(1_764_547_200_000),
            moved: 2,
            to_move: Some(5),
            failure_reason: Some("AWS.SimpleQueueService.NonExistentQueue".to_owned()),
        };
        assert_eq!(Redrive::from(&task), expected);
    }
}
