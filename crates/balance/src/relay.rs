//! A response on its way from the instance to the client, and what may be left of the request on the other way.
//!
//! What the client does not take stays with the instance: nothing is read before everything before it was written.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    answer::Answer,
    attempt::Attempt,
    body::Body,
    config::GatewayOptions,
    departure::poll_left,
    downstream::{Downstream, Waiting},
    outgoing::Outgoing,
    wire::{Read, Stream, Wire},
};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything has left.
    Complete,
    /// The client has left, or takes nothing any more.
    Left,
    /// The instance has broken off, or broken its framing.
    Broken,
}

/// A response that is being relayed.
pub(crate) struct Relay<'a> {
    pub(crate) answer: &'a mut Answer,
    pub(crate) attempt: &'a mut Attempt,
    pub(crate) request: &'a mut Outgoing,
    pub(crate) body: &'a mut Body,
    pub(crate) downstream: &'a Downstream,
    pub(crate) options: &'a GatewayOptions,
    /// How long each side may be silent.
    pub(crate) stream_idle: Duration,
    /// Whether the client has ended its direction: it may be gone.
    pub(crate) is_half_closed: bool,
}

// === impl Relay ===

impl Relay<'_> {
    /// Relays until the end. A client that would take any end of its connection for the end of the response has its
    /// connection reset when that is not so (RFC 9112, section 8), whatever becomes of this task or process.
    pub(crate) async fn run<S: Stream>(mut self, client: &mut Wire<S>) -> End {
        let is_unframed = self.answer.is_unframed;
        if is_unframed {
            client.stream().resets_on_drop(true);
        }
        let end = poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll_response(client, cx) {
                return Poll::Ready(end);
            }
            let left = self.poll_request(client, cx);
            self.look_for_half_close(client);
            left
        })
        .await;
        self.downstream.stop(Waiting::Client);
        self.downstream.stop(Waiting::ResponseBody);
        if is_unframed && end == End::Complete {
            client.stream().resets_on_drop(false);
        }
        end
    }

    fn poll_response<S: Stream>(&mut self, client: &mut Wire<S>, cx: &mut Context<'_>) -> Poll<End> {
        let Some(upstream) = self.attempt.upstream() else { return Poll::Ready(End::Broken) };
        loop {
            let Ok(used) = self.answer.feed(upstream.wire.unread()) else { return Poll::Ready(End::Broken) };
            upstream.wire.consume(used);
            if self.answer.has_next() {
                let (own, theirs) = self.answer.next(upstream.wire.unread());
                match client.poll_write_both(cx, own, theirs) {
                    Poll::Ready(Ok(count)) => {
                        self.downstream.stop(Waiting::Client);
                        let used = self.answer.wrote(count);
                        upstream.wire.consume(used);
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Left),
                    Poll::Pending => return wait(self.downstream, Waiting::Client, self.stream_idle, End::Left),
                }
            }
            if self.answer.is_complete() {
                return Poll::Ready(End::Complete);
            }
            match upstream.wire.poll_read_some(cx) {
                Poll::Ready(Ok(Read::More)) => self.downstream.stop(Waiting::ResponseBody),
                Poll::Ready(Ok(Read::End)) if self.answer.close().is_ok() => {}
                Poll::Ready(_) => return Poll::Ready(End::Broken),
                Poll::Pending if self.is_half_closed => {
                    return wait(self.downstream, Waiting::ResponseBody, self.half_closed(), End::Left);
                }
                Poll::Pending => {
                    return wait(self.downstream, Waiting::ResponseBody, self.stream_idle, End::Broken);
                }
            }
        }
    }

    /// A client that has ended its direction may be gone for good, which only a write would tell: from then on a response that
    /// falls silent has less time.
    fn look_for_half_close<S: Stream>(&mut self, client: &Wire<S>) {
        if client.is_at_end() && !self.is_half_closed {
            self.is_half_closed = true;
            self.downstream.wait(Waiting::ResponseBody, self.half_closed());
        }
    }

    fn half_closed(&self) -> Duration {
        self.stream_idle.min(self.options.timeouts.half_closed_timeout)
    }

    /// The instance may answer before it has the whole request; both ways go on.
    fn poll_request<S: Stream>(&mut self, client: &mut Wire<S>, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            // An instance that reads no more of the request may still answer it.
            self.attempt.poll_send(self.request, cx);
            if self.request.is_complete() {
                let max_bytes = self.options.limits.header_max_bytes;
                return poll_left(client, max_bytes, self.downstream, cx).map(|()| End::Left);
            }
            if !self.attempt.has_sent_all(self.request) {
                return Poll::Pending;
            }
            if self.request.forget_sent() {
                self.attempt.sent = 0;
            }
            match self.body.poll_next(client, self.request, self.downstream, self.options, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::Left),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Pending, unless that has lasted too long.
fn wait(downstream: &Downstream, waiting: Waiting, limit: Duration, end: End) -> Poll<End> {
    downstream.keep_waiting(waiting, limit);
    if downstream.is_over(waiting) { Poll::Ready(end) } else { Poll::Pending }
}
