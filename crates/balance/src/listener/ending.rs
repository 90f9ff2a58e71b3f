//! When a gateway that ends stops to listen.
//!
//! A client that connects meanwhile is answered, with `Connection: close`; refusing them would
//! lose requests for nothing, for as long as another client's download lasts. So every core listens
//!
//! - for [`STILL_OPEN`], which is all that a gateway needs with nothing to do;
//! - until every connection that was there when the end began is gone, on all cores, because a connection is the kernel's
//!   to give to any of them;
//! - then until nothing that came later is under way on this core, for [`LULL_MAX`] at most: under load there is always
//!   something;
//! - but in any case no longer than leaves [`LAST_ANSWERS`] of the time for draining, or half of it if that is less, to
//!   those that were accepted last.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::clock::TICK;

/// How long new connections are accepted at least.
const STILL_OPEN: Duration = TICK.saturating_mul(2);

/// How long to wait for a moment without a request under way.
const LULL_MAX: Duration = Duration::from_secs(1);

/// How much of the time for draining belongs to the connections that are accepted last.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How many cores still have connections from before the end. Cheap to clone; all clones are the same count.
#[derive(Debug, Clone)]
pub(crate) struct BusyCores(Arc<AtomicUsize>);

/// One core's part in the end.
#[derive(Debug)]
pub(crate) struct Ending {
    busy_cores: BusyCores,
    drain_timeout: Duration,
    /// Whether this core is still counted among the busy ones.
    is_counted: Cell<bool>,
    /// When, since the end began, the last connection from before was gone on all cores.
    settled: Cell<Option<Duration>>,
}

/// What a core has to do, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Whether there are connections from before the end.
    pub(crate) has_old: bool,
    /// How many connections have a request under way, or a part of one.
    pub(crate) busy: usize,
}

impl BusyCores {
    /// All `cores` of a gateway.
    pub(crate) fn all(cores: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(cores)))
    }
}

impl Ending {
    /// One core's part, among all that `busy_cores` counts.
    pub(crate) fn new(busy_cores: BusyCores, drain_timeout: Duration) -> Self {
        Self { busy_cores, drain_timeout, is_counted: Cell::new(true), settled: Cell::default() }
    }

    /// Whether to stop listening, so long after the end began.
    pub(crate) fn is_time(&self, elapsed: Duration, load: Load) -> bool {
        if !load.has_old {
            self.leave_the_busy();
        }
        if elapsed + LAST_ANSWERS.min(self.drain_timeout / 2) >= self.drain_timeout {
            return true;
        }
        if self.busy_cores.0.load(Ordering::Relaxed) > 0 || elapsed < STILL_OPEN {
            return false;
        }
        let settled = self.settled.get().unwrap_or(elapsed);
        self.settled.set(Some(settled));
        load.busy == 0 || elapsed - settled >= LULL_MAX
    }

    fn leave_the_busy(&self) {
        if self.is_counted.replace(false) {
            self.busy_cores.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ending {
    /// A core that ends has nothing left, also when it panicked.
    fn drop(&mut self) {
        self.leave_the_busy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Load = Load { has_old: false, busy: 0 };
    const WORKING: Load = Load { has_old: true, busy: 1 };
    const LATE: Load = Load { has_old: false, busy: 1 };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_idle_gateway_leaves_after_a_moment() {
        let ending = Ending::new(BusyCores::all(1), ms(10_000));
        assert!(!ending.is_time(ms(100), IDLE));
        assert!(ending.is_time(ms(200), IDLE));
    }

    #[test]
    fn all_cores_listen_until_the_last_old_connection_is_gone_on_any() {
        let cores = BusyCores::all(2);
        let (idle, busy) = (Ending::new(cores.clone(), ms(10_000)), Ending::new(cores, ms(10_000)));
        assert!(!idle.is_time(ms(5000), IDLE) && !busy.is_time(ms(5000), WORKING));
        assert!(busy.is_time(ms(5100), IDLE) && idle.is_time(ms(5100), IDLE));
    }

    #[test]
    fn a_core_that_is_gone_is_not_waited_for() {
        let cores = BusyCores::all(2);
        let (one, other) = (Ending::new(cores.clone(), ms(10_000)), Ending::new(cores, ms(10_000)));
        assert!(!one.is_time(ms(1000), IDLE));
        drop(other);
        assert!(one.is_time(ms(1000), IDLE));
    }

    #[test]
    fn those_that_come_later_are_waited_for_but_not_for_ever() {
        let ending = Ending::new(BusyCores::all(1), ms(10_000));
        assert!(!ending.is_time(ms(300), LATE) && !ending.is_time(ms(1200), LATE));
        assert!(ending.is_time(ms(1300), LATE));
    }

    #[test]
    fn the_last_ones_get_a_part_of_the_time_for_draining() {
        let ending = Ending::new(BusyCores::all(1), ms(10_000));
        assert!(!ending.is_time(ms(8900), WORKING));
        assert!(ending.is_time(ms(9000), WORKING));
        let short = Ending::new(BusyCores::all(1), ms(300));
        assert!(!short.is_time(ms(100), WORKING) && short.is_time(ms(150), WORKING));
        assert!(Ending::new(BusyCores::all(1), ms(0)).is_time(ms(0), WORKING));
    }
}
