//! The life of a request, top to bottom.
//!
//! head → target → service → pick → attempt → (another attempt) → response. One [`Gateway`] per core; everything it owns is
//! that core's alone, and the one thing it shares, the routing table, is a snapshot that it only reads.
//!
//! No protocol is in here: a request and its response are an *exchange* on either side, whatever the framing
//! ([`DownstreamExchange`], [`UpstreamExchange`]).

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Millis,
    downstream::{
        deadlines::{ConnectionTimers, Phase, Waiting},
        exchange::{DownstreamExchange, Ended},
        pace::Pace,
    },
    message::{gateway_error::GatewayError, problem_response::OwnResponse},
    proxy::{
        admission::{Admitted, Refused, admit},
        context::{Gateway, RequestContext},
        forward::{Forward, Served},
        record::{self, Begun},
        relay::{End, Relay},
        tunnel,
    },
    routing::index,
    upstream::{attempt::Attempt, exchange::UpstreamExchange, failure::Origin},
};

impl Gateway {
    /// Serves a request whose head has come, whatever happens. What is rare is boxed: it would make every connection
    /// larger, also while it waits.
    pub(crate) async fn handle<D: DownstreamExchange>(&self, client: &mut D, timers: &ConnectionTimers) -> Ended {
        timers.enter(Phase::Serving);
        timers.stop(Waiting::Head);
        timers.stop(Waiting::Request);
        let table = self.table.load();
        let now = self.clock.read();
        match admit(self, client.head(), &table, &timers.client, now) {
            Ok(Admitted::Index(facts)) => {
                client.begin(&facts);
                let listing = index::listing(&table, self.options.index);
                Box::pin(self.answer(client, timers, &facts, OwnResponse::json(&listing))).await
            }
            Ok(Admitted::Moved(service, location, facts)) => {
                client.begin(&facts);
                self.counters(service).responded(307, Duration::ZERO);
                Box::pin(self.answer(client, timers, &facts, OwnResponse::moved(location))).await
            }
            Ok(Admitted::Preflight(preflight, facts)) => {
                client.begin(&facts);
                Box::pin(self.answer(client, timers, &facts, OwnResponse::preflight(preflight))).await
            }
            Ok(Admitted::Forward(service, request, affinity, passed)) => {
                client.begin(&request.facts);
                let context = RequestContext::new(self, service, timers);
                // Boxed: a connection that waits for its next request needs nothing of it.
                let forward = Box::new(Forward::new(context, request, affinity, now));
                match passed {
                    None => self.forward(client, forward).await,
                    Some(passed) => Box::pin(self.forward_checked(client, forward, passed)).await,
                }
            }
            Err(refused) => {
                let Refused { refusal, facts } = *refused;
                client.begin(&facts);
                Box::pin(self.refuse(client, timers, &facts, &refusal)).await
            }
        }
    }

    /// Forwards a request, and its response back.
    pub(super) async fn forward<D: DownstreamExchange>(&self, client: &mut D, mut forward: Box<Forward<'_>>) -> Ended {
        let served = self.serve(client, &mut forward).await;
        self.deliver(client, forward, served).await
    }

    /// Gives the client what serving has come to.
    pub(super) async fn deliver<D: DownstreamExchange>(
        &self,
        client: &mut D,
        mut forward: Box<Forward<'_>>,
        served: Result<Served, GatewayError>,
    ) -> Ended {
        let context = forward.context;
        match served {
            Ok(Served::Response { begun, mut attempt }) => {
                let end = self.relay(client, &mut forward, begun, &mut attempt).await;
                self.finish(&end, attempt, &mut forward)
            }
            Ok(Served::Tunnel { attempt }) => Box::pin(self.tunnel(client, attempt, context.timers)).await,
            Ok(Served::ClientClosed) => Ended::Broken,
            Err(refusal) => Box::pin(self.give_up(client, forward, &refusal)).await,
        }
    }

