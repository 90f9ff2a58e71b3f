//! One attempt: one request at one instance, until the head of its response, or a failure that says how far it got.
//!
//! An attempt is polled, not awaited, so that a request may have two of them: one that waits for an instance that has
//! fallen silent, and one that does not ([`crate::proxy::hedge`]). Dropping it closes its connection.

use std::{
    fmt, io,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use crate::{
    clock::Millis,
    instance::candidate::{Candidate, InFlight},
    io::buffered_stream::Read,
    message::{request::UpstreamRequest, response::DownstreamResponse},
    upstream::{
        breakage::Breakage,
        connection::Upstream,
        dial::{self, Connecting},
        failure::{Failure, Kind, Progress},
        upstreams::Upstreams,
    },
};

/// Largest head of a response.
const HEAD_MAX_BYTES: usize = 64 * 1024;

/// See the [module](self).
pub(crate) struct Attempt {
    pub(crate) candidate: Arc<Candidate>,
    pub(crate) started: Instant,
    link: Link,
    /// How many of [`UpstreamRequest::bytes`] were sent.
    pub(crate) sent: usize,
    has_written: bool,
    /// When it began to wait for the response.
    waits_since: Option<Millis>,
    /// The hedge timer has fired; this attempt still wins if it answers first.
    pub(crate) is_stalled: bool,
    /// How much of the response was searched for the end of its head.
    searched: usize,
    /// Counts the request among the instance's, until it is [left](Self::leave) or this is dropped.
    in_flight: Option<InFlight>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("candidate", &self.candidate.key).finish_non_exhaustive()
    }
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
    Connecting(Connecting),
    Connected(Upstream),
}

// === impl Attempt ===

impl Attempt {
    /// An attempt at `candidate`: on a kept connection when there is one and that will do.
    pub(crate) fn new(
        upstreams: &Upstreams,
        candidate: Arc<Candidate>,
        in_flight: InFlight,
        request: &UpstreamRequest,
        start: Start,
        cx: &mut Context<'_>,
    ) -> Self {
        let must_be_sure = !request.facts.repeatable.is_by_method();
        let mut take = || upstreams.pool.take(candidate.serial, must_be_sure, upstreams.clock.now(), cx);
        let kept = if start.may_reuse { take() } else { None };
        let link = match kept {
            Some(upstream) => Link::Connected(upstream),
            None => Link::Connecting(dial::connecting(&candidate, &upstreams.addresses, start.connect_timeout)),
        };
        Self {
            candidate,
            started: start.at,
            link,
            sent: 0,
            has_written: false,
            waits_since: None,
            is_stalled: false,
            searched: 0,
            in_flight: Some(in_flight),
        }
    }

