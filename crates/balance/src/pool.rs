//! Unused connections to the instances, kept for the next request. One pool per core: no lock, no other thread.
//!
//! The newest connection is used first, so that the others grow old and are closed when there is less to do. Kept under
//! the serial number of a registration, so a restarted instance never gets a connection of its predecessor.
//!
//! Beside the connections it is noted when an instance was last heard: one that answers others is slow with this request;
//! one that answers nobody may be gone.

use std::{cell::RefCell, collections::HashMap, task::Context, time::Duration};

use crate::{clock::Millis, upstream::Upstream, worker::TICK};

/// How long it is remembered when an instance was heard that has no unused connection.
const HEARD_KEPT: Duration = Duration::from_secs(60);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Pool {
    instances: RefCell<HashMap<u64, Known>>,
    per_instance_max: usize,
    keep_alive: Duration,
}

#[derive(Debug, Default)]
struct Known {
    unused: Vec<Unused>,
    /// Zero: never.
    heard: Millis,
}

#[derive(Debug)]
struct Unused {
    upstream: Upstream,
    since: Millis,
}

// === impl Pool ===

impl Pool {
    /// Keeps at most `per_instance_max` connections to each instance, each for `keep_alive`.
    pub(crate) fn new(per_instance_max: usize, keep_alive: Duration) -> Self {
        Self { instances: RefCell::default(), per_instance_max, keep_alive }
    }

    /// A connection that still stands, as far as we have been told; asking the kernel once more when `must_be_sure`.
    pub(crate) fn take(&self, serial: u64, must_be_sure: bool, now: Millis, cx: &mut Context<'_>) -> Option<Upstream> {
        let mut instances = self.instances.borrow_mut();
        let unused = &mut instances.get_mut(&serial)?.unused;
        while let Some(Unused { mut upstream, since }) = unused.pop() {
            // A connection that the instance has closed, or has written something to, has something to be read.
            let stands = now.since(since) < self.keep_alive && upstream.wire.poll_read_some(cx).is_pending();
            // One that was in use a moment ago is as sure as asking can make it.
            let is_fresh = now.since(since) < TICK;
            if stands && (is_fresh || !must_be_sure || upstream.is_quiet()) {
                upstream.is_reused = true;
                return Some(upstream);
            }
        }
        None
    }

    /// Takes a connection back after a response that was read to its end.
    pub(crate) fn put(&self, serial: u64, upstream: Upstream, now: Millis) {
        if self.per_instance_max == 0 || self.keep_alive.is_zero() {
            return;
        }
        let mut instances = self.instances.borrow_mut();
        let known = instances.entry(serial).or_default();
        if known.unused.len() < self.per_instance_max {
            known.unused.push(Unused { upstream, since: now });
        }
    }

    /// The instance has answered something.
    pub(crate) fn heard(&self, serial: u64, now: Millis) {
        self.instances.borrow_mut().entry(serial).or_default().heard = now;
    }

    /// Whether the instance has answered something within the last `limit`.
    pub(crate) fn was_heard_within(&self, serial: u64, limit: Duration, now: Millis) -> bool {
        self.instances.borrow().get(&serial).is_some_and(|known| known.heard + limit > now)
    }

    /// Closes those that were not used for too long.
    pub(crate) fn tick(&self, now: Millis) {
        self.instances.borrow_mut().retain(|_, known| {
            known.unused.retain(|unused| now.since(unused.since) < self.keep_alive);
            !known.unused.is_empty() || now.since(known.heard) < HEARD_KEPT
        });
    }
}
