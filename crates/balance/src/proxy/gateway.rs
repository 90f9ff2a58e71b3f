//! The life of a request, top to bottom.
//!
//! head → target → service → pick → attempt → (another attempt) → response. One [`Gateway`] per core; everything it owns is
//! that core's alone, and the one thing it shares, the routing table, is a snapshot that it only reads.

use std::time::Duration;

use crate::{
    downstream::{
        deadlines::{ConnectionTimers, Phase, Waiting},
        pace::Pace,
        unread_body::Rest,
    },
    io::wire::{BufferedStream, Stream},
    message::{refusal::GatewayError, request::UpstreamRequest, response::DownstreamResponse},
    proxy::{
        admission::{Admitted, Refused, admit},
        context::Gateway,
        forward::{Forward, Served, status},
        record::{self, Begun},
        relay::{End, Relay},
        reply::{Next, write_all},
        tunnel,
    },
    upstream::{attempt::Attempt, connection::Upstream},
};

impl Gateway {
    /// Serves the request whose head is the first `head_bytes` that are unread, whatever happens.
    pub(crate) async fn handle<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        head_bytes: usize,
        downstream: &ConnectionTimers,
    ) -> Next {
        downstream.enter(Phase::Serving);
        downstream.stop(Waiting::Head);
        downstream.stop(Waiting::Request);
        let table = self.table.load();
        let admitted = admit(self, &client.unread()[..head_bytes], &table, downstream);
        client.consume(head_bytes);
        match admitted {
            Ok(Admitted::Index(facts, rest)) => self.answer_index(client, &facts, rest, &table, downstream).await,
            Ok(Admitted::Moved(service, location, facts, rest)) => {
                self.counters(service).responded(307, Duration::ZERO);
                self.send_elsewhere(client, &location, &facts, rest, downstream).await
            }
            Ok(Admitted::Preflight(preflight, facts, rest)) => {
                self.answer_preflight(client, &preflight, &facts, rest, downstream).await
            }
            Ok(Admitted::Forward(service, request, ask, passed)) => {
                // Boxed: a connection that waits for its next request needs nothing of it.
                let serving = Box::new(Forward::new(self, service, request, ask, downstream));
                match passed {
                    None => self.forward(client, serving).await,
                    Some(passed) => Box::pin(self.forward_checked(client, serving, passed)).await,
                }
            }
            Err(refused) => {
                let Refused { refusal, facts, rest } = *refused;
                self.refuse(client, self.buffers.vec(), &refusal, &facts, rest, downstream).await
            }
        }
    }

    /// Forwards a request, and its response back.
    pub(super) async fn forward<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        mut serving: Box<Forward<'_>>,
    ) -> Next {
        let service = serving.service;
        let served = serving.serve(client).await;
        self.counters(service).responded(status(&served), serving.lasted());
        // An attempt that is over has left its place, unless there was none.
        if matches!(&served, Ok(Served::ClientClosed) | Err(_)) && !matches!(served, Err(GatewayError::Busy(_))) {
            self.queues.one_left(&service.name);
        }
        match served {
            Ok(Served::Response { begun, mut answer, mut attempt }) => {
                let end = self.relay(client, &mut serving, begun, &mut answer, &mut attempt).await;
                self.finish(client, &end, answer, attempt, &mut serving.request)
            }
            Ok(Served::Tunnel { bytes, attempt }) => self.tunnel(client, bytes, attempt, serving.downstream).await,
            Ok(Served::ClientClosed) => Next::Close,
            Err(refusal) => self.give_up(client, serving, &refusal).await,
        }
    }

    /// Passes a response on, until its end.
    pub(super) async fn relay<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        serving: &mut Forward<'_>,
        begun: Begun,
        answer: &mut DownstreamResponse,
        attempt: &mut Attempt,
    ) -> End {
        let Forward { service, request, body, policy, downstream, .. } = serving;
        let mut pace = Pace::default();
        let relay = Relay {
            answer,
            attempt: &mut *attempt,
            request: &mut *request,
            body,
            downstream,
            gateway: self,
            pace: &mut pace,
            stream_idle: policy.timeouts.stream_idle,
            is_half_closed: false,
        };
        let end = relay.run(client).await;
        self.leave(attempt);
        // What an instance breaks off before it has the whole request may be a refusal, which a client can provoke at will.
        let is_clients = pace.is_slow() || !request.is_complete() || !attempt.has_sent_all(request);
        record::conclude(self, service, &attempt.candidate, begun, &end, is_clients);
        end
    }

    /// Says why no instance answers.
    pub(super) async fn give_up<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        serving: Box<Forward<'_>>,
        refusal: &GatewayError,
    ) -> Next {
        let Forward { request, body, downstream, .. } = *serving;
        let (facts, bytes, rest) = request.into_parts();
        self.buffers.put_vec(bytes);
        self.refuse(client, body.into_interim(), refusal, &facts, Rest::new(rest, &facts), downstream).await
    }

    /// Keeps what can be used again.
    pub(super) fn finish<S: Stream>(
        &self,
        client: &BufferedStream<S>,
        end: &End,
        answer: DownstreamResponse,
        attempt: Attempt,
        request: &mut UpstreamRequest,
    ) -> Next {
        let is_request_sent = request.is_complete() && attempt.has_sent_all(request);
        let (is_last, keeps_upstream, is_asked_to) = (answer.is_last, answer.keeps_upstream, !request.facts.keep_alive);
        self.buffers.put_vec(answer.into_bytes());
        self.buffers.put_vec(request.take_bytes());
        if !matches!(end, End::Complete) {
            return Next::Close;
        }
        let serial = attempt.candidate.serial;
        if let Some(upstream) = attempt.into_upstream()
            && keeps_upstream
            && is_request_sent
            && upstream.wire.unread().is_empty()
        {
            self.upstreams.pool.put(serial, upstream, self.clock.now());
        }
        match (is_last, is_request_sent) {
            (false, true) => Next::Keep,
            (true, true) if is_asked_to && client.unread().is_empty() => Next::Close,
            (_, _) => Next::Linger,
        }
    }

    async fn tunnel<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        bytes: Vec<u8>,
        mut attempt: Attempt,
        downstream: &ConnectionTimers,
    ) -> Next {
        if write_all(client, &bytes, downstream, self.options.timeouts.stream_idle_timeout).await {
            self.buffers.put_vec(bytes);
            let timeouts = &self.options.timeouts;
            let limits =
                tunnel::Limits { idle: timeouts.tunnel_idle_timeout, half_closed: timeouts.half_closed_timeout };
            let (upstream, candidate) = attempt.upstream_of();
            if let Some(upstream) = upstream
                && tunnel::run(client, &mut upstream.wire, downstream, limits, &candidate.state.vitals).await
            {
                // Whichever side still sends must not lose the other's last words for it.
                if let Some(Upstream { wire, .. }) = attempt.into_upstream()
                    && !wire.is_at_end()
                {
                    self.lingering.linger(wire.into_stream()).await;
                }
                return Next::Linger;
            }
        }
        Next::Close
    }
}
