//! What a connection is doing, seen from outside of hyper: whether a request is under way, and whether all of it was
//! read.
//!
//! hyper does not tell. But it asks us to serve a request, it drops the response's body when all of it is in its
//! buffers, and it flushes the stream that we give it when these are empty: a request is under way from the first to
//! the last.

use std::{
    future::{Future, pending},
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, sleep_until},
};

use crate::connections::Place;

/// What hyper reads of an unread body so that the connection can go on is its buffer, of 8 KiB at first. A longer rest
/// means its end.
const READ_ANYWAY_BYTES: u64 = 8 * 1024;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clock of the servers' [`crate::connections`].
pub(super) fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// One connection's state; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Exchange(Arc<State>);

#[derive(Debug)]
struct State {
    place: Place,
    /// A request's head has been complete, ever.
    has_begun: AtomicBool,
    is_served: AtomicBool,
    /// Some of what was answered is not with the kernel yet.
    is_unflushed: AtomicBool,
    /// The last request's body was dropped before its end.
    is_unread: AtomicBool,
    /// And the connection cannot go on because of that.
    is_far_from_read: AtomicBool,
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn new(place: Place) -> Self {
        let no = AtomicBool::default;
        let state = State {
            place,
            has_begun: no(),
            is_served: no(),
            is_unflushed: no(),
            is_unread: no(),
            is_far_from_read: no(),
        };
        Self(Arc::new(state))
    }

    pub(super) fn place(&self) -> &Place {
        &self.0.place
    }

    /// A request's head has arrived. Returns its body, watched.
    pub(super) fn begin(&self, body: Incoming) -> Asked {
        self.0.has_begun.store(true, Ordering::Relaxed);
        self.0.is_served.store(true, Ordering::Relaxed);
        self.0.is_unread.store(false, Ordering::Relaxed);
        self.0.is_far_from_read.store(false, Ordering::Relaxed);
        self.0.place.begin();
        Asked { body, is_at_end: false, state: Arc::downgrade(&self.0) }
    }

    /// Returns at `until` if no request's head is complete by then.
    pub(super) async fn late(&self, until: Instant) {
        sleep_until(until.into()).await;
        if self.0.has_begun.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }

    /// The response to it, watched.
    pub(super) fn answered(&self, body: Body) -> Answered {
        Answered { body, exchange: self.clone() }
    }

    /// Whether some of the last request's body was not read.
    pub(super) fn is_unread(&self) -> bool {
        self.0.is_unread.load(Ordering::Relaxed)
    }

    /// Whether so much of it was not read that the response is the last of the connection.
    pub(super) fn is_last(&self) -> bool {
        self.0.is_far_from_read.load(Ordering::Relaxed) || self.0.place.is_evicted()
    }

    /// Nothing more is asked on this connection.
    pub(super) fn end(&self) {
        self.0.place.wait(now_ms());
    }

    /// All that was written is with the kernel. hyper flushes after every response.
    fn note_flushed(&self) {
        let was_unflushed = self.0.is_unflushed.swap(false, Ordering::Relaxed);
        if was_unflushed && !self.0.is_served.load(Ordering::Relaxed) {
            self.0.place.wait(now_ms());
        }
    }
}

/// A request's body.
#[derive(Debug)]
pub(super) struct Asked {
    body: Incoming,
    is_at_end: bool,
    /// Weak, because a handler's task may keep a body for longer than the connection lasts.
    state: Weak<State>,
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.is_at_end |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.is_at_end || self.body.is_end_stream() {
            return;
        }
        if let Some(state) = self.state.upgrade() {
            let is_far = self.body.size_hint().upper().is_none_or(|rest| rest > READ_ANYWAY_BYTES);
            state.is_far_from_read.store(is_far, Ordering::Relaxed);
            state.is_unread.store(true, Ordering::Relaxed);
        }
    }
}

/// A response's body.
#[derive(Debug)]
pub(super) struct Answered {
    body: Body,
    exchange: Exchange,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        // In hyper's buffers, not yet beyond them.
        self.exchange.0.is_unflushed.store(true, Ordering::Relaxed);
        self.exchange.0.is_served.store(false, Ordering::Relaxed);
    }
}

/// The connection's bytes. Ends it when nothing of what is to be written is taken for too long.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    exchange: Exchange,
    write_deadline: Duration,
    /// Runs while nothing is taken.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, exchange: Exchange, write_deadline: Duration) -> Self {
        Self { stream, exchange, write_deadline, patience: None }
    }

    /// What a write came to, or that the time is over.
    fn within_deadline<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(self.write_deadline)));
        ready!(patience.as_mut().poll(cx));
        self.patience = None;
        self.exchange.0.place.note_unread();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its response")))
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_deadline(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.within_deadline(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        let flushed = self.within_deadline(cx, flushed);
        if flushed.is_ready() {
            self.exchange.note_flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
