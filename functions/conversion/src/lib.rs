//! Processes the product's events: orders, adjustments, flags and sign-ups.
//!
//! The rule sends single events. The delay queue, which delivers every event again, and the function's own dead-letter
//! queue send batches of the same events. A product without an event bus sends events through an SQS queue or Kafka, and
//! the function itself forwards them to the delay queue. Each event is parsed into an `InboundEvent`, applied, and
//! acknowledged only after DynamoDB has stored the result. Invalid input is quarantined when it arrives first, not again as
//! a delayed copy.

mod delay;
mod event;
mod kafka;
mod time;

use lambda_runtime::Error;
use referrals::{
    aws::{Lazy, quarantine::Quarantine},
    cache::CodeCache,
    domain::time::Timestamp,
    lambda::sqs::{self, Disposition, Message},
    lifecycle::{
        SignUps,
        attribute::Attribution,
        convert::{Effect, adjust, convert},
        mint::Mint,
    },
    mutant::{self, Mutant},
    referral::{
        Attention,
        machine::{Refusal, Transition},
    },
    runtime::{Call, Env, Misconfigured, log_outcome::LogOutcome},
    store::{Minted, Outcome, StoreError},
};
use serde_json::Value;

use crate::{
    delay::DelayQueue,
    event::{InboundEvent, Orders, Parsed, SignedUp},
    time::EventTime,
};

/// The function's state.
pub struct App {
    sign_ups: SignUps,
    orders: Orders,
    quarantine: Quarantine,
    delay: DelayQueue,
}

impl App {
    /// Reads `TABLE_NAME`, `FINGERPRINT_KEY`, `QUARANTINE_QUEUE_URL`, `DELAY_QUEUE_URL`, `INCOMING_QUEUE_ARN`,
    /// `ORDER_LEAD_SECONDS` (900), `DELAY_SECONDS` (900) and the program's settings.
    ///
    /// # Errors
    /// Returns an error, which names the variable, when a setting is missing or invalid.
    pub fn new(
        env: &Env,
        dynamodb: aws_sdk_dynamodb::Client,
        sqs: impl Into<Lazy<aws_sdk_sqs::Client>>,
    ) -> Result<Self, Misconfigured> {
        let sqs = sqs.into();
        Ok(Self {
            // Without a cache server: no client waits for a sign-up by event, so a cache would save only one read unit.
            sign_ups: SignUps::from_env(env, &dynamodb, CodeCache::default())?,
            orders: Orders::from_env(env)?,
            quarantine: Quarantine::from_env(env, sqs.clone())?,
            delay: DelayQueue::from_env(env, sqs)?,
        })
    }
}

/// Where and when an event came from.
struct Arrival {
    origin: Origin,
    /// When the event was received first, as far as it is known.
    received_at: Timestamp,
    /// Whether the event comes from the delay queue or a dead-letter queue.
    is_delayed: bool,
}

/// Where an event came from.
#[derive(Clone, PartialEq, Eq)]
enum Origin {
    /// The rule, which itself sends a copy to the delay queue; or the dead-letter queue, whose events have already been
    /// sent there.
    Bus,
    /// The delay queue, or the dead-letter queue instead.
    Copy,
    /// The incoming SQS queue.
    Queue,
    /// Kafka, in this record.
    KafkaRecord(Value),
}

/// Handles one event, or a batch of events from a queue or from Kafka.
///
/// # Errors
/// Returns an error when the event must be delivered again.
pub async fn handle(app: &App, payload: Value, call: Call) -> Result<Value, Error> {
    if kafka::is_batch(&payload) {
        let handle = |mut event, record: Value| {
            kafka::date(&mut event, &record);
            let received_at = kafka::appended_at(&record).map_or(call.now, |at| at.min(call.now));
            let origin = Origin::KafkaRecord(record);
            process(app, event, Arrival { origin, received_at, is_delayed: false }, call)
        };
        return kafka::each(payload, call.deadline, handle).await;
    }
    if sqs::is_batch(&payload) {
        return sqs::each(payload, call.deadline, |message| from_queue(app, message, call)).await;
    }
    let arrival = Arrival { origin: Origin::Bus, received_at: call.now, is_delayed: false };
    process(app, payload, arrival, call).await.map(|()| Value::Null)
}

