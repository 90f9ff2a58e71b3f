//! The requests of one HTTP/2 connection, each a stream with a task of its own.
//!
//! The connection may be closed for another client while none of them is worked on; see [`crate::connections`]. One that waits
//! for its client, as a stream of heartbeats does between two of them, is not worked on ([`wait_for_client`]).
//!
//! A stream whose client opens no window for what waits to be sent costs one part of its response, and no more: the next one is
//! made when that is sent. When nothing of it is sent for [`ServeOptions::write_deadline`](super::ServeOptions::write_deadline), the
//! stream is reset, and counted like a connection whose client does not read. hyper polls a response only when there is room
//! for it, so this is watched from around its task.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::{
    body::{Body as HttpBody, Frame, SizeHint},
    rt::Executor,
};
use tokio::time::{Instant, sleep};

use super::{
    client::Check,
    exchange::{Exchange, now_ms},
};

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
    /// When the last one ended, by [`now_ms`].
    idle_since_ms: AtomicU64,
}

/// A stream that is worked on, until it is dropped.
#[derive(Debug)]
pub(super) struct Open(Streams);

/// A stream that is not worked on, until it is dropped.
struct Rest(Streams);

/// Since when a part of a response waits to be sent.
#[derive(Debug, Default)]
struct Unsent(Mutex<Option<Instant>>);

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
    streams: Streams,
    check: Check,
    /// After the body, which may be at rest.
    _open: Open,
}

/// Waits for what the client of this request sends next. Meanwhile its connection may be closed for another client's, as one
/// that has no request under way.
///
/// For streams that are idle most of the time, and whose client loses nothing with its connection. Outside of an HTTP/2 stream
/// it only waits.
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
        Self(Arc::new(State { exchange, open: AtomicUsize::new(0), worked_on: AtomicUsize::new(0), idle_since_ms }))
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
    pub(super) fn answer(&self, open: Open, check: Check, body: Body) -> Part {
        Part { body, streams: self.clone(), check, _open: open }
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
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            patience.as_mut().poll(cx).map(|()| self.exchange.place().note_unread())
        })
        .await;
    }
}

// === impl Part ===

impl HttpBody for Part {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // There is room, so what was handed over before is sent.
        let _outside_of_tasks = UNSENT.try_with(|unsent| unsent.set(None));
        let this = &mut *self;
        let poll = || Pin::new(&mut this.body).poll_frame(cx);
        let frame = this.check.while_polling(|| STREAMS.sync_scope(this.streams.clone(), poll));
        if matches!(&frame, Poll::Ready(Some(Ok(frame))) if frame.is_data()) {
            let _outside_of_tasks = UNSENT.try_with(|unsent| unsent.set(Some(Instant::now())));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
