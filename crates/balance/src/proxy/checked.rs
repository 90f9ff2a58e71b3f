//! What a judgement about who may pass comes to on the way of a request.

use std::{future::poll_fn, time::Duration};

use crate::{
    access::{passed::Passed, rules::Access},
    downstream::exchange::{DownstreamExchange, Ended},
    message::{denial::Denial, gateway_error::GatewayError},
    proxy::{
        auth_service::{self, Judgement},
        context::{Gateway, RequestContext},
        forward::{Forward, Served},
        question::Question,
    },
    table::routing_table::Service,
};

/// How often it is looked whether the client of a tunnel may still use the service.
const REVIEW: Duration = Duration::from_secs(1);

impl Gateway {
    /// Forwards a request of a service that asks for something, once that is settled.
    pub(super) async fn forward_checked<D: DownstreamExchange>(
        &self,
        client: &mut D,
        mut forward: Box<Forward<'_>>,
        mut passed: Box<Passed>,
    ) -> Ended {
        let context = forward.context;
        let began = self.clock.read();
        let settled = match passed.enter() {
            Ok(()) => {
                tokio::select! {
                    biased;
                    settled = passed.settle(&self.clock) => settled.map_err(Judgement::Refused),
                    // What no client waits for is not worked out.
                    () = left(client) => Err(Judgement::ClientClosed),
                }
            }
            Err(denial) => Err(Judgement::Refused(denial)),
        };
        let judged = match settled {
            Ok(()) => self.ask_of(client, &context, &mut passed).await,
            refused => refused,
        };
        let now = self.clock.read();
        match judged.and_then(|()| passed.count(now).map_err(Judgement::Refused)) {
            Ok(()) => {}
            Err(Judgement::ClientClosed) => {
                context.counters().responded(Served::status(&Ok(Served::ClientClosed)), now - began);
                return Ended::Broken;
            }
            Err(Judgement::Answered(answer)) => {
                let facts = &forward.upload.request.facts;
                return self.pass_judgement_on(client, context.timers, facts, answer).await;
            }
            Err(Judgement::Refused(denial)) => {
                let refusal = denied(self, context.service, denial);
                return self.give_up(client, forward, &refusal).await;
            }
        }
        if let Some(head) = forward.upload.request.open_head() {
            passed.write(head);
        }
        forward.resume(now);
        // What it holds is the client's until the last byte.
        let ended = match self.serve(client, &mut forward).await {
            Ok(Served::Tunnel { attempt }) => {
                let tunnel = self.deliver(client, forward, Ok(Served::Tunnel { attempt }));
                tokio::select! {
                    ended = tunnel => ended,
                    () = self.lose_access(&context, &passed) => Ended::Broken,
                }
            }
            served => self.deliver(client, forward, served).await,
        };
        drop(passed);
        ended
    }

    /// Waits until the client may not use the service any more: its key is revoked or has expired, or the service asks
    /// for something else. A response has an end that can be waited for; a tunnel has none.
    async fn lose_access(&self, context: &RequestContext<'_>, passed: &Passed) {
        loop {
            tokio::time::sleep(REVIEW).await;
            let table = self.table.load();
            let name = &context.service.name;
            // Of a service that is not there any more only the keys may have changed.
            let newest = table.service(name.as_str()).unwrap_or(context.service).access.as_deref();
            let holds =
                |judged_by: &Access| judged_by.still_holds(passed.key(), newest, table.keys(), self.clock.wall());
            if !context.service.access.as_deref().is_none_or(holds) {
                tracing::debug!(target: "balance::access", { service.name = %name }, "a tunnel ends whose client lost access");
                return;
            }
        }
    }

    /// Asks the service that is to be asked, if one is.
    async fn ask_of<D: DownstreamExchange>(
        &self,
        client: &mut D,
        context: &RequestContext<'_>,
        passed: &mut Passed,
    ) -> Result<(), Judgement> {
        let Some((rule, question)) = passed.take_question() else { return Ok(()) };
        // A question that was not put lets nothing through.
        let Some(question) = question else { return Err(auth_service::away()) };
        let identity = self.ask_auth_service(client, context.timers, &rule, *question).await?;
        passed.identified(identity);
        Ok(())
    }
}

/// Waits until the client has left.
async fn left<D: DownstreamExchange>(client: &mut D) {
    poll_fn(|cx| Question::of(&mut *client).poll_left(cx)).await;
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
