//! Behind EventBridge: convert, withdraw, flag, and sign up by event.
//!
//! One event comes from the rule; batches of the same come from the delay queue, which brings every event once more,
//! and from the function's own dead-letter queue. Where the product has no bus, they come from a queue or from Kafka,
//! and the function itself sends them on to the delay queue. Each is read as `news::News`, acted upon, and acknowledged
//! only when the table has it. What cannot be read is put aside first.

mod echo;
mod kafka;
mod news;

use lambda_runtime::Error;
use referrals::{
    aws::Lazy,
    batch::{self, Fate, Message},
    cache::CodeCache,
    life::{
        Intake,
        attribute::Outcome as Attribution,
        convert::{adjust, convert},
        mint::Mint,
    },
    machine::Refusal,
    mutant::{self, Mutant},
    quarantine::Quarantine,
    referral::Status,
    runtime::{Call, Env, Misconfigured},
    store::{Minted, Outcome, StoreError},
};
use serde_json::Value;

use crate::{
    echo::Echo,
    news::{News, Reading, SignedUp},
};

/// The function's state.
pub struct App {
    intake: Intake,
    quarantine: Quarantine,
    echo: Echo,
}

impl App {
    /// Reads `TABLE_NAME`, `FINGERPRINT_KEY`, `QUARANTINE_QUEUE_URL`, `DELAY_QUEUE_URL`, `INCOMING_QUEUE_ARN` and the
    /// program's settings.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read; it names the variable.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        sqs: impl Into<Lazy<aws_sdk_sqs::Client>>,
    ) -> Result<Self, Misconfigured> {
        let sqs = sqs.into();
        Ok(Self {
            // By memory alone: nobody waits for a sign-up by event, so a server would save a read unit and no more.
            intake: Intake::from_env(env, &dynamodb, CodeCache::default())?,
            quarantine: Quarantine::from_env(env, sqs.clone())?,
            echo: Echo::from_env(env, sqs)?,
        })
    }
}

/// Handles an event, or a batch of them from a queue or from Kafka.
///
/// # Errors
/// When the event did not become certain: it must come again.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    if kafka::is_batch(&payload) {
        return kafka::each(payload, call.deadline, |event, record| take_in(app, event, Some(record), true, call))
            .await;
    }
    if batch::is_batch(&payload) {
        return batch::each(payload, call.deadline, |message| from_queue(app, message, call)).await;
    }
    take_in(app, payload, None, false, call).await.map(|()| Value::Null)
}

async fn from_queue(app: &App, message: Message, call: Call) -> Fate {
    let once_more = app.echo.is_wanted(&message);
    match take_in(app, message.body, None, once_more, call).await {
        Ok(()) => Fate::Done,
        Err(problem) => {
            tracing::warn!(outcome = "failed", message = message.id, attempt = message.receives, %problem);
            Fate::Again
        }
    }
}

/// Takes an event in. What cannot be read is put aside: the record that the event came in, where there is one, for that
/// says where it was. What came past the rule has to come `once_more`, which is the rule's second target for the rest.
async fn take_in(app: &App, event: Value, record: Option<Value>, once_more: bool, call: Call) -> Result<(), Error> {
    match news::read(&event, &app.intake.program.terms.qualifying_event, call.now) {
        Reading::News(news) => {
            // Boxed, for it is many states in one: the compiler would not follow it through the runtime's layers.
            let (who, outcome) = (news.user().hashed(), Box::pin(act(app, news, &call)).await);
            let outcome = if mutant::is(Mutant::EventAcknowledgedEarly) { outcome.unwrap_or("lost") } else { outcome? };
            if once_more {
                app.echo.send(&event).await?;
            }
            tracing::info!(outcome, correlation_id = who);
        }
        Reading::Unknown => tracing::debug!(outcome = "ignored"),
        Reading::Broken(reason) => {
            app.quarantine.park("conversion", record.as_ref().unwrap_or(&event), reason, call.now).await?;
        }
    }
    Ok(())
}

/// Does what the news asks for, and says what came of it.
async fn act(app: &App, news: News, call: &Call) -> Result<&'static str, StoreError> {
    let store = &app.intake.store;
    Ok(match news {
        News::Order(order) => match convert(store, &order, call.now).await? {
            Some(Outcome::Applied(voided)) if voided.status() == Status::Voided => "voided: withdrawn before it came",
            stepped => say(stepped, "converted"),
        },
        News::Withdrawal(withdrawal) => match adjust(store, &withdrawal, call.now).await? {
            Some(Outcome::Applied(noted)) if noted.status() == Status::Pending => "withdrawn before its order came",
            stepped => say(stepped, "voided"),
        },
        News::Standing(user, standing) => match (store.set_standing(&user, &standing).await?, standing.flag) {
            (true, Some(_)) => "flagged",
            (true, None) => "cleared",
            (false, _) => "later news was known",
        },
        News::SignedUp(sign_up) => take_up(app, sign_up, call).await?,
    })
}

/// Mints the new member's own code, and attributes them if they came by somebody's.
async fn take_up(app: &App, sign_up: SignedUp, call: &Call) -> Result<&'static str, StoreError> {
    let SignedUp { user, device_fingerprint, attribution } = sign_up;
    let minted = app.intake.mint(Mint { user, code: None, expires_at: None, device_fingerprint }, call).await?;
    let Some(attribution) = attribution else {
        return Ok(if matches!(minted, Minted::New(_)) { "minted" } else { "minted before" });
    };
    Ok(match app.intake.attribute(attribution, call).await? {
        Attribution::New(_) => "attributed",
        Attribution::Existing(_) => "attributed before",
        Attribution::Refused(reason) => {
            tracing::warn!(?reason, "a sign-up was not attributed");
            "attribution refused"
        }
    })
}

fn say(stepped: Option<Outcome>, done: &'static str) -> &'static str {
    match stepped {
        None => "not referred",
        Some(Outcome::Applied(_)) => done,
        Some(Outcome::AlreadyDone(_)) => "repeated",
        Some(Outcome::Refused(Refusal::Unqualified, _)) => "does not qualify",
        Some(Outcome::Refused(Refusal::OtherOrder, _)) => "another order converted",
        Some(Outcome::Refused(Refusal::PartialRefund, _)) => "a partial refund changes nothing",
        Some(Outcome::Refused(Refusal::Status(_) | Refusal::NotDue, _)) => "changes nothing in this state",
    }
}
