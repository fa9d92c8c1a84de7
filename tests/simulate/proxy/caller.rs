//! Adds a header to each call that names the invocation, because the oracle checks rules per invocation.

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextMut},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

use super::http::Message;
use crate::{history::INVOCATION, oracle::Invocation, transport::Shared};

const HEADER: &str = "x-simulated-invocation";

/// Adds the invocation's number to each call as a header.
#[derive(Debug)]
pub(super) struct InvocationHeader(pub(super) Shared);

impl Intercept for InvocationHeader {
    fn name(&self) -> &'static str {
        "invocation header"
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

/// The invocation that made this call.
pub(super) fn caller(shared: &Shared, request: &Message) -> Option<Invocation> {
    let number: usize = request.header(HEADER).parse().ok()?;
    shared.with(|state| state.callers.get(number).cloned())
}
