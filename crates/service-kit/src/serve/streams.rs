//! The requests of one HTTP/2 connection, each a stream with a task of its own.
//!
//! The connection may be closed for another client while none of them is worked on; see [`crate::connections`]. One
//! that waits for its client, as a stream of heartbeats does between two of them, is not worked on
//! ([`wait_for_client`]).
//!
//! A stream whose client opens no window for what waits to be sent costs one part of its response, and no more: the
//! next one is made when that is sent. It is handed over in pieces of at most [`PIECE_MAX_BYTES`], one at a time. When
//! one is not sent after [`ServeOptions::write_deadline`](super::ServeOptions::write_deadline), the stream is reset,
//! and counted like a connection whose client does not read.
//!
//! All streams of a connection together have [`UNSENT_PARTS_MAX_BYTES`] for parts that are not sent: beyond that the
//! next part of any of them is made when one is sent, or its stream is ended. Answers that are [`SmallParts`] go on
//! beside them.
//!
//! That hyper asks for more does not say that a piece is sent: it hands all of it to h2 when there is room for one
//! byte, and its task ends with the last one. h2 drops a piece when it is written, so that is waited for; and a
//! response ends with a frame of its own after the last piece, so that its task, which can reset the stream, lasts
//! until then.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::task::AtomicWaker;
use hyper::{
    Response,
    body::{Body as HttpBody, Frame, SizeHint},
    rt::Executor,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::sync::PollSemaphore;

use super::{
    client::Check,
    exchange::{Exchange, now_ms},
};

/// How much of a response is handed over at once, in bytes: the largest frame of a client that has not asked for larger
/// ones.
const PIECE_MAX_BYTES: usize = 16 * 1024;

/// How much of the responses of one connection may be made and not sent, in bytes; a part that is larger than a piece
/// may exceed it by the rest of it. What one client that reads nothing can make a server keep is this times its
/// connections. As much as may wait in the other direction, and 64 pieces: enough to keep 100 ms of 80 Mbit/s full.
const UNSENT_PARTS_MAX_BYTES: usize = 1024 * 1024;

/// What [`UNSENT_PARTS_MAX_BYTES`] is counted in.
const UNIT_BYTES: usize = 1024;

/// The units of a piece, which are reserved before a part is made.
const PIECE_UNITS: usize = PIECE_MAX_BYTES / UNIT_BYTES;

/// An extension of a response whose parts are some hundred bytes each, one for each message of its client.
///
/// They are made whatever else of the connection is not sent: a client's heartbeats are answered beside streams that it
/// does not read.
#[derive(Debug, Clone, Copy)]
pub struct SmallParts;

tokio::task_local! {
    /// The connection of the stream that this task works on.
    static STREAMS: Streams;
    /// What waits to be sent on the stream of this task.
    static UNSENT: Arc<Unsent>;
}

/// The streams of one connection; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<State>);

#[derive(Debug)]
struct State {
    exchange: Exchange,
    open: AtomicUsize,
    worked_on: AtomicUsize,
    /// What is left of [`UNSENT_PARTS_MAX_BYTES`].
    room: Arc<Semaphore>,
    /// When the last one ended, by [`now_ms`].
    idle_since_ms: AtomicU64,
}

/// A stream that is worked on, until it is dropped.
#[derive(Debug)]
pub(super) struct Open(Streams);

/// A stream that is not worked on, until it is dropped.
struct Rest(Streams);

/// Whether a piece of a response waits to be sent.
#[derive(Debug, Default)]
struct Unsent {
    /// Since when; `None`: all that was handed over is sent.
    since: Mutex<Option<Instant>>,
    /// It has waited for too long.
    is_late: AtomicBool,
    /// The task of the stream.
    stream: AtomicWaker,
}

/// A piece of a response, until it is sent or its stream has ended.
struct Piece {
    bytes: Bytes,
    unsent: Arc<Unsent>,
}

/// Runs streams in tasks, and ends those whose client does not read.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    pub(super) exchange: Exchange,
    pub(super) write_deadline: Duration,
}

/// The response of a stream.
#[derive(Debug)]
pub(super) struct Part {
    body: Body,
    /// What the body has given and is not handed over.
    rest: Bytes,
    /// For the next part; `None`: it needs none.
    room: Option<PollSemaphore>,
    /// For what the body gave last, until all of that is sent.
    reserved: Option<OwnedSemaphorePermit>,
    /// The body has been asked for something: it ends when it says so and all is sent.
    has_begun: bool,
    streams: Streams,
    check: Check,
    /// After the body, which may be at rest.
    _open: Open,
}

/// Waits for what the client of this request sends next. Meanwhile its connection may be closed for another client's,
/// as one that has no request under way.
///
/// For streams that are idle most of the time, and whose client loses nothing with its connection. Outside of an HTTP/2
/// stream it only waits.
pub async fn wait_for_client<F: Future>(next: F) -> F::Output {
    let streams = STREAMS.try_with(Streams::clone).ok();
    let _rest = streams.map(|streams| {
        streams.leave_work();
        Rest(streams)
    });
    next.await
}

// === impl Streams ===

impl Streams {
    pub(super) fn new(exchange: Exchange) -> Self {
        let idle_since_ms = AtomicU64::new(now_ms());
        let room = Arc::new(Semaphore::new(UNSENT_PARTS_MAX_BYTES / UNIT_BYTES));
        let open = AtomicUsize::new(0);
        let worked_on = AtomicUsize::new(0);
        Self(Arc::new(State { exchange, open, worked_on, room, idle_since_ms }))
    }

    pub(super) fn open(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.enter_work();
        Open(self.clone())
    }

