//! Waiting longer after every failure: bounded exponential back-off with full jitter.
//!
//! Full jitter (a uniform draw between zero and the current ceiling) spreads clients that failed together better than a
//! fixed schedule with a little noise: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. A floor is
//! added so that a lucky draw of zero never becomes a busy loop.

use std::time::Duration;

use rand::RngExt as _;

/// A growing sequence of waits. One value per thing that is retried; [`Backoff::reset`] after a success.
#[derive(Debug, Clone)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits between `floor` and a limit that starts at `2 × floor` and doubles with every failure up to `ceiling`.
    #[must_use]
    pub fn new(floor: Duration, ceiling: Duration) -> Self {
        Self { floor, ceiling: ceiling.max(floor), failures: 0 }
    }

    /// The wait before the next attempt; counts one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let draw = rand::rng().random_range(0.0..=1.0);
        self.next_wait_at(draw)
    }

    /// Like [`next_wait`](Self::next_wait) with the draw, in `0.0..=1.0`, given: for tests.
    pub fn next_wait_at(&mut self, draw: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let limit = self.floor.saturating_mul(1 << self.failures.min(20)).min(self.ceiling);
        self.floor + limit.saturating_sub(self.floor).mul_f64(draw.clamp(0.0, 1.0))
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures: the next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_millis(100);
    const CEILING: Duration = Duration::from_secs(2);

    #[test]
    fn waits_grow_to_the_ceiling_and_stay_there() {
        let mut backoff = Backoff::new(FLOOR, CEILING);
        let waits: Vec<u128> = (0..7).map(|_| backoff.next_wait_at(1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 2000, 2000, 2000]);
    }

    #[test]
    fn the_floor_is_kept_whatever_the_draw() {
        let mut backoff = Backoff::new(FLOOR, CEILING);
        assert!((0..100).all(|_| backoff.next_wait_at(0.0) == FLOOR), "a draw of zero must not become a busy loop");
    }

    #[test]
    fn a_success_makes_the_next_wait_short_again() {
        let mut backoff = Backoff::new(FLOOR, CEILING);
        for _ in 0..10 {
            backoff.next_wait();
        }
        backoff.reset();
        assert_eq!(backoff.next_wait_at(1.0), 2 * FLOOR);
    }
}
