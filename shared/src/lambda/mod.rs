//! What functions need to process the batches that Lambda hands them.

pub mod stream;
