//! A response on its way from the instance to the client, and what may be left of the request on the other way.
//!
//! What the client does not take stays with the instance: nothing is read before everything before it was written.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    downstream::{
        deadlines::{ConnectionTimers, Waiting},
        departure::poll_left,
        pace::Pace,
        request_body::Body,
    },
    io::buffered_stream::{BufferedStream, Read, Stream},
    message::{request::UpstreamRequest, response::DownstreamResponse},
    proxy::{context::Gateway, pass::take_in},
    upstream::{attempt::Attempt, breakage::Breakage},
};

/// How often it is looked whether a client takes more that takes nothing for now.
const LOOK: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Everything has left.
    Complete,
    /// The client has left, or takes nothing any more.
    ClientClosed,
    /// The client takes it more slowly than it may.
    TooSlow,
    /// The instance has broken it.
    Broken(Breakage),
}

/// A response that is being relayed.
pub(crate) struct Relay<'a> {
    pub(crate) answer: &'a mut DownstreamResponse,
    pub(crate) attempt: &'a mut Attempt,
    pub(crate) request: &'a mut UpstreamRequest,
    pub(crate) body: &'a mut Body,
    pub(crate) downstream: &'a ConnectionTimers,
    pub(crate) gateway: &'a Gateway,
    pub(crate) pace: &'a mut Pace,
    /// How long each side may be silent.
    pub(crate) stream_idle: Duration,
    /// Whether the client has ended its direction: it may be gone.
    pub(crate) is_half_closed: bool,
}

// === impl Relay ===

impl Relay<'_> {
    /// Relays until the end. A client that would take any end of its connection for the end of the response has its
    /// connection reset when that is not so (RFC 9112, section 8), whatever becomes of this task or process.
    pub(crate) async fn run<S: Stream>(mut self, client: &mut BufferedStream<S>) -> End {
        let (is_unframed, downstream) = (self.answer.is_unframed, self.downstream);
        if is_unframed {
            client.stream().resets_on_drop(true);
        }
        let end = poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll_response(client, cx) {
                return Poll::Ready(end);
            }
            // Whatever the client has yet to take, the instance has done its part.
            if self.attempt.exchange().0.is_some_and(|exchange| exchange.has_come()) {
                self.gateway.leave(self.attempt);
            }
            let left = self.poll_request(client, cx);
            self.look_for_half_close(client);
            left
        })
        .await;
        for waiting in [Waiting::Client, Waiting::Pace, Waiting::ResponseBody] {
            downstream.stop(waiting);
        }
        if is_unframed && matches!(end, End::Complete) {
            client.stream().resets_on_drop(false);
        }
        end
    }

    fn poll_response<S: Stream>(&mut self, client: &mut BufferedStream<S>, cx: &mut Context<'_>) -> Poll<End> {
        let (Some(exchange), candidate) = self.attempt.exchange() else { return Poll::Ready(End::ClientClosed) };
        let vitals = &candidate.state.vitals;
        loop {
            if let Err(breakage) = take_in(self.answer, exchange) {
                return Poll::Ready(End::Broken(breakage));
            }
            let (own, run) = (self.answer.waiting(), exchange.run());
            if !own.is_empty() || !run.is_empty() {
                let mut written = client.poll_write_both(cx, own, run);
                if written.is_pending() && self.downstream.is_over(Waiting::Pace) {
                    // The kernel tells only of much room; a slow client makes little.
                    written = client.write_at_once(if own.is_empty() { run } else { own });
                    self.downstream.stop(Waiting::Pace);
                }
                match written {
                    Poll::Ready(Ok(count)) => {
                        self.downstream.stop(Waiting::Client);
                        self.pace.took(count, self.downstream.now());
                        exchange.consume(self.answer.wrote(count));
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(End::ClientClosed),
                    Poll::Pending => {
                        let min_bytes_per_s = self.gateway.options.limits.response_min_bytes_per_s;
                        if self.pace.is_too_slow(min_bytes_per_s, self.downstream.now()) {
                            return Poll::Ready(End::TooSlow);
                        }
                        self.downstream.keep_waiting(Waiting::Pace, LOOK);
                        return wait(self.downstream, Waiting::Client, self.stream_idle, || End::TooSlow);
                    }
                }
            }
            if exchange.is_over() {
                return Poll::Ready(End::Complete);
            }
            match exchange.poll_read(cx) {
                Poll::Ready(Ok(Read::More)) => {
                    self.downstream.stop(Waiting::ResponseBody);
                    vitals.hear(self.downstream.now());
                }
                Poll::Ready(Ok(Read::End)) if exchange.close().is_ok() => {}
                Poll::Ready(Err(_)) if exchange.close_by_reset(self.request) => {}
                Poll::Ready(broken) => {
                    let error = broken.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Poll::Ready(End::Broken(Breakage::Closed(error)));
                }
                Poll::Pending if self.is_half_closed => {
                    return wait(self.downstream, Waiting::ResponseBody, self.half_closed(), || End::ClientClosed);
                }
                Poll::Pending => {
                    let limit = self.stream_idle;
                    let stalled = || End::Broken(Breakage::Stalled(limit));
                    return wait(self.downstream, Waiting::ResponseBody, limit, stalled);
                }
            }
        }
    }

    /// A client that has ended its direction may be gone for good, which only a write would tell: from then on a response that
    /// falls silent has less time.
    fn look_for_half_close<S: Stream>(&mut self, client: &BufferedStream<S>) {
        if client.is_at_end() && !self.is_half_closed {
            self.is_half_closed = true;
            self.downstream.wait(Waiting::ResponseBody, self.half_closed());
        }
    }

    fn half_closed(&self) -> Duration {
        self.stream_idle.min(self.gateway.options.timeouts.half_closed_timeout)
    }

    /// The instance may answer before it has the whole request; both ways go on.
    fn poll_request<S: Stream>(&mut self, client: &mut BufferedStream<S>, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            // An instance that reads no more of the request may still answer it.
            self.attempt.poll_send(self.request, cx);
            if self.request.is_complete() {
                let max_bytes = self.gateway.options.limits.header_max_bytes;
                return poll_left(client, max_bytes, self.downstream, cx).map(|()| End::ClientClosed);
            }
            if !self.attempt.has_sent_all(self.request) {
                return Poll::Pending;
            }
            if self.request.forget_sent() {
                self.attempt.forget_sent();
            }
            match self.body.poll_next(client, self.request, self.downstream, &self.gateway.options, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::ClientClosed),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Pending, unless that has lasted too long.
fn wait(downstream: &ConnectionTimers, waiting: Waiting, limit: Duration, end: impl FnOnce() -> End) -> Poll<End> {
    downstream.keep_waiting(waiting, limit);
    if downstream.is_over(waiting) { Poll::Ready(end()) } else { Poll::Pending }
}
