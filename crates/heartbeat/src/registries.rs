//! Which registry is asked next: the one that works, and when it stops working, the one that failed longest ago.
//!
//! Staying with one keeps a connection warm and spares its replicas; there is no preferred one to return to, so a
//! registry that comes back causes no second move. One that answered `Retry-After` is left alone until then, unlike one
//! that failed, which is merely asked last.

use tokio::time::Instant;

/// What is known about the registries, by their index in the configuration.
#[derive(Debug)]
pub(crate) struct Registries {
    known: Vec<Known>,
    current: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    failed: Option<Instant>,
    held_until: Option<Instant>,
}

// === impl Registries ===

impl Registries {
    /// `count` registries of which nothing is known; `first` is asked first.
    pub(crate) fn new(count: usize, first: usize) -> Self {
        Self { known: vec![Known::default(); count], current: if count == 0 { 0 } else { first % count } }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whom to ask, in this order, for one heartbeat: the current one, then those that never failed, then the others,
    /// the most recent failure last. Empty when all asked to wait.
    pub(crate) fn order(&self, now: Instant) -> Vec<usize> {
        let count = self.known.len();
        let mut order: Vec<usize> = (0..count).map(|step| (self.current + step) % count).collect();
        order.retain(|&index| self.known[index].held_until.is_none_or(|until| until <= now));
        // The sort is stable: among equals the distance from the current one decides.
        order.sort_by_key(|&index| self.known[index].failed);
        order
    }

    /// When the first of them may be asked again, if all asked to wait.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        let waits = self.known.iter().map(|known| known.held_until.filter(|until| *until > now));
        waits.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Forgets who asked to wait.
    pub(crate) fn release(&mut self) {
        for known in &mut self.known {
            known.held_until = None;
        }
    }

    /// It took the heartbeat. Returns whether this is another one than last time.
    pub(crate) fn worked(&mut self, index: usize) -> bool {
        let moved = self.current != index;
        self.known[index] = Known::default();
        self.current = index;
        moved
    }

    /// It did not.
    pub(crate) fn failed(&mut self, index: usize, now: Instant) {
        self.known[index] = Known { failed: Some(now), held_until: None };
    }

    /// It did not, and wants to be left alone.
    pub(crate) fn asked_to_wait(&mut self, index: usize, now: Instant, until: Instant) {
        self.known[index] = Known { failed: Some(now), held_until: Some(until) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_one_that_works_stays_first() {
        let mut registries = Registries::new(3, 1);
        let now = Instant::now();
        assert_eq!(registries.order(now), [1, 2, 0]);
        assert!(!registries.worked(1));
        registries.failed(1, now);
        assert_eq!(registries.order(now), [2, 0, 1]);
        assert!(registries.worked(2));
        assert_eq!(registries.order(now + 1000 * SECOND), [2, 0, 1], "there is nothing to return to");
    }

    #[test]
    fn when_all_failed_the_one_that_failed_longest_ago_is_next() {
        let mut registries = Registries::new(3, 0);
        let now = Instant::now();
        for (index, after) in [(2, 1), (0, 2), (1, 3)] {
            registries.failed(index, now + after * SECOND);
        }
        assert_eq!(registries.order(now + 4 * SECOND), [2, 0, 1]);
    }

    #[test]
    fn one_that_asked_to_wait_is_left_alone_until_then_and_the_others_are_tried() {
        let mut registries = Registries::new(2, 0);
        let now = Instant::now();
        registries.asked_to_wait(0, now, now + SECOND);
        assert_eq!(registries.order(now), [1]);
        assert_eq!(registries.held_until(now), None, "the other one may be asked");
        registries.asked_to_wait(1, now, now + 2 * SECOND);
        assert_eq!(registries.order(now), [0; 0]);
        assert_eq!(registries.held_until(now), Some(now + SECOND));
        assert_eq!(registries.order(now + SECOND), [0]);
        assert_eq!(registries.order(now + 2 * SECOND), [0, 1]);
    }

    #[test]
    fn the_first_one_is_found_whatever_was_drawn() {
        assert_eq!(Registries::new(2, usize::MAX).order(Instant::now()), [1, 0]);
        assert_eq!(Registries::new(0, 7).order(Instant::now()), [0; 0]);
    }
}
