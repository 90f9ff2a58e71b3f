//! How well a watch is: read by readiness checks and metrics while the watch runs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use discovery::Revision;
use tokio::time::Instant;

/// Why everything was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResyncCause {
    /// The watch has just begun.
    Started,
    /// The stream ended: a member stopped, the network broke, the leader was lost.
    Closed,
    /// The revision to watch from was compacted before the watch was open.
    Compacted,
    /// The member stopped answering without closing the stream.
    Silent,
    /// The member was behind what had been listed.
    Behind,
    /// The revision went backwards: the cluster was wiped, or restored from a backup.
    Wiped,
    /// The regular comparison with a complete list found a difference: the watch had lost something.
    Reconciled,
}

/// A handle on how a [`Watch`](crate::Watch) is; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct WatchHealth(Arc<Mutex<WatchState>>);

/// How a watch is at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchState {
    /// All ranges are being watched, as far as is known. False before the first connection and between two.
    pub connected: bool,
    /// When etcd last said anything: a list, an event, or that nothing happened. `None`: never yet.
    pub last_response: Option<Instant>,
    /// Everything up to this revision has been told. On a quiet cluster up to two seconds behind etcd's own.
    pub revision: Revision,
    /// How often everything was listed anew, by cause.
    pub resyncs: BTreeMap<ResyncCause, u64>,
    /// How many comparisons with a complete list were made.
    pub comparisons: u64,
    /// How many keys those found to be wrong. Should be 0 for ever; anything else is a bug of etcd's or ours.
    pub differences: u64,
    /// How many keys cannot be parsed now.
    pub unreadable: usize,
    /// Why there is no connection, when there is none.
    pub last_error: Option<String>,
}

// === impl WatchHealth ===

impl WatchHealth {
    /// How it is now.
    pub fn state(&self) -> WatchState {
        self.lock().clone()
    }

    /// How old what is known may be at `now`: the time since etcd last said anything. `None`: nothing is known yet.
    ///
    /// At most about two seconds while all is well.
    pub fn lag(&self, now: Instant) -> Option<Duration> {
        self.lock().last_response.map(|heard| now.saturating_duration_since(heard))
    }

    /// When etcd last said anything, if all ranges are being watched. Cheaper than [`WatchHealth::state`].
    pub fn heard(&self) -> Option<Instant> {
        let state = self.lock();
        state.last_response.filter(|_| state.connected)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut WatchState)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl WatchState ===

impl WatchState {
    /// How often everything was listed for this cause.
    pub fn resyncs(&self, cause: ResyncCause) -> u64 {
        self.resyncs.get(&cause).copied().unwrap_or_default()
    }
}

// === impl ResyncCause ===

impl ResyncCause {
    /// Every cause, for metrics that start at 0.
    pub const ALL: [Self; 7] =
        [Self::Started, Self::Closed, Self::Compacted, Self::Silent, Self::Behind, Self::Wiped, Self::Reconciled];

    /// As a metric label: `closed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Closed => "closed",
            Self::Compacted => "compacted",
            Self::Silent => "silent",
            Self::Behind => "behind",
            Self::Wiped => "wiped",
            Self::Reconciled => "reconciled",
        }
    }
}

impl fmt::Display for ResyncCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
