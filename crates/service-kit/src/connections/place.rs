//! One connection's place among all, as the connection and its evictors see it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use super::{ClientNetwork, Connections};

/// A connection's place, until it is dropped.
///
/// The connection notes here whether a request is under way: a store to memory of its own, no lock, no clock.
#[derive(Debug)]
pub struct Place {
    pub(super) connections: Connections,
    pub(super) occupant: Arc<Occupant>,
}

/// What the registry of connections knows of one.
#[derive(Debug)]
pub(super) struct Occupant {
    pub(super) network: ClientNetwork,
    pub(super) is_exempt: bool,
    waiting: AtomicU64,
    /// Its place was given to another one.
    is_evicted: AtomicBool,
    waker: OnceLock<Waker>,
    /// Where it is in the list of all; written under that list's lock.
    pub(super) index: AtomicUsize,
}

/// Since when a connection waits; the earliest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiting(u64);

/// No moment in milliseconds.
const BUSY: u64 = u64::MAX;

// === impl Waiting ===

impl Waiting {
    #[cfg(test)]
    pub(super) fn since(now_ms: u64) -> Self {
        Self(now_ms)
    }
}

// === impl Place ===

impl Place {
    /// A place among none, for a connection that is not counted.
    #[must_use]
    pub fn uncounted() -> Self {
        let connections = Connections::default();
        let network = ClientNetwork::of(std::net::Ipv4Addr::UNSPECIFIED.into());
        Self { connections, occupant: Arc::new(Occupant::new(network, true, 0)) }
    }

    /// No request is under way since `now_ms`, a moment of the clock that [`Connections::admit`] was told: the
    /// connection may be closed when its place is needed. Parts of a head change nothing: dripping gains nothing.
    pub fn wait(&self, now_ms: u64) {
        self.occupant.waiting.store(now_ms.min(BUSY - 1), Ordering::Relaxed);
    }

    /// A request is under way: it is not closed.
    pub fn begin(&self) {
        self.occupant.waiting.store(BUSY, Ordering::Relaxed);
    }

    /// The connection ends because its client does not read.
    pub(crate) fn note_unread(&self) {
        self.connections.0.unread.inc();
    }

    /// Whether another connection has the place already: what is under way may be finished, as the last of its
    /// connection.
    #[must_use]
    pub fn is_evicted(&self) -> bool {
        self.occupant.is_evicted.load(Ordering::Relaxed)
    }

    /// Does the connection's `work`. When the place is needed while no request is under way, drops it; `None` then.
    ///
    /// Must be the whole of a task, or be polled whenever the task is woken. Pinned by its caller: moved in here, it
    /// would take its room three times.
    pub async fn hold<F: Future>(&self, mut work: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| {
            self.occupant.waker.get_or_init(|| cx.waker().clone());
            // First, so that a request that has arrived meanwhile is seen, and served.
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if self.is_evicted() && self.occupant.waiting().is_some() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.remove(&self.occupant);
    }
}

// === impl Occupant ===

impl Occupant {
    pub(super) const NOWHERE: usize = usize::MAX;

    pub(super) fn new(network: ClientNetwork, is_exempt: bool, now_ms: u64) -> Self {
        Self {
            network,
            is_exempt,
            waiting: AtomicU64::new(now_ms.min(BUSY - 1)),
            is_evicted: AtomicBool::new(false),
            waker: OnceLock::new(),
            index: AtomicUsize::new(Self::NOWHERE),
        }
    }

    /// Since when it may be closed; `None` while a request is under way.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        (waiting != BUSY).then_some(Waiting(waiting))
    }

    /// [`Occupant::waiting`], once it can be told.
    pub(super) fn evictable(&self) -> Option<Waiting> {
        // One that has not begun has nothing to wake, and is the newest anyway.
        self.waker.get().and_then(|_| self.waiting())
    }

    pub(super) fn evict(&self) {
        self.is_evicted.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    #[cfg(test)]
    pub(super) fn begun(self) -> Self {
        self.waker.get_or_init(|| Waker::noop().clone());
        self
    }
}
