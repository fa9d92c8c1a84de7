//! The formats in which Lambda invokes the functions: HTTP requests, batches from SQS and batches from streams.

#[cfg(feature = "http")]
pub mod http;
pub mod sqs;
pub mod stream;
