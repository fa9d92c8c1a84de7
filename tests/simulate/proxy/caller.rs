//! Who makes a call to the table: a header tells the proxy which invocation it is, for the oracle's sake.

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextMut},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

use super::http::Message;
use crate::{history::INVOCATION, oracle::Invocation, wires::Shared};

const HEADER: &str = "x-simulated-invocation";

/// Puts the invocation's number into each call's header.
#[derive(Debug)]
pub(super) struct Naming(pub(super) Shared);

impl Intercept for Naming {
    fn name(&self) -> &'static str {
        "the invocation's name"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Ok(invocation) = INVOCATION.try_with(Clone::clone) {
            let number = self.0.with(|state| {
                state.callers.push(invocation);
                state.callers.len() - 1
            });
            context.request_mut().headers_mut().insert(HEADER, number.to_string());
        }
        Ok(())
    }
}

/// The invocation that a call names.
pub(super) fn caller(shared: &Shared, request: &Message) -> Option<Invocation> {
    let number: usize = request.header(HEADER).parse().ok()?;
    shared.with(|state| state.callers.get(number).cloned())
}