    /// Serves until an instance answers, and counts that.
    pub(super) async fn serve<D: DownstreamExchange>(
        &self,
        client: &mut D,
        forward: &mut Forward<'_>,
    ) -> Result<Served, GatewayError> {
        let served = forward.serve(client).await;
        let context = forward.context;
        context.counters().responded(Served::status(&served), forward.lasted());
        // An attempt that is over has left its place, unless there was none.
        if matches!(&served, Ok(Served::ClientClosed) | Err(_)) && !matches!(served, Err(GatewayError::Busy(_))) {
            self.queues.one_left(&context.service.name);
        }
        served
    }

    /// Refuses a request that was to be forwarded.
    pub(super) async fn give_up<D: DownstreamExchange>(
        &self,
        client: &mut D,
        forward: Box<Forward<'_>>,
        refusal: &GatewayError,
    ) -> Ended {
        let Forward { context, upload, .. } = *forward;
        let mut request = upload.request;
        // Not kept for as long as the answer takes.
        self.buffers.put_vec(request.take_bytes());
        self.refuse(client, context.timers, &request.facts, refusal).await
    }

    /// Passes a response on, until its end.
    pub(super) async fn relay<D: DownstreamExchange>(
        &self,
        client: &mut D,
        forward: &mut Forward<'_>,
        begun: Begun,
        attempt: &mut Attempt,
    ) -> End {
        let Forward { context, upload, .. } = forward;
        let mut pace = Pace::default();
        let relay = Relay { context, attempt: &mut *attempt, upload, pace: &mut pace, is_half_closed: false };
        let end = relay.run(client).await;
        self.leave(attempt);
        // What an instance breaks off before it has the whole request may be a refusal, which a client can provoke at will.
        let request = &upload.request;
        let is_clients = pace.is_slow() || !request.is_complete() || !attempt.has_sent_all(request);
        let origin = if is_clients { Origin::Downstream } else { Origin::Upstream };
        record::count(context, &attempt.candidate, &end);
        if let Some(outcome) = record::verdict(begun, &end, origin) {
            record::conclude(context, &attempt.candidate, outcome, &end, Millis::of(self.clock.read()));
        }
        end
    }

    /// Keeps what can be used again.
    #[expect(clippy::boxed_local, reason = "an attempt stays where it was made: it is too large to be moved")]
    pub(super) fn finish(&self, end: &End, attempt: Box<Attempt>, forward: &mut Forward<'_>) -> Ended {
        let request = &mut forward.upload.request;
        let is_request_sent = request.is_complete() && attempt.has_sent_all(request);
        self.buffers.put_vec(request.take_bytes());
        if !matches!(end, End::Complete) {
            return Ended::Broken;
        }
        if !is_request_sent {
            return Ended::Early;
        }
        let candidate = Arc::clone(&attempt.candidate);
        if let Some(exchange) = attempt.into_exchange() {
            self.upstreams.keep(&candidate, exchange);
        }
        Ended::Whole
    }

    async fn tunnel<D: DownstreamExchange>(
        &self,
        client: &mut D,
        mut attempt: Box<Attempt>,
        timers: &ConnectionTimers,
    ) -> Ended {
        if !self.send_all(client, timers, b"").await {
            return Ended::Broken;
        }
        let timeouts = &self.options.timeouts;
        let limits = tunnel::Limits { idle: timeouts.tunnel_idle_timeout, half_closed: timeouts.half_closed_timeout };
        let (exchange, candidate) = attempt.exchange();
        let upstream = exchange.and_then(UpstreamExchange::tunnel);
        // Both are there: without a tunnel in its framing a client asks for none, and an instance offers none.
        let (Some(upstream), Some(client)) = (upstream, client.tunnel()) else { return Ended::Broken };
        if !tunnel::run(client, upstream, timers, limits, &candidate.state.vitals).await {
            return Ended::Broken;
        }
        // Whichever side still sends must not lose the other's last words for it.
        if let Some(stream) = attempt.into_exchange().and_then(UpstreamExchange::into_tunnel)
            && !stream.is_at_end()
        {
            self.lingering.linger(stream.into_stream()).await;
        }
        Ended::Early
    }
}
