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
        exchange::DownstreamExchange,
        pace::Pace,
        request_body::Upload,
    },
    io::buffered_stream::Read,
    proxy::{context::RequestContext, pass::take_in},
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
    pub(crate) context: &'a RequestContext<'a>,
    pub(crate) attempt: &'a mut Attempt,
    pub(crate) upload: &'a mut Upload,
    pub(crate) pace: &'a mut Pace,
    /// Whether the client has ended its direction: it may be gone.
    pub(crate) is_half_closed: bool,
}

// === impl Relay ===

impl Relay<'_> {
    /// Relays until the end.
    pub(crate) async fn run<D: DownstreamExchange>(mut self, client: &mut D) -> End {
        client.start();
        let end = poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll_response(client, cx) {
                return Poll::Ready(end);
            }
            // Whatever the client has yet to take, the instance has done its part.
            if self.attempt.exchange().0.is_some_and(|exchange| exchange.has_come()) {
                self.context.gateway.leave(self.attempt);
            }
            let left = self.poll_request(client, cx);
            self.look_for_half_close(client);
            left
        })
        .await;
        for waiting in [Waiting::Client, Waiting::Pace, Waiting::ResponseBody] {
            self.context.timers.stop(waiting);
        }
        if matches!(end, End::Complete) {
            client.complete();
        }
        end
    }

    fn poll_response<D: DownstreamExchange>(&mut self, client: &mut D, cx: &mut Context<'_>) -> Poll<End> {
        let (timers, stream_idle, half_closed) = (self.context.timers, self.stream_idle(), self.half_closed());
        let (Some(exchange), candidate) = self.attempt.exchange() else { return Poll::Ready(End::ClientClosed) };
        loop {
            if let Err(breakage) = take_in(client, exchange) {
                return Poll::Ready(End::Broken(breakage));
            }
            if client.has_waiting() || !exchange.run().is_empty() {
                let mut sent = client.poll_send(cx, exchange.run());
                if sent.is_pending() && timers.is_over(Waiting::Pace) {
                    // The kernel reports only much room; a slow client makes little.
                    sent = client.send_at_once(exchange.run());
                    timers.stop(Waiting::Pace);
                }
                match sent {
                    Poll::Ready(Ok(sent)) => {
                        timers.stop(Waiting::Client);
                        self.pace.took(sent.bytes, timers.now());
                        exchange.consume(sent.of_run);
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(End::ClientClosed),
                    Poll::Pending => {
                        let min_bytes_per_s = self.context.gateway.options.limits.response_min_bytes_per_s;
                        if self.pace.is_too_slow(min_bytes_per_s, timers.now()) {
                            return Poll::Ready(End::TooSlow);
                        }
                        timers.keep_waiting(Waiting::Pace, LOOK);
                        return wait(timers, Waiting::Client, stream_idle, || End::TooSlow);
                    }
                }
            }
            if exchange.is_over() {
                return Poll::Ready(End::Complete);
            }
            match exchange.poll_read(cx) {
                Poll::Ready(Ok(Read::More)) => {
                    timers.stop(Waiting::ResponseBody);
                    candidate.state.vitals.hear(timers.now());
                }
                Poll::Ready(Ok(Read::End)) if exchange.close().is_ok() => {}
                Poll::Ready(Err(_)) if exchange.close_by_reset(&self.upload.request) => {}
                Poll::Ready(broken) => {
                    let error = broken.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Poll::Ready(End::Broken(Breakage::Closed(error)));
                }
                Poll::Pending if self.is_half_closed => {
                    return wait(timers, Waiting::ResponseBody, half_closed, || End::ClientClosed);
                }
                Poll::Pending => {
                    let stalled = || End::Broken(Breakage::Stalled(stream_idle));
                    return wait(timers, Waiting::ResponseBody, stream_idle, stalled);
                }
            }
        }
    }

    /// A client that has ended its direction may be gone for good, which only a write would show: from then on a
    /// response that falls silent has less time.
    fn look_for_half_close<D: DownstreamExchange>(&mut self, client: &D) {
        if client.has_half_closed() && !self.is_half_closed {
            self.is_half_closed = true;
            self.context.timers.wait(Waiting::ResponseBody, self.half_closed());
        }
    }

    /// How long each side may be silent.
    fn stream_idle(&self) -> Duration {
        self.context.policy.timeouts.stream_idle
    }

    fn half_closed(&self) -> Duration {
        self.stream_idle().min(self.context.gateway.options.timeouts.half_closed_timeout)
    }

    /// The instance may answer before it has the whole request; both ways go on.
    fn poll_request<D: DownstreamExchange>(&mut self, client: &mut D, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let request = &mut self.upload.request;
            // An instance that reads no more of the request may still answer it.
            self.attempt.poll_send(request, cx);
            if request.is_complete() {
                return client.poll_left(cx).map(|()| End::ClientClosed);
            }
            if !self.attempt.has_sent_all(request) {
                return Poll::Pending;
            }
            if request.forget_sent() {
                self.attempt.forget_sent();
            }
            match self.upload.poll_next(client, self.context.timers, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::ClientClosed),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Pending, unless that has lasted too long.
fn wait(timers: &ConnectionTimers, waiting: Waiting, limit: Duration, end: impl FnOnce() -> End) -> Poll<End> {
    timers.keep_waiting(waiting, limit);
    if timers.is_over(waiting) { Poll::Ready(end()) } else { Poll::Pending }
}
