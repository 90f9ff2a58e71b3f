//! What a judgement about who may pass comes to on the way of a request.

use std::time::Duration;

use crate::{
    access::passed::Passed,
    io::wire::{BufferedStream, Stream},
    message::{denial::Denial, refusal::GatewayError},
    proxy::{
        auth_service::{self, Judgement},
        context::Gateway,
        forward::Forward,
        reply::Next,
    },
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
        let judged = match passed.settle().await {
            Ok(()) => self.ask_of(client, &serving, &mut passed).await,
            Err(denial) => Err(Judgement::Refused(denial)),
        };
        let counted = judged.and_then(|()| passed.count().map_err(Judgement::Refused));
        match counted {
            Ok(()) => {}
            Err(Judgement::Answered(next)) => return next,
            Err(Judgement::Refused(denial)) => {
                let refusal = denied(self, serving.service, denial);
                return self.give_up(client, serving, &refusal).await;
            }
        }
        if let Some(head) = serving.request.open_head() {
            passed.write(head);
        }
        // What it holds is the client's until the last byte.
        let next = self.forward(client, serving).await;
        drop(passed);
        next
    }

    /// Asks the service that is to be asked, if one is.
    async fn ask_of<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        serving: &Forward<'_>,
        passed: &mut Passed,
    ) -> Result<(), Judgement> {
        let Some((rule, question)) = passed.take_question() else { return Ok(()) };
        // A question that was not put lets nothing through.
        let Some(question) = question else { return Err(auth_service::away()) };
        let identity = self.ask_auth_service(client, &rule, *question, serving.downstream).await?;
        passed.identified(identity);
        Ok(())
    }
}

/// A request of `service` is refused for want of something: counted with the service's answers, and the reason, which
/// has nothing of a credential, is there for who looks for it.
pub(super) fn denied(gateway: &Gateway, service: &Service, denial: Box<Denial>) -> GatewayError {
    let Denial { status, code, .. } = &*denial;
    gateway.counters(service).responded(status.as_u16(), Duration::ZERO);
    tracing::debug!(
        target: "balance::access", { service.name = %service.name, code, status = status.as_u16() },
        "request refused by the service's policy",
    );
    GatewayError::Denied(denial)
}
