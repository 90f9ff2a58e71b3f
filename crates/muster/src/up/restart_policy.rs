//! When a process that ended is started again, and when that is given up. Pure: `now` comes in.
//!
//! A process that was ready and then ended (a crash, a `kill`) is always started again. One that ends again and
//! again without ever having been ready will not get better by itself: after five such ends within 30 s it is given up
//! on. Waits grow from 0.2 s to 10 s, and are short again after a life of 10 s.

use std::{collections::VecDeque, time::Duration};

use service_kit::backoff::Backoff;
use tokio::time::Instant;

/// So many failed starts …
const FAILED_STARTS_MAX: usize = 5;
/// … within this are enough.
const FAILED_STARTS_WITHIN: Duration = Duration::from_secs(30);
/// A life of this length was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// The deaths of one process.
#[derive(Debug)]
pub(crate) struct RestartPolicy {
    backoff: Backoff,
    failed_starts: VecDeque<Instant>,
}

/// What to do after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again after this time.
    Again(Duration),
    /// Leave it.
    GiveUp,
}

// === impl RestartPolicy ===

impl RestartPolicy {
    pub(crate) fn new() -> Self {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        Self { backoff, failed_starts: VecDeque::new() }
    }

    /// Judges a death at `now` after a life of `lived`, in which it had been ready or not.
    pub(crate) fn died(&mut self, now: Instant, lived: Duration, was_ready: bool) -> Verdict {
        if was_ready {
            self.failed_starts.clear();
        } else {
            self.failed_starts.push_back(now);
            self.failed_starts.retain(|at| now.duration_since(*at) <= FAILED_STARTS_WITHIN);
        }
        if self.failed_starts.len() >= FAILED_STARTS_MAX {
            return Verdict::GiveUp;
        }
        if lived >= GOOD_LIFE {
            self.backoff.reset();
        }
        // No other process restarts at the same moment, so there is nothing for jitter to spread.
        Verdict::Again(self.backoff.next_wait_at(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    /// Deaths after lives of `lived`, restarted as told; the waits until it is given up, at most 20.
    fn waits(lived: Duration, was_ready: bool) -> Vec<u128> {
        let mut policy = RestartPolicy::new();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        while waits.len() < 20 {
            now += lived;
            let Verdict::Again(wait) = policy.died(now, lived, was_ready) else { break };
            now += wait;
            waits.push(wait.as_millis());
        }
        waits
    }

    #[test]
    fn five_failed_starts_in_a_row_are_given_up_on() {
        assert_eq!(waits(MOMENT, false), [200, 400, 800, 1600]);
    }

    #[test]
    fn what_was_ready_is_always_started_again_at_most_ten_seconds_later() {
        let waits = waits(MOMENT, true);
        assert_eq!(waits.len(), 20);
        assert_eq!((waits[0], waits[19]), (200, 10_000));
    }

    #[test]
    fn waiting_long_for_something_that_is_missing_is_not_a_failed_start_too_many() {
        assert_eq!(waits(Duration::from_secs(9), false).len(), 20, "a database that is gone for minutes comes back");
    }

    #[test]
    fn a_good_life_makes_the_next_wait_short() {
        assert!(waits(GOOD_LIFE, true).iter().all(|wait| *wait == 200));
    }
}