async fn from_queue(app: &App, message: Message, call: Call) -> Disposition {
    let origin = if app.delay.is_incoming(&message) {
        Origin::Queue
    } else if app.delay.is_copy(&message) {
        Origin::Copy
    } else {
        Origin::Bus
    };
    // A message keeps the time at which it was sent, so that a later attempt or a copy does not override later events.
    let sent_at = message.sent_at.filter(|_| !mutant::is(Mutant::CopyReceivedWhenProcessed));
    let received_at = sent_at.map_or(call.now, |at| at.min(call.now));
    let is_delayed = origin != Origin::Queue;
    match process(app, message.body, Arrival { origin, received_at, is_delayed }, call).await {
        Ok(()) => Disposition::Ack,
        Err(problem) => {
            let outcome = LogOutcome::Failed.as_str();
            tracing::warn!(outcome, message = message.id, attempt = message.receives, %problem);
            Disposition::Retry
        }
    }
}

/// Processes one event, and sends it to the delay queue if it did not come through the bus. An invalid event from Kafka is
/// quarantined with its record, which shows its topic, partition and offset.
async fn process(app: &App, event: Value, arrival: Arrival, call: Call) -> Result<(), Error> {
    let Arrival { origin, received_at, is_delayed } = arrival;
    let time = EventTime::of(&event, received_at, call.now, is_delayed);
    match event::parse(&event, &app.orders, time) {
        Parsed::Event(inbound) => {
            let user = inbound.user().cloned();
            // Boxed because the compiler cannot handle this large future inside the layers of the runtime.
            let applied = Box::pin(apply(app, *inbound, &call)).await;
            let (outcome, of_referral) = match applied {
                Err(_) if mutant::is(Mutant::EventAcknowledgedEarly) => (LogOutcome::Failed, None),
                applied => applied?,
            };
            if let (Some(reason), true) = (unclear(outcome), origin != Origin::Copy) {
                app.quarantine.add("conversion", payload(&event, &origin), reason, call.now).await?;
            }
            match origin {
                Origin::Bus | Origin::Copy => {}
                Origin::Queue | Origin::KafkaRecord(_) => app.delay.send(event, time).await?,
            }
            // Computed only if no referral has a stored id.
            let computed = || user.map(|user| app.sign_ups.correlation_id(&user).as_str().to_owned());
            let correlation_id = of_referral.or_else(computed);
            tracing::info!(outcome = outcome.as_str(), correlation_id);
        }
        Parsed::Ignored => tracing::debug!(outcome = LogOutcome::EventIgnored.as_str()),
        // The event was quarantined when it arrived first.
        Parsed::Invalid(_) if origin == Origin::Copy && !mutant::is(Mutant::InvalidCopyQuarantined) => {
            tracing::info!(outcome = LogOutcome::InvalidCopyIgnored.as_str());
        }
        Parsed::Invalid(reason) => {
            app.quarantine.add("conversion", payload(&event, &origin), reason, call.now).await?;
        }
    }
    Ok(())
}

/// Why an adjustment is quarantined, although it is valid.
fn unclear(outcome: LogOutcome) -> Option<&'static str> {
    match outcome {
        LogOutcome::TooManyAdjustments => Some("its order has too many adjustments"),
        LogOutcome::RefundInOtherCurrency => Some("its order was paid in another currency"),
        _ => None,
    }
}

/// What is quarantined of an event.
fn payload<'a>(event: &'a Value, origin: &'a Origin) -> &'a Value {
    match origin {
        Origin::KafkaRecord(record) => record,
        Origin::Bus | Origin::Copy | Origin::Queue => event,
    }
}

/// What a line of the log says about an event: the outcome, and the correlation id of the referral if there is one.
type Logged = (LogOutcome, Option<String>);

/// Applies an event.
async fn apply(app: &App, event: InboundEvent, call: &Call) -> Result<Logged, StoreError> {
    let store = &app.sign_ups.store;
    Ok(match event {
        InboundEvent::Order(order) => logged(convert(store, &order, call.now).await?, ordered),
        InboundEvent::Adjustment(adjustment) => logged_adjustment(adjust(store, &adjustment, call.now).await?),
        InboundEvent::Flag(user, flag) => {
            let outcome = match (store.set_flag(&user, &flag, call.now).await?, flag.reason) {
                (true, Some(_)) => LogOutcome::Flagged,
                (true, None) => LogOutcome::Cleared,
                (false, _) => LogOutcome::Superseded,
            };
            (outcome, None)
        }
        InboundEvent::SignedUp(sign_up) => sign_up_by_event(app, sign_up, call).await?,
    })
}