    /// Sends what is there of the request and reads what is there of the response. Ready with the length of its head,
    /// which is then unread at the [upstream](Self::upstream_of).
    pub(crate) fn poll(
        &mut self,
        upstreams: &Upstreams,
        request: &UpstreamRequest,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Failure>> {
        if let Link::Connecting(connecting) = &mut self.link {
            let stream = ready!(connecting.as_mut().poll(cx));
            match stream {
                Ok(stream) => self.link = Link::Connected(Upstream::new(stream, &upstreams.buffers)),
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
        // Also when writing failed: an instance that refuses a body early answers first and closes then. What it has said,
        // end and error included, can be read by then.
        self.poll_head(upstreams.clock.now(), cx).map(|head| head.map_err(|kind| self.failure(kind)))
    }

    /// Sends what is there, to an instance that takes it.
    pub(crate) fn poll_send(&mut self, request: &UpstreamRequest, cx: &mut Context<'_>) {
        let Link::Connected(upstream) = &mut self.link else { return };
        while self.sent < request.bytes().len() && !upstream.stream.has_failed() {
            if let Poll::Ready(Ok(count)) = upstream.stream.poll_write(cx, &request.bytes()[self.sent..]) {
                self.sent += count;
                self.has_written = true;
            } else {
                break;
            }
        }
    }

    fn poll_head(&mut self, now: Millis, cx: &mut Context<'_>) -> Poll<Result<usize, Kind>> {
        let Link::Connected(Upstream { stream, .. }) = &mut self.link else { return Poll::Pending };
        loop {
            if let Some(length) = http1::find_head_end(stream.unread(), &mut self.searched) {
                return Poll::Ready(Ok(length));
            }
            match ready!(stream.poll_read(cx, HEAD_MAX_BYTES)) {
                Ok(Read::More) => self.candidate.state.vitals.hear(now),
                Ok(Read::Full) => return Poll::Ready(Err(Kind::Malformed("the head is too large"))),
                Ok(Read::End) if stream.unread().is_empty() => {
                    return Poll::Ready(Err(Kind::Closed(io::ErrorKind::UnexpectedEof.into())));
                }
                Ok(Read::End) => return Poll::Ready(Err(Kind::Malformed(broken_off(stream.unread())))),
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

    /// Reads on behind the head of a response, so that one which is known to be broken before anything has left is not begun.
    /// Nothing is waited for.
    ///
    /// # Errors
    ///
    /// It is broken.
    pub(crate) fn look_ahead(
        &mut self,
        answer: &mut DownstreamResponse,
        request: &UpstreamRequest,
    ) -> Result<(), Breakage> {
        let Link::Connected(Upstream { stream, .. }) = &mut self.link else { return Ok(()) };
        // The relay reads before it waits, and is woken then.
        match stream.poll_read_some(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Read::More)) => {
                let used = answer.feed(stream.unread()).map_err(|_| Breakage::Malformed)?;
                stream.consume(used);
                Ok(())
            }
            Poll::Ready(Ok(Read::End)) if answer.has_taken_in(stream.unread()) => {
                answer.close().map_err(|_| Breakage::Closed(io::ErrorKind::UnexpectedEof.into()))
            }
            Poll::Ready(Err(error)) if answer.has_taken_in(stream.unread()) => {
                if answer.close_by_reset(request) {
                    Ok(())
                } else {
                    Err(Breakage::Closed(error))
                }
            }
            Poll::Ready(_) | Poll::Pending => Ok(()),
        }
    }

    /// The head of the response has come.
    pub(crate) fn answered(&mut self, now: Millis) {
        // Without the time that the client took to send its body.
        let waited = self.waits_since.map_or(Duration::ZERO, |since| now.since(since));
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.answered(waited, now);
        }
    }

    /// The head of an interim response was used up; the next one follows.
    pub(crate) fn search_again(&mut self) {
        self.searched = 0;
    }

    /// The connection, once there is one, and whose it is.
    pub(crate) fn upstream_of(&mut self) -> (Option<&mut Upstream>, &Candidate) {
        let upstream = match &mut self.link {
            Link::Connected(upstream) => Some(upstream),
            Link::Connecting(_) => None,
        };
        (upstream, &self.candidate)
    }

    /// The connection, to be kept or dropped.
    pub(crate) fn into_upstream(self) -> Option<Upstream> {
        match self.link {
            Link::Connected(upstream) => Some(upstream),
            Link::Connecting(_) => None,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.link, Link::Connected(_))
    }

    /// Whether there is a connection, and everything that there is of the request has been sent on it.
    pub(crate) fn has_sent_all(&self, request: &UpstreamRequest) -> bool {
        self.is_connected() && self.sent == request.bytes().len()
    }

    /// Whether it has waited `limit` for a response, or for a connection.
    pub(crate) fn waits_for(&self, limit: Duration, now: Millis) -> bool {
        match self.waits_since {
            Some(since) => now.since(since) >= limit,
            None => !self.is_connected() && self.started.elapsed() >= limit,
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
        let progress = if self.has_written { Progress::Sent } else { Progress::NothingSent };
        let is_reused = matches!(&self.link, Link::Connected(upstream) if upstream.is_reused);
        let is_stale = is_reused && matches!(kind, Kind::Closed(_));
        let is_amid_body = self.has_written && self.waits_since.is_none();
        Failure { kind, progress, is_stale, is_amid_body }
    }
}

/// An answer that ended before its head did may begin with a record of TLS (RFC 8446, 5.1) or SETTINGS (RFC 9113, 3.4).
fn broken_off(answer: &[u8]) -> &'static str {
    match answer {
        [0x15 | 0x16, 3, ..] => "it speaks TLS, and the gateway plain HTTP/1.1 to it",
        [_, _, _, 4, _, 0, 0, 0, 0, ..] => "it speaks HTTP/2, and the gateway HTTP/1.1 to it",
        _ => "the head broke off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_another_protocol_is_told_from_one_that_broke_off() {
        for (answer, expected) in [
            (&b"\x15\x03\x03\0\x02\x02\x32"[..], "TLS"),
            (b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64", "HTTP/2"),
            (b"HTTP/1.1 200 OK\r\n", "broke off"),
            (b"HTT", "broke off"),
        ] {
            assert!(broken_off(answer).contains(expected), "{answer:?}");
        }
    }
}