    fn enter_work(&self) {
        if self.0.worked_on.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.exchange.place().begin();
        }
    }

    fn leave_work(&self) {
        if self.0.worked_on.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.exchange.place().wait(now_ms());
        }
    }

    /// Returns when there has been no stream for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let is_idle = self.0.open.load(Ordering::Relaxed) == 0;
            let since = Duration::from_millis(now_ms().saturating_sub(self.0.idle_since_ms.load(Ordering::Relaxed)));
            match limit.checked_sub(since) {
                Some(rest) if is_idle && !rest.is_zero() => sleep(rest).await,
                _ if is_idle => return,
                _ => sleep(limit).await,
            }
        }
    }

    /// Runs what makes a response.
    pub(super) async fn during<F: Future>(self, request: F) -> F::Output {
        STREAMS.scope(self, request).await
    }

    /// The response, which is made while it is sent.
    pub(super) fn answer(&self, open: Open, check: Check, response: Response<Body>) -> Response<Part> {
        let is_small = response.extensions().get::<SmallParts>().is_some();
        let room = (!is_small).then(|| PollSemaphore::new(Arc::clone(&self.0.room)));
        response.map(|body| {
            let streams = self.clone();
            Part { body, rest: Bytes::new(), room, reserved: None, has_begun: false, streams, check, _open: open }
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.leave_work();
        let state = &self.0.0;
        if state.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            state.idle_since_ms.store(now_ms(), Ordering::Relaxed);
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.enter_work();
    }
}

// === impl Unsent ===

impl Unsent {
    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when all that was handed over is sent, or is late.
    fn poll_sent(&self, cx: &Context<'_>) -> Poll<Result<(), axum::Error>> {
        self.stream.register(cx.waker());
        if self.is_late.load(Ordering::Acquire) {
            return Poll::Ready(Err(axum::Error::new("the client takes nothing of its response")));
        }
        if self.since().is_some() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

// === impl Piece ===

impl Piece {
    fn watched(bytes: Bytes, unsent: &Arc<Unsent>) -> Bytes {
        unsent.set(Some(Instant::now()));
        Bytes::from_owner(Self { bytes, unsent: Arc::clone(unsent) })
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.unsent.set(None);
        self.unsent.stream.wake();
    }
}

// === impl Tasks ===

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let unsent = Arc::<Unsent>::default();
        tokio::spawn(UNSENT.scope(Arc::clone(&unsent), self.clone().watch(stream, unsent)));
    }
}

impl Tasks {
    async fn watch(self, stream: impl Future<Output = ()>, unsent: Arc<Unsent>) {
        let mut stream = pin!(stream);
        let mut patience = pin!(sleep(self.write_deadline));
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(since) = unsent.since() else { return Poll::Pending };
            let until = since + self.write_deadline;
            if patience.deadline() != until {
                patience.as_mut().reset(until);
            }
            ready!(patience.as_mut().poll(cx));
            self.exchange.place().note_unread();
            // Resets the stream itself if it can: what h2 holds of it is dropped then. hyper may hold the piece still,
            // if there never was room for any of it; then h2 holds nothing, and the end of the task resets the stream.
            unsent.is_late.store(true, Ordering::Release);
            let _ended_or_dropped = stream.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
    }
}

// === impl Part ===

impl Part {
    /// Asks the body for what is next, when there is room for it.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.reserved = None;
        let units = u32::try_from(PIECE_UNITS).expect("it is small");
        // The semaphore is never closed. Room that is not used now is given back: others may have something to send.
        let reserved = match &mut self.room {
            Some(room) => ready!(room.poll_acquire_many(cx, units)),
            None => None,
        };
        self.has_begun = true;
        let poll = || Pin::new(&mut self.body).poll_frame(cx);
        let frame = ready!(self.check.while_polling(|| STREAMS.sync_scope(self.streams.clone(), poll)));
        if let Some(Ok(frame)) = &frame {
            self.reserved = reserved.and_then(|reserved| fitted(reserved, frame.data_ref().map_or(0, Bytes::len)));
        }
        Poll::Ready(frame)
    }
}

/// What is needed of `reserved` for so many bytes; of what is needed beyond that, as much as is left.
fn fitted(mut reserved: OwnedSemaphorePermit, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let needed = bytes.div_ceil(UNIT_BYTES);
    let Some(more) = needed.checked_sub(PIECE_UNITS) else { return reserved.split(needed) };
    let room = Arc::clone(reserved.semaphore());
    let most = u32::try_from(more.min(room.available_permits())).unwrap_or(u32::MAX);
    // Another stream may take of it meanwhile: then half of it, and so on.
    let mut tries = std::iter::successors(Some(most), |most| Some(most / 2)).take_while(|most| *most > 0);
    let taken = tries.find_map(|most| Arc::clone(&room).try_acquire_many_owned(most).ok());
    taken.into_iter().for_each(|more| reserved.merge(more));
    Some(reserved)
}

impl HttpBody for Part {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let unsent = UNSENT.try_with(Arc::clone).unwrap_or_default();
        if let Err(late) = ready!(unsent.poll_sent(cx)) {
            return Poll::Ready(Some(Err(late)));
        }
        if this.rest.is_empty() {
            match ready!(this.poll_body(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_MAX_BYTES));
        Poll::Ready(Some(Ok(Frame::data(Piece::watched(piece, &unsent)))))
    }

    fn is_end_stream(&self) -> bool {
        !self.has_begun && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for before the body is, for the length in the head.
        if self.has_begun { SizeHint::default() } else { self.body.size_hint() }
    }
}