/// The outcome of an adjustment. One that an operator has to look at is logged as such, whatever it changed.
fn logged_adjustment(effect: Effect) -> Logged {
    let correlation_id = effect.outcome.as_ref().map(|outcome| outcome.referral().correlation_id());
    let outcome = match effect.attention {
        Some(Attention::RefundInOtherCurrency) => LogOutcome::RefundInOtherCurrency,
        Some(Attention::TooManyAdjustments) => LogOutcome::TooManyAdjustments,
        Some(Attention::OrderStandsAgain) | None => match effect.outcome {
            // Without a change of the referral, the adjustment is kept with its order.
            None | Some(Outcome::Refused(Refusal::OtherOrder, _)) => LogOutcome::AdjustmentNoted,
            outcome => logged(outcome, adjusted).0,
        },
    };
    (outcome, correlation_id)
}

/// The outcome of an order that caused this step.
fn ordered(transition: Transition) -> LogOutcome {
    match transition {
        Transition::Void => LogOutcome::VoidedOnArrival,
        Transition::KeepCandidate => LogOutcome::CandidateKept,
        _ => LogOutcome::Converted,
    }
}

/// The outcome of an adjustment that caused this step.
fn adjusted(transition: Transition) -> LogOutcome {
    match transition {
        Transition::Undo => LogOutcome::Voided,
        Transition::ConvertNext => LogOutcome::NextOrderConverted,
        Transition::Restore => LogOutcome::Restored,
        Transition::Reverse => LogOutcome::Reversed,
        _ => LogOutcome::AdjustmentNoted,
    }
}

/// Mints the new member's own code, and attributes the sign-up if it names a code.
async fn sign_up_by_event(app: &App, sign_up: SignedUp, call: &Call) -> Result<Logged, StoreError> {
    let SignedUp { user, device_fingerprint, attribution } = sign_up;
    let mint = Mint { user, code: None, expires_at: None, device_fingerprint, replaces_ended: false };
    let minted = app.sign_ups.mint(mint, call).await?;
    let Some(attribution) = attribution else {
        let is_new = matches!(minted, Minted::New(_));
        return Ok((if is_new { LogOutcome::Minted } else { LogOutcome::AlreadyMinted }, None));
    };
    let attribution = match attribution {
        Ok(sign_up) => app.sign_ups.attribute(sign_up, call).await?,
        Err(refusal) => Attribution::Refused(refusal),
    };
    Ok(match attribution {
        Attribution::New(referral) => (LogOutcome::Attributed, Some(referral.correlation_id())),
        Attribution::Existing(referral) => (LogOutcome::AlreadyAttributed, Some(referral.correlation_id())),
        Attribution::Refused(refusal) => {
            tracing::warn!(reason = refusal.as_str(), "a sign-up by event was refused");
            (LogOutcome::AttributionRefused, None)
        }
    })
}

/// The outcome of a command; `applied` names the step if there was one.
fn logged(outcome: Option<Outcome>, applied: impl FnOnce(Transition) -> LogOutcome) -> Logged {
    let Some(outcome) = outcome else { return (LogOutcome::NotReferred, None) };
    let (name, referral) = match outcome {
        Outcome::Applied(referral, transition) => (applied(transition), referral),
        Outcome::AlreadyDone(referral) => (LogOutcome::Duplicate, referral),
        Outcome::Refused(refusal, referral) => (refused(refusal), referral),
    };
    (name, Some(referral.correlation_id()))
}

fn refused(refusal: Refusal) -> LogOutcome {
    match refusal {
        Refusal::Unqualified => LogOutcome::NotQualifying,
        Refusal::BeforeSignUp => LogOutcome::OrderBeforeSignUp,
        Refusal::OtherOrder => LogOutcome::OtherOrderConverted,
        Refusal::OtherUser => LogOutcome::OrderOfAnotherUser,
        Refusal::OrderUndone => LogOutcome::OrderUndone,
        Refusal::Status(_) | Refusal::NotDue | Refusal::NeedsAttention => LogOutcome::NoTransition,
    }
}
