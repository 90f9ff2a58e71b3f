//! A request's body, streamed once and kept for a second time if it is small.
//!
//! Every attempt reads the body through a handle of its own. What a handle takes from the client goes on to the instance
//! at once, piece by piece; nothing waits for a whole. When the length is known and at most
//! [`Retries::replay_max_bytes`](crate::config::Retries), the pieces are kept beside (reference counted, not copied), so
//! that the handle of a second attempt can start again. A larger one can be tried again only while nobody has touched it.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::{
    config::GatewayOptions,
    downstream::{Downstream, Waiting},
    refusal::Refusal,
};

/// The body as it comes from the client, for as many attempts as it takes.
#[derive(Debug)]
pub(crate) struct Source(Option<Rc<RefCell<State>>>);

/// One attempt's reading of it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    state: Option<Rc<RefCell<State>>>,
    /// How many of the kept pieces it has read.
    pieces_read: usize,
    bytes_read: u64,
}

#[derive(Debug)]
struct State {
    incoming: Incoming,
    /// The declared length; `None`: chunked.
    length: Option<u64>,
    /// All pieces so far; `None`: not kept.
    kept: Option<Vec<Bytes>>,
    taken_bytes: u64,
    is_at_end: bool,
    fault: Option<Refusal>,
    downstream: Rc<Downstream>,
    options: Rc<GatewayOptions>,
}

// === impl Source ===

impl Source {
    pub(crate) fn new(incoming: Incoming, downstream: &Rc<Downstream>, options: &Rc<GatewayOptions>) -> Self {
        downstream.set_leaves_unread(false);
        if incoming.is_end_stream() {
            return Self(None);
        }
        let length = incoming.size_hint().exact();
        let is_small = length.is_some_and(|length| length <= options.retries.replay_max_bytes);
        Self(Some(Rc::new(RefCell::new(State {
            incoming,
            length,
            kept: is_small.then(Vec::new),
            taken_bytes: 0,
            is_at_end: false,
            fault: None,
            downstream: Rc::clone(downstream),
            options: Rc::clone(options),
        }))))
    }

    /// A reading from the start. Right only while the body [is whole](Self::is_whole).
    pub(crate) fn read(&self) -> RequestBody {
        RequestBody { state: self.0.clone(), pieces_read: 0, bytes_read: 0 }
    }

    /// Whether a reading from the start gets everything.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|state| {
            let state = state.borrow();
            state.fault.is_none() && (state.kept.is_some() || state.taken_bytes == 0)
        })
    }

    /// Whether the request came in chunks.
    pub(crate) fn is_chunked(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.borrow().length.is_none())
    }

    /// What the client did wrong with it.
    pub(crate) fn fault(&self) -> Option<Refusal> {
        self.0.as_ref().and_then(|state| state.borrow().fault.clone())
    }

    /// Reads the rest of a small body, for a moment, so that the connection can be used again after an answer that did
    /// not need it. What is not small or not quick stays unread, and the connection ends.
    pub(crate) async fn discard_within(&self, limit: Duration) {
        let is_small = self.0.as_ref().is_some_and(|state| state.borrow().kept.is_some());
        if !is_small || !self.is_whole() {
            return;
        }
        let mut rest = self.read();
        let end = poll_fn(|cx| {
            while let Some(Ok(_)) = ready!(Pin::new(&mut rest).poll_frame(cx)) {}
            Poll::Ready(())
        });
        let _best_effort = timeout(limit, end).await;
    }
}

// === impl State ===

impl State {
    /// The next piece from the client.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        loop {
            if self.is_at_end {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(self.fail(Refusal::BodyBroken)))),
                Poll::Ready(None) => {
                    self.is_at_end = true;
                    self.downstream.body_moved(self.options.timeouts.response_timeout);
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let limit = self.options.timeouts.body_idle_timeout;
                    self.downstream.body_stalled(limit);
                    if !self.downstream.is_over(Waiting::Body) {
                        return Poll::Pending;
                    }
                    return Poll::Ready(Some(Err(self.fail(Refusal::BodyTimeout(limit)))));
                }
            };
            self.downstream.body_moved(self.options.timeouts.response_timeout);
            self.is_at_end = self.incoming.is_end_stream();
            // Trailers are dropped: an instance could take them for header fields that we have judged.
            let Ok(piece) = frame.into_data() else { continue };
            self.taken_bytes += piece.len() as u64;
            let max_bytes = self.options.limits.body_max_bytes;
            if self.taken_bytes > max_bytes {
                return Poll::Ready(Some(Err(self.fail(Refusal::BodyTooLarge { max_bytes }))));
            }
            if let Some(kept) = &mut self.kept {
                kept.push(piece.clone());
            }
            return Poll::Ready(Some(Ok(piece)));
        }
    }

    fn fail(&mut self, fault: Refusal) -> io::Error {
        self.downstream.stop(Waiting::Body);
        let error = io::Error::other(fault.problem().detail);
        self.fault = Some(fault);
        error
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.downstream.stop(Waiting::Body);
        self.downstream.set_leaves_unread(!self.is_at_end);
    }
}

// === impl RequestBody ===

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let Some(state) = &this.state else { return Poll::Ready(None) };
        let mut state = state.borrow_mut();
        let kept = state.kept.as_ref().and_then(|kept| kept.get(this.pieces_read)).cloned();
        let piece = match kept {
            Some(piece) => piece,
            None => match ready!(state.poll_next(cx)) {
                Some(piece) => piece?,
                None => return Poll::Ready(None),
            },
        };
        this.pieces_read += 1;
        this.bytes_read += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.state.as_ref().is_none_or(|state| {
            let state = state.borrow();
            state.is_at_end && state.kept.as_ref().is_none_or(|kept| kept.len() == self.pieces_read)
        })
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.state.as_ref().map_or(Some(0), |state| state.borrow().length);
        length.map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.bytes_read)))
    }
}
