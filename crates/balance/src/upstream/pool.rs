//! Unused connections to the instances, kept for the next request. One pool per core: no lock, no other thread.
//!
//! The newest connection is used first, so that the others grow old and are closed when there is less to do. Kept under
//! the serial number of a registration, so a restarted instance never gets a connection of its predecessor.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    task::Context,
    time::Duration,
};

use crate::{
    clock::{Millis, TICK},
    hash::mix,
    upstream::connection::Connection,
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Pool {
    unused: RefCell<HashMap<u64, Vec<Unused>, BuildHasherDefault<SerialHasher>>>,
    per_instance_max: usize,
    keep_alive: Duration,
}

#[derive(Debug)]
struct Unused {
    connection: Box<Connection>,
    since: Millis,
}

/// Serial numbers are the process's own, so no client can choose them to collide, and mixing their bits is enough.
#[derive(Debug, Default)]
struct SerialHasher(u64);

// === impl Pool ===

impl Pool {
    /// Keeps at most `per_instance_max` connections to each instance, each for `keep_alive`.
    pub(crate) fn new(per_instance_max: usize, keep_alive: Duration) -> Self {
        let keep_alive = if per_instance_max == 0 { Duration::ZERO } else { keep_alive };
        Self { unused: RefCell::default(), per_instance_max, keep_alive }
    }

    /// For how long a connection is kept; zero: none is.
    pub(crate) fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    /// A connection that still stands, as far as the runtime knows; asking the kernel once more when `must_be_sure`.
    pub(crate) fn take(
        &self,
        serial: u64,
        must_be_sure: bool,
        now: Millis,
        cx: &mut Context<'_>,
    ) -> Option<Box<Connection>> {
        let mut all = self.unused.borrow_mut();
        let unused = all.get_mut(&serial)?;
        while let Some(Unused { mut connection, since }) = unused.pop() {
            // A connection that the instance has closed, or has written something to, has something to be read.
            let stream = &mut connection.stream;
            let stands =
                now.since(since) < self.keep_alive && (stream.is_quiet() || stream.poll_read_some(cx).is_pending());
            // One that was in use a moment ago is as sure as asking can make it.
            let is_fresh = now.since(since) < TICK;
            if stands && (is_fresh || !must_be_sure || connection.stream.stream().is_quiet()) {
                connection.is_reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection back after a response that was read to its end.
    pub(crate) fn put(&self, serial: u64, connection: Box<Connection>, now: Millis) {
        if self.keep_alive.is_zero() {
            return;
        }
        let mut all = self.unused.borrow_mut();
        let unused = all.entry(serial).or_default();
        if unused.len() < self.per_instance_max {
            unused.push(Unused { connection, since: now });
        }
    }

    /// Closes those that were not used for too long.
    pub(crate) fn tick(&self, now: Millis) {
        self.unused.borrow_mut().retain(|_, unused| {
            unused.retain(|unused| now.since(unused.since) < self.keep_alive);
            !unused.is_empty()
        });
    }
}

// === impl SerialHasher ===

impl Hasher for SerialHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = mix(self.0 ^ n);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
