//! Values of the domain. External text becomes one of these types, or an error that says what is wrong with it. Nothing
//! here reads the environment or calls AWS.

pub mod account;
pub mod adjustments;
pub mod code;
pub mod correlation;
pub mod device;
pub mod id;
pub mod money;
pub mod order;
pub mod time;
