//! What a judgement about who may pass comes to on the way of a request.

use std::time::Duration;

use crate::{
    message::{denial::Denial, refusal::GatewayError},
    proxy::context::Gateway,
    table::routing_table::Service,
};

/// A request of `service` is refused for want of something: counted with the service's answers, and the reason, which has nothing
/// of a credential, is there for who looks for it.
pub(super) fn denied(gateway: &Gateway, service: &Service, denial: Box<Denial>) -> GatewayError {
    let Denial { status, code, .. } = &*denial;
    gateway.counters(service).responded(status.as_u16(), Duration::ZERO);
    tracing::debug!(
        target: "balance::access", { service.name = %service.name, code, status = status.as_u16() },
        "request refused by the service's policy",
    );
    GatewayError::Denied(denial)
}
