//! The referral service on one machine: the real functions, fed what AWS would send, on an embedded DynamoDB.
//!
//! What is deployed is read from `template.yaml`: table, queues, rules and what feeds what. Around the functions stand
//! parts that each play one service of AWS, by its rules, in minutes made seconds:
//!
//! - the front: [`gateway`] (API Gateway), [`aws`] (the JSON protocol) with [`bus`] (EventBridge) and [`sqs`], and
//!   [`subsystems`] (stand-ins for what rewards are handed to, and a look inside, for people [`live`]);
//! - the pumps: [`queue`], [`stream`] and [`schedule`] hand to [`functions`] what is due;
//! - the memory: [`dynamodb`], the table itself, and [`journal`], all the rest;
//! - and for whoever breaks calls on purpose, [`answers`], and the table alone, [`embedded`]; for whoever is told of events
//!   in other words, [`transformer`].
//!
//! ```no_run
//! # async fn example() -> Result<(), local::StartError> {
//! let service = local::Service::start(local::Options::default()).await?;
//! println!("ready {}", service.url());
//! service.stop().await;
//! # Ok(())
//! # }
//! ```

#![allow(rustdoc::private_intra_doc_links, reason = "a tour for those who read the source")]

pub mod answers;
mod aws;
mod bus;
mod clock;
mod deployment;
mod dynamodb;
mod embedded;
mod functions;
mod gateway;
mod journal;
mod live;
mod pattern;
mod problem;
mod queue;
mod schedule;
mod secrets;
mod service;
mod sqs;
mod stream;
mod subsystems;
mod template;
mod transformer;

pub use dynamodb::DynamoError;
pub use embedded::{Definition, Embedded, EmbeddedError};
pub use functions::Failure;
pub use journal::JournalError;
pub use service::{Options, Pace, Service, StartError, stretched};
pub use template::{TemplateError, yaml};
pub use transformer::{Transformer, TransformerError};

/// What the service runs by: `template.yaml` as JSON, where a reference is the logical id that it names and a parameter
/// is its default.
///
/// # Errors
/// When the template cannot be read.
pub fn template() -> Result<serde_json::Value, TemplateError> {
    template::read(deployment::TEMPLATE, &referrals::runtime::Env::default())
}
