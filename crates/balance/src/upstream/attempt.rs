//! One attempt: one request at one instance, until the head of its response, or a failure that says how far it got.
//!
//! It is in a box, because it changes hands several times, and each hand would have room for it.
//!
//! An attempt is polled, not awaited, so that a request may have two of them: one that waits for an instance that has
//! fallen silent, and one that does not ([`crate::proxy::hedge`]). Dropping it closes its connection.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use crate::{
    clock::Millis,
    instance::candidate::{Candidate, InFlight},
    io::buffered_stream::Read,
    message::request::UpstreamRequest,
    upstream::{
        exchange::UpstreamExchange,
        failure::{Failure, Kind, Moment, Progress},
        upstreams::{Opening, Upstreams},
    },
};

/// See the [module](self).
pub(crate) struct Attempt {
    pub(crate) candidate: Arc<Candidate>,
    pub(crate) started: Instant,
    link: Link,
    /// When it began to wait for the response.
    waits_since: Option<Millis>,
    /// The hedge timer has fired; this attempt still wins if it answers first.
    pub(crate) is_stalled: bool,
    /// Counts the request among the instance's, until it is [left](Self::leave) or this is dropped.
    in_flight: Option<InFlight>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("candidate", &self.candidate.key).finish_non_exhaustive()
    }
}

/// A place at an instance, for one request.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) candidate: Arc<Candidate>,
    pub(crate) in_flight: InFlight,
}

/// How an attempt begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) at: Instant,
    /// Whether a kept connection will do.
    pub(crate) may_reuse: bool,
    pub(crate) connect_timeout: Duration,
}

enum Link {
    Opening(Opening),
    Open(UpstreamExchange),
}

// === impl Attempt ===

impl Attempt {
    /// An attempt at that instance: on a kept connection when there is one and that will do.
    pub(crate) fn new(
        upstreams: &Upstreams,
        Reserved { candidate, in_flight }: Reserved,
        request: &UpstreamRequest,
        start: Start,
        cx: &mut Context<'_>,
    ) -> Box<Self> {
        let must_be_sure = !request.facts.repeatable.is_by_method();
        let kept = if start.may_reuse { upstreams.reuse(&candidate, must_be_sure, cx) } else { None };
        let link = match kept {
            Some(exchange) => Link::Open(exchange),
            None => Link::Opening(upstreams.open(&candidate, start.connect_timeout)),
        };
        let in_flight = Some(in_flight);
        Box::new(Self { candidate, started: start.at, link, waits_since: None, is_stalled: false, in_flight })
    }

    /// Sends what is there of the request and reads what is there of the response. Ready with its head, which is then
    /// that of the [exchange](Self::exchange).
    pub(crate) fn poll(
        &mut self,
        upstreams: &Upstreams,
        request: &UpstreamRequest,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        if let Link::Opening(opening) = &mut self.link {
            match ready!(opening.as_mut().poll(cx)) {
                Ok(exchange) => self.link = Link::Open(exchange),
                Err(error) => return Poll::Ready(Err(self.failure(Kind::Connect(error)))),
            }
        }
        self.poll_send(request, cx);
        if self.has_sent_all(request) && request.is_complete() && self.waits_since.is_none() {
            self.waits_since = Some(upstreams.clock.now());
            if let Some(in_flight) = &mut self.in_flight {
                in_flight.stand_in_line();
            }
        }
        // Also when writing failed: an instance that refuses a body early answers first and closes then. What it has
        // sent, end and error included, can be read by then.
        self.poll_head(upstreams.clock.now(), cx).map(|head| head.map_err(|kind| self.failure(kind)))
    }

    /// Sends what is there, to an instance that takes it.
    pub(crate) fn poll_send(&mut self, request: &UpstreamRequest, cx: &mut Context<'_>) {
        if let Link::Open(exchange) = &mut self.link {
            exchange.poll_send(request, cx);
        }
    }

    fn poll_head(&mut self, now: Millis, cx: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        let Link::Open(exchange) = &mut self.link else { return Poll::Pending };
        loop {
            if exchange.find_head() {
                return Poll::Ready(Ok(()));
            }
            match ready!(exchange.poll_read(cx)) {
                Ok(Read::More) => self.candidate.state.vitals.hear(now),
                Ok(Read::Full) => return Poll::Ready(Err(Kind::Malformed("the head is too large"))),
                Ok(Read::End) => return Poll::Ready(Err(exchange.ended_before_head())),
                Err(error) => return Poll::Ready(Err(Kind::Closed(error))),
            }
        }
    }

    /// The instance has sent everything: its place is free. False when it was so before.
    pub(crate) fn leave(&mut self) -> bool {
        self.in_flight.take().is_some()
    }

    /// The response is a tunnel or an event stream; false when the instance has as many as it may have.
    pub(crate) fn become_stream(&mut self) -> bool {
        self.in_flight.as_mut().is_some_and(InFlight::become_stream)
    }

    /// The head of the response has come.
    pub(crate) fn answered(&mut self, now: Millis) {
        // Without the time that the client took to send its body.
        let waited = self.waits_since.map_or(Duration::ZERO, |since| now.since(since));
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.answered(waited, now);
        }
    }

    /// The exchange, once there is one, and whose it is.
    pub(crate) fn exchange(&mut self) -> (Option<&mut UpstreamExchange>, &Candidate) {
        let exchange = match &mut self.link {
            Link::Open(exchange) => Some(exchange),
            Link::Opening(_) => None,
        };
        (exchange, &self.candidate)
    }

    /// The exchange, whose connection is to be kept or dropped.
    pub(crate) fn into_exchange(self) -> Option<UpstreamExchange> {
        match self.link {
            Link::Open(exchange) => Some(exchange),
            Link::Opening(_) => None,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// Whether there is a connection, and everything that there is of the request has been sent on it.
    pub(crate) fn has_sent_all(&self, request: &UpstreamRequest) -> bool {
        matches!(&self.link, Link::Open(exchange) if exchange.has_sent_all(request))
    }

    /// What was sent is [forgotten](UpstreamRequest::forget_sent).
    pub(crate) fn forget_sent(&mut self) {
        if let Link::Open(exchange) = &mut self.link {
            exchange.forget_sent();
        }
    }

    /// Whether it has waited `limit` for a response, or for a connection.
    pub(crate) fn waits_for(&self, limit: Duration, now: Millis) -> bool {
        match self.waits_since {
            Some(since) => now.since(since) >= limit,
            None => !self.is_connected() && now.since(Millis::of(self.started)) >= limit,
        }
    }

    /// Whether the instance counts as dead: not a byte from it, nor an answer to a probe ([`crate::instance::vitals`]).
    ///
    /// So does one at which it still waits for a connection: the queue of a stopped process fills.
    pub(crate) fn is_at_a_silent_instance(&self) -> bool {
        (self.waits_since.is_some() || !self.is_connected()) && self.candidate.state.vitals.is_silent()
    }

    /// This attempt has failed for that reason.
    pub(crate) fn failure(&self, kind: Kind) -> Failure {
        let (has_sent, is_reused) = match &self.link {
            Link::Opening(_) => (false, false),
            Link::Open(exchange) => (exchange.has_sent_something(), exchange.is_reused()),
        };
        let progress = if has_sent { Progress::Sent } else { Progress::NothingSent };
        let moment = match kind {
            Kind::Closed(_) if is_reused => Moment::OnReuse,
            _ if has_sent && self.waits_since.is_none() => Moment::AmidBody,
            _ => Moment::Other,
        };
        Failure { kind, progress, moment }
    }
}
