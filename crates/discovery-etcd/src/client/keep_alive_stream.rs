//! One long-lived keep-alive stream, shared by many leases.
//!
//! Requests go in, responses come out in the same order and name their lease. The first caller opens the stream with
//! its own request; a task reads responses and hands each to the callers that wait for that lease. When the stream
//! breaks, or one response is overdue, the stream is closed, every waiting call fails at once, and the next caller
//! opens a new one.
//!
//! etcd answers a keep-alive for a lease that has expired but is not yet deleted only after its deletion, and
//! everything behind it on the stream waits as well. Therefore a member has several streams, and one that stalls is
//! closed.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use discovery::LeaseId;
use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use crate::client::failure::Failure;

/// How many streams one member gets: enough that one stalled lease delays few others.
const STREAMS: usize = 8;

/// The keep-alive streams of one member.
#[derive(Debug)]
pub(crate) struct KeepAliveStreams([Arc<KeepAliveStream>; STREAMS]);

#[derive(Debug, Default)]
pub(crate) struct KeepAliveStream {
    /// Held by the caller who opens the stream, so that the others wait for that instead of opening their own.
    opening: AsyncMutex<()>,
    open: Mutex<Option<Open>>,
}

/// An open stream.
#[derive(Debug)]
struct Open {
    keeper: LeaseKeeper,
    waiting: HashMap<i64, Vec<oneshot::Sender<Answer>>>,
    /// Which opening this is: an old reader or an old waiter must not close a new stream.
    generation: u64,
}

type Answer = Result<Duration, Failure>;

/// A stream that was opened with a lease's request, and the TTL that its first response told.
pub(crate) type Opened = (Duration, LeaseKeeper, LeaseKeepAliveStream);

/// A request that is on its way.
struct Sent {
    answer: oneshot::Receiver<Answer>,
    generation: u64,
}

/// Closes the stream unless an answer came: the waiting call was cut off by its time limit.
struct CloseUnlessAnswered<'a> {
    stream: &'a KeepAliveStream,
    generation: Option<u64>,
}

// === impl KeepAliveStreams ===

impl Default for KeepAliveStreams {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }
}

impl KeepAliveStreams {
    /// The stream on which `lease` is kept alive.
    pub(crate) fn of(&self, lease: LeaseId) -> &Arc<KeepAliveStream> {
        // Ids that etcd chooses count up in their lowest bits, ours are random there.
        &self.0[usize::try_from(lease.0.unsigned_abs() % STREAMS as u64).expect("less than STREAMS")]
    }
}

// === impl KeepAliveStream ===

impl KeepAliveStream {
    /// Keeps `lease` alive over the member to which this stream belongs, on which `open_stream` opens a stream when
    /// there is none; returns its TTL.
    ///
    /// Unbounded: the caller sets the limit and drops this when it is over, which closes the stream, because a response
    /// that is late delays all others.
    pub(crate) async fn keep_alive<F>(self: &Arc<Self>, lease: LeaseId, open_stream: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Result<Opened, Failure>>,
    {
        loop {
            if let Some(sent) = self.send(lease).await? {
                return self.receive(sent).await;
            }
            let opening = self.opening.lock().await;
            if !self.is_open() {
                // The opener's first response is its own.
                return self.open(open_stream().await?);
            }
            drop(opening);
        }
    }

    /// Takes a stream into use, and has its responses read. A lease that is gone opens none.
    fn open(self: &Arc<Self>, (ttl, keeper, stream): Opened) -> Answer {
        let generation = rand::random();
        *self.lock() = Some(Open { keeper, waiting: HashMap::new(), generation });
        tokio::spawn(read(Arc::downgrade(self), generation, stream));
        Ok(ttl)
    }

    /// Sends a request, if the stream is open.
    async fn send(&self, lease: LeaseId) -> Result<Option<Sent>, Failure> {
        let (sender, answer) = oneshot::channel();
        let (mut keeper, generation) = {
            let mut open = self.lock();
            let Some(open) = open.as_mut() else { return Ok(None) };
            // Before the request leaves, so that its response finds us.
            open.waiting.entry(lease.0).or_default().push(sender);
            (LeaseKeeper { id: lease.0, sender: open.keeper.sender.clone() }, open.generation)
        };
        let mut close = CloseUnlessAnswered { stream: self, generation: Some(generation) };
        let sent = keeper.keep_alive().await;
        if sent.is_ok() {
            close.generation = None;
        }
        sent.map_err(Failure::from)?;
        Ok(Some(Sent { answer, generation }))
    }

    async fn receive(&self, sent: Sent) -> Answer {
        let mut close = CloseUnlessAnswered { stream: self, generation: Some(sent.generation) };
        let answer = sent.answer.await;
        close.generation = None;
        answer.unwrap_or_else(|_| Err(Failure::Unreachable("the keep-alive stream was closed".into())))
    }

    /// Closes the stream, if it is still this one. Waiting callers notice because their sender is dropped.
    fn close(&self, generation: u64) {
        let mut open = self.lock();
        if open.as_ref().is_some_and(|open| open.generation == generation) {
            *open = None;
        }
    }

    fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands responses to the waiting callers, until the stream ends or its slot is dropped.
async fn read(this: Weak<KeepAliveStream>, generation: u64, mut stream: LeaseKeepAliveStream) {
    while let Ok(Some(response)) = stream.message().await {
        let Some(this) = this.upgrade() else { return };
        let mut open = this.lock();
        let Some(open) = open.as_mut().filter(|open| open.generation == generation) else { return };
        let answer = match response.ttl() {
            ttl if ttl > 0 => Ok(Duration::from_secs(ttl.unsigned_abs())),
            _ => Err(Failure::LeaseNotFound),
        };
        for waiter in open.waiting.remove(&response.id()).unwrap_or_default() {
            // A caller that no longer waits has had its answer: it was too late.
            let _ = waiter.send(answer.clone());
        }
    }
    if let Some(this) = this.upgrade() {
        this.close(generation);
    }
}

// === impl CloseUnlessAnswered ===

impl Drop for CloseUnlessAnswered<'_> {
    fn drop(&mut self) {
        if let Some(generation) = self.generation {
            self.stream.close(generation);
        }
    }
}
