//! Who waits for a call. On SQLite a call is carried out on a thread, which does not end when its caller leaves.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::OutboxError;

/// How long a caller waits, at most, and whether it has left before: it was dropped, or was told that its call failed.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    until: Instant,
    waiting: Weak<()>,
}

/// The caller waits while it has this; a commit keeps it too, so that nothing stops one that has begun.
pub(super) type WaitingGuard = Arc<()>;

// === impl Caller ===

impl Caller {
    /// The caller keeps what comes with it for as long as it waits.
    pub(super) fn new(until: Instant) -> (Self, WaitingGuard) {
        let waiting = WaitingGuard::default();
        (Self { until, waiting: Arc::downgrade(&waiting) }, waiting)
    }

    /// # Errors
    /// It waits no longer.
    pub(super) fn waits(&self) -> Result<WaitingGuard, OutboxError> {
        self.waiting.upgrade().filter(|_| Instant::now() < self.until).ok_or(OutboxError::Silent)
    }

    /// Whether it has left; its time may be over without that.
    pub(super) fn has_left(&self) -> bool {
        self.waiting.strong_count() == 0
    }

    /// How long it still waits, at most.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
