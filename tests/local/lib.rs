//! The referral service on one machine: the real functions, fed what AWS would send, on an embedded DynamoDB.
//!
//! The deployment is read from `template.yaml`: the table, queues, rules and event sources. Each module around the
//! functions emulates one AWS service by its rules, with delays shortened from minutes to seconds:
//!
//! - front end: [`gateway`] (API Gateway), [`aws`] (the JSON protocol) with [`bus`] (EventBridge), [`sqs`] and
//!   [`secrets_manager`], [`subsystems`] (stand-in reward endpoints and inspection paths) and [`live`] (a web page);
//! - workers: [`queue`], [`stream`] and [`schedule`] invoke [`functions`] when there is work;
//! - storage: [`dynamodb`] (the table) and [`journal`] (everything else);
//! - for tests: [`answers`] (injected DynamoDB failures), [`embedded`] (only the table), [`runtime_api`] (a function as a
//!   process) and [`transformer`] (EventBridge input transformers).
//!
//! ```no_run
//! # async fn example() -> Result<(), local::StartError> {
//! let service = local::Service::start(local::Options::default()).await?;
//! println!("ready {}", service.url());
//! service.stop().await;
//! # Ok(())
//! # }
//! ```

#![allow(rustdoc::private_intra_doc_links, reason = "an overview for readers of the source")]

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
pub mod runtime_api;
mod schedule;
mod secrets;
mod secrets_manager;
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

/// `template.yaml` as JSON, in which a reference is the logical id that it names and a parameter is its default.
///
/// # Errors
/// Returns an error when the template cannot be read.
pub fn template() -> Result<serde_json::Value, TemplateError> {
    template::read(deployment::TEMPLATE, &referrals::runtime::Env::default())
}

/// The nested template of alarms and dashboard as JSON, with the parameters that `template.yaml` passes to it.
///
/// # Errors
/// Returns an error when either template cannot be read.
pub fn monitoring() -> Result<serde_json::Value, TemplateError> {
    template::nested(deployment::MONITORING, &template()?["Resources"]["Monitoring"])
}
