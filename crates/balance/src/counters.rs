//! What the cores count about a service, each for itself.
//!
//! A counter that two cores write costs both a cache miss per request. So every core has a block of its own, on cache
//! lines of its own, and the reader adds them up. The values are atomics only so that the reader may be another
//! thread: nothing is ever contended.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// Upper bounds of the durations in microseconds, from a cache hit to a client that has long given up.
pub(crate) const DURATION_BOUNDS_US: [u64; 12] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];

/// Why an attempt failed, as a metric tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Connect,
    Closed,
    Timeout,
    Malformed,
}

/// Why a response did not arrive whole, as a metric tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenKind {
    Closed,
    Stalled,
    Malformed,
    /// The client took it too slowly.
    SlowClient,
}

/// One core's block of one service.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct PerCore {
    turns: AtomicUsize,
    /// By hundreds of the status: 1xx (never), 2xx, 3xx, 4xx, 5xx.
    responses: [AtomicU64; 5],
    /// One more than there are bounds: the last is for everything slower.
    durations: [AtomicU64; DURATION_BOUNDS_US.len() + 1],
    duration_sum_us: AtomicU64,
    retries: AtomicU64,
    ejections: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
    broken: [AtomicU64; BrokenKind::ALL.len()],
}

/// The blocks of all cores added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) responses: [u64; 5],
    pub(crate) durations: [u64; DURATION_BOUNDS_US.len() + 1],
    pub(crate) duration_sum_us: u64,
    pub(crate) retries: u64,
    pub(crate) ejections: u64,
    pub(crate) failures: [u64; FailureKind::ALL.len()],
    pub(crate) broken: [u64; BrokenKind::ALL.len()],
}

// === impl FailureKind ===

impl FailureKind {
    pub(crate) const ALL: [Self; 4] = [Self::Connect, Self::Closed, Self::Timeout, Self::Malformed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
        }
    }
}

// === impl BrokenKind ===

impl BrokenKind {
    pub(crate) const ALL: [Self; 4] = [Self::Closed, Self::Stalled, Self::Malformed, Self::SlowClient];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Stalled => "stalled",
            Self::Malformed => "malformed",
            Self::SlowClient => "slow_client",
        }
    }
}

// === impl PerCore ===

impl PerCore {
    /// The next turn of the service's instances on this core.
    pub(crate) fn next_turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// How many turns there were: as many as attempts.
    pub(crate) fn turns(&self) -> usize {
        self.turns.load(Ordering::Relaxed)
    }

    /// A request got its response head, from an instance or from ourselves.
    pub(crate) fn responded(&self, status: u16, after: Duration) {
        let hundreds = usize::from(status / 100).clamp(1, 5) - 1;
        add(&self.responses[hundreds], 1);
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        add(&self.durations[DURATION_BOUNDS_US.partition_point(|bound| *bound < us)], 1);
        add(&self.duration_sum_us, us);
    }

    pub(crate) fn retried(&self) {
        add(&self.retries, 1);
    }

    pub(crate) fn ejected(&self) {
        add(&self.ejections, 1);
    }

    pub(crate) fn failed(&self, kind: FailureKind) {
        add(&self.failures[kind as usize], 1);
    }

    /// A response did not arrive whole.
    pub(crate) fn broken(&self, kind: BrokenKind) {
        add(&self.broken[kind as usize], 1);
    }
}

/// Only one thread writes, so a load and a store do, and cost less than a locked addition.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

// === impl Totals ===

impl Totals {
    pub(crate) fn of(cores: &[PerCore]) -> Self {
        let mut totals = Self::default();
        for core in cores {
            let pairs = (totals.responses.iter_mut().zip(&core.responses))
                .chain(totals.durations.iter_mut().zip(&core.durations))
                .chain(totals.failures.iter_mut().zip(&core.failures))
                .chain(totals.broken.iter_mut().zip(&core.broken))
                .chain([
                    (&mut totals.duration_sum_us, &core.duration_sum_us),
                    (&mut totals.retries, &core.retries),
                    (&mut totals.ejections, &core.ejections),
                ]);
            for (total, counter) in pairs {
                *total += counter.load(Ordering::Relaxed);
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_are_added_up() {
        let cores = [PerCore::default(), PerCore::default()];
        cores[0].responded(200, Duration::from_micros(1_000));
        cores[1].responded(204, Duration::from_micros(1_001));
        cores[1].responded(503, Duration::from_secs(60));
        cores[0].failed(FailureKind::Timeout);
        let totals = Totals::of(&cores);
        assert_eq!(totals.responses, [0, 2, 0, 0, 1]);
        assert_eq!((totals.durations[0], totals.durations[1], totals.durations[12]), (1, 1, 1));
        assert_eq!(totals.failures, [0, 0, 1, 0]);
    }
}
