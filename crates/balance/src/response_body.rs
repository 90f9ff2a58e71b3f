//! A response's body on its way to the client: one of our own, or an instance's, relayed as it comes.
//!
//! Polling the relay moves the instance's connection forward, and only then is anything read from it: what the client
//! does not take stays with the instance. At its end the connection goes back to the pool; dropped before its end, because
//! the client left or the instance fell silent, it is closed.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    downstream::{Downstream, Phase, Waiting},
    gateway::Gateway,
    upstream::Upstream,
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ResponseBody {
    content: Content,
    downstream: Rc<Downstream>,
}

#[derive(Debug)]
enum Content {
    Own(Bytes),
    Relayed(Relay),
}

/// An instance's body with the connection that it comes from.
#[derive(Debug)]
pub(crate) struct Relay {
    incoming: Incoming,
    upstream: Option<Upstream>,
    /// Why it broke off; told one poll later.
    broken: Option<io::Error>,
    serial: u64,
    gateway: Rc<Gateway>,
}

// === impl ResponseBody ===

impl ResponseBody {
    pub(crate) fn own(bytes: Bytes, downstream: &Rc<Downstream>) -> Self {
        Self { content: Content::Own(bytes), downstream: Rc::clone(downstream) }
    }

    pub(crate) fn relayed(relay: Relay, downstream: &Rc<Downstream>) -> Self {
        Self { content: Content::Relayed(relay), downstream: Rc::clone(downstream) }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.downstream.stop(Waiting::ResponseBody);
        self.downstream.enter(Phase::Flushing);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        match &mut this.content {
            Content::Own(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Own(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Relayed(relay) => {
                relay.poll_piece(&this.downstream, cx).map(|piece| piece.map(|p| p.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_empty(),
            Content::Relayed(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Relayed(relay) => relay.incoming.size_hint(),
        }
    }
}

// === impl Relay ===

impl Relay {
    pub(crate) fn new(incoming: Incoming, upstream: Upstream, serial: u64, gateway: Rc<Gateway>) -> Self {
        let mut relay = Self { incoming, upstream: Some(upstream), broken: None, serial, gateway };
        if relay.incoming.is_end_stream() {
            relay.finish();
        }
        relay
    }

    fn poll_piece(&mut self, downstream: &Downstream, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            let frame = match self.poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let limit = self.gateway.options.timeouts.stream_idle_timeout;
                    downstream.keep_waiting(Waiting::ResponseBody, limit);
                    if !downstream.is_over(Waiting::ResponseBody) {
                        return Poll::Pending;
                    }
                    self.upstream = None;
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the instance fell silent"))));
                }
            };
            downstream.stop(Waiting::ResponseBody);
            let Some(frame) = frame else {
                self.finish();
                return Poll::Ready(None);
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    // An error throws away what is still to be written. One turn more, and what did arrive has left.
                    self.broken = Some(io::Error::other(error));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            };
            if self.incoming.is_end_stream() {
                self.finish();
            }
            // Trailers end here, as the field that announces them does.
            if let Ok(piece) = frame.into_data() {
                return Poll::Ready(Some(Ok(piece)));
            }
        }
    }

    /// Asks for the body first, so that the connection knows that somebody wants it; then moves the connection; then
    /// takes what has come.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_ready() {
            return frame;
        }
        if let Some(upstream) = &mut self.upstream {
            upstream.drive(cx);
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    /// The body was read to its end: the connection serves the next request, unless this one is still being sent.
    fn finish(&mut self) {
        if let Some(upstream) = self.upstream.take()
            && upstream.is_reusable()
        {
            self.gateway.pool.put(self.serial, upstream, self.gateway.clock.now());
        }
    }
}
