//! What a judgement about who may pass comes to on the way of a request.

use std::time::Duration;

use crate::{
    access::passed::Passed,
    io::wire::{BufferedStream, Stream},
    message::{denial::Denial, refusal::GatewayError},
    proxy::{context::Gateway, forward::Forward, reply::Next},
    table::routing_table::Service,
};

impl Gateway {
    /// Forwards a request of a service that asks for something, once that is settled.
    pub(super) async fn forward_checked<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        mut serving: Box<Forward<'_>>,
        mut passed: Box<Passed>,
    ) -> Next {
        if let Err(denial) = passed.settle().await {
            let refusal = denied(self, serving.service, denial);
            return self.give_up(client, serving, &refusal).await;
        }
        if let Some(head) = serving.request.open_head() {
            passed.write(head);
        }
        // What it holds is the client's until the last byte.
        let next = self.forward(client, serving).await;
        drop(passed);
        next
    }
}

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
